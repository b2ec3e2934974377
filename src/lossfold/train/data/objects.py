"""The built-in task of objects: a horse's silhouette, coins and a cell, with exact masks or ones from classical recipes."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional

from lossfold.train.data.base import Sample, SegmentationData, Task
from lossfold.train.data.collage import borders, random_view, vary_colour, vary_light
from lossfold.train.data.sources import load_sources, open_image

Mask = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]

HORSE, COINS, CELL = "skimage/horse.png", "skimage/coins.png", "skimage/cell.png"
CHANNELS = {"binary": ["object"], "multilabel": ["horse", "coin", "cell", "boundary"]}

COIN_ROWS = (0.0, 0.733, 0.753, 1.0)
"""Of the height of the picture of coins: where the training part begins and ends, and where the held-out part does."""

CELL_BOX = (306, 251, 550, 495)
CELL_COLUMNS = (0.0, 0.46, 0.54, 1.0)
"""Of the width of the cell's surroundings: where the training part begins and ends, and where the held-out part does."""

CELL_SHRINK = 1.6
BOUNDARY_REACH = 2
SEEN_THROUGH = 0.55
"""Opacity of a horse over coins or a cell: what lies under it stays visible, so that both channels are true."""


def coin_mask(grey: Grey) -> Mask:
    """Find coins: flood the gradient's magnitude from what is surely ground and surely coin, then clean.

    Args:
        grey: `[H,W]`; below 30 is ground, above 150 coin, and the watershed of the Sobel gradient decides the rest.
    """
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    markers = np.where(grey < 30, 1, np.where(grey > 150, 2, 0))
    flooded = watershed(sobel(grey), markers)  # type: ignore[no-untyped-call]
    return cleaned(flooded == 2, 300)


def cell_mask(grey: Grey) -> Mask:
    """Find the cell `[H,W]`: what Otsu's threshold calls bright, cleaned."""
    from skimage.filters import threshold_otsu

    return cleaned(grey > threshold_otsu(grey), 300)  # type: ignore[no-untyped-call]


def cleaned(mask: Mask, least: int) -> Mask:
    """Take away connected parts, and fill holes, of fewer pixels than `least`."""
    from skimage.measure import label

    for value in (True, False):
        parts = label(mask == value)  # type: ignore[no-untyped-call]
        mask = mask ^ ((np.bincount(parts.ravel())[parts] < least) & (mask == value))
    return mask


@dataclass(frozen=True)
class ObjectSources:
    """What one side of the division is composed of.

    Args:
        fills: photographs, then each texture: what horses are filled with; the photographs are grounds, too.
        marked: coins and the cell: for each the image and, as a fourth channel, its mask `[4,H,W]`.
        silhouette: the horse, `[1,H,H]` in 0..1.
    """

    fills: list[list[Tensor]]
    marked: list[Tensor]
    silhouette: Tensor

    @classmethod
    def load(cls, held_out: bool) -> "ObjectSources":
        """Read the training part or the held-out part of the pictures.

        Raises:
            TrainError: a package that ships an image is not installed.
        """
        side = 2 if held_out else 0
        coins = np.array(open_image(COINS).convert("L"))
        top, bottom = (round(share * len(coins)) for share in COIN_ROWS[side : side + 2])
        cell = np.array(open_image(CELL).convert("L").crop(CELL_BOX))
        left, right = (round(share * cell.shape[1]) for share in CELL_COLUMNS[side : side + 2])
        marked = [
            _marked(coins[top:bottom], coin_mask(coins)[top:bottom], 1.0),
            _marked(cell[:, left:right], cell_mask(cell)[:, left:right], CELL_SHRINK),
        ]
        return cls(load_sources(held_out, without=(COINS,)), marked, _silhouette())


def _marked(grey: Grey, mask: Mask, shrink: float) -> Tensor:
    layers = [Image.fromarray(layer) for layer in (grey, mask.astype(np.uint8) * 255)]
    size = (round(grey.shape[1] / shrink), round(grey.shape[0] / shrink))
    image, marks = (torch.from_numpy(np.array(layer.resize(size, Image.Resampling.BOX))).float() / 255 for layer in layers)
    return torch.stack([image, image, image, marks])


