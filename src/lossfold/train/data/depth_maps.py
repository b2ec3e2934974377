"""Data of depth: photographs and the distances that were measured in them; the built-in one is half of a stereo pair."""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from lossfold.train.data.base import TrainingData
from lossfold.train.data.depth import unit
from lossfold.train.data.sources import open_image
from lossfold.train.errors import TrainError


class DepthSample(NamedTuple):
    """An image `[3,H,W]`, uint8 or floats in 0..1, and depths `[1,H,W]` float32, 0 where none was measured."""

    image: Tensor
    target: Tensor


class DepthSamples(Protocol):
    """A data set of depth samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int, /) -> DepthSample: ...


class DepthData(TrainingData):
    """Base of the data modules of depth: samples are `DepthSample`s, `typical` is the geometric mean of the depths that train."""

    train_set: DepthSamples
    val_set: DepthSamples
    typical: float
    num_classes = 1
    in_channels = 3
    caveat = ""
    """What the scores can't say, for the report."""


def geometric_mean(depth: Tensor) -> float:
    """The geometric mean of what was measured; 1 where nothing was."""
    measured = depth[depth > 0].double()
    return math.exp(float(measured.log().mean())) if len(measured) else 1.0


def cut(sample: DepthSample, size: int, generator: Generator, vary: bool) -> DepthSample:
    """Cut a square out of a sample, with `vary` mirrored by chance and in other light; small images are continued at their borders.

    Args:
        sample: the image and its depths.
        size: side of the square in pixels.
        generator: decides.
        vary: whether crops vary.
    """
    image, target = sample
    bottom, right = (max(0, size - side) for side in image.shape[1:])
    if bottom or right:
        image = functional.pad(image[None].float(), (0, right, 0, bottom), mode="replicate")[0].to(image.dtype)
        target = functional.pad(target, (0, right, 0, bottom))
    y, x, flip, *light = torch.rand(5, generator=generator).tolist()
    top, left = (round(share * (side - size)) for share, side in zip((y, x), image.shape[1:], strict=True))
    image, target = (one[:, top : top + size, left : left + size].contiguous() for one in (image, target))
    if not vary:
        return DepthSample(image, target)
    if flip < 0.5:
        image, target = image.flip(2), target.flip(2)
    colours = 0.9 + 0.2 * torch.rand(3, 1, 1, generator=generator)
    lit = (colours * unit(image).clamp_min(1e-6) ** (0.8 + 0.45 * light[0]) * (0.8 + 0.4 * light[1])).clamp(0, 1)
    return DepthSample((lit * 255).round().to(torch.uint8) if image.dtype == torch.uint8 else lit, target)


@dataclass(frozen=True)
class DepthCrops:
    """Crops of a few samples, or these whole; sample number `key` is a function of (seed, key) alone.

    Args:
        whole: the samples.
        seed: decides crops.
        count: number of samples.
        crop_size: height and width of crops; None: whole images.
    """

    whole: list[DepthSample]
    seed: int
    count: int
    crop_size: int | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int) -> DepthSample:
        if self.crop_size is None:
            return self.whole[key % len(self.whole)]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        chosen = int(torch.randint(len(self.whole), (), generator=generator))
        return cut(self.whole[chosen], self.crop_size, generator, vary=True)


BASELINE, FOCAL_LENGTH, OFFSET = 0.193001, 994.978, 31.086
"""Of the stereo pair: metres between both cameras, pixels, and pixels that lie between their principal points."""

TRAIN_SHARE, HELD_OUT_SHARE = 0.60, 0.36
"""Of the width, from the left and from the right; the strip between them is used by neither."""


class MotorcycleData(DepthData):
    """One photograph of a motorcycle in a garage, with the depth that structured light has measured; scikit-image ships it.

    The disparities of Middlebury's stereo pair (Scharstein et al., 2014) are turned into metres. Crops of the left 60 % of the left
    photograph train, the right 36 % are held out. That shows that the losses train a network from real depths with holes; it
    cannot show that the network knows anything of other places: it is the same garage, camera and light on both sides.

    Args:
        crop_size: height and width of the crops that train, in pixels.
        train_images: number of crops of an epoch; every epoch has new ones.
        height: the photograph is reduced to this height first.
        batch_size: crops of a training batch, on each device.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides crops and order.
    """

    caveat = (
        "Both parts are of one photograph: the same garage, camera and light. The scores say that the losses train from real "
        "depths with holes, and not that the network knows any other place."
    )

    def __init__(
        self,
        crop_size: int = 128,
        train_images: int = 384,
        height: int = 300,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        for name, value in (("crop_size", crop_size), ("height", height)):
            if value < 8:
                raise TrainError(f"data.{name} must be at least 8, got {value}")
        self.crop_size, self.height, self.train_images = crop_size, height, train_images
        self.training, self.held_out = (part_of(motorcycle(height), held_out) for held_out in (False, True))
        self.typical = geometric_mean(self.training.target)

    def setup(self, stage: str) -> None:
        """Cut crops of the one part; keep the other whole."""
        self.train_set = DepthCrops([self.training], 2 * self.seed, self.train_images, self.crop_size)
        self.val_set = DepthCrops([self.held_out], 2 * self.seed + 1, 1)

    def describe(self) -> str:
        """One sentence for the report."""
        height, width = self.held_out.image.shape[1:]
        return (
            f"One photograph with measured depth in metres (Middlebury 2014, in scikit-image): {self.train_images} new crops an "
            f"epoch, {self.crop_size} x {self.crop_size} pixels, of its left {TRAIN_SHARE:.0%}; its right {HELD_OUT_SHARE:.0%} is "
            f"held out, {width} x {height} pixels"
        )


def motorcycle(height: int) -> DepthSample:
    """The photograph and its depths in metres, at a height in pixels; what one disparity of a block lacks, the block lacks.

    Raises:
        TrainError: scikit-image is not installed.
    """
    photograph = open_image("skimage/motorcycle_left.png")
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.submodule_search_locations
    with np.load(Path(next(iter(spec.submodule_search_locations))) / "data" / "motorcycle_disp.npz") as file:
        disparity = torch.from_numpy(np.asarray(file["arr_0"], np.float32))[None, None]
    measured = disparity.isfinite() & (disparity > 0)
    metres = torch.where(measured, BASELINE * FOCAL_LENGTH / (disparity + OFFSET), 0.0)
    image = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
    size = height, round(image.shape[2] * height / image.shape[1])
    if size != tuple(image.shape[1:]):
        smaller = functional.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
        image, metres = smaller.round().to(torch.uint8), functional.interpolate(metres, size=size, mode="nearest-exact")
    return DepthSample(image.contiguous(), metres[0])


def part_of(sample: DepthSample, held_out: bool) -> DepthSample:
    """The left part, which trains, or the right one."""
    width = sample.image.shape[2]
    columns = slice(round((1 - HELD_OUT_SHARE) * width), width) if held_out else slice(0, round(TRAIN_SHARE * width))
    return DepthSample(*(one[:, :, columns].contiguous() for one in sample))
