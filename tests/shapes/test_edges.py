"""Shapes at their edges: masks of one pixel, of nothing and of all; sets with pixels that do not count; 10^8 voxels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, close

SHAPES = ("BoundaryLoss", "HausdorffDTLoss", "CLDiceLoss", "SkeletonRecallLoss", "StructureLoss")
DARK, FAR = -50.0, 50.0


def logits_of(masks: Tensor) -> Tensor:
    """Of which the sigmoid is the mask, to rounding."""
    return torch.where(masks, FAR, DARK).double().requires_grad_()


@pytest.mark.parametrize("space", [(1,), (9,), (7, 9), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_one_pixel_none_and_all(name: str, space: tuple[int, ...]) -> None:
    """What is right costs nothing (of Boundary: no more than any other mask), what is wrong more, and all are finite."""
    one = torch.zeros(1, 1, *space, dtype=torch.bool)
    one[(0, 0, *(side // 2 for side in space))] = True
    for mask in (one, torch.zeros_like(one), torch.ones_like(one)):
        background = {"include_background": True} if name != "StructureLoss" else {}
        loss = lf.LOSSES[name](link="sigmoid", absent="count", **background)
        right, wrong = logits_of(mask), logits_of(~mask)
        values = [loss(x, mask) for x in (right, wrong)]
        slopes = [torch.autograd.grad(value, x)[0] for value, x in zip(values, (right, wrong), strict=True)]
        assert all(one.isfinite().all() for one in (*values, *slopes))
        both_sides = bool(mask.any()) and not bool(mask.all())
        if name != "BoundaryLoss":
            assert values[0].abs() < 1e-6
        if both_sides:
            assert values[1] > values[0]
        elif name in ("BoundaryLoss", "HausdorffDTLoss"):
            assert values[1] == values[0] == 0, "no boundary, no distance"


def test_one_pixel_by_hand() -> None:
    """The boundary of one pixel, with anisotropic spacing, inner: 0 there, less one smallest step elsewhere nowhere."""
    mask = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    mask[0, 0, 1, 2] = True
    p = torch.rand(1, 1, 3, 4, dtype=torch.float64)
    phi = torch.tensor([[math.hypot(2.0 * (y - 1), 0.5 * (x - 2)) for x in range(4)] for y in range(3)], dtype=torch.float64)
    phi[1, 2] = -0.5 + 0.5  # its distance to what surrounds it, less the smallest step
    loss = lf.BoundaryLoss(link="identity", spacing=[2.0, 0.5])
    close(loss(p, mask), (p[0, 0] * phi).mean(), rtol=1e-6)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "triton"])
def test_a_set_with_pixels_that_do_not_count(engine: str) -> None:
    """By label or by weight, the set's terms and its gradient are those of each loss alone; what lies there changes nothing."""
    options: dict[str, Any] = {"ignore_index": 255}
    terms = {
        "ce": lf.CrossEntropyLoss(engine=engine, **options),
        "dice": lf.DiceLoss(engine=engine, **options),
        "boundary": lf.BoundaryLoss(engine=engine, **options),
        "hausdorff": lf.HausdorffDTLoss(**options),
        "cldice": lf.CLDiceLoss(iterations=2, **options),
    }
    criterion = lf.LossSet(terms)
    logits = torch.randn(2, 4, 15, 13, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 4, (2, 15, 13))
    seen = torch.rand(2, 15, 13) < 0.8
    ignored = labels.masked_fill(~seen, 255)
    alone = {name: loss(logits, ignored) for name, loss in terms.items()}
    (truth,) = torch.autograd.grad(sum(alone.values()), logits)
    for given in ((ignored,), (labels, seen), (labels.flip(1).where(~seen, labels), seen), (ignored, seen.double())):
        out = criterion(logits, *given)
        for name, value in alone.items():
            close(out.terms[name], value.detach())
        close(torch.autograd.grad(out.total, logits)[0], truth)


@pytest.mark.slow
@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@pytest.mark.parametrize("space", [(10**8,), (10**4, 10**4), (465, 465, 463)], ids=["line", "plane", "cube"])
def test_a_hundred_million_pixels_are_exact(space: tuple[int, ...]) -> None:
    """From two sources, to float32's last digit: every distance is the rounded root of a whole number."""
    mask = torch.ones(1, 1, *space, dtype=torch.bool)
    ends = [tuple(side // 3 for side in space), tuple(side - 1 for side in space)]
    for end in ends:
        mask[(0, 0, *end)] = False
    found = lf.functional.distance_transform(mask)[0, 0]
    del mask
    rest = space[1:]
    squares = [torch.zeros(rest, dtype=torch.float64) for _ in ends]
    for end, square in zip(ends, squares, strict=True):
        for axis, (side, at) in enumerate(zip(rest, end[1:], strict=True)):
            line = (torch.arange(side, dtype=torch.float64) - at) ** 2
            square += line.view(-1, *[1] * (len(rest) - axis - 1))
    if not rest:
        places = torch.arange(space[0], dtype=torch.float64)
        truth = torch.minimum(*((places - end[0]).abs() for end in ends))
        assert found.dtype == torch.float64 and torch.equal(found, truth), "float32 would not count so far"
        return
    for row in range(space[0]):
        nearest = torch.minimum(*(square + (row - end[0]) ** 2 for end, square in zip(ends, squares, strict=True)))
        assert torch.equal(found[row], nearest.sqrt().float()), row
