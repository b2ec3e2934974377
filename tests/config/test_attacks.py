"""Configurations that try to import or to run something are refused, and nothing is imported, opened, compiled or started.

Among them the ways of published advisories about instantiation from configurations: CVE-2025-23304 (NeMo), CVE-2026-22584 (uni2TS)
and ml-flextok (``_target_`` in a model's metadata, through ``hydra.utils.instantiate``), what Hydra's block list was got around by,
MONAI's ``$`` expressions, jsonargparse's ``class_path``, and PyYAML's ``!!python`` tags.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lossfold as lf

NAMES = [
    "os.system",
    "posix.system",
    "nt.system",
    "subprocess.Popen",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "builtins.getattr",
    "builtins.open",
    "eval",
    "exec",
    "open",
    "__import__",
    "importlib.import_module",
    "runpy.run_path",
    "code.interact",
    "pty.spawn",
    "pdb.run",
    "timeit.timeit",
    "asyncio.create_subprocess_shell",
    "pickle.loads",
    "pickle.load",
    "marshal.loads",
    "shelve.open",
    "ctypes.CDLL",
    "types.FunctionType",
    "operator.attrgetter",
    "functools.partial",
    "functools.reduce",
    "logging.config.dictConfig",
    "antigravity",
    "this",
    "turtle.done",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.compile",
    "torch.nn.Module",
    "torch.nn.L1Loss",
    "torch.nn.Module.__init__.__globals__",
    "torch.utils.cpp_extension.load_inline",
    "torch._dynamo.config.os.system",
    "numpy.load",
    "numpy.f2py.compile",
    "hydra.utils.instantiate",
    "hydra.utils.get_method",
    "hydra._internal.instantiate._instantiate2.instantiate",
    "monai.bundle.ConfigParser",
    "mmengine.Config.fromfile",
    "lightning.pytorch.cli.LightningCLI",
    "lossfold",
    "lossfold.functional",
    "lossfold.functional.sys",
    "lossfold.functional.LOSSES",
    "lossfold.config.build.build",
    "lossfold.config.files.load",
    "lossfold.errors.sys.modules",
    "lossfold.losses.classes.overlap.torch.load",
    "lossfold.losses.classes.overlap.OverlapLoss",
    "lossfold.losses.classes.overlap.DiceLoss.__init__.__globals__",
    "lossfold.DiceLoss.__init__",
    "lossfold.DiceLoss.__subclasses__",
    "DiceLoss.__class__.__base__.__subclasses__",
    "DiceLoss.__module__",
    "lossfold.presets.torch",
    "lossfold.registry.LOSSES.register_module",
    "lossfold.plugins.Plugins",
    "..DiceLoss",
    ".DiceLoss",
    "lossfold..DiceLoss",
    "lossfold:DiceLoss",
    "file:///etc/passwd",
    "../../../etc/passwd",
    "attack_module.Attack",
    "attack_module:Attack",
    "$import os; os.system('touch hit')",
    "$__import__('os').system('touch hit')",
    "@lossfold.DiceLoss",
    "%attack.yaml#loss",
    "${oc.env:HOME}",
    "{{7*7}}",
    "%(config)s",
    "DiceLoss\nimport os",
    "DiceLoss()",
    "DiceLoss ",
    "DiceLoss\u200b",
    "\x00DiceLoss",
    "",
]  # fmt: skip
ARGUMENTS = {"args": ["touch hit"], "command": "touch hit", "source": "raise SystemExit", "loss_weight": 1.0}
WRITERS = {
    "type": lambda name: {"type": name, **ARGUMENTS},
    "_target_": lambda name: {"_target_": name, **ARGUMENTS},
    "_target_ with _args_": lambda name: {"_target_": name, "_args_": ["touch hit"]},
    "_target_ with _partial_": lambda name: {"_target_": name, "_partial_": True},
    "class_path": lambda name: {"class_path": name, "init_args": ARGUMENTS},
    "a term": lambda name: {"type": "LossSet", "ce": {"type": "CrossEntropyLoss"}, "x": {"_target_": name}},
    "an option": lambda name: {"type": "MattingLoss", "losses": [{"_target_": name}]},
    "an option of an option": lambda name: {"type": "DiceLoss", "smooth": {"a": [{"class_path": name}]}},
}
EVENTS = (
    "import",
    "exec",
    "compile",
    "open",
    "os.",
    "subprocess.",
    "ctypes.",
    "pickle.",
    "marshal.",
    "socket.",
    "shutil.",
    "code.",
)


class Watch:
    """What the interpreter reports of itself while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event.startswith(EVENTS):
            self.seen.append(f"{event} {arguments!r}"[:200])


