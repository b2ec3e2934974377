"""The command: options as `lossfold train` has them for the data, and what was found as tables."""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lossfold.train import data as modules
from lossfold.train.check.look import Look, look, shared
from lossfold.train.check.sheet import COLUMNS, write
from lossfold.train.data.base import Task, TrainingData
from lossfold.train.errors import TrainError

TASKS: dict[str, tuple[type[TrainingData], str]] = {
    "segmentation": (modules.SegmentationData, "FolderData"),
    "matting": (modules.MattingData, "AlphaFolderData"),
    "restoration": (modules.RestorationData, "RestorationFolderData"),
    "depth": (modules.DepthData, "DepthFolderData"),
    "gan": (modules.GANData, "GANFolderData"),
}
"""Each task's class of data, and the one that reads folders."""

ANY = 256
"""Classes that masks may hold where none are named."""

LISTED = 20


def run(task: str, argv: list[str]) -> int:
    """Check the data of a task; see `lossfold.train.check.main`."""
    if task not in TASKS:
        print(f"lossfold check-data: there is no task {task!r}; choose from: {', '.join(TASKS)}", file=sys.stderr)
        return 2
    base, default = TASKS[task]
    parser = ArgumentParser(prog=f"lossfold check-data {task}")
    parser.add_argument("--config", action="config", help="Options in a file.")
    parser.add_subclass_arguments(base, "data", default={"class_path": f"lossfold.train.data.{default}"})
    parser.add_argument("--picture", type=str | None, default=None, help="Draw some samples into this file (.png, .jpg).")
    parser.add_argument("--json", type=str | None, default=None, help="Write what was found into this file.")
    if task == "segmentation":
        parser.add_argument("--model.task", type=Task, default="multiclass", help="What the masks say.")
        parser.link_arguments("model.task", "data.init_args.task")
    try:
        config = parser.parse_args(argv)
        named = config.data.init_args.get("classes") is not None or task != "segmentation" or config.model.task != "multiclass"
        if not named and config.data.init_args.get("foreground") is not None:
            raise TrainError(
                "data.foreground is for masks of one object and its background: add --model.task binary, as for lossfold train"
            )
        if not named:
            config.data.init_args.classes = ANY
        data = parser.instantiate_classes(config).data
        return report(data, named, config.picture, config.json)
    except TrainError as error:
        print(f"lossfold check-data: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        if not isinstance(error.__cause__, TrainError):
            raise
        print(f"lossfold check-data: {error.__cause__}", file=sys.stderr)
        return 1


def report(data: Any, named: bool, picture: str | None, output: str | None) -> int:
    """Look at every sample and tell what was found.

    Args:
        data: a data module that reads folders.
        named: whether the classes have names; otherwise only those that occur are listed.
        picture: where some samples are drawn.
        output: where what was found goes as JSON.

    Returns:
        0, or 1 where a sample can't be used.
    """
    if not hasattr(data, "whole"):
        raise TrainError(f"data: {type(data).__name__} reads no folders of yours, so there is nothing to check")
    data.setup("fit")
    sides, names = data.whole(), list(getattr(data, "class_names", []))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = [list(pool.map(lambda key, side=side: look(side, key, names), range(len(side)))) for side in sides]
    everything = [one for side in looks for one in side]
    problems = [one for one in everything if one.problem]
    same, alike = shared(*looks)
    console = Console()
    console.print(f"{data.describe()}", markup=False, soft_wrap=True)
    console.print(_images(looks))
    if any(one.counts for one in everything):
        console.print(_shares(looks, names, named))
    for title, pairs in (("in both parts, pixel by pixel", same), ("held out, but very like one that trains", alike)):
        if pairs:
            lines = [f"  {other.files[0]}  is  {one.files[0]}" for one, other in pairs[:LISTED]]
            console.print(f"{len(pairs)} image(s) {title}:", *lines, sep="\n", markup=False, soft_wrap=True)
    if problems:
        lines = [f"  {line}" for line in _alike(problems)[:LISTED]]
        console.print(f"{len(problems)} of {len(everything)} can't be used:", *lines, sep="\n", markup=False, soft_wrap=True)
    if picture:
        usable = [(side, key) for side, found in zip(sides, looks, strict=True) for key, one in enumerate(found) if not one.problem]
        few = usable[:: max(1, len(usable) // COLUMNS)][:COLUMNS]
        write(Path(picture), [(side, side[key]) for side, key in few], len(names))
        console.print(f"Some of them: {picture}", markup=False)
    if output:
        Path(output).write_text(json.dumps(_plain(looks, same, alike), indent=2) + "\n", "utf-8")
    return 1 if problems else 0


def _alike(problems: Sequence[Look]) -> list[str]:
    """What is wrong, once for all files of which the same is said, but for their names and the values in them."""
    groups: dict[str, list[Look]] = {}
    for one in problems:
        words = one.problem
        for file in one.files:
            words = words.replace(str(file), "").replace(file.name, "")
        groups.setdefault(re.sub(r"\d+", "", words), []).append(one)
    lines = []
    for first, *others in groups.values():
        names = ", ".join(one.files[-1].name for one in others[:LISTED]) + ", ..." * (len(others) > LISTED)
        lines.append(first.problem + f"; likewise {len(others)} more: {names}" * bool(others))
    return lines


def _images(looks: Sequence[Sequence[Look]]) -> Table:
    table = Table(title="Images")
    for title in ("", "samples", "of 8 bits", "smallest", "largest", "values (white is 1)"):
        table.add_column(title, justify="left" if not title else "right")
    for part, side in zip(("training", "held out"), looks, strict=True):
        good = [one for one in side if not one.problem]
        if not good:
            table.add_row(part, "0")
            continue
        by_size = sorted(good, key=lambda one: one.size[0] * one.size[1])
        smallest, largest = (f"{one.size[1]} x {one.size[0]}" for one in (by_size[0], by_size[-1]))
        low, high = min(one.values[0] for one in good), max(one.values[1] for one in good)
        table.add_row(part, str(len(good)), str(sum(one.eight_bits for one in good)), smallest, largest, f"{low:.4g} to {high:.4g}")
    return table


def _shares(looks: Sequence[Sequence[Look]], names: Sequence[str], named: bool) -> Table:
    """How much there is of each class, or of each kind of alpha: pixels and images of both parts."""
    table = Table(title="What they hold")
    table.add_column("")
    for part in ("training", "held out"):
        table.add_column(f"pixels, {part}", justify="right")
        table.add_column("images", justify="right")
    totals = [sum((one.counts for one in side), Counter()) for side in looks]
    rows = dict.fromkeys(name for side in looks for one in side for name in one.counts if name)
    for name in rows:
        if not named and not any(total[name] for total in totals):
            continue
        cells = []
        for side, total in zip(looks, totals, strict=True):
            cells += [f"{total[name] / max(1, total['']):.2%}", str(sum(one.counts[name] > 0 for one in side))]
        table.add_row(escape(name), *cells, style="bold red" if name in names and not totals[0][name] else None)
    return table


def _plain(looks: Sequence[Sequence[Look]], same: Sequence[Any], alike: Sequence[Any]) -> dict[str, Any]:
    parts = {
        part: [
            {
                "files": list(map(str, one.files)),
                "problem": one.problem,
                "size": one.size,
                "values": one.values,
                "pixels": one.counts,
            }
            for one in side
        ]
        for part, side in zip(("training", "held_out"), looks, strict=True)
    }
    pairs = {"same": same, "alike": alike}
    return {**parts, **{name: [[str(one.files[0]) for one in pair] for pair in listed] for name, listed in pairs.items()}}
