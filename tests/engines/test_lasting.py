"""What is kept on a GPU from call to call, as far as a machine without one can say: numbers, kernels, what CUDA graphs read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import lossfold as lf
from lossfold import engines, memory
from lossfold.folds.fold import Fold
from lossfold.losses import fused

pytestmark = pytest.mark.skipif(bool(engines.triton.problem()), reason="Triton is not here")
WITH_NUMBERS = (
    lf.DiceLoss(class_weight=[1.0, 2.0, 0.5]),
    lf.CrossEntropyLoss(class_weight=[1.0, 2.0, 0.5], loss_weight=0.5),
    lf.FocalLoss(class_weight=[1.0, 2.0, 0.5], loss_weight=0.5),
)


def kernel_of(loss: Any, monkeypatch: pytest.MonkeyPatch, known: dict[Any, Any]) -> Any:
    """Return the kernel of a loss's formula over sums that are on another device than the loss."""
    monkeypatch.setattr(fused, "values_of", lambda program, *rest: program)
    given = loss.check(torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4)))
    wanted = loss.needs(given).spec.sums
    sums = torch.empty(2, len(wanted), 3, dtype=torch.float64, device="meta")
    fold = Fold(sums, wanted, torch.float32, target=given.kind, launches=True)
    return fused.together([fused.Part(loss, fold, given, False, loss.weigh, ())], known)


@pytest.mark.parametrize("loss", WITH_NUMBERS, ids=lambda loss: type(loss).__name__)
def test_numbers_of_classes_move_before_formulas_are_traced(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a loss that nobody has moved has a kernel from its first call on; one lasts through train() and eval()."""
    first = kernel_of(loss, monkeypatch, {})
    assert first is not None and first.constants
    assert kernel_of(loss.eval(), monkeypatch, {}).kernel is first.kernel
    assert kernel_of(loss.train(), monkeypatch, {}).kernel is first.kernel


def test_training_and_evaluation_remember_the_same() -> None:
    loss, criterion = lf.CrossEntropyLoss(), lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())
    kept = [loss.memory, criterion.memory, *[one.memory for one in criterion.members]]
    loss.eval(), criterion.eval()
    assert kept == [loss.memory, criterion.memory, *[one.memory for one in criterion.members]]
    loss.ignore_index = 255
    assert loss.memory is not kept[0]


def test_what_is_captured_belongs_to_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph outlives options and memories: what is known of its call and kernels in it stay."""
    from lossfold.folds.gpu import fused as gpu_fused

    known: dict[Any, Any] = {}
    with FakeTensorMode():
        on_gpu, on_cpu = torch.empty(2, device="cuda"), torch.empty(2)
        assert memory.lasting(known, on_gpu) is known and id(known) not in memory.CAPTURED
        for module in (memory, gpu_fused):
            monkeypatch.setattr(module, "is_captured", lambda: True)
        assert memory.lasting(known, on_cpu) is known and id(known) not in memory.CAPTURED
        assert memory.lasting(known, on_gpu) is known and memory.CAPTURED.pop(id(known)) is known
    kernel = kernel_of(lf.DiceLoss(), monkeypatch, {})
    monkeypatch.setattr(gpu_fused, "launch", lambda *given, **named: None)
    kernel.run([torch.empty(2, 3, 3, dtype=torch.float64, device="meta")])
    assert memory.CAPTURED.pop(id(kernel)) is kernel


def test_places_that_32_bits_do_not_count() -> None:
    with FakeTensorMode():
        large = torch.empty(1, 1, 1 << 15, 1 << 16, device="cuda")
        assert engines.select(None, large).name == "eager"
        with pytest.raises(lf.LossError, match="counts an image's places in 32 bits"):
            engines.select("triton", large)
