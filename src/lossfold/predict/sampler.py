"""A trained generator as a function from numbers to images."""

from pathlib import Path

import torch
from torch import Tensor

from lossfold.predict.pictures import Array
from lossfold.train.errors import TrainError
from lossfold.train.gan.module import GANWithCustomizedLoss


class Sampler:
    """A trained generator; `lossfold.load` makes it of a GAN's run.

    Args:
        module: the trained module.
        source: the checkpoint's file.

    Example:
        >>> sampler = lossfold.load("runs/gan")  # doctest: +SKIP
        >>> images = sampler(16)  # doctest: +SKIP
    """

    name = "gan"

    def __init__(self, module: GANWithCustomizedLoss, source: Path) -> None:
        self.module, self.source = module, source

    def __call__(self, count: int = 1, seed: int = 0, first: int = 0) -> Array:
        """Make images.

        Args:
            count: how many.
            seed: decides them: image i of a seed is the same whatever is made beside it, to the rounding of larger batches.
            first: number of the first image.

        Returns:
            `[N,H,W,C]` uint8.

        Raises:
            TrainError: the count is below 1.
        """
        if count < 1:
            raise TrainError(f"count must be at least 1, got {count}")
        made = self.module.samples(self.latents(count, seed, first))
        return made.permute(0, 2, 3, 1).contiguous().numpy()

    def latents(self, count: int, seed: int = 0, first: int = 0) -> Tensor:
        """What the images are made from, `[N,latent_size]`."""
        generators = (torch.Generator().manual_seed(seed * 1_000_003 + index) for index in range(first, first + count))
        return torch.stack([torch.randn(self.module.latent_size, generator=generator) for generator in generators])