WATCH = Watch()  # a hook can't be taken away again


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Holds a module that would be imported if anything were."""
    folder = tmp_path_factory.mktemp("attack")
    (folder / "attack_module.py").write_text("open('hit', 'w')\nclass Attack: pass\n")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(folder)
        monkeypatch.chdir(folder)
        lf.LOSSES.plugins()  # looks through the installed packages once for each sys.path
        (folder / "first.yaml").write_text("type: DiceLoss")
        if importlib.util.find_spec("yaml"):
            lf.build(folder / "first.yaml")  # the first file imports PyYAML and a codec
        yield folder


@pytest.fixture(autouse=True)
def attack(folder: Path) -> Iterator[Path]:
    yield folder
    assert not (folder / "hit").exists() and "attack_module" not in sys.modules


def refused(config: Any, allowed_events: tuple[str, ...] = (), **options: Any) -> str:
    before = set(sys.modules)
    WATCH.seen.clear()
    WATCH.on = True
    try:
        lf.build(config, **options)
        error = None
    except lf.LossError as caught:
        error = caught
    finally:
        WATCH.on = False
    assert error is not None, "it was built"
    assert [event for event in WATCH.seen if not event.startswith(allowed_events or ("nothing",))] == []
    assert set(sys.modules) == before
    return str(error)


def test_the_watch_sees() -> None:
    WATCH.seen.clear()
    WATCH.on = True
    eval("1")
    WATCH.on = False
    assert any(event.startswith("compile") for event in WATCH.seen) and any(event.startswith("exec") for event in WATCH.seen)


@pytest.mark.parametrize("way", WRITERS)
def test_names_are_refused(way: str) -> None:
    for name in NAMES:
        message = refused(WRITERS[way](name))
        assert "must be" in message, name


@pytest.mark.parametrize("value", ["$os.system('touch hit')", "$import os", "@attack", "%attack.yaml", "${attack:x}"])
def test_expressions_are_refused(value: str) -> None:
    refused({"_target_": "DiceLoss", "smooth": value})
    refused({"type": "LossSet", "a": value})
    refused({"a": {"type": "DiceLoss", "link": value}})
    refused({"_target_": "DiceLoss", "_requires_": value})
    refused({"_target_": "DiceLoss", "_disabled_": value})
    refused({value: {"type": "DiceLos"}})


TAGS = [
    "!!python/object/apply:os.system ['touch hit']",
    "!!python/object/apply:subprocess.Popen [['touch', 'hit']]",
    "!!python/object/new:os.system ['touch hit']",
    "!!python/object:attack_module.Attack {}",
    "!!python/name:os.system",
    "!!python/module:attack_module",
    "!!python/tuple [1]",
    "!!python/object/new:type {args: [x, !!python/tuple [], {extend: !!python/name:exec}], listitems: \"open('hit','w')\"}",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch hit']",
    "!include /etc/passwd",
    "!ENV ${HOME}",
]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_refused(tag: str, attack: Path) -> None:
    pytest.importorskip("yaml")
    for number, text in enumerate(
        (tag, f"type: {tag}\n", f"type: DiceLoss\nsmooth: {tag}\n", f"{{type: DiceLoss, ? {tag} : 1}}\n")
    ):
        file = attack / f"a{number}.yaml"
        file.write_text(text)
        message = refused(file, ("open", "os."))
        assert [event for event in WATCH.seen if event.startswith("open")] == [event for event in WATCH.seen if str(file) in event]
        assert f"a{number}.yaml" in message


def test_classes_and_functions_that_nobody_allowed_are_refused() -> None:
    import os
    import subprocess

    for given in (os.system, eval, exec, subprocess.Popen, __import__, object, type, lf.build, lambda: None):
        for key in ("type", "_target_", "class_path"):
            assert "allow" in refused({key: given})


def test_what_is_allowed_opens_no_other_door() -> None:
    import torch

    allow = [torch.nn.L1Loss]
    for name in ("torch.nn.MSELoss", "torch.nn.L1Loss.__init__", "torch.nn.modules.loss.F", "torch.load", "L1Loss.forward"):
        refused({"_target_": name}, allow=allow)
