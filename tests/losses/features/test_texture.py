"""The transferal perceptual loss against float64, level by level."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf


def levels(dtype: torch.dtype = torch.float32) -> tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(2, 8, 6, 5), (2, 4, 12, 10), (2, 2, 24, 20)]
    maps, textures = (tuple(torch.randn(*shape, generator=generator).to(dtype) for shape in shapes) for _ in range(2))
    return maps, torch.randn(2, 1, 6, 5, generator=generator).to(dtype), textures


def cubic(attention: Tensor, factor: int) -> Tensor:
    """Bicubic upsampling by hand, Keys' kernel with a = -0.75, half-pixel centres, borders repeated."""

    def matrix(size: int) -> Tensor:
        found = torch.zeros(size * factor, size, dtype=torch.float64)
        for row in range(size * factor):
            centre = (row + 0.5) / factor - 0.5
            first = int(centre // 1) - 1
            for column in range(first, first + 4):
                d, a = abs(centre - column), -0.75
                weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
                found[row, min(max(column, 0), size - 1)] += weight
        return found

    return matrix(attention.shape[2]) @ attention.double() @ matrix(attention.shape[3]).T


@pytest.mark.parametrize("criterion", ["l1", "mse"])
def test_every_level_has_the_sigmoid(criterion: str) -> None:
    """The attention is resized before the sigmoid, and no level goes without it, as it does in published code."""
    maps, attention, textures = levels()
    given = [x.clone().requires_grad_() for x in (*maps, attention, *textures)]
    loss = lf.TransferalPerceptualLoss(criterion=criterion, loss_weight=0.5)
    value = loss(given[:3], given[3], given[4:])
    double = [x.double().requires_grad_() for x in (*maps, attention, *textures)]
    expected = torch.zeros((), dtype=torch.float64)
    for level, factor in enumerate((1, 2, 4)):
        shown = cubic(double[3], factor).sigmoid() if factor > 1 else double[3].sigmoid()
        difference = (double[level] - double[4 + level]) * shown
        expected = expected + (difference.abs().mean() if criterion == "l1" else difference.pow(2).mean())
    torch.testing.assert_close(value.double(), 0.5 * expected, rtol=1e-5, atol=0)
    slopes = torch.autograd.grad(value, given)
    exact = torch.autograd.grad(0.5 * expected, double)
    for slope, other in zip(slopes, exact, strict=True):
        torch.testing.assert_close(slope.double(), other, rtol=1e-3, atol=1e-7)


def test_without_attention() -> None:
    maps, _, textures = levels()
    loss = lf.TransferalPerceptualLoss(use_attention=False)
    expected = sum(((a.double() - b.double()) ** 2).mean() for a, b in zip(maps, textures, strict=True))
    torch.testing.assert_close(loss(maps, None, textures).double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        lf.functional.transferal_perceptual_loss(maps, None, textures, use_attention=False), loss(maps, None, textures)
    )
    routed = lf.LossSet(texture=lf.TransferalPerceptualLoss(inputs={"maps": "sr.maps", "soft_attention": "s", "textures": "t"}))
    maps, attention, textures = levels()
    out = routed({"sr": {"maps": maps}, "s": attention, "t": textures})
    torch.testing.assert_close(out.total, lf.TransferalPerceptualLoss()(maps, attention, textures))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_features_are_compared_in_float32(half: torch.dtype) -> None:
    maps, attention, textures = levels(half)
    big = tuple(x * 300 for x in maps)  # their squares overflow float16
    value = lf.TransferalPerceptualLoss()(big, attention, textures)
    wide = [tuple(x.float() for x in part) for part in (big, textures)]
    assert value.dtype == torch.float32 and torch.equal(value, lf.TransferalPerceptualLoss()(wide[0], attention.float(), wide[1]))
    with torch.autocast("cpu", half):
        assert torch.equal(value, lf.TransferalPerceptualLoss()(big, attention, textures))


def wrong() -> list[tuple[Any, Any, Any, str]]:
    maps, attention, textures = levels()
    return [
        (maps[0], attention, textures, "maps must be a list or tuple of features"),
        ((), attention, (), "maps must be a list or tuple of features"),
        (maps, attention, textures[:2], "textures must be 3 levels, as maps are, got 2"),
        (maps, attention, textures[::-1], r"textures\[0\] must be of maps' shape \[2, 8, 6, 5\], got \[2, 2, 24, 20\]"),
        ((maps[0], maps[1].int(), maps[2]), attention, textures, r"maps\[1\] must be images .* of floats, got torch.int32"),
        (maps, None, textures, "soft_attention must be images .*, got NoneType"),
        (maps, attention.expand(-1, 8, -1, -1), textures, "soft_attention must be images .*, got 8 channels"),
        (maps, attention[:1], textures, r"soft_attention must be \[2, 1, H, W\], got \[1, 1, 6, 5\]"),
    ]


@pytest.mark.parametrize("case", range(len(wrong())))
def test_wrong_levels(case: int) -> None:
    maps, attention, textures, words = wrong()[case]
    with pytest.raises(lf.LossError, match=words):
        lf.TransferalPerceptualLoss()(maps, attention, textures)


def test_wrong_options() -> None:
    with pytest.raises(lf.LossError, match="use_attention must be True or False"):
        lf.TransferalPerceptualLoss(use_attention=1)
    with pytest.raises(lf.LossError, match="criterion must be one of 'l1', 'mse'"):
        lf.TransferalPerceptualLoss(criterion="huber")
    loss = 2 * lf.TransferalPerceptualLoss(criterion="l1")
    assert repr(loss) == "TransferalPerceptualLoss(criterion='l1', loss_weight=2.0)" and repr(eval(repr(loss), vars(lf))) == repr(
        loss
    )
