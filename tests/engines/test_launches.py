"""On CUDA tensors that are not there: nothing that the host does hangs on their values, so that a call can be a CUDA graph."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    unset_fake_temporarily,
)

import lossfold as lf
from lossfold import engines
from lossfold.folds.dense import operators as dense
from lossfold.folds.label import operators as label
from tests.contract.case import Case, run
from tests.contract.cases import A_LOSS, each, first_of
from tests.engines.counter import Count

pytestmark = pytest.mark.skipif(bool(engines.triton.problem()), reason="Triton is not here")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """Tensors without numbers on a GPU; what would have to wait for them raises."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


@each(A_LOSS, among=lambda case: case.elsewhere)
def test_nothing_hangs_on_values(case: Case, gpu: FakeTensorMode) -> None:
    """Shapes, dtypes and options say what is launched; a second call copies nothing. (Backward, `test_devices` says the same.)"""
    with unset_fake_temporarily():
        loss, real = case.build(), case.make(dtype=torch.float32, way=case.rich)
    data = real.each(lambda one: torch.empty(one.shape, dtype=one.dtype, device="cuda"))
    data = data.with_pred(data.pred.requires_grad_())
    for turn in range(2):
        with Count("cuda") as counter:
            assert run(loss, data).requires_grad
        assert not counter.waits
        assert not turn or not counter.copies, counter.copies


@each(first_of(lambda case: (case.fold, case.name, *(name for name, value in case.options.items() if isinstance(value, list)))))
def test_what_gpu_tests_compare_with(case: Case, gpu: FakeTensorMode) -> None:
    """Plain PyTorch, as `make test-gpu` runs it, has no tensor elsewhere; where it looks at its data, as far as there."""
    with unset_fake_temporarily():
        real = case.make(dtype=torch.float32, way=case.rich)
    data = real.each(lambda one: torch.empty(one.shape, dtype=one.dtype, device="cuda"))
    looked = contextlib.suppress(DataDependentOutputException, DynamicOutputShapeException)
    with looked, contextlib.suppress(RuntimeError) if case.name == "HausdorffDTLoss" else looked:  # whose distances are SciPy's
        assert case.plain(data.with_pred(data.pred.requires_grad_())).device.type == "cuda"


