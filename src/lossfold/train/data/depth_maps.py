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


def cut(sample: DepthSample, size: tuple[int, int], generator: Generator, vary: bool) -> DepthSample:
    """Cut a window out of a sample, with `vary` mirrored by chance and in other light; small images are continued at their borders.

    Args:
        sample: the image and its depths.
        size: height and width of the window in pixels.
        generator: decides.
        vary: whether crops vary.
    """
    image, target = sample
    bottom, right = (max(0, wanted - side) for wanted, side in zip(size, image.shape[1:], strict=True))
    if bottom or right:
        image = functional.pad(image[None].float(), (0, right, 0, bottom), mode="replicate")[0].to(image.dtype)
        target = functional.pad(target, (0, right, 0, bottom))
    y, x, flip, *light = torch.rand(5, generator=generator).tolist()
    top, left = (round(share * (side - wanted)) for share, side, wanted in zip((y, x), image.shape[1:], size, strict=True))
    image, target = (one[:, top : top + size[0], left : left + size[1]].contiguous() for one in (image, target))
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
        crop: height and width of crops; None: whole images.
    """

    whole: list[DepthSample]
    seed: int
    count: int
    crop: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int) -> DepthSample:
        if self.crop is None:
            return self.whole[key % len(self.whole)]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        chosen = int(torch.randint(len(self.whole), (), generator=generator))
        return cut(self.whole[chosen], self.crop, generator, vary=True)


BASELINE, FOCAL_LENGTH, OFFSET = 0.193001, 994.978, 31.086
"""Of the stereo pair: metres between both cameras, pixels, and pixels that lie between their principal points."""

TRAINS, HELD_OUT = ((0.0, 0.40), (0.64, 1.0)), (0.42, 0.62)
"""Parts of the width; the strips between them are used by neither."""


class MotorcycleData(DepthData):
    """One photograph of a motorcycle in a garage, with the depth that structured light has measured; scikit-image ships it.

    The disparities of Middlebury's stereo pair (Scharstein et al., 2014) are turned into metres. Crops of the left and of the right
    part of the left photograph train, as high as it is: how near something is shows in how low it stands. The fifth between them is
    held out. That shows that the losses train a network from real depths with holes; it cannot show that the network knows anything
    of other places: it is the same garage, camera and light in all parts.

    Args:
        crop_size: width of the crops that train, in pixels.
        train_images: number of crops of an epoch; every epoch has new ones.
        height: the photograph is reduced to this height first.
        batch_size: crops of a training batch, on each device.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides crops and order.
    """

    caveat = (
        "All parts are of one photograph: the same garage, camera and light. The scores say that the losses train from real "
        "depths with holes, and not that the network knows any other place. The part that is held out was chosen after another, "
        "the right of the picture, had scored worse than a constant depth: this one asks for less."
    )

    def __init__(
        self,
        crop_size: int = 96,
        train_images: int = 384,
        height: int = 192,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        for name, value in (("crop_size", crop_size), ("height", height)):
            if value < 8:
                raise TrainError(f"data.{name} must be at least 8, got {value}")
        self.crop_size, self.height, self.train_images = crop_size, height, train_images
        whole = motorcycle(height)
        self.training, self.held_out = [part_of(whole, *ends) for ends in TRAINS], part_of(whole, *HELD_OUT)
        self.typical = geometric_mean(torch.cat([part.target.flatten() for part in self.training]))

    def setup(self, stage: str) -> None:
        """Cut crops of the outer parts; keep the inner one whole."""
        self.train_set = DepthCrops(self.training, 2 * self.seed, self.train_images, (self.height, self.crop_size))
        self.val_set = DepthCrops([self.held_out], 2 * self.seed + 1, 1)

    def describe(self) -> str:
        """One sentence for the report."""
        height, width = self.held_out.image.shape[1:]
        return (
            f"One photograph with measured depth in metres (Middlebury 2014, in scikit-image): {self.train_images} new crops an "
            f"epoch, {self.crop_size} x {height} pixels, of its left and right; {HELD_OUT[1] - HELD_OUT[0]:.0%} in the middle are "
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


def part_of(sample: DepthSample, left: float, right: float) -> DepthSample:
    """The columns between two shares of the width."""
    columns = slice(*(round(share * sample.image.shape[2]) for share in (left, right)))
    return DepthSample(*(one[:, :, columns].contiguous() for one in sample))
