"""`report.html`: the table, and the worst images side by side; one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from lossfold.score.items import Folders, Item
from lossfold.score.pictures import colour, pictures
from lossfold.score.scores import Line, Scores
from lossfold.score.settings import LABELS, LESS_IS_BETTER
from lossfold.version import VERSION

TITLES = {
    "iou": "IoU",
    "dice": "Dice",
    "accuracy": "Accuracy",
    "pixel_accuracy": "Accuracy of all pixels",
    "boundary_iou": "Boundary IoU",
    "boundary_f1": "Boundary F1",
    "sad": "SAD / 1000",
    "mse": "MSE",
    "grad": "Grad / 1000",
    "conn": "Conn / 1000",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
}


def page(scores: Scores, folders: Folders, items: Sequence[Item], worst: int) -> str:
    """Return the page, with so many of the worst images."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("lossfold.score") / "templates" / "report.html").read_text("utf-8"))
    by_name = {item.name: item for item in items}
    rows = scores.worst(worst)
    values = {image["name"]: image for image in scores.images} if rows else {}
    examples = []
    for row in rows:
        shown = [(TITLES[name], number(values[row.name][name], name)) for name in first_columns(scores)]
        examples.append(
            {"name": row.name, "size": row.sums["size"], "values": shown, "pictures": pictures(by_name[row.name], scores)}
        )
    return template.render(
        title=folders.predictions.name or str(folders.predictions),
        folders=folders,
        scores=scores,
        table=table(scores),
        examples=examples,
        main=TITLES[scores.settings.metrics[0]],
        head=[line for line in scores.summary if line.label in ("mean", "") or scores.settings.task == "binary"],
        titles=TITLES,
        number=number,
        labels=scores.settings.task in LABELS,
        less=scores.settings.metrics[0] in LESS_IS_BETTER,
        version=VERSION,
        swatches=[(name, f"rgb{colour(index)}") for index, name in enumerate(scores.classes[:40])],
        maps=scores.settings.task == "segmentation",
    )


def first_columns(scores: Scores) -> list[str]:
    """The columns of `images` that hold an image's mean over classes, or its only value."""
    label = scores.classes[0] if scores.settings.task == "binary" else None
    return [f"{name}/{label}" if label else name for name in scores.settings.metrics]


def table(scores: Scores) -> list[tuple[str, list[Line]]]:
    """The summary's lines by metric."""
    found: dict[str, list[Line]] = {}
    for line in scores.summary:
        found.setdefault(line.metric, []).append(line)
    return [(TITLES[metric], lines) for metric, lines in found.items()]


def number(value: float | None, metric: str) -> str:
    """Return a value as it is read."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    digits = 4 if metric in ("ssim", "mse") else 2
    return f"{value:.{digits}f}"
