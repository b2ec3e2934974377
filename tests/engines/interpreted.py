"""The triton engine's kernels in Triton's interpreter, on CPU tensors, against the definitions: run by `test_triton.py`.

In a process of its own with TRITON_INTERPRET=1 and LOSSFOLD_ENGINE=triton, where the engine serves CPUs. Steps cost there, and not
pixels: images are small, and classes few.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

import lossfold as lf
from lossfold.engines.triton import SERVES_CPUS
from tests.contract.case import Case, Data, both_same, close, evaluate
from tests.contract.cases import A_LOSS, CASES, first_of
from tests.contract.layouts import LAYOUTS
from tests.contract.truth import judge, no_worse
from tests.engines.counter import Count
from tests.internals import Watch

if SERVES_CPUS:
    from lossfold.folds.dense.triton import host as dense_host
    from lossfold.folds.gpu import fused, integral, launch, maps, resizing, units
    from lossfold.folds.label.triton import host as label_host
    from lossfold.folds.pair.triton import host as pair_host

pytestmark = [
    pytest.mark.skipif(not SERVES_CPUS, reason="the triton engine does not serve CPUs in this process"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of what kernels compute and then leave out
]
OF_IMAGES = [case for case in CASES if case.fold in ("pair", "window")]
SERVED = [case for case in A_LOSS if case.fold in ("label", "dense") and "triton" in case.engines]
SERVED += [case for case in first_of(lambda case: (case.name, case.link, case.passes), OF_IMAGES) if "triton" in case.engines]
FAMILIES = first_of(lambda case: (case.fold, case.link, case.maps, case.passes), SERVED)
"""Each way of reading scores or images with each set of sums: what losses make of these is the same Python in every engine."""
WITH_NEIGHBOURS = ("LaplacianPyramidLoss", "TVLoss")
"""Of pairs, whose last sample is for short runs, too; Sobel is in the test of any order."""
READ_AS_TARGETS = ("GeneralizedWassersteinDiceLoss",)
"""Losses of labels that the dense fold serves."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def is_brief(case: Case) -> bool:
    """Whether a case is among those of short runs: every twelfth of scores, of pairs one for each kernel."""
    if case.fold == "pair":
        alike = [one for one in FAMILIES if one.name == case.name]
        return case.name in ("L1Loss", "KnownSmoothL1Loss", *WITH_NEIGHBOURS) and case is alike[-1]
    return case.fold in ("label", "dense") and FAMILIES.index(case) % 12 == 0


def some(cases: list[Case]) -> Iterator[Any]:
    """Yield cases, most of them for long runs alone."""
    for case in cases:
        brief = case in FAMILIES and is_brief(case)
        yield pytest.param(case, id=f"{case.fold}-{case.id}", marks=[] if brief else [pytest.mark.slow])


@pytest.mark.parametrize("case", list(some(SERVED)))
def test_no_worse_than_plain_pytorch(case: Case) -> None:
    """And it is the operators that run."""
    turn = SERVED.index(case)
    space = case.spaces[0] if case.fold == "window" else (5, 7)
    few = {"batch": 1, "channels": 1} if case.name in WITH_NEIGHBOURS and case in FAMILIES and is_brief(case) else {}
    data = case.make(space, dtype=DTYPES[turn % 3], way=case.ways[turn % len(case.ways)], **few)
    with Watch() as watch:
        judge(case, data, engines=("triton",))
    fold = "dense" if case.name in READ_AS_TARGETS else case.fold
    assert {f"{fold}_unfold", f"{fold}_once"} & set(watch.names)


