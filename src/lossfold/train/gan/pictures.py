"""Pictures of generation: grids of images, saved while the training goes on."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from lossfold.train.gan.evaluation import TITLES, GANScores
from lossfold.train.pictures import LINES, Array, bound, new_panel, rendered, series
from lossfold.train.run_folder import Row

GAP = 1
"""Pixels between the images of a grid."""

ENLARGED = 512
"""Side in pixels to which saved grids are enlarged, at most: the reports would resample larger ones."""


def grid(images: Tensor, columns: int) -> Array:
    """Images uint8 `[N,C,S,S]` row by row with white gaps, as rows of pixels in colours."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    picture = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, image in enumerate(images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        picture[top : top + height, left : left + width] = image
    return picture


def save(picture: Array, path: Path) -> None:
    """Write a picture as PNG, small ones enlarged without smoothing."""
    factor = max(1, ENLARGED // max(picture.shape))
    Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1)).save(path)


class SampleGrids(Callback):
    """Save what the generator makes of the same latents after every evaluation: `samples/step_000500.png`.

    Args:
        folder: where to.
        count: images of a grid.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save a grid, on the first rank."""
        if not trainer.is_global_zero or trainer.fast_dev_run or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        made = pl_module.samples(pl_module.latents_for(self.count, 0))
        save(grid(made, columns_of(self.count)), self.folder / f"step_{trainer.global_step:06}.png")


def columns_of(count: int) -> int:
    """Columns of a grid that is about a square."""
    return max(1, round(math.sqrt(count)))


def saved_grids(folder: Path, count: int) -> list[tuple[int, Path]]:
    """Evenly spaced saved grids with their steps, the first and the last among them."""
    found = sorted((int(path.stem.removeprefix("step_")), path) for path in folder.glob("step_*.png"))
    if len(found) <= count:
        return found
    return [found[round(index * (len(found) - 1) / (count - 1))] for index in range(count)]


def between(one: Tensor, other: Tensor, count: int) -> Tensor:
    """Latents `[count,L]` on the great circle from one `[L]` to another: between them, the length changes evenly.

    The images of normally distributed latents come from lengths of about √L; a straight line would leave them.
    """
    first, second = one.norm(), other.norm()
    angle = torch.arccos((one @ other / (first * second)).clamp(-0.999, 0.999))
    t = torch.linspace(0, 1, count)[:, None]
    direction = torch.sin((1 - t) * angle) * one / first + torch.sin(t * angle) * other / second
    latents: Tensor = direction / torch.sin(angle) * ((1 - t) * first + t * second)
    return latents


def score_curves(rows: Sequence[Row], training: GANScores) -> list[str]:
    """One panel for each distance from the held-out images, and the training images' as a dashed line."""
    panels: list[str] = []
    for index, (name, title) in enumerate(TITLES.items()):
        figure, axes = new_panel(title)
        steps, values = series(rows, f"val/score/{name}")
        axes.plot(steps, values, color=LINES[index], marker="o", markersize=3, linewidth=2)
        axes.axhline(getattr(training, name), color="#98a2b3", linestyle="--", linewidth=1, label="training images")
        axes.legend(frameon=False, fontsize=9)
        bound(axes, values, [getattr(training, name)])
        panels.append(rendered(figure))
    return panels
