"""Low-resolution logits scored against dense targets of their own size: interpolation and then the loss, to rounding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.cases import Data, close, evaluate
from tests.dense.cases import DenseCase, every_dense_case, make_dense, one_case_a_loss
from tests.dense.steps import settled
from tests.truth import no_worse

RATIOS = {  # logits, targets
    "2": ((3, 4), (6, 8)),
    "4": ((3, 2), (12, 8)),
    "8": ((2, 3), (16, 24)),
    "3": ((4, 3), (12, 9)),
    "7/3": ((3, 6), (7, 14)),
    "1/2": ((8, 6), (4, 3)),
    "3/7": ((7, 14), (3, 6)),
    "up and down": ((8, 3), (3, 8)),
    "one node": ((1, 1), (4, 5)),
    "to one pixel": ((3, 4), (1, 1)),
}
FOLDS = one_case_a_loss()
corners = pytest.mark.parametrize("align_corners", [False, True], ids=["centres", "corners"])


def large(
    case: DenseCase, low: tuple[int, int], high: tuple[int, int], target: str, weight: str | None, dtype: torch.dtype
) -> Data:
    """Scores of one size with targets and weights of another, the elements near a step left out."""
    fine = make_dense(case, high, target=target, weight=weight, dtype=dtype)
    low_scores = make_dense(case, low, dtype=dtype).scores
    near = settled(case, Data(upsampled(low_scores.double(), high, case), fine.labels, fine.weight), distance=1e-5)
    weight_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return Data(low_scores, fine.labels, None if near.weight is None else near.weight.to(weight_dtype))


def upsampled(scores: torch.Tensor, size: tuple[int, int], case: DenseCase) -> torch.Tensor:
    return functional.interpolate(scores, size, mode="bilinear", align_corners=bool(case.options.get("align_corners")))


def dense(case: DenseCase, data: Data, cotangent: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Interpolate in PyTorch, then the loss at one resolution."""
    leaf = data.leaf()
    size = (data.labels.shape[2], data.labels.shape[3])
    result = case.changed(engine="eager").build()(upsampled(leaf.scores, size, case), data.labels, data.weight)
    seed = torch.ones_like(result) if cotangent is None else cotangent.to(result)
    (gradient,) = torch.autograd.grad(result, leaf.scores, seed)
    return result.detach(), gradient


@every_dense_case(among=FOLDS)
@corners
def test_every_ratio(case: DenseCase, align_corners: bool) -> None:
    case = case.changed(align_corners=align_corners)
    for i, (low, high) in enumerate(RATIOS.values()):
        target, weight = ("soft", "int", "bool")[i % 3], (None, "pixel", "element", "bool")[i % 4]
        data = large(case, low, high, target, weight, torch.float64)
        result, gradient = evaluate(case.build(), data)
        truth, slope = dense(case, data)
        close(result, truth, grain=case.grain)
        close(gradient, slope)


@every_dense_case(among=FOLDS)
def test_no_worse_than_interpolating(case: DenseCase, dtype: torch.dtype) -> None:
    data = large(case, (9, 11), (36, 44), "soft", "element", dtype)
    wide = Data(data.scores.double(), data.labels, None if data.weight is None else data.weight.double())
    cotangent = torch.randn(dense(case, wide)[0].shape, dtype=torch.float64)
    truth, slope = dense(case, wide, cotangent)
    naive, naive_slope = dense(case, data, cotangent)
    reference, reference_slope = evaluate(case.changed(engine="eager").build(), data, cotangent)
    result, gradient = evaluate(case.build(), data, cotangent)
    no_worse(result, truth, naive, reference, grain=case.grain, unit=1.0)
    no_worse(gradient, slope, naive_slope, reference_slope)


@every_dense_case(among=FOLDS)
def test_layout_and_threads_change_no_bit_here_either(case: DenseCase) -> None:
    data = large(case, (31, 40), (62, 160), "soft", "pixel", torch.float32)
    assert data.weight is not None
    truth, slope = evaluate(case.build(), data)
    strided = Data(
        data.scores.movedim(1, -1).contiguous().movedim(-1, 1), data.labels.mT.contiguous().mT, data.weight.mT.contiguous().mT
    )
    if case.options["engine"] == "cpp":
        torch.set_num_threads(2)
    leaf = strided.scores.requires_grad_()
    result = case.build()(leaf, strided.labels, strided.weight)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
    torch.testing.assert_close(result.detach(), truth, rtol=0, atol=0)
    torch.testing.assert_close(gradient.contiguous(), slope, rtol=0, atol=0)
