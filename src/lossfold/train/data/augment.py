"""How one's own training images vary: scale, place, mirroring, colour and light."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.train.data.base import Sample, pad_sample
from lossfold.train.data.depth import as_deep


@dataclass(frozen=True)
class Augment:
    """Crop a square from a sample, and vary it; a function of (seed, key).

    Args:
        crop_size: height and width of the crop; smaller images are padded with ignored pixels.
        ignore_index: label of the padding.
        seed: decides every choice, together with the sample's key.
        vary: whether scale, mirroring, colour and light vary too, or only the crop's place.
        scales: the least and the largest factor by which the image is resized.
    """

    crop_size: int
    ignore_index: int
    seed: int
    vary: bool = True
    scales: tuple[float, float] = (0.7, 1.4)

    def __call__(self, image: Tensor, labels: Tensor, key: int) -> Sample:
        """Return the crop `[3,S,S]` and its labels `[S,S]` or `[K,S,S]`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        zoom, top, left, mirror, gain, contrast, saturation = torch.rand(7, generator=generator).tolist()
        if self.vary:
            low, high = map(math.log, self.scales)
            image, labels = _resize(image, labels, math.exp(low + zoom * (high - low)))
        image, labels = pad_sample(image, labels, self.crop_size, self.crop_size, self.ignore_index)
        y = round(top * (labels.shape[-2] - self.crop_size))
        x = round(left * (labels.shape[-1] - self.crop_size))
        image = image[:, y : y + self.crop_size, x : x + self.crop_size]
        labels = labels[..., y : y + self.crop_size, x : x + self.crop_size]
        if self.vary:
            if mirror < 0.5:
                image, labels = image.flip(2), labels.flip(-1)
            image = vary_exposure(image, 0.75 + 0.5 * gain, 0.75 + 0.5 * contrast, 0.6 + 0.8 * saturation)
        return image.contiguous(), labels.contiguous()


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
