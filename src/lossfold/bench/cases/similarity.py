"""SSIM and MS-SSIM of images: two passes at least, and three where scales are multiplied, which needs their means first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor
from torch.nn import functional

from .. import similarity
from ..case import Case, Entry, LossFunction, Sizes, Tolerance
from ..inputs import image_sample
from .common import own_entries, plain_entries

SIZES = Sizes(full=(4, 3, 512, 512), quick=(1, 3, 256, 256), fewest_channels=1)

# In float32 a variance is the difference of two squares, which rounds by 1e-7 and stands beside a c2 of 9e-4.
ROUNDING = Tolerance(value=1e-4, gradient=1e-3)

KORNIA_NOTE = "twice its (1 - SSIM) / 2, with padding='valid'"
PIQ_NOTE = "downsample=False"
REFLECTED_NOTE = "around every pixel of an image whose borders are reflected, the only form it has"


def of(module: str, loss: Callable[[Any, Tensor, Tensor], Tensor]) -> Entry:
    """An entry that calls a peer's module, which is imported when it is built."""

    def build() -> LossFunction:
        peer = import_module(module)
        return lambda pred, target: loss(peer, pred, target)

    return Entry(build)


def monai_ssim(sides: int = 2) -> LossFunction:
    """MONAI's SSIM of images, or of volumes with three sides."""
    loss: LossFunction = import_module("monai.losses").SSIMLoss(spatial_dims=sides, data_range=1.0)
    return loss


def torchmetrics_ssim(module: Any, pred: Tensor, target: Tensor) -> Tensor:
    """1 - torchmetrics' SSIM."""
    return 1 - module.structural_similarity_index_measure(pred, target, data_range=1.0)  # type: ignore[no-any-return]


SSIM = Case(
    name="ssim",
    title="SSIM",
    truth=similarity.ssim,
    sample=image_sample,
    passes=2,
    entries={
        **own_entries(lambda lf, options: lf.SSIMLoss(**options), {}),
        **plain_entries(similarity.ssim),
        "monai": Entry(monai_ssim),
        "kornia": replace(of("kornia.losses", lambda m, p, t: 2 * m.ssim_loss(p, t, 11, padding="valid")), note=KORNIA_NOTE),
        "torchmetrics": replace(
            of("torchmetrics.functional.image", torchmetrics_ssim), options={"reflected": True}, note=REFLECTED_NOTE
        ),
        "piq": replace(of("piq", lambda m, p, t: 1 - m.ssim(p, t, downsample=False)), note=PIQ_NOTE),
        "fused-ssim": of("fused_ssim", lambda m, p, t: 1 - m.fused_ssim(p, t, padding="valid")),
        "pytorch-msssim": of("pytorch_msssim", lambda m, p, t: 1 - m.ssim(p, t, data_range=1.0)),
    },
    lacking=dict.fromkeys(("torchvision", "smp", "toolbelt"), "has no losses of images"),
    tolerance=ROUNDING,
    sizes=SIZES,
    leaf="images",
    exponentials=0,
)

MS_SSIM = replace(
    SSIM,
    name="ms-ssim",
    title="MS-SSIM",
    truth=similarity.ms_ssim,
    passes=3,
    entries={
        **own_entries(lambda lf, options: lf.MSSSIMLoss(**options), {}),
        **plain_entries(similarity.ms_ssim),
        "piq": of("piq", lambda m, p, t: 1 - m.multi_scale_ssim(p, t)),
        "pytorch-msssim": of("pytorch_msssim", lambda m, p, t: 1 - m.ms_ssim(p, t, data_range=1.0)),
    },
    lacking={
        **SSIM.lacking,
        "monai": "its metric multiplies the scales' means over all channels",
        "torchmetrics": "multiplies the scales' means over all channels, the last one over reflected borders too",
        "kornia": "its MS-SSIM has five windows instead of five scales, and an L1 term",
    },
)


def fused(module: Any, pred: Tensor, target: Tensor) -> Tensor:
    """fused-ssim's SSIM beside PyTorch's L1."""
    return 0.8 * functional.l1_loss(pred, target) + 0.2 * (1 - module.fused_ssim(pred, target, padding="same"))  # type: ignore[no-any-return]


def bordered(module: Any, pred: Tensor, target: Tensor) -> Tensor:
    """pytorch-msssim's SSIM beside PyTorch's L1; it has no borders of its own."""
    images = (functional.pad(image, (5,) * 4) for image in (pred, target))
    return 0.8 * functional.l1_loss(pred, target) + 0.2 * (1 - module.ssim(*images, data_range=1.0))  # type: ignore[no-any-return]


L1_SSIM = replace(
    SSIM,
    name="l1-ssim",
    title="L1 + SSIM of 3-D Gaussian splatting",
    truth=similarity.l1_ssim,
    entries={
        **own_entries(lambda lf, options: lf.L1SSIMLoss(**options), {}),
        **plain_entries(similarity.l1_ssim),  # SSIM as the authors' code, and fused-ssim where it has no kernel, write it
        "fused-ssim": replace(of("fused_ssim", fused), note="plus PyTorch's L1"),
        "pytorch-msssim": replace(of("pytorch_msssim", bordered), note="of images with zeros around them, plus PyTorch's L1"),
    },
    lacking={
        **SSIM.lacking,
        "monai": "has no borders of zeros",
        "kornia": "its borders are reflected",
        "torchmetrics": "its borders are reflected",
        "piq": "has no borders of zeros",
    },
)

SSIM_OF_VOLUMES = replace(
    SSIM,
    name="ssim-3d",
    title="SSIM of a volume",
    entries={
        **{
            provider: SSIM.entries[provider]
            for provider in ("lossfold-eager", "eager", "compile", "torchmetrics", "pytorch-msssim")
        },
        "monai": Entry(partial(monai_ssim, sides=3)),
        "kornia": replace(of("kornia.losses", lambda m, p, t: 2 * m.ssim3d_loss(p, t, 11, padding="valid")), note=KORNIA_NOTE),
    },
    lacking={
        **SSIM.lacking,
        **dict.fromkeys(("lossfold-cpp", "lossfold-triton"), "has no windows in volumes"),
        "piq": "takes images alone",
    },
    sizes=Sizes(full=(1, 1, 64, 64, 64), quick=(1, 1, 24, 24, 24), fewest_channels=1),
    most_repeats=3,
)

MS_SSIM_L1 = replace(
    SSIM,
    name="ms-ssim-l1",
    title="MS-SSIM + L1 of Zhao et al.",
    truth=similarity.ms_ssim_l1,
    passes=2,
    sizes=Sizes(full=(1, 3, 256, 256), quick=(1, 3, 64, 64), fewest_channels=1),
    most_repeats=3,
    entries={
        "lossfold-eager": replace(of("lossfold", lambda lf, p, t: lf.MSSSIML1Loss()(p, t)), note="plain PyTorch, row by column"),
        **plain_entries(similarity.ms_ssim_l1),
    },
    lacking={
        **SSIM.lacking,
        "lossfold-cpp": "has no pass of its own for it",
        "monai": "has no such loss",
        "torchmetrics": "has no such loss",
        "piq": "has no such loss",
        "pytorch-msssim": "has no such loss",
        "kornia": "its MS-SSIM multiplies the channels' similarities",
    },
)

CASES = (SSIM, MS_SSIM, L1_SSIM, SSIM_OF_VOLUMES, MS_SSIM_L1)
