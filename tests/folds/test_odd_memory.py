"""Tensors whose memory is unusual: truth values of any bits, elements that share a place, and integers too narrow for an option."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf

engine = pytest.mark.parametrize("engine", lf.engines.available())

SCORES, CLASSES, LABELS = torch.randn(2, 1, 9, 37), torch.randn(2, 3, 9, 37), torch.randint(0, 3, (2, 9, 37))
OF_MASKS: dict[str, Callable[[str, Tensor], Tensor]] = {
    "pair, target": lambda engine, m: lf.L1Loss(engine=engine)(SCORES, m),
    "pair, weight": lambda engine, m: lf.L1Loss(engine=engine)(SCORES, SCORES.flip(0), m),
    "window, target": lambda engine, m: lf.SSIMLoss(engine=engine, window_size=5)(SCORES.sigmoid(), m),
    "window, weight": lambda engine, m: lf.SSIMLoss(engine=engine, window_size=5)(SCORES.sigmoid(), SCORES.flip(0).sigmoid(), m),
    "label, weight": lambda engine, m: lf.CrossEntropyLoss(engine=engine, reduction="sum")(CLASSES, LABELS, weight=m[:, 0]),
    "label, both passes": lambda engine, m: lf.DiceLoss(engine=engine)(CLASSES, LABELS, weight=m[:, 0]),
    "label, histogram": lambda engine, m: lf.LovaszLoss(engine=engine)(CLASSES, LABELS, weight=m[:, 0]),
    "dense, target": lambda engine, m: lf.BinaryCrossEntropyLoss(engine=engine)(SCORES, m),
    "dense, both passes": lambda engine, m: lf.DiceLoss(link="sigmoid", engine=engine)(SCORES, m),
    "dense, histogram": lambda engine, m: lf.LovaszLoss(link="hinge", engine=engine)(SCORES, m),
    "dense, weight": lambda engine, m: lf.BinaryCrossEntropyLoss(engine=engine)(SCORES, SCORES.flip(0).sigmoid(), weight=m[:, 0]),
    "shape": lambda engine, m: lf.BoundaryLoss(link="sigmoid")(SCORES, m),
    "distances": lambda engine, m: lf.functional.distance_transform(m[:, 0]).sum(),
    "signed distances": lambda engine, m: lf.functional.signed_distance(m[:, 0]).sum(),
}


@engine
@pytest.mark.parametrize("name", OF_MASKS)
def test_truth_values_of_any_bits(name: str, engine: str) -> None:
    """NumPy gives a bilevel picture as bytes 0 and 255 of dtype bool; PyTorch calls it equal to 0 and 1."""
    mask = torch.rand(2, 1, 9, 37) > 0.5
    bits = (mask * torch.tensor([255, 7]).view(2, 1, 1, 1)).to(torch.uint8).view(torch.bool)
    assert torch.equal(mask, bits)
    torch.testing.assert_close(OF_MASKS[name](engine, bits), OF_MASKS[name](engine, mask), rtol=0, atol=0)


@engine
@pytest.mark.parametrize("sizes", [(3, 4, 3), (2, 3, 2), (2, 5, 3)])
def test_elements_that_share_a_place_and_a_gap_beside_them(sizes: tuple[int, int, int], engine: str) -> None:
    """The alpha of RGBA as some channels: from its first to its last element there are as many places as it has elements."""
    batch, channels, wanted = sizes
    whole, other = torch.rand(batch, channels, 8, 8, requires_grad=True), torch.rand(batch, channels, 8, 8)
    pred, target = (x[:, -1:].expand(-1, wanted, -1, -1) for x in (whole, other))
    for loss, plain in (
        (lf.L1Loss, functional.l1_loss),
        (lf.MSELoss, functional.mse_loss),
        (lf.SmoothL1Loss, functional.smooth_l1_loss),
    ):
        found, truth = loss(engine=engine)(pred, target), plain(pred, target)
        torch.testing.assert_close(found, truth)
        torch.testing.assert_close(*(torch.autograd.grad(value, whole)[0] for value in (found, truth)))


@engine
@pytest.mark.parametrize("loss", [lf.CrossEntropyLoss, lf.FocalLoss, lf.DiceLoss, lf.LovaszLoss])
def test_windows_that_slide_over_a_row_of_scores(loss: type[lf.CrossEntropyLoss], engine: str) -> None:
    line, labels = torch.randn(900), torch.randint(0, 20, (881,))
    scores = line.unfold(0, 20, 1)  # [881, 20], one element from pixel to pixel and from class to class
    for _ in range(3):
        torch.testing.assert_close(loss(engine=engine)(scores, labels), loss(engine=engine)(scores.contiguous(), labels))


@engine
@pytest.mark.parametrize(("half", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_gradients_of_half_scores_at_label_resolution_are_rounded_once(half: torch.dtype, unit: float, engine: str) -> None:
    scores, labels = torch.randn(1, 150, 16, 16).to(half).requires_grad_(True), torch.randint(0, 150, (1, 64, 64))
    (found,) = torch.autograd.grad(lf.CrossEntropyLoss(engine=engine, reduction="sum")(scores, labels), scores)
    wide = scores.detach().double().requires_grad_(True)
    large = functional.interpolate(wide, (64, 64), mode="bilinear", align_corners=False)
    (truth,) = torch.autograd.grad(functional.cross_entropy(large, labels, reduction="sum"), wide)
    least = 1e-3 * truth.abs().max()  # below which float32 sums cancel
    errors = (found.double() - truth).abs() / truth.abs().clamp_min(least)
    assert errors.max() <= 1.1 * unit


@engine
@pytest.mark.parametrize(("integers", "ignored"), [(torch.uint8, -256), (torch.int32, -(2**32)), (torch.uint8, -255)])
def test_an_ignore_index_that_the_targets_cannot_hold(integers: torch.dtype, ignored: int, engine: str) -> None:
    masks = (torch.rand(2, 1, 9, 37) > 0.5).to(integers)
    for loss in (lf.BinaryCrossEntropyLoss(engine=engine), lf.LovaszLoss(link="hinge", engine=engine)):
        truth = loss(SCORES, masks)
        loss.ignore_index = ignored
        torch.testing.assert_close(loss(SCORES, masks), truth)
    with pytest.raises(lf.LossError, match="got also"):
        lf.BinaryCrossEntropyLoss(engine=engine, ignore_index=-1)(SCORES, (255 * masks).to(torch.uint8))


def test_distances_to_a_class_that_is_ignored_are_none() -> None:
    from lossfold.shapes import definition

    labels = torch.tensor([[0, 0, 1, 1, 2, 0]])
    served = lf.functional.signed_distance(labels, 3, ignore_index=0)
    defined = definition.distance(labels, 3, 0, [1.0], True, 0.0, 0.0, False)
    torch.testing.assert_close(served, defined.view(served.shape).to(served.dtype))
