"""The built-in restoration task: packaged photographs, reduced or made noisy."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lossfold.train.data.restoration import Degradation, RestorationData, RestorationSample, check_crop_size, chosen_scale, crop
from lossfold.train.data.sources import RESTORATION_HELD_OUT_PHOTOS, RESTORATION_TRAIN_PHOTOS, load_photos


@dataclass(frozen=True)
class Photographs:
    """Degraded photographs, or crops of them; sample number `key` is a function of (seed, key) alone.

    Args:
        photos: clean images, uint8 `[3,H,W]`.
        degradation: what makes them worse.
        seed: decides crops and noise.
        count: number of samples.
        crop_size: height and width of the clean crops; None: whole photographs.
    """

    photos: list[Tensor]
    degradation: Degradation
    seed: int
    count: int
    crop_size: int | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int) -> RestorationSample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        clean = self.photos[key % len(self.photos)]
        if self.crop_size is not None:
            clean = self.photos[int(torch.randint(len(self.photos), (), generator=generator))]
            clean = recoloured(crop([clean], self.crop_size, generator, vary=True)[0], generator)
        return self.degradation(clean, generator)


def recoloured(image: Tensor, generator: torch.Generator) -> Tensor:
    """Exchange the colours of an image uint8 `[3,H,W]`, and dim each by a factor of its own.

    Half of the photographs are grey and the rest few: without it, a network takes the bright colours of others for a fault.
    """
    order, factors = torch.randperm(3, generator=generator), 0.4 + 0.6 * torch.rand(3, 1, 1, generator=generator)
    return (image[order] * factors).round().to(torch.uint8)


class PhotographData(RestorationData):
    """Photographs that scikit-image and scikit-learn ship, reduced or made noisy on the fly; no downloads.

    Crops that train are mirrored, turned and recoloured. Held-out images are other photographs than those that train, whole, and
    the same in every evaluation.

    Args:
        degradation: sr: reduced by `scale`, bicubic with antialiasing. denoise: Gaussian noise is added. Both give 8 bits.
        scale: 2, 3 or 4 for sr; None: 2, and 1 for denoise.
        sigma: standard deviation of the noise, where white is 255.
        crop_size: height and width of the clean crops that train, in pixels.
        photo_height: the photographs are reduced to this height first, which takes their own noise and blur away.
        train_images: number of crops of an epoch; every epoch has new ones.
        batch_size: crops of a training batch, on each device. Evaluation takes the photographs one by one.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides crops, noise and order.
    """

    def __init__(
        self,
        degradation: Literal["sr", "denoise"] = "sr",
        scale: int | None = None,
        sigma: float = 25.0,
        crop_size: int = 96,
        photo_height: int = 300,
        train_images: int = 512,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        self.degradation = Degradation(degradation, chosen_scale(degradation, scale), sigma)
        self.scale = self.degradation.scale
        check_crop_size(crop_size, self.scale)
        self.crop_size = crop_size
        self.photo_height = photo_height
        self.train_images = train_images

    def setup(self, stage: str) -> None:
        """Read the photographs."""
        train, held_out = (
            [(photo * 255).round().to(torch.uint8) for photo in load_photos(names, self.photo_height)]
            for names in (RESTORATION_TRAIN_PHOTOS, RESTORATION_HELD_OUT_PHOTOS)
        )
        self.train_set = Photographs(train, self.degradation, 2 * self.seed, self.train_images, self.crop_size)
        self.val_set = Photographs(held_out, self.degradation, 2 * self.seed + 1, len(held_out))

    def describe(self) -> str:
        """One sentence for the report."""
        return (
            f"Photographs (scikit-image, scikit-learn) {self.degradation.describe()}: {self.train_images} new crops an epoch, "
            f"{self.crop_size} x {self.crop_size} pixels, of {len(RESTORATION_TRAIN_PHOTOS)} photographs; "
            f"{len(self.val_set)} others are held out, whole, {self.photo_height} pixels high"
        )