PICTURES = {
    "pyramid": lambda **options: lf.LaplacianPyramidLoss(levels=2, residual=True, **options),
    "Sobel": lambda **options: lf.GradientLoss(padding="replicate", link="sigmoid", **options),
    "steps": lambda **options: lf.TVLoss(order="l2", **options),
    "all": lambda **options: lf.LossSet(
        edges=lf.GradientLoss(**options), more=lf.GradientLoss(padding="replicate", **options), l1=lf.L1Loss(**options),
        coefficients=lf.LaplacianPyramidLoss(levels=2, **options),
    ),
    "SSIM": lambda **options: lf.SSIMLoss(window_size=3, **options),
    "MS-SSIM": lambda **options: lf.MSSSIMLoss(window_size=3, betas=(0.4, 0.6), **options),
}  # fmt: skip
BRIEFLY = ("Sobel", "SSIM")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in BRIEFLY else [pytest.mark.slow]) for name in PICTURES])
def test_pictures_of_several_bands(name: str) -> None:
    """Programs that meet at borders, odd sides, images far from 0, and NaN where nothing that counts sees it."""
    make, shape = PICTURES[name], (1, 1, 6, 7) if name == "Sobel" else (1, 1, 9, 11)
    pred, target = torch.rand(shape), torch.rand(shape)
    weight = None if name == "steps" else (1.5 * torch.rand(shape) - 0.25).clamp(0, 1)
    if name in ("SSIM", "MS-SSIM"):
        pred, target = 50 + 0.7 * target + 0.3 * pred, 50 + target
    clean = Data(pred, None if name == "steps" else target, weight)
    data = clean
    if name in ("pyramid", "SSIM") and weight is not None:
        weight[..., 5:] = 0
        unseen = torch.zeros(shape, dtype=torch.bool)
        unseen[..., 5 + 1 :] = name == "SSIM"
        data = clean.with_pred(pred.masked_fill(unseen, torch.nan))
    found, slope = evaluate(make(engine="triton"), data)
    truth = evaluate(make(engine="eager"), clean.double())
    defined = evaluate(make(engine="eager"), clean)
    no_worse("value", found, truth[0], defined[0], defined[0], unit=1.0)
    no_worse("gradient", slope, truth[1], defined[1], defined[1])


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


def something(**options: Any) -> lf.LossSet:
    """A set of few sums."""
    return lf.LossSet(ce=lf.CrossEntropyLoss(label_smoothing=0.1, **options), squared=lf.DiceLoss(squared=True, **options))


def samples() -> Iterator[Any]:
    labels = (torch.int64, torch.int32, torch.uint8)
    for turn, classes in enumerate((2, 3, 19, 21, 150, 300, 301), 1):  # class indices of one channel are refused
        given = classes, ("softmax", "identity")[turn % 2], DTYPES[turn % 3], labels[turn % 3] if classes < 255 else torch.int64
        yield pytest.param(*given, marks=[] if classes in (3, 300) else [pytest.mark.slow])


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
    make = functools.partial(everything if classes != 300 else something, link=link, ignore_index=255)
    found, slope = evaluate(make(engine="triton"), data)
    truth = evaluate(make(engine="eager"), clean.double())
    defined = evaluate(make(engine="eager"), data)
    no_worse("value", found, truth[0], defined[0], defined[0], unit=1.0)
    no_worse("gradient", slope, truth[1], defined[1], defined[1])


SIZES = [((2, 2), (3, 5), True)]
SIZES += [pytest.param(*sizes, False, marks=pytest.mark.slow) for sizes in [((2, 3), (8, 13)), ((4, 3), (3, 1))]]  # type: ignore[arg-type]


@pytest.mark.parametrize(("small", "large", "aligned"), SIZES)
def test_label_resolution(small: tuple[int, int], large: tuple[int, int], aligned: bool) -> None:
    """At any ratio, larger and smaller, both ways of aligning; also as a map, and histograms."""
    scores, labels, weight = torch.randn(2, 3, *small), torch.randint(0, 3, (2, *large)), torch.rand(2, *large)
    labels[torch.rand(labels.shape) < 0.2] = 255
    options = {"ignore_index": 255, "align_corners": aligned}
    data = Data(scores, labels, weight)

    def none(**options: Any) -> Any:
        return lf.CrossEntropyLoss(reduction="none", **options)

    def bins(**options: Any) -> Any:
        return lf.LovaszLoss(bins=64, per_image=aligned, **options)

    for make in (something, bins) if large == (3, 5) else (everything, none, bins):
        found, slope = evaluate(make(engine="triton", **options), data)
        truth = evaluate(make(engine="eager", **options), data.double())
        defined = evaluate(make(engine="eager", **options), data)
        no_worse("value", found, truth[0], defined[0], defined[0], unit=1.0)
        no_worse("gradient", slope, truth[1], defined[1], defined[1])


