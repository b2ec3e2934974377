"""Robust errors, spectra and the mixture of Zhao et al.: against independent formulas in float64, and peers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import lossfold as lf
from tests.contract.case import close


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return pred, target


def exact(number: Any) -> Tensor:
    """A number of NumPy's or Python's."""
    return torch.tensor(float(number), dtype=torch.float64)


def check_gradient(loss: Any, pred: Tensor, *others: Any) -> None:
    """Along a random direction, by central differences."""
    leaf = pred.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf, *others), leaf)
    probe = torch.randn(pred.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    rise = (loss(pred + 1e-6 * probe, *others) - loss(pred - 1e-6 * probe, *others)) / 2e-6
    close((slope * probe).sum(), rise, 1e-5, 1e-8)


@pytest.mark.parametrize(
    ("alpha", "formula"),
    [
        (2, lambda x: x * x / 2),
        ("charbonnier", lambda x: np.sqrt(x * x + 1) - 1),
        ("cauchy", lambda x: np.log(x * x / 2 + 1)),
        ("geman-mcclure", lambda x: 2 * x * x / (x * x + 4)),
        ("welsch", lambda x: 1 - np.exp(-x * x / 2)),
        (-1.5, lambda x: 3.5 / -1.5 * ((x * x / 3.5 + 1) ** -0.75 - 1)),
    ],
    ids=lambda one: "" if callable(one) else str(one),
)
def test_robust_loss_equals_barron_s_table(alpha: Any, formula: Any) -> None:
    pred, target = pair(2, 3, 4, 5)
    pred *= 6
    loss = lf.RobustLoss(alpha=alpha, scale=0.5)
    close(loss(pred, target), exact(formula((pred - target).numpy() / 0.5).mean()))
    check_gradient(loss, pred, target)
    same = pred.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(same, pred), same)
    assert slope.abs().max() == 0  # and no NaN


def test_robust_loss_near_its_limits() -> None:
    """Shapes next to 0 and to 2 are next to the limits; small errors keep their digits in float32."""
    pred, target = pair(1, 1, 4, 4)
    for alpha in (0, 2):
        for step in (1e-9, -1e-9):
            close(lf.RobustLoss(alpha=alpha + step)(pred, target), lf.RobustLoss(alpha=alpha)(pred, target), 1e-7)
    small = torch.full((1, 1, 4, 4), 1e-5)
    for alpha in (1.5, 0.0, -2.0, "welsch", 1):
        close(lf.RobustLoss(alpha=alpha)(small, torch.zeros_like(small)), torch.tensor(5e-11), 2e-3 if alpha == 1 else 1e-5)
    for wrong in ("l3", math.nan, math.inf, None):
        with pytest.raises(lf.LossError, match="alpha must be"):
            lf.RobustLoss(alpha=wrong)


@pytest.mark.parametrize("name", ["Charbonnier", "Cauchy", "GemanMcclure", "Welsch"])
def test_robust_loss_equals_kornia(name: str) -> None:
    kornia = pytest.importorskip("kornia.losses")
    alpha = {"Charbonnier": 1.0, "Cauchy": "cauchy", "GemanMcclure": "geman-mcclure", "Welsch": "welsch"}[name]
    pred, target = pair(2, 3, 4, 5)
    close(lf.RobustLoss(alpha=alpha)(pred, target), getattr(kornia, f"{name}Loss")(reduction="mean")(pred, target))


def focal_frequency(pred: Any, target: Any, alpha: float, patches: int, log: bool) -> float:
    """Patch by patch, over the whole spectra."""
    costs = []
    height, width = (side // patches for side in pred.shape[2:])
    for image, channel, i, j in np.ndindex(*pred.shape[:2], patches, patches):
        cut = np.s_[image, channel, i * height : (i + 1) * height, j * width : (j + 1) * width]
        away = np.abs(np.fft.fft2(pred[cut], norm="ortho") - np.fft.fft2(target[cut], norm="ortho"))
        weight = np.log(away**alpha + 1) if log else away**alpha
        costs.append(weight / weight.max() * away**2)
    return float(np.mean(costs))


@pytest.mark.parametrize("size", [(8, 6), (6, 9)], ids=str)
def test_spectra_equal_numpy(size: tuple[int, int]) -> None:
    """Even and odd sides: half a spectrum says all of it."""
    pred, target = pair(2, 3, *size)
    p, t = pred.numpy(), target.numpy()
    for alpha, patches, log in ((1.0, 1, False), (0.5, 1, True), (2.0, 2 if size[1] % 2 == 0 else 3, False)):
        loss = lf.FocalFrequencyLoss(alpha=alpha, patch_factor=patches, log_weight=log)
        close(loss(pred, target), exact(focal_frequency(p, t, alpha, patches, log)))
    away = np.fft.fft2(p) - np.fft.fft2(t)
    parts = (np.abs(away.real).mean() + np.abs(away.imag).mean()) / 2
    sizes = np.abs(np.abs(np.fft.fft2(p)) - np.abs(np.fft.fft2(t))).mean()
    for compare, expected in (("parts", parts), ("modulus", np.abs(away).mean()), ("amplitude", sizes)):
        loss = lf.FFTLoss(compare=compare)
        close(loss(pred, target), exact(expected))
        check_gradient(loss, pred, target)


def test_spectra_of_batches_and_of_means() -> None:
    pred, target = pair(3, 2, 8, 8)
    away = np.abs(np.fft.fft2((pred - target).numpy(), norm="ortho"))
    close(lf.FocalFrequencyLoss(batch_weight=True)(pred, target), exact((away / away.max() * away**2).mean()))
    mean = (pred - target).mean(0, keepdim=True)
    close(lf.FocalFrequencyLoss(mean_spectrum=True)(pred, target), lf.FocalFrequencyLoss()(mean, torch.zeros_like(mean)))
    close(lf.FocalFrequencyLoss(alpha=0.0, reduction="sum")(pred, target), (pred - target).square().sum())  # Parseval
    leaf = pred.clone().requires_grad_()
    (slope,) = torch.autograd.grad(lf.FocalFrequencyLoss(alpha=0.0)(leaf, target), leaf)
    close(slope, 2 * (pred - target) / pred.numel())
    with pytest.raises(lf.LossError, match="can't be split"):
        lf.LossSet(a=lf.FocalFrequencyLoss(batch_weight=True), sync=True)


@pytest.mark.parametrize("loss", [lf.FocalFrequencyLoss(), lf.FFTLoss()], ids=str)
def test_spectra_in_halves_and_what_is_refused(loss: Any) -> None:
    pred, target = pair(1, 3, 16, 16)
    half = loss(pred.half(), target.half())
    assert half.dtype == torch.float32
    close(half.double(), loss(pred.half().double(), target.half().double()), 1e-4)
    big = torch.full((1, 1, 64, 64), 60000.0, dtype=torch.float16)
    assert loss(big, torch.zeros_like(big)).isfinite()
    same = pred.clone().requires_grad_()
    assert torch.autograd.grad(loss(same, pred), same)[0].abs().max() == 0
    with pytest.raises(lf.LossError, match="weight must be left out: a frequency is of the whole image"):
        loss(pred, target, torch.ones_like(pred))
    with pytest.raises(lf.LossError, match=r"term 'a' .*arguments must be \(pred, target\), got 3 by position"):
        lf.LossSet(a=loss, b=lf.L1Loss())(pred, target, torch.ones_like(pred))
    with pytest.raises(lf.LossError, match="sides that patch_factor=3 divides"):
        lf.FocalFrequencyLoss(patch_factor=3)(pred, target)


def zhao(p: Any, t: Any, w: Any, sigmas: tuple[float, ...], size: int, alpha: float, mode: str) -> float:
    """The paper's formula, channel by channel at full resolution."""
    c1, c2, alike = 0.01**2, 0.03**2, 1.0
    for sigma in sigmas:
        radius = min(size // 2, math.ceil(6 * sigma))
        taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        taps /= taps.sum()

        def around(image: Any, taps: Any = taps) -> Any:
            for axis in (2, 3):
                image = ndimage.correlate1d(image, taps, axis=axis, mode=mode, cval=0.0)
            return image

        mean_p, mean_t = around(p), around(t)
        variances = around(p * p) - mean_p**2 + around(t * t) - mean_t**2
        alike = alike * (2 * (around(p * t) - mean_p * mean_t) + c2) / (variances + c2)
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    values = alpha * (1 - luminance * alike) + (1 - alpha) * around(np.abs(p - t))
    return float((w * values).sum() / np.broadcast_to(w, p.shape).sum())


def test_the_mixture_equals_the_paper_s_formula() -> None:
    pred, target = pair(2, 3, 20, 22)
    weight = torch.rand(2, 1, 20, 22, dtype=torch.float64)
    for padding, mode in (("zeros", "constant"), ("reflect", "mirror")):
        loss = lf.MSSSIML1Loss(sigmas=(0.5, 1.0, 3.0), window_size=13, padding=padding)
        expected = zhao(pred.numpy(), target.numpy(), weight.numpy(), (0.5, 1.0, 3.0), 13, 0.84, mode)
        close(loss(pred, target, weight), exact(expected))
        check_gradient(loss, pred, target, weight)
    close(
        lf.MSSSIML1Loss()(pred, target),
        exact(zhao(pred.numpy(), target.numpy(), 1.0, (0.5, 1, 2, 4, 8), 33, 0.84, "constant")),
    )
    shown = lf.MSSSIML1Loss(reduction="none")(pred, target, weight)
    close(shown.sum() / (3 * weight.sum()), lf.MSSSIML1Loss()(pred, target, weight))
    same = pred.clone().requires_grad_()
    value = lf.MSSSIML1Loss()(same, pred)
    assert value == 0 and torch.autograd.grad(value, same)[0].abs().max() == 0
    nothing = lf.MSSSIML1Loss()(same, target, torch.zeros_like(weight))
    assert nothing == 0 and torch.autograd.grad(nothing, same)[0].abs().max() == 0
    counted = torch.ones_like(weight)
    counted[..., 13:, 15:] = 0
    unseen = torch.zeros_like(pred, dtype=torch.bool)
    unseen[..., 13 + 3 :, 15 + 3 :] = True  # of windows of 7 pixels
    for padding in ("zeros", "reflect"):
        loss = lf.MSSSIML1Loss(sigmas=(0.5, 3.0), window_size=7, padding=padding)
        blank = pred.masked_fill(unseen, torch.nan).requires_grad_()
        clean = pred.clone().requires_grad_()
        found, truth = (loss(one, target, counted) for one in (blank, clean))
        close(found, truth)
        close(*(torch.autograd.grad(one, leaf)[0] for one, leaf in ((found, blank), (truth, clean))))
    with pytest.raises(lf.LossError, match="sides of at least 17"):
        lf.MSSSIML1Loss(padding="reflect")(pred[..., :16], target[..., :16])
