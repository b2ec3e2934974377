"""PSNR and SSIM against scikit-image, over batches, and what they refuse."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data, metrics
from torch import Tensor

from lossfold import metrics as m
from lossfold.errors import LossError

WINDOW = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
"""What scikit-image has to be told to use the window of the paper."""


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    """Three photographs `[3,3,60,73]` and noisy ones, float64 in 0..1, with a different noise each."""
    cat = np.ascontiguousarray(np.stack([data.chelsea()[y : y + 60, 50:123] for y in (20, 100, 200)])) / 255
    clean = torch.from_numpy(cat).permute(0, 3, 1, 2).contiguous()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = torch.tensor([0.01, 0.1, 0.3], dtype=torch.float64).view(3, 1, 1, 1)
    return (clean + sigma * noise).clamp(0, 1), clean


def by_image(function: Any, pred: Tensor, target: Tensor, **options: Any) -> list[float]:
    pairs = zip(pred.double().numpy(), target.double().numpy(), strict=True)
    return [float(function(true, said, **options)) for said, true in pairs]


@pytest.mark.parametrize("data_range", [1.0, 255])
def test_psnr_is_scikit_images(pictures: tuple[Tensor, Tensor], data_range: float) -> None:
    pred, target = (data_range * image for image in pictures)
    expected = by_image(metrics.peak_signal_noise_ratio, pred, target, data_range=data_range)
    assert m.psnr(pred, target, data_range).tolist() == pytest.approx(expected, rel=1e-12)
    assert m.psnr(pred.float(), target.float(), data_range).tolist() == pytest.approx(expected, rel=1e-6)
    assert expected[0] > 39 and expected[2] < 14


@pytest.mark.parametrize("data_range", [1.0, 255])
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_ssim_is_scikit_images(pictures: tuple[Tensor, Tensor], data_range: float, kind: torch.dtype, tolerance: float) -> None:
    pred, target = ((data_range * image).to(kind) for image in pictures)
    expected = by_image(metrics.structural_similarity, pred, target, data_range=data_range, channel_axis=0, **WINDOW)
    found = m.ssim(pred, target, data_range)
    assert found.dtype == torch.float64 and found.tolist() == pytest.approx(expected, abs=tolerance)
    assert expected[0] > 0.95 and expected[2] < 0.4


def test_ssims_options_are_scikit_images(pictures: tuple[Tensor, Tensor]) -> None:
    pred, target = pictures
    options = {**WINDOW, "sigma": 1.0, "K1": 0.02, "K2": 0.05}  # scikit-image's window is 2 round(3.5 sigma) + 1 wide
    expected = by_image(metrics.structural_similarity, pred, target, data_range=1, channel_axis=0, **options)
    found = m.ssim(pred, target, window_size=9, sigma=1.0, k1=0.02, k2=0.05)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)
    assert (found - m.ssim(pred, target)).abs().max() > 1e-3


def test_equal_images() -> None:
    image = torch.rand(2, 3, 16, 16)
    assert m.psnr(image, image).tolist() == [math.inf, math.inf] and m.ssim(image, image).tolist() == [1, 1]
    assert not m.psnr(image.requires_grad_(), image).requires_grad and not m.ssim(image, image).requires_grad


def test_batches_and_halves_add_up(pictures: tuple[Tensor, Tensor]) -> None:
    pred, target = pictures
    whole, one, two = m.RestorationMetrics(), m.RestorationMetrics(), m.RestorationMetrics()
    whole.update(pred, target)
    one.update(pred[:2], target[:2])
    two(pred[2:], target[2:])
    expected = {"psnr": m.psnr(pred, target).mean().item(), "ssim": m.ssim(pred, target).mean().item()}
    for metric in (whole, one + two, copy.deepcopy(whole).half(), pickle.loads(pickle.dumps(whole)), whole.sync()):
        assert {name: value.item() for name, value in metric.compute().items()} == pytest.approx(expected, rel=1e-12)
    assert one.compute()["psnr"] > two.compute()["psnr"]
    one.reset()
    assert all(value.isnan() for value in one.compute().values())
    only = m.RestorationMetrics(["ssim"], data_range=2)
    only.update(2 * pred, 2 * target)
    assert only.compute()["ssim"].item() == pytest.approx(expected["ssim"], rel=1e-9) and list(only.compute()) == ["ssim"]
    assert repr(only) == "RestorationMetrics(metrics=('ssim',), data_range=2, crop_border=0, to_y=False, validate=False)"
    with pytest.raises(LossError, match="an accumulator like"):
        whole.merge(only)


IMAGE = torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IMAGE.byte(), IMAGE), r"pred.*float tensor.*uint8.*take \.float\(\) / 255"),
        ((IMAGE, IMAGE.tolist()), r"target.*float tensor.*list"),
        ((IMAGE[0], IMAGE[0]), r"pred.*\[B, C, H, W\].*image\[None\]"),
        ((IMAGE, IMAGE[:, :1]), r"target.*pred's shape"),
        ((IMAGE, IMAGE.to("meta")), r"target.*device"),
        ((IMAGE, IMAGE, 0.0), r"data_range.*got 0\.0"),
        ((IMAGE, IMAGE, True), r"data_range.*got True"),
    ],
)
@pytest.mark.parametrize("function", [m.psnr, m.ssim])
def test_wrong_images_are_refused(function: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(LossError, match=f"{function.__name__}: {message}"):
        function(*arguments)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(LossError, match=r"ssim: pred.*at least 11"):
        m.ssim(IMAGE[..., :10], IMAGE[..., :10])
    with pytest.raises(LossError, match="window_size"):
        m.ssim(IMAGE, IMAGE, window_size=8)
    for metrics_ in ((), ["psnr", "psnr"], ["mse"], "psnr", [["psnr"]]):
        with pytest.raises(LossError, match="RestorationMetrics: metrics"):
            m.RestorationMetrics(metrics_)  # type: ignore[arg-type]
    with pytest.raises(LossError, match="RestorationMetrics: data_range"):
        m.RestorationMetrics(data_range=-1)
    with pytest.raises(LossError, match="RestorationMetrics: target"):
        m.RestorationMetrics().update(IMAGE, IMAGE[:1])
    with pytest.raises(LossError, match="accumulator's device"):
        m.RestorationMetrics().to("meta").update(IMAGE, IMAGE)
    assert m.RestorationMetrics().update(IMAGE, IMAGE) is None