OTHERS = {
    "volumes": ((2, 3, 2), (5, 7, 3), functools.partial(lf.LovaszLoss, bins=16)), "fewer": ((4, 5, 7), (3, 2, 9), lf.DiceLoss),
    "at once": ((2, 1, 3), (3, 2, 5), lf.CrossEntropyLoss), "wide": ((1, 1), (1, 70), lf.DiceLoss),
    "cells": ((2, 2), (3, 5), lf.DiceLoss), "soft": ((3, 2, 2), (5, 4, 3), lf.DiceLoss),
    "BCE": ((3, 4), (5, 9), lf.BinaryCrossEntropyLoss),
}  # fmt: skip
"""Spaces, and a loss that has one fold, one pass, or targets of every channel."""


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.slow  # cells are in the test above
@pytest.mark.parametrize("name", OTHERS)
def test_scores_brought_to_another_size(name: str, aligned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no kernel walks over cells, and where one does: the same in long integers, of which only huge images have need."""
    small, large, kind = OTHERS[name]
    scores = torch.randn(2, 3, *small)
    target = torch.randint(0, 3, (2, *large)) if name not in ("BCE", "soft") else torch.rand(2, 3, *large)
    make = functools.partial(kind, align_corners=aligned)
    data = Data(scores, target / target.sum(1, keepdim=True) if name == "soft" else target)
    found, slope = evaluate(make(engine="triton"), data)
    truth = evaluate(make(engine="eager"), data.double())
    defined = evaluate(make(engine="eager"), data)
    no_worse("value", found, truth[0], defined[0], defined[0], unit=1.0)
    no_worse("gradient", slope, truth[1], defined[1], defined[1])
    monkeypatch.setattr(resizing.Line, "long", lambda *sizes: True)
    both_same((found, slope), evaluate(make(engine="triton"), data))


@pytest.mark.parametrize("kind", [lf.BoundaryLoss, pytest.param(lf.SkeletonRecallLoss, marks=pytest.mark.slow)])
@pytest.mark.parametrize("link", ["softmax", *(pytest.param(link, marks=pytest.mark.slow) for link in ("sigmoid", "identity"))])
def test_sums_of_maps(kind: Any, link: str) -> None:
    """In the pass of others: NaN where nothing counts; of half precision and another size, over cells; and as an integrand."""
    scores, labels, weight = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5)), torch.rand(2, 4, 5)
    scores = scores.softmax(1) if link == "identity" else scores
    target = functional.one_hot(labels, 3).movedim(-1, 1).bool() if link == "sigmoid" else labels
    weight[0, :2] = 0
    blank = scores.masked_fill((weight == 0)[:, None], torch.nan)

    def both(engine: str) -> lf.LossSet:
        return lf.LossSet(dice=lf.DiceLoss(link=link, engine=engine), mapped=kind(link=link, engine=engine))

    small = Data((scores if link == "identity" else scores.half())[..., :3], target)
    assert "1 forward, 1 backward" in both("triton").plan(scores, target, weight)
    for data in (Data(blank, target, weight), small):
        found, slope = evaluate(both("triton"), data)
        truth, defined = evaluate(both("eager"), data.double()), evaluate(both("eager"), data)
        no_worse("value", found, truth[0], defined[0], defined[0], unit=1.0)
        no_worse("gradient", slope, truth[1], defined[1], defined[1])
    values = []
    for engine in ("triton", "eager"):
        loss = kind(link=link, engine=engine)
        given = loss.check(scores, target, weight)
        needs = loss.needs(given)
        values.append(needs.integrate(torch.arange(3.0 * len(needs.spec.sums)).reshape(-1, 3).double(), given))
    close(values[0], values[1], 1e-4, 1e-4)


@pytest.mark.parametrize("name", ["map", pytest.param("many", marks=pytest.mark.slow)])
def test_masked_classes_fill_a_tile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of -inf in as many classes as devices take at once; and labels like what is ignored, mod 256."""
    monkeypatch.setattr(launch, "TILE", 8)
    monkeypatch.setattr(maps, "TILE", 8)
    classes = 11 if name == "map" else 196
    make = lf.BoundaryLoss if name == "map" else functools.partial(lf.LovaszLoss, bins=64)
    scores, labels = torch.randn(1, classes, 2, 3), torch.randint(8, classes, (1, 2, 3), dtype=torch.uint8)
    scores[:, :8] = -torch.inf
    labels[0, 0, 0] = min(156, classes - 1)
    data = Data(scores, labels)
    found, slope = evaluate(make(engine="triton"), data)
    truth, defined = evaluate(make(engine="eager"), data.double()), evaluate(make(engine="eager"), data)
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
    labels, hard = torch.randint(0, 3, (1, 35, 33)), torch.rand(1, 3, 35, 33)
    scores = torch.randn(1, 3, 35, 33)
    named = {"ohem": lf.OhemCrossEntropyLoss(min_kept=500), "lovasz": lf.LovaszLoss(bins=64)}
    dense = {
        "bce": lf.BinaryCrossEntropyLoss(),
        "dice": lf.DiceLoss(link="sigmoid"),
    }
    weight = torch.rand(1, 35, 33)
    return [
        (lf.LossSet(named), Data(scores, labels, weight)),
        (lf.LossSet(dense), Data(scores, hard)),
        (lf.LaplacianPyramidLoss(levels=1, residual=True), Data(*torch.rand(2, 1, 1, 6, 5))),
        (lf.GradientLoss(), Data(*torch.rand(2, 1, 1, 6, 5))),
        (lf.SSIMLoss(window_size=3), Data(*torch.rand(2, 1, 1, 6, 5))),
        (lf.FocalLoss(), Data(scores, labels)),
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

    scaled = label_host.scaled

    def scaling(*arguments: Tensor) -> Tensor:
        with _disable_current_modes():
            return scaled(*arguments)

    with contextlib.ExitStack() as stack:
        for module in (fused, integral, units):
            stack.enter_context(mock.patch.object(module, "launch", counting))
        stack.enter_context(mock.patch.object(label_host, "scaled", scaling))
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
    "weighted bins": lambda: lf.LossSet(lovasz=lf.LovaszLoss(bins=64, per_image=True), dice=lf.DiceLoss(), focal=lf.FocalLoss()),
    "eight": lambda: lf.LossSet(
        {"lovasz": lf.LovaszLoss(bins=64), "generalized": lf.GeneralizedDiceLoss()}, everything=everything()
    ),
}


OFTEN = ("one", "weighted")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in SETS])
def test_formulas_in_a_handful_of_launches(name: str, counted: list[str]) -> None:
    """At most 6 forward and 4 backward for any set; the host waits for nothing, and copies nothing."""
    criterion = SETS[name]()
    leaf, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    given = (leaf, labels, torch.rand(2, 4, 4)) if name.startswith("weighted") else (leaf, labels)
    criterion(*given)  # traces
    counted.clear()
    with Count("cpu") as forward:
        total = criterion(*given).total
    ahead = len(counted)
    with Count("cpu") as backward:
        total.backward()
    for counter in (forward, backward):
        assert not counter.waits and not counter.copies
    beside = [op for one in (forward, backward) for op in one.kernels if not op.startswith(("label_", "_assert"))]
    assert ahead + sum(n for op, n in forward.kernels.items() if op in beside) <= 6, (forward.kernels, counted)
    back = sum(n for op, n in backward.kernels.items() if op in beside)
    assert len(counted) - ahead + back <= 4, (backward.kernels, counted)
    print(name, forward.kernels, backward.kernels, counted)


