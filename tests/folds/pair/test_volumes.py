"""Total variation, gradients and Laplacian pyramids of volumes: against NumPy and SciPy, and what a plane says of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import lossfold as lf
from tests.contract.case import close
from tests.contract.cases import native


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def total_variation(x: Any, w: Any, power: int) -> float:
    """The steps along each axis, with the weight of the voxel that they begin at."""
    found = 0.0
    for axis in (2, 3, 4):
        steps = np.abs(np.diff(x, axis=axis)) ** power
        here = np.broadcast_to(np.take(w, range(x.shape[axis] - 1), axis=axis), steps.shape)
        found += (here * steps).sum() / here.sum()
    return found


def gradients(d: Any, w: Any, mode: str) -> float:
    found = 0.0
    for axis in (2, 3, 4):
        response = d
        for other in (2, 3, 4):
            taps = [-1.0, 0.0, 1.0] if other == axis else [1.0, 2.0, 1.0]
            response = ndimage.correlate1d(response, taps, axis=other, mode=mode, cval=0.0)
        found += (w * np.abs(response)).sum()
    return found / np.broadcast_to(w, d.shape).sum()


def test_they_equal_numpy() -> None:
    x, t, w = random(2, 2, 4, 5, 6), random(2, 2, 4, 5, 6, seed=1), random(2, 1, 4, 5, 6, seed=2)
    for order, power in (("l1", 1), ("l2", 2)):
        close(lf.TVLoss(order=order)(x, w), torch.tensor(total_variation(x.numpy(), w.numpy(), power)))
    close(lf.MaskedTVLoss()(x, w > 0.5), torch.tensor(total_variation(x.numpy(), (w > 0.5).double().numpy(), 1)))
    for padding, mode in (("zeros", "constant"), ("replicate", "nearest")):
        close(lf.GradientLoss(padding=padding)(x, t, w), torch.tensor(gradients((x - t).numpy(), w.numpy(), mode)))
    shown = lf.GradientLoss(reduction="none")(x, t, w)
    close(shown.sum() / (2 * w.sum()), lf.GradientLoss()(x, t, w))


def test_a_volume_that_is_the_same_in_every_plane() -> None:
    """Its steps, responses and coefficients are the plane's; smoothing along the third axis multiplies by 4."""
    x, t = random(2, 1, 24, 20), random(2, 1, 24, 20, seed=1)
    tall = [one[:, :, None].expand(-1, -1, 16, -1, -1) for one in (x, t)]
    close(lf.TVLoss()(tall[0]), lf.TVLoss()(x))
    close(lf.GradientLoss(padding="replicate")(*tall), 4 * lf.GradientLoss(padding="replicate")(x, t))
    pyramid = lf.LaplacianPyramidLoss(levels=2, residual=True)
    close(pyramid(*tall), pyramid(x, t))


@pytest.mark.parametrize("loss", [lf.TVLoss(order="l2"), lf.GradientLoss(), lf.LaplacianPyramidLoss(levels=2)], ids=str)
def test_axes_are_alike_and_gradients_are_right(loss: Any) -> None:
    x, t = random(1, 1, 8, 9, 10), random(1, 1, 8, 9, 10, seed=1)
    call = (x,) if isinstance(loss, lf.TVLoss) else (x, t)
    turned = [one.permute(0, 1, 4, 2, 3) for one in call]
    close(loss(*turned), loss(*call))
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, *call[1:]), leaf)
    probe = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    rise = (loss(x + 1e-7 * probe, *call[1:]) - loss(x - 1e-7 * probe, *call[1:])) / 2e-7
    close((slope * probe).sum(), rise, 1e-5, 1e-7)
    close(loss(*(one.half() for one in call)).double(), loss(*call), 1e-2)


@native
def test_who_serves_and_what_is_refused() -> None:
    x = random(1, 1, 6, 6, 6)
    with pytest.raises(lf.LossError, match="cpp engine does not have neighbours in volumes"):
        lf.TVLoss(engine="cpp")(x)
    assert lf.L1Loss(engine="cpp")(x, 1 - x).isfinite()  # reads no neighbour
    out = lf.LossSet(l1=lf.L1Loss(), gradient=lf.GradientLoss())(x, 1 - x)
    close(out.terms["l1"], lf.L1Loss()(x, 1 - x))
    close(out.terms["gradient"], lf.GradientLoss()(x, 1 - x))
    with pytest.raises(lf.LossError, match=r"\[B, C, H, W\] or \[B, C, D, H, W\]"):
        lf.TVLoss()(x[0, 0])
    with pytest.raises(lf.LossError, match=r"must be \[B, C, H, W\], got"):
        lf.MattingGradientLoss()(x, 1 - x, torch.ones_like(x))
