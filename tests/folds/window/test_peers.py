"""SSIM and MS-SSIM beside scikit-image, pytorch-msssim, piq, kornia, torchmetrics and MONAI, where they mean the same thing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.contract.truth import truth_of
from tests.folds.window.cases import WindowCase

Peer = Callable[[Tensor, Tensor], Tensor]


def scikit_image(p: Tensor, t: Tensor) -> Tensor:
    """Its default has a uniform window of 7 and sample covariances: another number."""
    metrics = pytest.importorskip("skimage.metrics")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "channel_axis": 0}
    pairs = zip(p.detach().numpy(), t.numpy(), strict=True)
    return torch.tensor(np.mean([metrics.structural_similarity(one, other, **options) for one, other in pairs]))


def pytorch_msssim(p: Tensor, t: Tensor) -> Tensor:
    return pytest.importorskip("pytorch_msssim").ssim(p, t, data_range=1.0)  # type: ignore[no-any-return]


def piq(p: Tensor, t: Tensor) -> Tensor:
    """By default it shrinks images first whose sides are 384 and more."""
    return pytest.importorskip("piq").ssim(p, t, downsample=False)  # type: ignore[no-any-return]


def kornia(p: Tensor, t: Tensor) -> Tensor:
    """Its loss is (1 - SSIM) / 2, and where that is negative or above 1, cut off."""
    return 1 - 2 * pytest.importorskip("kornia").losses.ssim_loss(p, t, 11, padding="valid")  # type: ignore[no-any-return]


def torchmetrics(p: Tensor, t: Tensor) -> Tensor:
    """Of every pixel, borders reflected. Its data_range=None is the range found in the images: another number for every batch."""
    image = pytest.importorskip("torchmetrics.functional.image")
    return image.structural_similarity_index_measure(p, t, data_range=1.0)  # type: ignore[no-any-return]


def monai(p: Tensor, t: Tensor) -> Tensor:
    """Whatever the images are, it computes in float32."""
    return 1 - pytest.importorskip("monai.losses").SSIMLoss(spatial_dims=2, data_range=1.0)(p, t)  # type: ignore[no-any-return]


ROUNDING: dict[Peer, float] = {pytorch_msssim: 1e-6, piq: 1e-10, kornia: 1e-9, torchmetrics: 1e-6, monai: 1e-5}
"""Most make their windows in float32, also for images in float64; kornia adds 1e-12 to denominators."""


def own(peer: Peer) -> dict[str, str]:
    """The options that mean what the peer does."""
    return {"padding": "reflect"} if peer is torchmetrics else {}


def assert_same(peer: Peer, loss: torch.nn.Module, data: Data, rounding: float) -> None:
    """Values to rounding, gradients to rounding of the largest."""
    leaf = data.leaf()
    value = 1 - peer(leaf.pred, leaf.target)
    (slope,) = torch.autograd.grad(value, leaf.pred)
    result, gradient = evaluate(loss, data)
    close(result, value.detach().double(), rounding)
    close(gradient, slope, 0, rounding * slope.abs().max().item())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("peer", ROUNDING, ids=lambda peer: peer.__name__)
@pytest.mark.filterwarnings("ignore")
def test_ssim_and_its_gradient(peer: Peer, engine: str) -> None:
    data = WindowCase("SSIMLoss", {}).make((37, 48), channels=3)
    assert_same(peer, lf.SSIMLoss(**own(peer), engine=engine), data, ROUNDING[peer])


@pytest.mark.parametrize("engine", ENGINES)
def test_scikit_image(engine: str, dtypes: list[torch.dtype]) -> None:
    for dtype in dtypes:
        if dtype in (torch.float32, torch.float64):
            data = WindowCase("SSIMLoss", {}).make((64, 51), channels=3, dtype=dtype)
            result = lf.SSIMLoss(engine=engine)(data.pred, data.target).double()
            close(1 - result, scikit_image(data.pred, data.target).double(), 0, 1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("change", ["noise", "blur", "darker"])
def test_scikit_image_on_photographs(change: str, engine: str) -> None:
    """In float32 within 1e-5, and in [0, 255] the same as in [0, 1]."""
    datasets = pytest.importorskip("sklearn.datasets")
    photographs = np.stack([datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")])
    target = torch.from_numpy(photographs).movedim(-1, 1).float()[:, :, 100:300, 150:420] / 255
    changes: dict[str, Callable[[], Tensor]] = {
        "noise": lambda: (target + 0.1 * torch.randn(target.shape)).clamp(0, 1),
        "blur": lambda: functional.avg_pool2d(target, 5, 1, 2),
        "darker": lambda: target**1.3,
    }
    pred = changes[change]()
    found = 1 - lf.SSIMLoss(engine=engine)(pred, target)
    close(found.double(), scikit_image(pred.double(), target.double()).double(), 0, 1e-5)
    assert 0.2 < found < 0.99
    close(1 - lf.SSIMLoss(engine=engine, data_range=255)(255 * pred, 255 * target), found, 0, 1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_and_borders(engine: str) -> None:
    """kornia's "same" reflects the borders; scikit-image's map, cropped, is that of the windows that fit."""
    metrics, losses = pytest.importorskip("skimage.metrics"), pytest.importorskip("kornia.losses")
    data = WindowCase("SSIMLoss", {}).make((30, 25), channels=1, batch=1)
    close(lf.SSIMLoss(padding="reflect", engine=engine)(*data.call), 2 * losses.ssim_loss(data.pred, data.target, 11, eps=0.0))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "full": True}
    _, map_ = metrics.structural_similarity(data.pred[0, 0].numpy(), data.target[0, 0].numpy(), **options)
    close(1 - lf.SSIMLoss(reduction="none")(*data.call)[0, 0], torch.from_numpy(map_[5:-5, 5:-5]))


def ms_pytorch_msssim(p: Tensor, t: Tensor) -> Tensor:
    return pytest.importorskip("pytorch_msssim").ms_ssim(p, t, data_range=1.0)  # type: ignore[no-any-return]


def ms_piq(p: Tensor, t: Tensor) -> Tensor:
    return pytest.importorskip("piq").multi_scale_ssim(p, t)  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("peer", "rounding"), [(ms_pytorch_msssim, 3e-5), (ms_piq, 1e-10)])
def test_ms_ssim_and_its_gradient(peer: Peer, rounding: float, engine: str) -> None:
    """Of sides that halve evenly: where they are odd, both pad with zeros, which darkens the border.

    torchmetrics and MONAI multiply means over all channels, and torchmetrics' last scale has reflected borders, the others not.
    """
    data = WindowCase("MSSSIMLoss", {}).make((192, 208), channels=3)
    assert_same(peer, lf.MSSSIMLoss(engine=engine), data, rounding)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("peer", ROUNDING, ids=lambda peer: peer.__name__)
def test_nearer_to_the_truth_where_images_are_nearly_equal(peer: Peer, engine: str) -> None:
    """In float32 peers take the difference of 1 and a number near 1, and variances apart: at least ten times as far."""
    images = WindowCase("SSIMLoss", {}).make((64, 64), channels=1, dtype=torch.float32)
    data = Data(images.target + 1e-3 * (images.pred - images.target), images.target)
    truth, slope = truth_of(WindowCase("SSIMLoss", own(peer)), data)
    leaf = data.leaf()
    value = 1 - peer(leaf.pred, leaf.target)
    (theirs,) = torch.autograd.grad(value, leaf.pred)
    result, gradient = evaluate(lf.SSIMLoss(**own(peer), engine=engine), data)
    assert 10 * (result - truth).abs() < (value - truth).abs()
    assert 10 * (gradient - slope).abs().max() < (theirs - slope).abs().max()


@pytest.mark.parametrize("engine", ENGINES)
def test_half_images_keep_the_digits_that_pytorch_msssim_loses(engine: str) -> None:
    """It filters in float16: squares and their differences have three digits there."""
    peer = pytest.importorskip("pytorch_msssim")
    data = WindowCase("SSIMLoss", {}).make((64, 64), channels=1, dtype=torch.float16)
    truth, _ = truth_of(WindowCase("SSIMLoss", {}), data)
    result = lf.SSIMLoss(engine=engine)(*data.call)
    close(result.double(), truth, 1e-5)
    theirs = 1 - peer.ssim(data.pred, data.target, data_range=1.0)
    assert 100 * (result - truth).abs() < (theirs - truth).abs()