def test_formulas_follow_their_options() -> None:
    """An option that changes, a schedule that goes on, terms that are differentiated by themselves, second derivatives."""
    leaf, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    data = Data(leaf, labels)

    def pair(engine: str) -> lf.LossSet:
        fading = lf.Term(lf.DiceLoss(engine=engine), schedule=lf.LinearSchedule(start=1.0, end=0.0, steps=4))
        return lf.LossSet(ce=lf.CrossEntropyLoss(engine=engine, class_weight=[1.0, 2.0, 3.0]), dice=fading)

    sets = [pair("triton"), pair("eager")]
    for turn in range(2):
        found, truth = (evaluate(one, data) for one in sets)
        close(found[0], truth[0], 1e-6, 1e-7)
        close(found[1], truth[1], 1e-5, 1e-8)
        for one in sets:
            one.advance()
            if turn == 0:
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


def one_of_each_fold() -> Iterator[Any]:
    for case in first_of(lambda case: case.fold, SERVED):
        yield pytest.param(case, id=case.fold, marks=[pytest.mark.slow] if case.fold in ("dense", "window") else [])


@pytest.mark.parametrize("case", list(one_of_each_fold()))
def test_layouts_and_nothing(case: Case) -> None:
    """Strides change no bit; where nothing counts, or there is nothing, loss and gradient are 0."""
    case = case.small()
    data = case.make(case.spaces[0] if case.fold == "window" else (3, 5), dtype=torch.float32, way=case.rich)
    truth = evaluate(case.build(engine="triton"), data)
    for layout in LAYOUTS:
        both_same(evaluate(case.build(engine="triton"), data.each(layout)), truth)
    hollow = [case.make(space, batch=batch, dtype=torch.float32, way=case.rich) for batch, space in case.hollow]
    for empty in (*case.empties(torch.float32), *hollow):
        value, slope = evaluate(case.build(engine="triton"), empty)
        assert not value.any() and not slope.any()


