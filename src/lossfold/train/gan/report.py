"""The report of a GAN's run: samples over time, beside real images and the nearest training images, and distances."""

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lossfold.train.data import GANData
from lossfold.train.gan.evaluation import TITLES, GANScores, shown
from lossfold.train.gan.module import GANWithCustomizedLoss
from lossfold.train.gan.pictures import between, columns_of, grid, saved_grids, score_curves
from lossfold.train.modes import evaluating
from lossfold.train.pictures import png
from lossfold.train.report import chosen, write_page
from lossfold.train.run_folder import RunFolder

MOMENTS = 6
"""Grids that show the course of the training."""

COMPARED, SEARCHED = 12, 5000
"""Samples whose nearest training image is shown, and how many training images it is looked for among, at most."""

LINES, STEPS = 4, 9
"""Lines of images between two latents, and images of a line."""


def write_report(
    folder: RunFolder,
    trainer: pl.Trainer,
    model: GANWithCustomizedLoss,
    data: GANData,
    training: GANScores,
    seconds: float,
    images: int,
) -> None:
    """Write `report.html` into the run's folder.

    Args:
        folder: the run's folder, with its log, configuration and saved grids.
        trainer: the trainer that has finished.
        model: the trained module, with its scores.
        data: the data, set up.
        training: the scores of training images.
        seconds: what the run took.
        images: images of a grid.
    """
    rows = folder.rows()
    columns = model.before, model.scores, training
    with evaluating(model), torch.inference_mode():
        made = model.samples(model.latents_for(max(images, COMPARED), 0))
        lines = interpolations(model)
    write_page(
        "gan.html",
        folder,
        trainer,
        model,
        data,
        seconds,
        distances=[shown(scores, "swd") for scores in columns],
        scores=[(title, *(shown(scores, name) for scores in columns)) for name, title in TITLES.items()],
        score_curves=score_curves(rows, training) if rows else [],
        moments=[(f"step {step:,}", png(np.asarray(Image.open(path)))) for step, path in saved_grids(folder.samples, MOMENTS)],
        real=png(grid(some(data, images), columns_of(images))),
        nearest=png(grid(torch.cat([made[:COMPARED], nearest(made[:COMPARED], data)]), COMPARED)),
        lines=png(grid(lines, STEPS)),
    )


def some(data: GANData, count: int) -> Tensor:
    """Evenly spaced held-out images, uint8 `[N,C,S,S]`."""
    return torch.stack([data.val_set[key] for key in chosen(data.val_set, count)])


def training_scores(data: GANData) -> GANScores:
    """The distance of as many training images from the held-out ones: that of a generator that is as good as the data.

    Where there are more held-out images than training images, some count twice.
    """
    held_out = torch.stack([data.val_set[key] for key in range(len(data.val_set))])
    keys = torch.randperm(len(data.train_set), generator=torch.Generator().manual_seed(0)).tolist()
    images = torch.stack([data.train_set[keys[index % len(keys)]] for index in range(len(held_out))])
    return GANScores.of(images, held_out)


def nearest(made: Tensor, data: GANData) -> Tensor:
    """For each image uint8 `[N,C,S,S]` the training image with the smallest squared difference."""
    known = torch.stack([data.train_set[key] for key in chosen(data.train_set, SEARCHED)])
    distances = torch.cdist(made.flatten(1).float(), known.flatten(1).float())
    return known[distances.argmin(1)]


def interpolations(model: GANWithCustomizedLoss) -> Tensor:
    """What the generator makes of latents between two others, line by line."""
    ends = model.latents_for(2 * LINES, 0)
    return model.samples(torch.cat([between(ends[2 * line], ends[2 * line + 1], STEPS) for line in range(LINES)]))
