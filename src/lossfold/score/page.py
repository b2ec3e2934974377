"""`report.html`: the table, and the worst images side by side; one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from lossfold.score.items import Folders, Item
from lossfold.score.pictures import colour, pictures
from lossfold.score.scores import Line, Scores, column
from lossfold.score.settings import LABELS, LESS_IS_BETTER, METRICS, Settings
from lossfold.version import VERSION

TITLES = {
    "iou": "IoU",
    "dice": "Dice",
    "accuracy": "Accuracy",
    "pixel_accuracy": "Accuracy of all pixels",
    "boundary_iou": "Boundary IoU",
    "boundary_f1": "Boundary F1",
    "sad": "SAD (thousands)",
    "mse": "MSE",
    "grad": "Grad (thousands)",
    "conn": "Conn (thousands)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "abs_rel": "AbsRel",
    "sq_rel": "SqRel",
    "rmse": "RMSE",
    "rmse_log": "RMSE log",
    "silog": "SILog",
    "delta1": "δ1",
    "delta2": "δ2",
    "delta3": "δ3",
}

IN_TWO_DIGITS = (*METRICS["segmentation"], "pixel_accuracy", "sad", "grad", "conn", "psnr", "silog")


def page(scores: Scores, folders: Folders, items: Sequence[Item], worst: int) -> str:
    """Return the page, with so many of the worst images."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("lossfold.score") / "templates" / "report.html").read_text("utf-8"))
    by_name = {item.name: item for item in items}
    rows = scores.worst(worst)
    values = {image["name"]: image for image in scores.images} if rows else {}
    examples = []
    for row in rows:
        shown = [(TITLES[line.metric], number(values[row.name][column(line)], line.metric)) for line in overall(scores)]
        try:
            seen = pictures(by_name[row.name], scores)
        except (OSError, ValueError):  # a file that is not there any more costs its pictures, not the scores
            seen = []
        examples.append({"name": row.name, "size": row.sums["size"], "scores": shown, "pictures": seen})
    return template.render(
        title="/".join(folders.predictions.absolute().parts[-2:]),
        folders=folders,
        scores=scores,
        overall=overall(scores),
        by_class=by_class(scores),
        examples=examples,
        main=TITLES[scores.settings.metrics[0]],
        titles=TITLES,
        number=number,
        span=span,
        labels=scores.settings.task in LABELS,
        depths=depths(scores.settings),
        less=scores.settings.metrics[0] in LESS_IS_BETTER,
        version=VERSION,
        swatches=[(name, f"rgb{colour(index)}") for index, name in enumerate(scores.classes[:40])],
        maps=scores.settings.task == "segmentation",
    )


def depths(settings: Settings) -> str:
    """Return how depth maps were read and compared."""
    most = "" if settings.most is None else f" to {settings.most:g}"
    units = (
        f"{settings.unit:g}"
        if settings.prediction_unit is None
        else f"{settings.unit:g}, of predictions {settings.prediction_unit:g}"
    )
    scale = {
        "none": "predictions as they are",
        "median": "predictions times the ratio of the medians",
        "least_squares": "predictions with their best factor and shift",
    }
    return f"from {settings.least:g}{most}; unit {units}; {scale[settings.scale_shift]}"


def overall(scores: Scores) -> list[Line]:
    """Return the lines of what is no class's, or of the only class."""
    return [line for line in scores.summary if line.label in ("mean", "") or scores.settings.task == "binary"]


def by_class(scores: Scores) -> list[tuple[str, list[Line]]]:
    """Return each class's lines, one for each metric, where there are several classes."""
    names = scores.classes if len(scores.classes) > 1 else ()
    return [(name, [line for line in scores.summary if line.label == name]) for name in names]


def span(low: float | None, high: float | None, metric: str) -> str:
    """Return an interval as it is read, nothing where there is none."""
    return "" if low is None else f"{number(low, metric)} … {number(high, metric)}"


def number(value: float | None, metric: str) -> str:
    """Return a value as it is read."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    digits = 2 if metric in IN_TWO_DIGITS else 4
    return f"{value:.{digits}f}"
