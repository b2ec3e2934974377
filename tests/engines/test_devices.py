"""What every loss asks of a device, on tensors without data, which take the branches that tensors on GPUs take."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import lossfold as lf
from lossfold.folds import arithmetic
from tests.contract.case import Case, Data, run
from tests.contract.cases import A_LOSS, each, first_of
from tests.engines.counter import Count
from tests.losses import foldless

OF_SEVERAL = ("GradientPenaltyLoss", "R1GradientPenalty", "R2GradientPenalty", "GeneratorPathRegularizer", "FeatureMatchingLoss",
              "TransferalPerceptualLoss")  # fmt: skip
"""What is called with networks or lists, and not with tensors."""


def on_device(case: Case) -> Data:
    """A call's arguments."""
    return case.make(way=case.rich).each(lambda one: (one.float() if one.is_floating_point() else one).to("meta")).leaf()


def there_and_back(loss: torch.nn.Module, data: Data) -> None:
    """A call and its gradient."""
    result = run(loss, data)
    torch.autograd.grad(result.sum(), data.pred)


@each(A_LOSS)
def test_no_wait_and_no_copy(case: Case) -> None:
    """The host never waits for the device; what a loss keeps for each class goes there once, and stays."""
    loss = case.build(engine="eager")
    kept = len(list(loss.buffers()))
    data = on_device(case)
    for calls in range(2):
        with Count() as counter:
            there_and_back(loss, data)
        assert not counter.waits
        assert len(counter.copies) <= (0 if calls else kept), counter.copies


FOLDLESS = [case for case in foldless.foldless_cases() if case.base not in OF_SEVERAL and not case.name.endswith("Comps")]


@pytest.mark.parametrize("case", FOLDLESS, ids=lambda case: case.id)
def test_no_wait_and_no_copy_without_a_fold(case: foldless.Foldless, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = foldless.of

    def of(*given: torch.Tensor) -> foldless.Given:
        return on_cpu(*(one.to("meta") for one in given))

    monkeypatch.setattr(foldless, "of", of)
    loss = case.build().to("meta")
    leaf, call = case.call()
    with Count() as counter:
        torch.autograd.grad(foldless.scalar(call(loss)), leaf)
    assert not counter.waits and not counter.copies, counter.copies


@each(first_of(lambda case: (case.name, case.maps), A_LOSS))
def test_no_float64_where_there_is_none(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "WITHOUT_FLOAT64", ("meta",))
    loss, data = case.build(engine="eager"), on_device(case)
    with Narrow():
        there_and_back(loss, data)


class Narrow(TorchDispatchMode):
    """A device that knows no float64."""

    def __torch_dispatch__(self, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None) -> object:
        result = func(*args, **(kwargs or {}))  # type: ignore[operator]
        for one in result if isinstance(result, (tuple, list)) else (result,):
            wide = isinstance(one, torch.Tensor) and one.device.type == "meta" and one.dtype == torch.float64
            assert not wide, f"{func} makes float64"
        return result


def test_buffers_go_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module moves to such a device, and comes back with its numbers."""
    monkeypatch.setattr(arithmetic, "WITHOUT_FLOAT64", ("meta",))
    regularizer = lf.GeneratorPathRegularizer()
    criterion = lf.LossSet(ce=lf.Term(lf.CrossEntropyLoss(class_weight=[0.1, 0.7]), schedule=lambda step: 0.3))
    confusion = lf.metrics.Confusion(3)
    with Narrow():
        for module in (regularizer, criterion, confusion):
            module.to("meta")
            assert all(one.is_meta and one.dtype != torch.float64 for one in module.buffers())
    criterion.to_empty(device="cpu")
    logits, labels = torch.randn(1, 2, 4), torch.tensor([[0, 1, 1, 0]])
    plain = torch.nn.functional.cross_entropy(logits, labels, torch.tensor([0.1, 0.7]))
    torch.testing.assert_close(criterion(logits, labels).total, 0.3 * plain)
    assert regularizer.half().to_empty(device="cpu").mean_path_length == 0
