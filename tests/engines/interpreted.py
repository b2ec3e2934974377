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
from torch.utils._python_dispatch import _disable_current_modes

import lossfold as lf
from lossfold.engines.triton import SERVES_CPUS
from tests.contract.case import Case, Data, both_same, close, evaluate
from tests.contract.cases import A_LOSS, first_of
from tests.contract.layouts import LAYOUTS
from tests.contract.truth import judge, no_worse
from tests.engines.counter import Count
from tests.internals import Watch

if SERVES_CPUS:
    from lossfold.folds.gpu import fused, integral

pytestmark = [
    pytest.mark.skipif(not SERVES_CPUS, reason="the triton engine does not serve CPUs in this process"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of what kernels compute and then leave out
]
SERVED = [case for case in A_LOSS if case.fold in ("label", "dense") and "triton" in case.engines]
FAMILIES = first_of(lambda case: (case.fold, case.link, case.maps, case.passes), SERVED)
"""Each way of reading scores with each set of sums: what losses make of these is the same Python in every engine."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def some(cases: list[Case]) -> Iterator[Any]:
    """Yield every third case for short runs, and the others for long ones."""
    for turn, case in enumerate(cases):
        yield pytest.param(case, id=f"{case.fold}-{case.id}", marks=[pytest.mark.slow] if turn % 3 else [])


@pytest.mark.parametrize("case", list(some(FAMILIES)))
def test_no_worse_than_plain_pytorch(case: Case) -> None:
    """And it is the operators that run."""
    turn = FAMILIES.index(case)
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


def samples() -> Iterator[Any]:
    labels = (torch.int64, torch.int32, torch.uint8)
    for turn, classes in enumerate((1, 2, 3, 19, 150, 300)):
        given = classes, ("softmax", "identity")[turn % 2], DTYPES[turn // 2], labels[turn % 3] if classes < 255 else torch.int64
        yield pytest.param(*given, marks=[pytest.mark.slow] if classes in (1, 2, 150) else [])


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


@pytest.mark.parametrize(("small", "large", "aligned"), [((2, 3), (8, 13), False), ((2, 3), (5, 9), True), ((4, 3), (3, 1), False)])
def test_label_resolution(small: tuple[int, int], large: tuple[int, int], aligned: bool) -> None:
    """At any ratio, larger and smaller, both ways of aligning; also as a map."""
    scores, labels, weight = torch.randn(2, 3, *small), torch.randint(0, 3, (2, *large)), torch.rand(2, *large)
    labels[torch.rand(labels.shape) < 0.2] = 255
    options = {"ignore_index": 255, "align_corners": aligned}
    data = Data(scores, labels, weight)
    for make in (everything, lambda **options: lf.CrossEntropyLoss(reduction="none", **options)):
        found, slope = evaluate(make(engine="triton", **options), data)
        truth = evaluate(make(engine="eager", **options), data.double())
        defined = evaluate(make(engine="eager", **options), data)
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


@pytest.fixture
def counted() -> Iterator[list[str]]:
    """What the formulas launch beside the folds: PyTorch's operations and the kernels that are theirs."""
    launched: list[str] = []
    launch = fused.launch

    def counting(kernel: Any, *arguments: Any, **constants: Any) -> None:
        launched.append("formulas")
        with _disable_current_modes():  # the interpreter's own copies
            launch(kernel, *arguments, **constants)

    with mock.patch.object(fused, "launch", counting), mock.patch.object(integral, "launch", counting):
        yield launched


SETS = {
    "one": lambda: lf.LossSet(ce=lf.CrossEntropyLoss()),
    "three": lambda: lf.LossSet(ce=lf.CrossEntropyLoss(), dice=0.5 * lf.DiceLoss(), focal=lf.FocalLoss(alpha=0.25)),
    "apart": lambda: lf.LossSet(ce=lf.CrossEntropyLoss(per_image=True), dice=lf.DiceLoss(log=True, class_weight=[1.0, 2.0, 3.0])),
    "images": lambda: lf.LossSet(lovasz=lf.LovaszLoss(bins=64, per_image=True), dice=lf.DiceLoss(absent="count")),
    "weighted": lambda: lf.LossSet(
        tversky=lf.TverskyLoss(alpha=0.3, beta=0.7, exponent=0.75, per_image=True),
        jaccard=lf.JaccardLoss(average="micro"),
        ohem=lf.OhemCrossEntropyLoss(min_kept=3, class_weight=[1.0, 2.0, 3.0]),
    ),
    "eight": lambda: lf.LossSet(
        {"lovasz": lf.LovaszLoss(bins=64), "generalized": lf.GeneralizedDiceLoss()}, everything=everything()
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_formulas_in_a_handful_of_launches(name: str, counted: list[str]) -> None:
    """At most 6 forward and 4 backward for any set; the host waits for nothing, and copies nothing."""
    criterion = SETS[name]()
    leaf, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    given = (leaf, labels, torch.rand(2, 4, 4)) if name == "weighted" else (leaf, labels)
    criterion(*given)  # traces
    counted.clear()
    with Count("cpu") as forward:
        total = criterion(*given).total
    with Count("cpu") as backward:
        total.backward()
    for counter in (forward, backward):
        assert not counter.waits and not counter.copies
    beside = [op for one in (forward, backward) for op in one.kernels if not op.startswith(("label_", "_assert"))]
    ahead = sum(n for op, n in forward.kernels.items() if op in beside) + len(counted)
    assert ahead <= 6, (forward.kernels, counted)
    assert sum(n for op, n in backward.kernels.items() if op in beside) <= 4, backward.kernels
    print(name, forward.kernels, backward.kernels, counted)


def test_formulas_follow_their_options() -> None:
    """An option that changes, a schedule that goes on, terms that are differentiated by themselves, second derivatives."""
    leaf, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    data = Data(leaf, labels)

    def pair(engine: str) -> lf.LossSet:
        fading = lf.Term(lf.DiceLoss(engine=engine), schedule=lf.LinearSchedule(start=1.0, end=0.0, steps=4))
        return lf.LossSet(ce=lf.CrossEntropyLoss(engine=engine, class_weight=[1.0, 2.0, 3.0]), dice=fading)

    sets = [pair("triton"), pair("eager")]
    for turn in range(3):
        found, truth = (evaluate(one, data) for one in sets)
        close(found[0], truth[0], 1e-6, 1e-7)
        close(found[1], truth[1], 1e-5, 1e-8)
        for one in sets:
            one.advance()
            if turn == 1:
                one["ce"].class_weight = [3.0, 1.0, 1.0]
    for name in ("ce", "dice"):
        slopes = []
        for one in sets:
            fresh = leaf.clone().requires_grad_()
            out = one(fresh, labels)
            slopes += torch.autograd.grad(out.weighted[name] + 2 * out.total, fresh)
        close(*slopes, 1e-5, 1e-8)
    curves = []
    for one in sets:
        fresh = leaf.clone().requires_grad_()
        (slope,) = torch.autograd.grad(one(fresh, labels).total, fresh, create_graph=True)
        curves += torch.autograd.grad(slope.square().sum(), fresh)
    close(*curves, 1e-4, 1e-8)
    with torch.inference_mode():
        close(sets[0](leaf, labels).total, sets[1](leaf, labels).total, 1e-6, 1e-7)


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
