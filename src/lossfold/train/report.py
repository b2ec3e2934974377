"""What the reports of all tasks share: one HTML file that needs nothing else, with the run's facts, curves and versions."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from lossfold.train.data.base import Samples, TrainingData
from lossfold.train.module import TaskModule
from lossfold.train.pages import template
from lossfold.train.pictures import loss_curves
from lossfold.train.run_folder import RunFolder

PACKAGES = ("lossfold", "torch", "lightning", "torchmetrics", "numpy")

NEXT = {
    "": ("IMAGES", '("image.png")'),
    "matting.html": ("IMAGES --trimaps TRIMAPS", '("image.png", "trimap.png")'),
    "gan.html": ("--count 64", "(64)"),
}
"""What each task's predictions are asked for with, on the command line and in Python; what is not named is as the first."""


def write_page(
    name: str,
    folder: RunFolder,
    trainer: pl.Trainer,
    model: TaskModule,
    data: TrainingData,
    seconds: float,
    **content: Any,
) -> None:
    """Write `report.html` into the run's folder.

    Args:
        name: the task's template, which extends `report.html` of the same folder.
        folder: the run's folder, with its log and configuration.
        trainer: the trainer that has finished.
        model: the trained module, with its losses.
        data: the data, set up.
        seconds: what the run took.
        **content: what the task's template shows besides.
    """
    rows = folder.rows()
    asked, call = NEXT.get(name, NEXT[""])
    page = template(name).render(
        title=folder.path.name,
        facts=_facts(folder, trainer, model, data, seconds),
        loss_curves=loss_curves(rows),
        loss="\n".join(_repr(title, getattr(model, part)) for part, title in model.objectives.items()),
        config=folder.config.read_text("utf-8") if folder.config.is_file() else "",
        versions=_versions(),
        predict=f"lossfold predict {folder.path.as_posix()} {asked}",
        script=f"import lossfold\n\npredictor = lossfold.load({folder.path.as_posix()!r})\narray = predictor{call}",
        **content,
    )
    folder.report.write_text(page, "utf-8")


def chosen(samples: Samples, count: int) -> Iterator[int]:
    """Keys of evenly spaced samples."""
    count = min(count, len(samples))
    return (index * len(samples) // count for index in range(count))


def shown_ones(samples: Samples, count: int) -> Iterator[int]:
    """Keys of the samples that a report shows, with a bar on a terminal: large ones take a while."""
    keys = list(chosen(samples, count))
    return iter(track(keys, "report", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()))


def file_name(samples: Samples, key: int) -> str:
    """The name of a sample's image; nothing where it is no file."""
    files_of = getattr(samples, "files_of", None)
    return files_of(key)[0].name if files_of else ""


def _facts(folder: RunFolder, trainer: pl.Trainer, model: TaskModule, data: TrainingData, seconds: float) -> list[tuple[str, str]]:
    place = trainer.strategy.root_device
    device = torch.cuda.get_device_name(place) if place.type == "cuda" else platform.processor() or platform.machine()
    return [
        ("Data", data.describe()),
        *((title, _described(getattr(model, name))) for name, title in model.networks.items()),
        ("Training", f"{trainer.global_step:,} steps of {data.batch_size * trainer.world_size} images; {seconds:.0f} s"),
        *model.notes(),
        (
            "Checkpoints",
            ", ".join(sorted(path.relative_to(folder.path).as_posix() for path in folder.checkpoints.glob("*.ckpt"))) or "none",
        ),
        ("Device", f"{trainer.world_size} x {trainer.accelerator.__class__.__name__} ({device}), {trainer.precision}"),
    ]


def _described(network: nn.Module) -> str:
    return f"{type(network).__name__}, {sum(parameter.numel() for parameter in network.parameters()):,} parameters"


def _repr(title: str, criterion: nn.Module) -> str:
    return f"{title}: {criterion!r}" if title else repr(criterion)


def _versions() -> str:
    parts = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*parts, platform.platform(terse=True)])