def _silhouette() -> Tensor:
    dark = 255 - np.array(open_image(HORSE).convert("L"))
    height, width = dark.shape
    square = np.zeros((width, width), np.uint8)
    square[(width - height) // 2 :][:height] = dark
    return torch.from_numpy(np.array(Image.fromarray(square).resize((128, 128), Image.Resampling.BOX)))[None].float() / 255


@dataclass(frozen=True)
class Objects:
    """Composed images; image number `key` is a function of (seed, key) alone.

    Args:
        sources: what they are composed of.
        task: binary: one channel for all objects, `[H,W]`; multilabel: horse, coin, cell and boundary, `[4,H,W]`.
        size: height and width of an image in pixels.
        count: number of images.
        seed: decides every image.
        ignore_index: label of the edges of coins and cell, where their masks are uncertain.
    """

    sources: ObjectSources
    task: Task
    size: int
    count: int
    seed: int
    ignore_index: int = 255

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, key: int) -> Sample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        kind, mounted = torch.rand(2, generator=generator).tolist()
        shapes = torch.zeros(3, self.size, self.size, dtype=torch.bool)
        if kind < 0.4:
            photos = self.sources.fills[0]
            image = self._view(photos[int(torch.randint(len(photos), (), generator=generator))], generator)
        else:
            which = int(kind >= 0.75)
            seen = random_view(self.sources.marked[which], self.size, generator)
            image, shapes[1 + which] = vary_colour(seen[:3], generator), seen[3] > 0.5
        if mounted < (0.85 if kind < 0.4 else 0.5):
            images = self.sources.fills[int(torch.randint(len(self.sources.fills), (), generator=generator))]
            fill = self._view(images[int(torch.randint(len(images), (), generator=generator))], generator)
            horse = horse_view(self.sources.silhouette, self.size, generator)
            image = torch.lerp(image, fill, horse * (1.0 if kind < 0.4 else SEEN_THROUGH))
            shapes[0] = horse > 0.5
        light = (vary_light(image, generator).clamp(0, 1) * 255).round().to(torch.uint8)
        return light, self._labels(shapes)

    def _view(self, source: Tensor, generator: Generator) -> Tensor:
        return vary_colour(random_view(source, self.size, generator), generator)

    def _labels(self, shapes: Tensor) -> Tensor:
        """Turn the shapes of horse, coins and cell `[3,H,W]` into the task's labels."""
        dtype = torch.uint8 if 0 <= self.ignore_index <= 255 else torch.int32
        uncertain = torch.stack([torch.zeros_like(shapes[0]), borders(shapes[1]), borders(shapes[2])])
        if self.task == "binary":
            labels = shapes.any(0).to(dtype)
            labels[uncertain.any(0) & ~shapes[0]] = self.ignore_index
            return labels
        edge = torch.stack([borders(shape, BOUNDARY_REACH) for shape in shapes]).any(0)
        labels = torch.cat([shapes, edge[None]]).to(dtype)
        labels[:3][uncertain] = self.ignore_index
        return labels


def horse_view(silhouette: Tensor, size: int, generator: Generator) -> Tensor:
    """Place the silhouette `[1,H,H]` at a random angle, scale and place, perhaps mirrored; returns `[1,size,size]` in 0..1."""
    turn, zoom, mirror, *place = torch.rand(5, generator=generator)
    angle, scale = math.pi / 8 * (2 * turn - 1), 0.55 + 0.5 * zoom
    axes = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]) / scale
    shift = -axes @ (0.5 * torch.stack(place) - 0.25)
    if mirror < 0.5:
        axes[0] *= -1
    grid = functional.affine_grid(torch.cat([axes, shift[:, None]], 1)[None], [1, 1, size, size], align_corners=False)
    return functional.grid_sample(silhouette[None], grid, padding_mode="zeros", align_corners=False)[0]


class ObjectsData(SegmentationData):
    """Horses, coins and a cell, composed of the images that scikit-image and scikit-learn ship; no downloads.

    The horse's mask is exact; those of coins and cell come from thresholds (`coin_mask`, `cell_mask`), and their edges are
    ignored. Held-out images use the fourth row of coins, the right half of the cell, and photographs and parts of textures
    that no training image shows. There is one silhouette of a horse: both sides share its outline.

    Args:
        image_size: height and width of an image in pixels.
        train_images: new images of an epoch.
        val_images: held-out images.
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch.
        num_workers: loader processes; 0 composes in the main process.
        seed: decides every image and their order.
        ignore_index: label of the edges of coins and cell.
        task: binary: object or ground; multilabel: horse, coin, cell, and the boundary, two pixels on either side of an
            object's edge. A horse over coins or a cell is translucent, and both channels hold (taken from model.task).
    """

    tasks = ("binary", "multilabel")

    def __init__(
        self,
        image_size: int = 96,
        train_images: int = 512,
        val_images: int = 64,
        batch_size: int = 8,
        val_batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        ignore_index: int = 255,
        task: Task = "binary",
    ) -> None:
        super().__init__(CHANNELS[task], ignore_index, batch_size, val_batch_size, num_workers, seed, task=task)
        self.image_size = image_size
        self.train_images = train_images
        self.val_images = val_images

    def setup(self, stage: str) -> None:
        """Read the pictures."""
        self.train_set = self._side(False, self.train_images)
        self.val_set = self._side(True, self.val_images)

    def _side(self, held_out: bool, count: int) -> Objects:
        sources = ObjectSources.load(held_out)
        return Objects(sources, self.task, self.image_size, count, 2 * self.seed + held_out, self.ignore_index)

    def describe(self) -> str:
        """One sentence for the report."""
        return (
            f"Horses, coins and a cell over photographs (scikit-image, scikit-learn), {self.image_size} x {self.image_size} "
            f"pixels: {self.train_images} new training images an epoch; {self.val_images} held-out images from coins, half of "
            "the cell, photographs and parts of textures that training never shows (the horse's outline is the same)"
        )
