"""Windows in volumes: value and gradient against SciPy's filters and a peer, at one scale and several, and who serves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import Data, close
from tests.contract.cases import native
from tests.folds.window import oracles


def volumes(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (0.7 * target + 0.3 * torch.rand(shape, generator=generator, dtype=torch.float64)).to(dtype), target.to(dtype)


def oracle(pred: Tensor, target: Tensor, weight: Tensor, **options: Any) -> Tensor:
    """As in two dimensions, along one side more."""
    p, t, w = (one.numpy() for one in (pred, target, weight.expand(pred.shape)))
    taps = oracles.gaussian(options)

    def around(image: oracles.Array) -> oracles.Array:
        from scipy import ndimage

        for axis in (-3, -2, -1):
            image = ndimage.correlate1d(image, taps, axis=axis, mode=oracles.MODES[options.get("padding", "valid")], cval=0.0)
        return inner(image)

    def inner(image: oracles.Array) -> oracles.Array:
        radius = len(taps) // 2
        return image[..., radius:-radius, radius:-radius, radius:-radius] if options.get("padding", "valid") == "valid" else image

    mean_p, mean_t, c1, c2 = around(p), around(t), 0.01**2, 0.03**2
    var_p, var_t, both = around(p * p) - mean_p**2, around(t * t) - mean_t**2, around(p * t) - mean_p * mean_t
    ssim = (2 * mean_p * mean_t + c1) * (2 * both + c2) / ((mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2))
    return torch.tensor(((1 - ssim) * inner(w)).sum() / inner(w).sum())


@pytest.mark.parametrize("options", [{}, {"padding": "reflect", "window": "uniform"}, {"padding": "zeros"}], ids=str)
def test_they_equal_scipy_and_their_gradient_is_the_definition_s(options: dict[str, Any]) -> None:
    pred, target = volumes(2, 2, 6, 7, 8)
    weight = torch.rand(2, 1, 6, 7, 8, dtype=torch.float64)
    loss = lf.SSIMLoss(window_size=5, **options)
    leaf = pred.clone().requires_grad_()
    value = loss(leaf, target, weight)
    close(value.detach(), oracle(pred, target, weight, window_size=5, **options))
    (slope,) = torch.autograd.grad(value, leaf)
    by_definition = torch.func.grad(lambda x: loss(x, target, weight))(pred)  # not the lean form
    close(slope, by_definition, 1e-9)
    probe = torch.randn(pred.shape, dtype=torch.float64)
    rise = (loss(pred + 1e-6 * probe, target, weight) - loss(pred - 1e-6 * probe, target, weight)) / 2e-6
    close((slope * probe).sum(), rise, 1e-6, 1e-8)


def test_a_volume_that_is_the_same_in_every_plane_is_its_plane() -> None:
    """Under reflected borders; in several scales, as the mixture with absolute errors, and half precision as well."""
    pred, target = volumes(2, 1, 24, 26)
    tall = [one[:, :, None].expand(-1, -1, 24, -1, -1) for one in (pred, target)]
    options: dict[str, Any] = {"window_size": 3, "padding": "reflect"}
    for loss in (lf.SSIMLoss(**options), lf.MSSSIMLoss(betas=(0.4, 0.6), **options), lf.L1SSIMLoss(**options)):
        close(loss(*tall), loss(pred, target))
        half = loss(*(one.half() for one in tall))
        assert half.dtype == torch.float32
        close(half.double(), loss(pred, target), 1e-2)


def test_they_equal_monai() -> None:
    """Its Gaussian window with equal weights for all of a batch, in float32."""
    monai = pytest.importorskip("monai.losses")
    pred, target = volumes(2, 1, 12, 13, 14, dtype=torch.float32)
    close(lf.SSIMLoss()(pred, target), monai.SSIMLoss(spatial_dims=3, win_size=11, kernel_sigma=1.5)(pred, target), 1e-4)
    uniform = monai.SSIMLoss(spatial_dims=3, win_size=7, kernel_type="uniform")
    close(lf.SSIMLoss(window_size=7, window="uniform")(pred, target), uniform(pred, target), 1e-4)


@native
def test_only_eager_serves_them() -> None:
    pred, target = volumes(1, 1, 12, 12, 12)
    assert lf.SSIMLoss()(pred, target).isfinite()
    with pytest.raises(lf.LossError, match="cpp engine does not have windows in volumes"):
        lf.SSIMLoss(engine="cpp")(pred, target)
    with pytest.raises(lf.LossError, match=r"\[B, C, D, H, W\] with sides of at least 11.*11x11x11 window"):
        lf.SSIMLoss()(pred[:, :, :10], target[:, :, :10])
    with pytest.raises(lf.LossError, match="sides of at least"):
        lf.SSIMLoss()(pred[None], target[None])


def test_links_and_windows_are_other_passes() -> None:
    data = Data(*volumes(1, 1, 16, 16))
    close(lf.SSIMLoss(link="sigmoid")(data.pred.logit(), data.truth), lf.SSIMLoss()(data.pred, data.truth))
    out = lf.LossSet(a=lf.SSIMLoss(), b=lf.SSIMLoss(window="uniform"), c=lf.SSIMLoss(link="sigmoid"))(data.pred, data.truth)
    assert len({float(one) for one in out.terms.values()}) == 3
    assert len(lf.LossSet(a=lf.SSIMLoss(), b=lf.SSIMLoss(window="uniform")).plan().splitlines()) == 2
