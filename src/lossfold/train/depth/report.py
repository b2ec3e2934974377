"""The report of a depth run: scores before and after, and held-out images beside what was measured and what the network says."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lossfold.metrics import abs_rel
from lossfold.train.data import DepthData
from lossfold.train.data.depth import eight_bits
from lossfold.train.depth.evaluation import TITLES, shown
from lossfold.train.depth.module import DepthModule
from lossfold.train.depth.pictures import coloured, ends_of, score_curves
from lossfold.train.modes import evaluating
from lossfold.train.pictures import jpeg
from lossfold.train.report import file_name, shown_ones, write_page
from lossfold.train.run_folder import RunFolder

LARGEST = 512
"""Longer side of a kept depth map in pixels."""


@dataclass(frozen=True)
class Estimate:
    """What the report shows of what a network says of an image: depths float16 `[1,h,w]`, every so many pixels, and their error."""

    depth: Tensor
    abs_rel: float

    @classmethod
    def of(cls, depth: Tensor, target: Tensor) -> "Estimate":
        """See depths `[1,H,W]` beside what was measured."""
        depth, step = depth.cpu(), -(-max(depth.shape[1:]) // LARGEST)
        return cls(depth[:, ::step, ::step].half(), float(abs_rel(depth[None], target[None])))


def write_report(folder: RunFolder, trainer: pl.Trainer, model: DepthModule, data: DepthData, seconds: float, images: int) -> None:
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
    columns = model.baseline, model.before, model.scores
    write_page(
        "depth.html",
        folder,
        trainer,
        model,
        data,
        seconds,
        abs_rel=[shown(scores, "abs_rel") for scores in columns],
        scores=[(title, *(shown(scores, name) for scores in columns)) for name, title in TITLES.items()],
        score_curves=score_curves(rows, model.baseline) if rows else [],
        caveat=data.caveat,
        examples=list(_examples(model, data, images)),
    )


def estimated(model: DepthModule, data: DepthData, count: int) -> dict[int, dict[str, Any]]:
    """What the network makes now of evenly spaced held-out images: an `Estimate` as plain values by the sample's key."""
    found: dict[int, dict[str, Any]] = {}
    with evaluating(model), torch.inference_mode():
        for key in shown_ones(data.val_set, count):
            image, target = data.val_set[key]
            found[key] = asdict(Estimate.of(model.evaluated(image[None].to(model.device))[0], target))
    return found


def _examples(model: DepthModule, data: DepthData, count: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Of each image its file's name, and (caption, picture) of it and of its depths; no picture where there was none before."""
    for key, after in estimated(model, data, count).items():
        image, target = data.val_set[key]
        ends = ends_of(target)
        yield (
            file_name(data.val_set, key),
            [
                ("image", jpeg(eight_bits(image).permute(1, 2, 0).numpy())),
                _column("before", model.shown_before.get(key), ends),
                _column("after", after, ends),
                ("measured", jpeg(coloured(target, ends))),
            ],
        )


def _column(name: str, kept: dict[str, Any] | None, ends: tuple[float, float]) -> tuple[str, str]:
    if kept is None:
        return name, ""
    estimate = Estimate(**kept)
    return f"{name}: AbsRel {estimate.abs_rel:.3f}", jpeg(coloured(estimate.depth.float(), ends))
