"""The report of a matting run: errors before and after, alphas, and what they cut out on a new background."""

from collections.abc import Iterator
from dataclasses import dataclass

import lightning.pytorch as pl
import torch
from torch import Tensor

from lossfold.metrics import matting_sad
from lossfold.train.data.composites import MattingData, MattingSample
from lossfold.train.matting.evaluation import TITLES, shown
from lossfold.train.matting.module import MattingModule, fill_known
from lossfold.train.matting.pictures import FULL_ERROR, error_curves, grey, on_backdrop, photograph, signed_error
from lossfold.train.modes import evaluating
from lossfold.train.pictures import jpeg, png
from lossfold.train.report import file_name, shown_ones, write_page
from lossfold.train.run_folder import RunFolder


@dataclass(frozen=True)
class Example:
    """One held-out image: its file's name, its pictures by caption, and what its alphas miss, SAD / 1000."""

    name: str
    pictures: dict[str, str]
    trimap: str
    after: str
    true_foreground: bool


def write_report(
    folder: RunFolder, trainer: pl.Trainer, model: MattingModule, data: MattingData, seconds: float, images: int
) -> None:
    """Write `report.html` into the run's folder.

    Args:
        folder: the run's folder, with its log and configuration.
        trainer: the trainer that has finished.
        model: the trained module, with its scores.
        data: the data, set up.
        seconds: what the run took.
        images: number of held-out images to show.
    """
    rows = folder.rows()
    examples = list(_examples(model, data, images))
    columns = model.baseline, model.before, model.scores
    write_page(
        "matting.html",
        folder,
        trainer,
        model,
        data,
        seconds,
        sad=[shown(scores, "sad") for scores in columns],
        errors=[(title, *(shown(scores, name) for scores in columns)) for name, title in TITLES.items()],
        error_curves=error_curves(rows, model.baseline) if rows else [],
        examples=examples,
        true_foreground=all(example.true_foreground for example in examples),
        full_error=FULL_ERROR,
    )


def alphas(model: MattingModule, data: MattingData, count: int) -> dict[int, Tensor]:
    """What the network says now of evenly spaced held-out images, one by one: uint8 `[1,H,W]` by the sample's key."""
    found: dict[int, Tensor] = {}
    with evaluating(model), torch.inference_mode():
        for key in shown_ones(data.val_set, count):
            image, trimap, _ = (part[None].to(model.device) for part in data.val_set[key])
            found[key] = (fill_known(model.evaluated(image, trimap), trimap)[0] * 255).round().to(torch.uint8).cpu()
    return found


def _examples(model: MattingModule, data: MattingData, count: int) -> Iterator[Example]:
    for key, found in alphas(model, data, count).items():
        sample, foreground, backdrop = data.val_set[key], data.val_set.foreground(key), data.val_set.backdrop(key)
        alpha, before = found / 255, model.shown_before.get(key)
        pictures = {
            "image": jpeg(photograph(sample.image)),
            "trimap": png(grey(sample.trimap)),
            "alpha before": png(grey(before / 255)) if before is not None else "",
            "alpha after": png(grey(alpha)),
            "on a new background": jpeg(on_backdrop(sample.image, foreground, alpha, backdrop)),
            "the same with the true alpha": jpeg(on_backdrop(sample.image, foreground, sample.alpha, backdrop)),
            "error": png(signed_error(alpha, sample.alpha)),
            "true alpha": png(grey(sample.alpha)),
        }
        yield Example(
            file_name(data.val_set, key), pictures, _sad(sample.trimap, sample), _sad(alpha, sample), foreground is not None
        )


def _sad(alpha: Tensor, sample: MattingSample) -> str:
    return f"{float(matting_sad(alpha[None], sample.alpha[None], sample.trimap[None] == 0.5)):.2f}"
