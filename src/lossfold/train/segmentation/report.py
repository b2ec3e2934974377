"""The report of a segmentation run: IoU before and after, and held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossfold.train.data import SegmentationData
from lossfold.train.data.depth import eight_bits
from lossfold.train.pictures import Array, class_colours, png
from lossfold.train.report import file_name, shown_ones, write_page
from lossfold.train.run_folder import RunFolder
from lossfold.train.segmentation.evaluation import Scores, percent, shape_rows
from lossfold.train.segmentation.module import SegmentationModule
from lossfold.train.segmentation.pictures import channel_map, error_map, label_map, score_curves


@dataclass(frozen=True)
class Example:
    """One held-out image: its file's name, four pictures, and the share of its counted pixels that are right."""

    name: str
    image: str
    truth: str
    prediction: str
    error: str
    accuracy: float


@dataclass(frozen=True)
class ClassRow:
    """A line of the table of scores; bars are percentages."""

    name: str
    colour: str
    share: str
    before: str
    after: str
    before_bar: float
    after_bar: float


def write_report(
    folder: RunFolder,
    trainer: pl.Trainer,
    model: SegmentationModule,
    data: SegmentationData,
    seconds: float,
    images: int,
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
    assert model.scores is not None
    rows = folder.rows()
    best = max((row["val/miou"] for row in rows if "val/miou" in row), default=model.scores.mean)
    write_page(
        "segmentation.html",
        folder,
        trainer,
        model,
        data,
        seconds,
        before=percent(model.before.mean if model.before else None),
        after=percent(model.scores.mean),
        best=percent(best),
        score_curves=score_curves(rows, data.class_names, _colours(model)) if rows else [],
        classes=_class_rows(data.class_names, _colours(model), model.before, model.scores),
        shapes=shape_rows(model.before, model.scores),
        channels=model.task != "multiclass",
        examples=_examples(model, data, images),
        ignore_index=data.ignore_index,
    )


def _colours(model: SegmentationModule) -> list[str]:
    """A colour for each class; the palette's grey is for a class of its own, not for a channel."""
    count = len(model.class_names)
    return class_colours(count) if model.task == "multiclass" else class_colours(count + 1)[1:]


def _class_rows(names: Sequence[str], colours: Sequence[str], before: Scores | None, after: Scores) -> list[ClassRow]:
    old = before.iou if before else [None] * len(names)
    return [
        ClassRow(
            name,
            colour,
            percent(share),
            percent(earlier),
            percent(later),
            100 * (earlier or 0),
            100 * (later or 0),
        )
        for name, colour, share, earlier, later in zip(names, colours, after.shares, old, after.iou, strict=True)
    ]


@torch.inference_mode()
def _examples(model: SegmentationModule, data: SegmentationData, count: int) -> list[Example]:
    """Predict evenly spaced held-out images, one by one."""
    model.eval()
    examples: list[Example] = []
    for key in shown_ones(data.val_set, count):
        image, labels = data.val_set[key]
        batch, _ = data.collate([(image, labels)])
        height, width = labels.shape[-2:]
        predicted = model.decide(model.evaluated(batch.to(model.device)))[0, ..., :height, :width].cpu()
        truth = labels.long().view(predicted.shape)
        counted = truth != data.ignore_index
        wrong = (predicted != truth) & counted
        accuracy = 1 - float(wrong.sum() / counted.sum().clamp(min=1))
        if model.task != "multiclass":  # a pixel is wrong where one of its channels is, and ignored where all are
            wrong, counted = wrong.any(0), counted.any(0)
        picture, ignored = eight_bits(image).permute(1, 2, 0).numpy(), ~counted.numpy()
        pictures = [picture, _labels(model, picture, truth, ignored), _labels(model, picture, predicted, ignored & False)]
        shown, true, said, error = map(png, (*pictures, error_map(picture, wrong.numpy(), ignored)))
        examples.append(Example(file_name(data.val_set, key), shown, true, said, error, accuracy))
    return examples


def _labels(model: SegmentationModule, picture: Array, labels: Tensor, ignored: npt.NDArray[np.bool_]) -> Array:
    if model.task == "multiclass":
        return label_map(labels.numpy(), ignored, len(model.class_names))
    return channel_map(picture, (labels == 1).numpy(), ignored, _colours(model))
