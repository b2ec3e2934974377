"""How one's own training images vary: scale, place, mirroring, colour and light."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lossfold.train.data.base import Sample, pad_sample
from lossfold.train.data.depth import as_deep
from lossfold.train.errors import TrainError


@dataclass(frozen=True)
class Variation:
    """What varies from one sight of a training image to the next.

    Args:
        flip: whether half of the images are mirrored.
        vertical_flip: whether half of them are turned upside down; right for what is seen from above.
        scales: the least and the largest factor by which an image is resized.
        colour: how far brightness, contrast and saturation vary: 0 not at all, 1 by a quarter and more.
        transform: what is done besides, by class path: a transform of `torchvision.transforms.v2`, or any function of an image and
            a mask as `torchvision.tv_tensors`; several as `torchvision.transforms.v2.Compose`. What it lays bare is ignored.
    """

    flip: bool = True
    vertical_flip: bool = False
    scales: tuple[float, float] = (0.7, 1.4)
    colour: float = 1.0
    transform: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        low, high = self.scales
        if not 0 < low <= high:
            raise TrainError(f"data.variation.scales: expected two factors above 0, the least first, got {list(self.scales)}")
        if not 0 <= self.colour <= 2:
            raise TrainError(f"data.variation.colour must lie between 0 and 2, got {self.colour}")


@dataclass(frozen=True)
class Augment:
    """Crop a square from a sample, and vary it; a function of (seed, key).

    Args:
        crop_size: height and width of the crop; smaller images are padded with ignored pixels.
        ignore_index: label of the padding.
        seed: decides every choice, together with the sample's key.
        vary: whether the image varies, or only the crop's place.
        variation: how.
    """

    crop_size: int
    ignore_index: int
    seed: int
    vary: bool = True
    variation: Variation = field(default_factory=Variation)

    def __call__(self, image: Tensor, labels: Tensor, key: int) -> Sample:
        """Return the crop `[3,S,S]` and its labels `[S,S]` or `[K,S,S]`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        zoom, top, left, mirror, gain, contrast, saturation, turn = torch.rand(8, generator=generator).tolist()
        if self.vary:
            low, high = map(math.log, self.variation.scales)
            image, labels = _resize(image, labels, math.exp(low + zoom * (high - low)))
        image, labels = pad_sample(image, labels, self.crop_size, self.crop_size, self.ignore_index)
        y = round(top * (labels.shape[-2] - self.crop_size))
        x = round(left * (labels.shape[-1] - self.crop_size))
        image = image[:, y : y + self.crop_size, x : x + self.crop_size]
        labels = labels[..., y : y + self.crop_size, x : x + self.crop_size]
        if self.vary:
            if self.variation.flip and mirror < 0.5:
                image, labels = image.flip(2), labels.flip(-1)
            if self.variation.vertical_flip and turn < 0.5:
                image, labels = image.flip(1), labels.flip(-2)
            if far := self.variation.colour:
                factors = (1 + far * (gain - 0.5) / 2, 1 + far * (contrast - 0.5) / 2, 1 + far * (saturation - 0.5) * 0.8)
                image = vary_exposure(image, *factors)
            if self.variation.transform is not None:
                # A seed of its own: with the crop's the transform would draw the numbers that the crop has drawn.
                image, labels = self._transformed(image, labels, int(torch.randint(2**62, (), generator=generator)))
        return image.contiguous(), labels.contiguous()

    def _transformed(self, image: Tensor, labels: Tensor, seed: int) -> Sample:
        """Let the transform vary both, with numbers from the seed."""
        from torchvision import tv_tensors  # type: ignore[import-untyped, unused-ignore]

        assert self.variation.transform is not None
        # What a transform fills in is 0: so that it is ignored, the ignore label becomes 0, and the others move up.
        moved = torch.where(labels == self.ignore_index, 0, labels.int() + 1)
        with seeded(seed):
            varied, mask = self.variation.transform(tv_tensors.Image(image), tv_tensors.Mask(moved))
        if varied.shape != image.shape or mask.shape != labels.shape:
            raise TrainError(
                f"data.variation.transform makes an image {list(varied.shape)} and a mask {list(mask.shape)} of "
                f"{list(image.shape)} and {list(labels.shape)}; it has to leave their sizes as they are"
            )
        if varied.dtype != image.dtype:
            raise TrainError(
                f"data.variation.transform makes an image of {varied.dtype} of one of {image.dtype}; it has to leave the "
                "dtype as it is: leave ToDtype and Normalize out, since values are scaled and normalised after it"
            )
        found = torch.where(mask.as_subclass(Tensor) == 0, self.ignore_index, mask.as_subclass(Tensor) - 1)
        return as_deep(varied.as_subclass(Tensor).float(), image), found.to(labels.dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it the random numbers of torch on the CPU, NumPy and Python follow from a seed; afterwards they go on as before."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU's, too
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def _resize(image: Tensor, labels: Tensor, scale: float) -> Sample:
    size = [max(1, round(side * scale)) for side in labels.shape[-2:]]
    smooth = functional.interpolate(image[None].float(), size=size, mode="bilinear", antialias=scale < 1)[0]
    channels = labels.reshape(1, -1, *labels.shape[-2:]).double()
    nearest = functional.interpolate(channels, size=size, mode="nearest-exact").view(*labels.shape[:-2], *size)
    return as_deep(smooth, image), nearest.to(labels.dtype)


def vary_exposure(image: Tensor, gain: float, contrast: float, saturation: float) -> Tensor:
    """Change brightness, contrast and saturation of an image `[3,H,W]`, uint8 or floats in 0..1, by factors."""
    values = image.float()
    grey = values.mean(0, keepdim=True)
    values = grey + (values - grey) * saturation
    mean = values.mean()
    return as_deep((mean + (values - mean) * contrast) * gain, image)
