"""Data of restoration: how clean images are degraded, and how crops of images of one or two sizes are cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional

from lossfold.train.data.base import TrainingData
from lossfold.train.data.depth import as_deep, resized, white_of
from lossfold.train.errors import TrainError

SCALES = {"sr": (2, 3, 4), "denoise": (1,)}
"""Each degradation and by how many times it may reduce the image; the first where none is named."""


class RestorationSample(NamedTuple):
    """A degraded image `[3,H,W]` and the clean one, `[3,scale*H,scale*W]`, uint8 or floats in 0..1."""

    image: Tensor
    target: Tensor


class RestorationSamples(Protocol):
    """A data set of restoration samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int, /) -> RestorationSample: ...


class RestorationData(TrainingData):
    """Base of the data modules of restoration: samples are `RestorationSample`s, `scale` says how much larger targets are."""

    train_set: RestorationSamples
    val_set: RestorationSamples
    scale: int
    num_classes = in_channels = 3


@dataclass(frozen=True)
class Degradation:
    """What makes a clean image worse; the result has as many bits, as a file has.

    Args:
        kind: sr: reduced by `scale`, bicubic with antialiasing. denoise: white Gaussian noise is added.
        scale: 2, 3 or 4 for sr.
        sigma: standard deviation of the noise, where white is 255.
    """

    kind: Literal["sr", "denoise"]
    scale: int
    sigma: float = 25.0

    def __post_init__(self) -> None:
        if self.scale not in SCALES[self.kind]:
            allowed = " or ".join(map(str, SCALES[self.kind]))
            raise TrainError(f"data.scale must be {allowed} for the degradation {self.kind}, got {self.scale}")
        if self.kind == "denoise" and not 0 < self.sigma <= 255:
            raise TrainError(f"data.sigma must be above 0 and at most 255 (white is 255), got {self.sigma}")

    def __call__(self, clean: Tensor, generator: Generator) -> RestorationSample:
        """Degrade a clean image `[3,H,W]`, which is cut to a multiple of the scale first; the result has its depth."""
        height, width = (side - side % self.scale for side in clean.shape[1:])
        clean = clean[:, :height, :width].contiguous()
        if self.kind == "sr":
            return RestorationSample(resized(clean, (height // self.scale, width // self.scale), "bicubic"), clean)
        noise = self.sigma * (white_of(clean) / 255) * torch.randn(clean.shape, generator=generator)
        return RestorationSample(as_deep(clean + noise, clean), clean)

    def describe(self) -> str:
        """A few words for the report."""
        return f"reduced {self.scale} times" if self.kind == "sr" else f"with noise of sigma {self.sigma:g}"


def chosen_scale(kind: str, scale: int | None) -> int:
    """The scale that was named, or the degradation's first."""
    return scale if scale is not None else SCALES.get(kind, (1,))[0]


def crop(layers: Sequence[Tensor], size: int, generator: Generator, vary: bool) -> list[Tensor]:
    """Cut the same square from images, at a random place and, with `vary`, in one of its eight positions.

    Args:
        layers: images `[3,H,W]`, each a whole number of times as large as the first; small ones are continued at their borders.
        size: side of the crop of the first.
        generator: decides.
        vary: whether crops are mirrored and turned by right angles.
    """
    first = layers[0]
    factors = [layer.shape[-1] // first.shape[-1] for layer in layers]
    bottom, right = (max(0, size - side) for side in first.shape[1:])
    y, x, *flips = torch.rand(5, generator=generator).tolist()
    top, left = (round(share * max(0, side - size)) for share, side in zip((y, x), first.shape[1:], strict=True))
    crops: list[Tensor] = []
    for layer, factor in zip(layers, factors, strict=True):
        if bottom or right:
            border = (0, factor * right, 0, factor * bottom)
            layer = functional.pad(layer[None].float(), border, mode="replicate")[0].to(layer.dtype)
        layer = layer[:, factor * top : factor * (top + size), factor * left : factor * (left + size)]
        if vary:
            layer = layer.flip([axis for axis, flip in zip((1, 2), flips, strict=False) if flip < 0.5])
            layer = layer.transpose(1, 2) if flips[2] < 0.5 else layer
        crops.append(layer.contiguous())
    return crops


def check_crop_size(crop_size: int, scale: int) -> None:
    """Refuse crops that the degraded image can't have.

    Raises:
        TrainError: the crop's size is no multiple of the scale.
    """
    if crop_size < scale or crop_size % scale:
        near = scale * max(1, -(-crop_size // scale))
        raise TrainError(f"data.crop_size must be a multiple of the scale {scale}, got {crop_size}; try {near}")
