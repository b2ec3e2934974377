"""What the README prints works: its snippets run, its commands exist, its table is the registry."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

import lossfold as lf
from lossfold.cli.__main__ import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def snippets() -> list[object]:
    """What the README and the docs print and can run as it stands: all but what says that it needs something."""
    found = {name: re.findall(r"(?<!-->\n)```python\n(.*?)```", text, flags=re.S) for name, text in PAGES.items()}
    return [pytest.param(code, id=f"{name}-{index}") for name, codes in found.items() for index, code in enumerate(codes)]


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a snippet registers is forgotten after it."""
    monkeypatch.setattr(lf.LOSSES, "_classes", dict(lf.LOSSES._classes))


@pytest.mark.parametrize("code", snippets())
def test_snippets_run(code: str, capsys: pytest.CaptureFixture[str], own_registry: None) -> None:
    exec(compile(code, "README.md", "exec"), {})
    if "except lf.LossError" in code:
        assert "did you mean 'ignore_index'?" in capsys.readouterr().out


def test_there_are_snippets() -> None:
    assert len(snippets()) >= 15 and len(blocks("bash")) >= 3
    assert len(README.splitlines()) <= 180


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """To pages, pictures and their headings."""
    folder = ROOT if name == "README" else ROOT / "docs"
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", PAGES[name]):
        if target.startswith("generated/"):  # what `make docs` writes
            continue
        assert not target or (folder / target).exists(), target
        if heading:
            text = (folder / target).read_text() if target else PAGES[name]
            lines = [line for line in text.splitlines() if line.startswith("#")]
            headings = [re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines]
            assert heading in headings, f"{target}#{heading}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= set(re.findall(r"\bmake ([a-z-]+)", README))
    targets = re.findall(r"(?:`|^)make ([a-z-]+)", "\n".join(PAGES.values()), flags=re.M)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_losses_at_a_glance() -> None:
    glance = README.partition("<!-- losses:start -->")[2].partition("<!-- losses:end -->")[0]
    names = re.findall(r"`([A-Z]\w+)`", glance)
    assert len(names) > 30 and set(names) <= set(lf.LOSSES)


@pytest.mark.parametrize(("name", "make"), [("functional_stub", "stub"), ("losses_page", "page")])
def test_what_is_written_from_the_registry_is_current(name: str, make: str) -> None:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.TARGET.read_text() == getattr(tool, make)(), "run `make stubs`"


@pytest.mark.parametrize("command", ["info", "list", "show DiceLoss"])
def test_commands(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"lossfold {command}" in README
    assert main(command.split()) == 0
    assert capsys.readouterr().out


def test_unknown_loss_is_an_error_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "DiceLos"]) == 2
    assert "did you mean 'DiceLoss'?" in capsys.readouterr().err


def test_moving_over() -> None:
    monai = pytest.importorskip("monai.losses")
    smp = pytest.importorskip("segmentation_models_pytorch")
    rows = dict(re.findall(r"^\| (?:MONAI|segmentation-models-pytorch) `(.*?)` \| `(.*?)` \|$", PAGES["moving"], flags=re.M))
    assert len(rows) == 4
    logits, labels = torch.randn(3, 5, 9, 11), torch.randint(0, 4, (3, 9, 11))  # class 4 is absent
    for theirs, ours in rows.items():
        peer = eval(theirs, vars(smp.losses) if "multiclass" in theirs else vars(monai))
        expected = peer(logits, labels if "multiclass" in theirs else labels[:, None])
        loss = eval(ours, {"lf": lf})
        actual = loss(logits, labels)
        actual = actual.total if isinstance(actual, lf.LossOutput) else actual
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_docstring_examples(own_registry: None) -> None:
    import doctest

    from lossfold import points, registry, trimaps
    from lossfold.compose import loss_set, schedules, term
    from lossfold.compose import matting as criteria
    from lossfold.compose import presets as sets
    from lossfold.config import build, export, schema
    from lossfold.losses.images import masked
    from lossfold.metrics import accumulators, functions, means, restoration
    from lossfold.metrics import matting as errors
    from lossfold.metrics import shapes as surfaces
    from lossfold.presets import heads, pictures
    from lossfold.shapes import skeletons, soft_skeletons

    names = {name: getattr(lf, name) for name in dir(lf)} | {"lossfold": lf} | {"torch": __import__("torch")}
    features = "lossfold.losses.features."  # whose examples have a test of their own, because they build networks
    modules = {cls.__module__ for cls in lf.LOSSES.values() if not cls.__module__.startswith(features)}
    losses = [sys.modules[name] for name in sorted(modules) if name.startswith("lossfold.losses.") and "components" not in name]
    helpers = (points, trimaps, functions, accumulators, errors, restoration, means, surfaces, skeletons, soft_skeletons)
    for module in (
        build,
        export,
        schema,
        registry,
        loss_set,
        term,
        schedules,
        heads,
        pictures,
        sets,
        criteria,
        masked,
        *helpers,
        *losses,
    ):
        result = doctest.testmod(module, extraglobs=names)
        assert result.attempted and not result.failed, module.__name__
