"""The built-in matting task: soft foregrounds of photographs over other photographs, with exact alphas."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

import lossfold as lf
from lossfold.train.data.base import TrainingData
from lossfold.train.data.collage import LUMA, random_view, vary_colour
from lossfold.train.data.mattes import KINDS
from lossfold.train.data.sources import MATTING_HELD_OUT_PHOTOS, MATTING_TRAIN_PHOTOS, load_photos

SHARES = {"hair": 0.5, "defocus": 0.15, "glass": 0.2, "solid": 0.15}
"""How often each kind of foreground is drawn."""

CONTRAST = 0.22
"""Least difference of brightness between the middle of the foreground and of the ground: what looks alike can't be cut out."""


class MattingSample(NamedTuple):
    """An image uint8 `[3,H,W]`, its trimap 0, 0.5, 1 and its alpha in 0..1, both float32 `[1,H,W]`."""

    image: Tensor
    trimap: Tensor
    alpha: Tensor


class MattingSamples(Protocol):
    """A data set of matting samples, which may know more for the report."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int, /) -> MattingSample: ...

    def foreground(self, key: int) -> Tensor | None:
        """The true colours of a sample's foreground, uint8 `[3,H,W]`, or None where they are unknown."""
        ...

    def backdrop(self, key: int) -> Tensor:
        """A new background for a sample, uint8 `[3,H,W]`."""
        ...


class MattingData(TrainingData):
    """Base of the data modules of matting: samples are `MattingSample`s, `val_set` tells `foreground` and `backdrop`, too."""

    train_set: MattingSamples
    val_set: MattingSamples
    num_classes = 1
    in_channels = 4


def composite(foreground: Tensor, background: Tensor, alpha: Tensor) -> Tensor:
    """Lay a foreground over a background, all floats in 0..1, and round as a picture does: `alpha F + (1 - alpha) B`, uint8."""
    image = alpha * foreground + (1 - alpha) * background
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


class Layers(NamedTuple):
    """What a composite is made of: colours `[3,S,S]` and alpha `[1,S,S]`, float32 in 0..1, and the kind of foreground."""

    foreground: Tensor
    background: Tensor
    alpha: Tensor
    kind: str


@dataclass(frozen=True)
class Composites:
    """Composed images; image number `key` is a function of (seed, key) alone.

    Args:
        photos: at least two photographs `[3,H,W]`, float32 in 0..1: one is the ground, another the foreground's texture.
        size: height and width of an image in pixels.
        count: number of images.
        seed: decides every image.
        widths: the least and the largest radius in pixels by which the trimap is eroded and dilated.
    """

    photos: list[Tensor]
    size: int
    count: int
    seed: int
    widths: tuple[int, int] = (2, 10)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int) -> MattingSample:
        generator = self._generator(key)
        layers = self.layers(generator)
        image = composite(layers.foreground, layers.background, layers.alpha)
        return MattingSample(image, lf.functional.random_trimap(layers.alpha, self.widths, generator), layers.alpha)

    def foreground(self, key: int) -> Tensor | None:
        """The foreground's colours, exact."""
        return (self.layers(self._generator(key)).foreground * 255).round().to(torch.uint8)

    def backdrop(self, key: int) -> Tensor:
        """A view of another photograph."""
        generator = self._generator(key)
        used = self._two(generator)
        others = [photo for index, photo in enumerate(self.photos) if index not in used] or self.photos
        return (random_view(others[key % len(others)], self.size, generator).clamp(0, 1) * 255).round().to(torch.uint8)

    def layers(self, generator: Generator) -> Layers:
        """Draw a foreground, and see it over a photograph."""
        front, back = (self.photos[index] for index in self._two(generator))
        shares = torch.tensor(list(SHARES.values()))
        kind = list(SHARES)[int(torch.multinomial(shares, 1, generator=generator))]
        background = vary_colour(random_view(back, self.size, generator), generator).clamp(0, 1)
        texture = vary_colour(random_view(front, self.size, generator), generator)
        colours, alpha = KINDS[kind](texture, generator)
        if kind != "glass":
            colours = _apart(colours, background, alpha)
        alpha = (alpha.clamp(0, 1) * 255).round() / 255  # as a file holds it: tails of a blur end somewhere
        return Layers(colours.clamp(0, 1), background, alpha, kind)

    def _two(self, generator: Generator) -> list[int]:
        return torch.randperm(len(self.photos), generator=generator)[:2].tolist()

    def _generator(self, key: int) -> Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + key)


def _apart(colours: Tensor, background: Tensor, alpha: Tensor) -> Tensor:
    """Make a foreground brighter or darker until it differs from its ground."""
    luma = torch.tensor(LUMA)[:, None, None]
    mine, theirs = ((layer * luma).sum(0).mul(alpha[0]).sum() / alpha.sum().clamp(min=1) for layer in (colours, background))
    side = -1.0 if mine < theirs or theirs > 0.7 else 1.0
    side = 1.0 if theirs < 0.3 else side
    missing = (CONTRAST - side * (mine - theirs)).clamp(min=0)
    return colours + side * missing


class CompositeData(MattingData):
    """Soft foregrounds over photographs, composed of the images that scikit-image and scikit-learn ship; no downloads.

    Foregrounds are hair, things out of focus, glass, and solid shapes (`lossfold.train.data.mattes`); the image is exactly
    `alpha F + (1 - alpha) B`, rounded to 8 bits. Held-out images use photographs that no training image shows, as ground and as
    texture.

    Args:
        image_size: height and width of a training image in pixels.
        val_image_size: height and width of a held-out image; None: that of a training image.
        train_images: number of training images of an epoch; every epoch has new ones.
        val_images: number of held-out images, the same in every evaluation.
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch.
        num_workers: loader processes; 0 composes in the main process.
        seed: decides every image.
    """

    def __init__(
        self,
        image_size: int = 160,
        val_image_size: int | None = None,
        train_images: int = 512,
        val_images: int = 32,
        batch_size: int = 8,
        val_batch_size: int = 4,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, val_batch_size, num_workers, seed)
        self.image_size = image_size
        self.val_image_size = val_image_size or image_size
        self.train_images = train_images
        self.val_images = val_images

    def setup(self, stage: str) -> None:
        """Read the photographs."""
        train, held_out = (
            load_photos(names, round(1.25 * self.val_image_size)) for names in (MATTING_TRAIN_PHOTOS, MATTING_HELD_OUT_PHOTOS)
        )
        self.train_set = Composites(train, self.image_size, self.train_images, 2 * self.seed)
        self.val_set = Composites(held_out, self.val_image_size, self.val_images, 2 * self.seed + 1)

    def describe(self) -> str:
        """One sentence for the report."""
        return (
            "Hair, blurred, glass and solid foregrounds with exact alphas over photographs (scikit-image, scikit-learn): "
            f"{self.train_images} new training images an epoch, {self.image_size} x {self.image_size} pixels; {self.val_images} "
            f"held-out images, {self.val_image_size} x {self.val_image_size}, from photographs that training never shows"
        )
