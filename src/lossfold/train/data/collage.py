"""The built-in task: textures laid over photographs as irregular shapes, every image new, every image repeatable."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from lossfold.train.data.base import Sample, SegmentationData
from lossfold.train.data.sources import TEXTURES, load_sources

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Collages:
    """Composed images; image number `key` is a function of (seed, key) alone.

    Args:
        sources: for each class its images `[3,H,W]`; class 0 is the ground that the others are laid over.
        size: height and width of an image in pixels.
        count: number of images.
        seed: decides every image.
        ignore_index: label of the border between two shapes.
        shapes: the least and the largest number of shapes of an image.
    """

    sources: list[list[Tensor]]
    size: int
    count: int
    seed: int
    ignore_index: int = 255
    shapes: tuple[int, int] = (2, 4)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int) -> Sample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        shapes = int(torch.randint(self.shapes[0], self.shapes[1] + 1, (), generator=generator))
        textures = 1 + torch.randperm(len(self.sources) - 1, generator=generator)[:shapes]
        classes = torch.cat([torch.zeros(1, dtype=torch.int64), textures])
        region = smooth_partition(len(classes), self.size, generator)
        layers = torch.stack([self._layer(int(label), generator) for label in classes])
        image = layers.gather(0, region[None, None].expand(1, 3, -1, -1))[0]
        labels = classes[region].to(torch.uint8 if 0 <= self.ignore_index <= 255 else torch.int32)
        labels[borders(region)] = self.ignore_index
        return (vary_light(image, generator).clamp(0, 1) * 255).round().to(torch.uint8), labels

    def _layer(self, label: int, generator: Generator) -> Tensor:
        images = self.sources[label]
        source = images[int(torch.randint(len(images), (), generator=generator))]
        return vary_colour(random_view(source, self.size, generator), generator)


def smooth_partition(regions: int, size: int, generator: Generator) -> Tensor:
    """Divide a square into irregular regions with smooth borders: `[size,size]` int64, region 0 the largest on average."""
    fields = functional.interpolate(torch.randn(1, regions, 4, 4, generator=generator), size=(size, size), mode="bicubic")[0]
    fields[0] += 0.4
    return fields.argmax(0)


def borders(region: Tensor, reach: int = 1) -> Tensor:
    """Pixels that have another region within `reach` rows and columns, as a mask."""
    padded = functional.pad(region[None, None].float(), (reach,) * 4, mode="replicate")
    size = 2 * reach + 1
    return (functional.max_pool2d(padded, size, 1) != -functional.max_pool2d(-padded, size, 1))[0, 0]


def random_view(source: Tensor, size: int, generator: Generator) -> Tensor:
    """See a random place of the source `[C,H,W]` at a random angle and scale, mirrored where the view leaves it."""
    place, turn, zoom, mirror = _uniform(2, generator), *_uniform(3, generator)
    angle, scale = math.pi / 6 * (2 * turn - 1), math.exp(zoom * math.log(1.4))
    axes = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    if mirror < 0.5:
        axes = axes.flip(1)
    extent = torch.tensor([source.shape[2], source.shape[1]], dtype=torch.float32)
    linear = axes * scale * size / extent[:, None]
    shift = (2 * place - 1) * (1 - scale * size / extent).clamp(min=0)
    grid = functional.affine_grid(torch.cat([linear, shift[:, None]], 1)[None], [1, 3, size, size], align_corners=False)
    return functional.grid_sample(source[None], grid, padding_mode="reflection", align_corners=False)[0]


def vary_colour(layer: Tensor, generator: Generator) -> Tensor:
    """Change one layer's saturation, tint, contrast and brightness, so that colour alone does not tell the class."""
    saturation, contrast, offset, *tint = _uniform(6, generator)
    grey = (layer * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    layer = grey + (layer - grey) * (0.75 + 0.5 * saturation)
    layer = layer * (0.95 + 0.1 * torch.stack(tint))[:, None, None]
    mean = layer.mean()
    changed: Tensor = mean + (layer - mean) * (0.8 + 0.4 * contrast) + 0.2 * (offset - 0.5)
    return changed


def vary_light(image: Tensor, generator: Generator) -> Tensor:
    """Light the whole image unevenly and add a camera's noise."""
    corners = functional.interpolate(torch.rand(1, 1, 2, 2, generator=generator), size=image.shape[1:], mode="bilinear")[0]
    noise = torch.randn(image.shape, generator=generator)
    return image * (0.8 + 0.4 * corners) + 0.04 * _uniform(1, generator) * noise


def _uniform(count: int, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator)


class CollageData(SegmentationData):
    """Textures over photographs, composed of the images that scikit-image and scikit-learn ship; no downloads.

    Held-out images use photographs, and parts of the textures, that no training image shows.

    Args:
        image_size: height and width of an image in pixels.
        train_images: number of training images of an epoch; every epoch has new ones.
        val_images: number of held-out images, the same in every evaluation.
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides every image.
        ignore_index: label of the thin border between two shapes.
    """

    tasks = ("multiclass",)

    def __init__(
        self,
        image_size: int = 128,
        train_images: int = 512,
        val_images: int = 64,
        batch_size: int = 8,
        val_batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        names = ["photo", *(texture.name for texture in TEXTURES)]
        super().__init__(names, ignore_index, batch_size, val_batch_size, num_workers, seed)
        self.image_size = image_size
        self.train_images = train_images
        self.val_images = val_images

    def setup(self, stage: str) -> None:
        """Read the photographs and textures."""
        sides = load_sources(held_out=False), load_sources(held_out=True)
        self.train_set = Collages(sides[0], self.image_size, self.train_images, 2 * self.seed, self.ignore_index)
        self.val_set = Collages(sides[1], self.image_size, self.val_images, 2 * self.seed + 1, self.ignore_index)

    def describe(self) -> str:
        """One sentence for the report."""
        return (
            f"Textures laid over photographs (scikit-image, scikit-learn), {self.image_size} x {self.image_size} pixels: "
            f"{self.train_images} new training images an epoch; {self.val_images} held-out images from photographs "
            "and parts of the textures that training never shows"
        )
