"""Whatever a configuration holds, it is built or refused with a LossError, never another exception."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

import lossfold as lf
from lossfold.registry import PRESETS
from lossfold.signatures import options_of

ALLOW = {"torch_l1": torch.nn.L1Loss, "torch_ce": torch.nn.CrossEntropyLoss}
CLASSES = sorted(name for name in lf.LOSSES if name != "LossSet")
BROKEN = [
    "DiceLos",
    "",
    "os.system",
    "lossfold.functional.sys",
    "torch.nn.MSELoss",
    3,
    None,
    "$x",
    ["DiceLoss"],
    {"type": "DiceLoss"},
]
WORDS = [
    "",
    "mean",
    "sum",
    "none",
    "softmax",
    "sigmoid",
    "hinge",
    "identity",
    "macro",
    "micro",
    "skip",
    "eager",
    "cpp",
    "x",
    "1e-3",
    "$a",
]
NUMBERS = [0, 1, -1, 2, 255, 0.5, 1e-3, 1e30, -1e-300, float("inf"), float("nan"), 10**30, 10**400, -0.0, True, False]
scalars = st.one_of(st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.none(), st.integers(), st.floats(), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.sampled_from([*WORDS, "type", "pred"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@functools.cache
def good_values(name: str) -> dict[str, st.SearchStrategy[Any]]:
    """Values of the right kind for each option of a loss: its defaults, its samples', and near ones."""
    cls = lf.LOSSES[name]
    found: dict[str, list[Any]] = {key: [option.default] for key, option in options_of(cls).items()}
    for sample in (*getattr(cls, "samples", ()), *getattr(cls, "dense_samples", ())):
        for key, value in sample.items():
            if key == "pretrained":  # a network of random weights takes a second
                continue
            found[key].append([1.0, 0.5] if value == "random" else value)
    return {key: st.sampled_from(known) for key, known in found.items()}


@st.composite
def options(draw: st.DrawFn, name: str) -> dict[str, Any]:
    good = good_values(name)
    chosen = draw(st.lists(st.sampled_from(sorted(good)), max_size=4, unique=True))
    return {key: draw(good[key]) for key in chosen}


@st.composite
def single(draw: st.DrawFn) -> dict[str, Any]:
    """A loss that is right, or nearly so, in one of the dialects."""
    name = draw(st.sampled_from([*CLASSES, *PRESETS, "torch.nn.L1Loss"]))
    given = draw(options(name)) if name in CLASSES else {}
    return spelt(draw, name, given)


def spelt(draw: st.DrawFn, name: Any, given: dict[str, Any]) -> dict[str, Any]:
    if isinstance(name, str) and name in CLASSES:
        name = draw(st.sampled_from([name, f"lossfold.{name}", f"{lf.LOSSES[name].__module__}.{name}"]))
    dialect = draw(st.integers(0, 2))
    if dialect == 2:
        return {"class_path": name, "init_args": given}
    return {"type" if dialect else "_target_": name, **given}


@st.composite
def several(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Any:
    terms = draw(
        st.dictionaries(st.sampled_from(["ce", "dice", "x.y", "loss_weight", "a b", "terms"]), inner, min_size=1, max_size=3)
    )
    form = draw(st.integers(0, 4))
    if form == 0:
        return terms
    if form == 1:
        return list(terms.values())
    if form == 2:
        return spelt(draw, "LossSet", {"terms": draw(st.sampled_from([terms, list(terms.values())]))})
    if form == 3:
        return {"type": "MattingLoss", "losses": list(terms.values())}
    return spelt(draw, "LossSet", terms)


configs = st.recursive(single(), several, max_leaves=6)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A configuration with something in it replaced, added, taken away or renamed."""
    config = draw(configs)
    for _ in range(draw(st.integers(0, 3))):
        config = changed(draw, config)
    return config


def changed(draw: st.DrawFn, config: Any) -> Any:
    if isinstance(config, (list, tuple)) and config:
        index = draw(st.integers(0, len(config) - 1))
        return [changed(draw, one) if at == index else one for at, one in enumerate(config)]
    if not isinstance(config, dict) or not config:
        return draw(values)
    key = draw(st.sampled_from(sorted(config, key=str)))
    how = draw(st.integers(0, 5))
    if how == 0:
        return {name: value for name, value in config.items() if name != key}
    if how == 1:
        return {**config, key: draw(st.one_of(values, st.sampled_from(BROKEN)))}
    if how == 2:
        other = draw(
            st.sampled_from(
                ["type", "_target_", "class_path", "init_args", "dict_kwargs", "_args_", "loss_name", "inputs", "smooth", 3]
            )
        )
        return {**config, other: draw(values)}
    if how == 3 and isinstance(key, str):
        return {(key[:-1] if name == key else name): value for name, value in config.items()}
    return {**config, key: changed(draw, config[key])}


garbage = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(scalars, st.sampled_from(["type", "_target_"])), inner, max_size=3)
    ),
    max_leaves=8,
)
anything = st.one_of(configs, mutated(), mutated(), garbage)


def check(config: Any) -> bool:
    """Build, by dict and by file; return whether it could be."""
    try:
        loss = lf.build(config, allow=ALLOW)
    except lf.LossError as error:
        assert len(str(error)) < 3000 and error.argument
        return False
    assert isinstance(loss, torch.nn.Module)
    again = lf.build(lf.to_config(loss, allow=ALLOW), allow=ALLOW)
    assert lf.to_config(again, allow=ALLOW) == lf.to_config(loss, allow=ALLOW)
    return True


def settings(examples: int) -> Any:
    return hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )


def run(examples: int) -> dict[bool, int]:
    counts = {True: 0, False: 0}

    @settings(examples)
    @hypothesis.given(anything)
    def each(config: Any) -> None:
        counts[check(config)] += 1

    each()
    return counts


@pytest.mark.parametrize("count", [150, pytest.param(3_000, marks=pytest.mark.slow)])
def test_configs_build_or_raise_a_loss_error(count: int) -> None:
    counts = run(count)
    assert min(counts.values()) > count / 10, counts  # neither is rare, or this shows nothing


def run_files(examples: int) -> None:
    yaml = pytest.importorskip("yaml")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"a.{name}" for name in ("yaml", "json")}

        @settings(examples)
        @hypothesis.given(
            st.one_of(anything.map(lambda config: dumped(yaml, config)), st.binary(max_size=60), st.text(max_size=60))
        )
        def each(text: str | bytes) -> None:
            for file in files.values():
                file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
                try:
                    lf.build(file, allow=ALLOW)
                except lf.LossError as error:
                    assert file.name in str(error)

        each()


def dumped(yaml: Any, config: Any) -> str:
    try:
        return json.dumps(config)
    except (TypeError, ValueError):
        return str(yaml.dump(config))


def test_random_files_build_or_raise_a_loss_error() -> None:
    run_files(200)


@pytest.mark.slow
def test_many_random_files_build_or_raise_a_loss_error() -> None:
    run_files(3000)
