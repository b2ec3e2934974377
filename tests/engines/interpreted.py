"""The triton engine's kernels in Triton's interpreter, on CPU tensors, against the definitions: run by `test_triton.py`.

In a process of its own with TRITON_INTERPRET=1 and LOSSFOLD_ENGINE=triton, where the engine serves CPUs. Steps cost there, and not
pixels: images are small, and classes few.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold.engines.triton import SERVES_CPUS
from tests.contract.case import Case, Data, both_same, evaluate
from tests.contract.cases import A_LOSS, first_of
from tests.contract.layouts import LAYOUTS
from tests.contract.truth import judge, no_worse
from tests.internals import Watch

pytestmark = [
    pytest.mark.skipif(not SERVES_CPUS, reason="the triton engine does not serve CPUs in this process"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of what kernels compute and then leave out
]
SERVED = [case for case in A_LOSS if case.fold in ("label", "dense") and "triton" in case.engines]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.fold}-{case.id}") for case in SERVED])
def test_no_worse_than_plain_pytorch(case: Case) -> None:
    """And it is the operators that run."""
    turn = SERVED.index(case)
    data = case.make((5, 7), dtype=DTYPES[turn % 3], way=case.ways[turn % len(case.ways)])
    judge(case, data, engines=("triton",))
    with Watch() as watch:
        evaluate(case.build(engine="triton"), data)
    assert f"{case.fold}_unfold" in watch.names


def everything(**options: Any) -> lf.LossSet:
    """A set that asks for every kind of sum at labels, in more launches than one."""
    return lf.LossSet(
        ce=lf.CrossEntropyLoss(label_smoothing=0.1, **options),
        dice=lf.DiceLoss(**options),
        squared=lf.DiceLoss(squared=True, **options),
        focal=lf.FocalLoss(gamma=1.7, normalize="focal", **options),
        focal2=lf.FocalLoss(**options),
        ohem=lf.OhemCrossEntropyLoss(min_kept=7, **options),
        dice_log=lf.JaccardLoss(log=True, **options),
    )


def samples() -> Iterator[tuple[int, str, torch.dtype, torch.dtype]]:
    labels = (torch.int64, torch.int32, torch.uint8)
    for turn, classes in enumerate((1, 2, 3, 19, 150, 300)):
        yield classes, ("softmax", "identity")[turn % 2], DTYPES[turn // 2], labels[turn % 3] if classes < 255 else torch.int64


@pytest.mark.parametrize("classes, link, kind, whole", list(samples()))
def test_any_number_of_classes(classes: int, link: str, kind: torch.dtype, whole: torch.dtype) -> None:
    """What does not count holds NaN, and lies channels-last in every other case."""
    raw = torch.randn(2, classes, 3, 7)
    scores = (0.95 * raw.softmax(1) + 0.02 if link == "identity" else raw).to(kind)
    labels = torch.randint(0, classes, (2, 3, 7))
    labels[torch.rand(labels.shape) < 0.3] = 255
    weight = torch.rand(2, 3, 7) * (torch.rand(2, 3, 7) < 0.8)
    out = ((labels == 255) | (weight == 0))[:, None]
    scores = scores.masked_fill(out, torch.nan)
    scores = scores.to(memory_format=torch.channels_last) if whole != torch.int64 else scores
    data = Data(scores, labels.to(whole), weight)
    clean = Data(scores.masked_fill(out, 0.5), labels, weight)
    found, slope = evaluate(everything(link=link, ignore_index=255, engine="triton"), data)
    truth = evaluate(everything(link=link, ignore_index=255, engine="eager"), clean.double())
    defined = evaluate(everything(link=link, ignore_index=255, engine="eager"), data)
    no_worse("value", found, truth[0], defined[0], defined[0], unit=1.0)
    no_worse("gradient", slope, truth[1], defined[1], defined[1])


@pytest.fixture
def shuffled() -> Iterator[None]:
    """Programs run in another order: the second half backwards, then the first."""
    from triton.runtime import interpreter

    builder = interpreter.interpreter_builder
    place = builder.set_grid_idx

    def elsewhere(x: int, y: int, z: int) -> None:
        place(*((index + size // 2) % size for index, size in zip((x, y, z), builder.grid_dim, strict=True)))

    with mock.patch.object(builder, "set_grid_idx", elsewhere):
        yield


def one_of_each() -> list[tuple[Any, Data]]:
    labels, hard = torch.randint(0, 3, (2, 41, 61)), torch.rand(2, 3, 41, 61)
    scores = torch.randn(2, 3, 41, 61)
    named = {"lovasz": lf.LovaszLoss(bins=64), "ohem": lf.OhemCrossEntropyLoss(min_kept=1000), "dice": lf.DiceLoss()}
    dense = {
        "bce": lf.BinaryCrossEntropyLoss(),
        "hinge": lf.LovaszLoss(link="sigmoid", bins=64),
        "dice": lf.DiceLoss(link="sigmoid"),
    }
    weight = torch.rand(2, 41, 61)
    return [
        (lf.LossSet(named), Data(scores, labels, weight)),
        (lf.LossSet(dense), Data(scores, hard)),
        (lf.LovaszLoss(bins=64), Data(scores, labels)),
    ]


def test_any_order_of_programs_gives_the_same_bits(request: pytest.FixtureRequest) -> None:
    samples = one_of_each()
    before = [evaluate(loss, data) for loss, data in samples]
    request.getfixturevalue("shuffled")
    for (loss, data), truth in zip(samples, before, strict=True):
        both_same(evaluate(loss, data), truth)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.fold) for case in first_of(lambda case: case.fold, SERVED)])
def test_layouts_and_nothing(case: Case) -> None:
    """Strides change no bit; where nothing counts, or there is nothing, loss and gradient are 0."""
    data = case.make((3, 5), dtype=torch.float32, way=case.rich)
    truth = evaluate(case.build(engine="triton"), data)
    for layout in LAYOUTS:
        both_same(evaluate(case.build(engine="triton"), data.each(layout)), truth)
    hollow = [case.make(space, batch=batch, dtype=torch.float32, way=case.rich) for batch, space in case.hollow]
    for empty in (*case.empties(torch.float32), *hollow):
        value, slope = evaluate(case.build(engine="triton"), empty)
        assert not value.any() and not slope.any()


def test_what_it_does_not_have() -> None:
    """Goes to the definition, and forced is an error that says why; so is a label out of range."""
    scores, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))

    def refusal(scores: Tensor, loss: Any, *given: Tensor) -> str:
        with pytest.raises(lf.LossError) as error:
            loss(scores, *given)
        return str(error.value)

    assert "computes in float32, and the scores are float64" in refusal(
        scores.double(), lf.CrossEntropyLoss(engine="triton"), labels
    )
    weight = torch.rand(1, 4, 4, requires_grad=True)
    assert "no gradient to targets" in refusal(scores, lf.CrossEntropyLoss(engine="triton"), labels, weight)
    bad = labels.clone()
    bad[0, 0, 0] = 3
    assert "labels must be in [0, 3)" in refusal(scores, lf.CrossEntropyLoss(engine="triton"), bad)
    assert "labels must be in [0, 1]" in refusal(scores, lf.DiceLoss(link="sigmoid", engine="triton"), torch.full_like(scores, 1.5))
    assert "cpp" not in lf.engines.available()