def test_value_and_gradient_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as in two, whatever it is multiplied with afterwards; by 1, nothing is touched."""
    touched: list[float] = []
    run = launch.scaled

    def scaled(gradient: Tensor, factor: Tensor) -> Tensor:
        before = gradient.clone()
        found = run(gradient, factor)
        touched.append((found - before).abs().max().item())
        return found

    labels, masks = torch.randint(0, 3, (2, 3, 4)), torch.rand(2, 3, 3, 4)
    weight = torch.rand(2, 3, 4) * (torch.rand(2, 3, 4) < 0.8)
    cases = [
        (lf.CrossEntropyLoss(label_smoothing=0.1, class_weight=[1, 2, 0], ignore_index=1), (labels, weight), label_host),
        (2 * lf.FocalLoss(reduction="sum"), (labels,), label_host),
        (lf.BinaryCrossEntropyLoss(pos_weight=3.0), ((masks > 0.5).byte(), weight), dense_host),
        (0.5 * lf.CharbonnierLoss(), (masks,), pair_host),
    ]
    for loss, given, host in cases:
        monkeypatch.setattr(host, "scaled", scaled)
        for kind in DTYPES[: 2 if loss.loss_weight == 1 and host is label_host else 1]:
            data = Data(torch.randn(2, 3, 3, 4).to(kind), *given)
            with Watch() as watch:
                once = evaluate(loss, data)
            assert {name.split("_")[1] for name in watch.names} == {"once"}
            assert (touched.pop() > 0) == (loss.loss_weight != 1)
            with mock.patch.object(type(loss), "one_pass", False):
                twice = evaluate(loss, data)
            close(once[0], twice[0], 1e-6, 0.0)
            close(once[1], twice[1], 1e-5 if kind == torch.float32 else 1e-2, 1e-9)
    half = Data(torch.randn(2, 3, 3, 4).half(), labels)
    with Watch() as watch:
        evaluate(lf.CrossEntropyLoss(), half)
    assert "label_unfold" in watch.names  # its gradient has to be scaled first


def test_numbers_that_are_negated_when_they_are_read() -> None:
    """PyTorch leaves minus signs to whoever reads (`x.conj().imag`); kernels read memory."""
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 4, 4, dtype=torch.complex64).conj().imag
    labels = torch.randint(3, (2, 4, 4))
    assert scores.is_neg()
    for loss in (lf.CrossEntropyLoss(), lf.DiceLoss()):
        close(loss(scores, labels), loss(scores.resolve_neg(), labels))


@pytest.mark.parametrize("grad", [pytest.param(False, marks=pytest.mark.slow), True])
def test_wrong_labels_where_nobody_is_told(grad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch for ROCm leaves out the asserts that complain of them: the loss is NaN there."""
    monkeypatch.setattr(torch, "_assert_async", lambda good, message: None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    scores, labels = torch.randn(2, 3, 4, 4, requires_grad=grad), torch.full((2, 4, 4), 3)
    for loss in (lf.CrossEntropyLoss(), lf.DiceLoss(), lf.CrossEntropyLoss(reduction="none"), lf.LovaszLoss()):
        assert loss(scores, labels).isnan().all(), loss
    targets = torch.full((2, 3, 4, 4), 7)
    for loss in (lf.BinaryCrossEntropyLoss(), lf.DiceLoss(link="sigmoid"), lf.BinaryCrossEntropyLoss(reduction="none")):
        assert loss(scores, targets).isnan().all(), loss


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
    assert "windows of more than 13 pixels" in refusal(
        torch.rand(1, 1, 20, 20), lf.SSIMLoss(engine="triton", window_size=15), torch.rand(1, 1, 20, 20)
    )
    alpha, region = torch.rand(1, 1, 4, 4), torch.full((1, 1, 4, 4), 1.5)
    assert "in [0, 1], 1 where alpha is unknown" in refusal(alpha, lf.UnknownL1Loss(engine="triton"), alpha, region)
    assert "labels must be in [0, 1]" in refusal(scores, lf.DiceLoss(link="sigmoid", engine="triton"), torch.full_like(scores, 1.5))
    assert "cpp" not in lf.engines.available()