def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that are launched from here on, by name; nothing runs."""
    from triton.runtime.jit import JITFunction

    launched: list[str] = []

    def launch(kernel: Any, *arguments: Any, grid: Any, warmup: bool, **constants: Any) -> None:
        assert all(isinstance(one, (Tensor, int, float)) for one in arguments)
        assert constants.get("num_warps", 4) <= 32  # more threads a program can't have
        launched.append(kernel.__name__)

    monkeypatch.setattr(JITFunction, "run", launch)
    return launched


def beside(counter: Count) -> int:
    """What PyTorch launches beside the kernels; asking a tensor for its device is none, nor is the flag of bad labels."""
    return sum(count for name, count in counter.kernels.items() if name not in ("device", "_assert_async"))


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("loss", "most"),
    [
        (lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss(), focal=lf.FocalLoss()), (2, 2)),
        (lf.LossSet(tversky=lf.TverskyLoss(per_image=True), jaccard=lf.JaccardLoss()), (2, 2)),
        (lf.LossSet(ohem=lf.OhemCrossEntropyLoss()), (12, 2)),
        (lf.LossSet(lovasz=lf.LovaszLoss(), ce=lf.CrossEntropyLoss()), (6, 3)),
    ],
    ids=["sums", "apart", "hard", "bins"],
)
def test_label_folds(
    loss: lf.LossSet, most: tuple[int, int], weighted: bool, stride: int, gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operators' hosts: how many launches, kernels of PyTorch's included, and that they wait for nothing."""
    if stride > 1 and "lovasz" in loss.names:
        pytest.skip("histograms are at the scores' size")
    launched = kernels(monkeypatch)
    scores = torch.empty(2, 19, 64 // stride, 64 // stride, device="cuda")
    labels = torch.empty(2, 64, 64, dtype=torch.int64, device="cuda")
    weight = torch.empty(2, 64, 64, device="cuda") if weighted else None
    needs = next(iter(loss.leaves())).needs()
    for leaf in list(loss.leaves())[1:]:
        needs = needs.merge(leaf.needs())
    options = label.flat(needs.spec)
    host = label.OPERATORS.host()
    with Count("cuda") as forward:
        sums, table, kept = host.fold(scores, labels, weight, None, *options)
    own, launched[:] = len(launched), []
    assert not forward.waits and not forward.copies
    assert own + beside(forward) <= most[0], (own, forward.kernels)
    grad = None if not table.numel() else torch.empty_like(table)
    with Count("cuda") as backward:
        assert host.unfold(torch.empty_like(sums), grad, kept, scores, labels, weight, None, *options).shape == scores.shape
    assert not backward.waits and not backward.copies
    assert len(launched) + beside(backward) <= most[1] + (stride > 1), (launched, backward.kernels)


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_dense_folds(link: str, gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = kernels(monkeypatch)
    scores, targets = torch.empty(2, 5, 64, 64, device="cuda"), torch.empty(2, 5, 64, 64, device="cuda")
    needs = lf.DiceLoss(link=link).needs_for("masks").merge(lf.FocalLoss(link=link).needs_for("masks") if link == "sigmoid" else
                                                            lf.CrossEntropyLoss().needs_for("soft"))  # fmt: skip
    options = dense.flat(needs.spec)
    host = dense.OPERATORS.host()
    with Count("cuda") as counter:
        sums, _ = host.fold(scores, targets, None, None, *options)
        host.unfold(torch.empty_like(sums), None, scores, targets, None, None, *options)
    assert not counter.waits and not counter.copies
    assert len(launched) + beside(counter) <= 4, (launched, counter.kernels)


def test_cells_of_many_columns(gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """With aligned corners a cell has more than the ratio of the sizes, and of many classes a program has all the warps it may."""
    launched, loss = kernels(monkeypatch), lf.CrossEntropyLoss(align_corners=True)
    options, host = label.flat(loss.needs_for("labels").spec), label.OPERATORS.host()
    for columns, walks in ((16 * 64, False), (15 * 64, True)):
        scores, labels = torch.empty(1, 150, 4, 16, device="cuda"), torch.empty(1, 9, columns, dtype=torch.int64, device="cuda")
        launched.clear()
        sums, _, kept = host.fold(scores, labels, None, None, *options)
        host.unfold(sums, None, kept, scores, labels, None, None, *options)
        assert ("grid_unfold" in launched) == walks


@pytest.mark.parametrize("given", ["volumes", "targets", "map"])
def test_beside_the_pass(given: str, gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch along each axis brings scores to another size, and one gradients back; a map's sums and gradient are one each."""
    launched = kernels(monkeypatch)
    labels = torch.empty(2, 8, 16, 32, dtype=torch.int64, device="cuda")
    scores = torch.empty(2, 5, *((8, 16, 32) if given == "map" else (2, 8, 16)), device="cuda")
    loss: Any = {"volumes": lf.DiceLoss, "targets": lf.BinaryCrossEntropyLoss, "map": lf.BoundaryLoss}[given]()
    operators = dense if given == "targets" else label
    target = torch.empty(2, 5, 8, 16, 32, device="cuda") if given == "targets" else labels
    maps = torch.empty(scores.shape, device="cuda") if given == "map" else None
    options, host = operators.flat(loss.needs().spec), operators.OPERATORS.host()
    with Count("cuda") as counter:
        sums, _, *kept = host.fold(scores, target, None, maps, *options)
        own, launched[:] = tuple(launched), []
        slope = host.unfold(torch.empty_like(sums), None, *kept, scores, target, None, maps, *options)
    assert slope.shape == scores.shape and not counter.waits and not counter.copies
    assert own.count("spread") == launched.count("spread") == launched.count("gather") == 3 * (given != "map")
    assert own.count("fold_maps") == launched.count("unfold_maps") == (given == "map")
    assert len(own) <= 5 and len(launched) <= 8 and beside(counter) <= (8 if given == "map" else 1), (
        own,
        launched,
        counter.kernels,
    )


@pytest.mark.parametrize("per_image", [False, True])
def test_weights_in_units(per_image: bool, gpu: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two launches bring weights to what a histogram resolves, one what was collected back."""
    from lossfold.folds.gpu import units

    launched = kernels(monkeypatch)
    with Count("cuda") as counter:
        _, unit = units.in_units(torch.empty(2, 64, 64, device="cuda"), per_image)
        sums = torch.empty(2, 3, 19, dtype=torch.float64, device="cuda")
        table = torch.empty(len(unit), 4, 19, 64, dtype=torch.float64, device="cuda")
        units.multiplied(unit, sums, table)  # which its gradient is, too
    assert launched == ["add_weights", "divide_weights", "multiply"]
    assert not counter.waits and not counter.copies and not beside(counter)
