"""The files of scores: CSV for tables, JSON for programs, a page for people."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lossfold.score.items import Folders, Item
from lossfold.score.rows import IMAGES, REPORT, SCORES, SUMMARY
from lossfold.score.scores import Scores
from lossfold.version import VERSION

ODD = "backslashreplace"
"""What becomes of the bytes of names that are no UTF-8."""


def write(scores: Scores, folder: Path, folders: Folders, items: Sequence[Item], worst: int) -> None:
    """Write `summary.csv`, `images.csv`, `scores.json` and `report.html`, each at once or not at all."""
    from lossfold.score.page import page

    lines = [asdict(line) for line in scores.summary]
    _table(folder / SUMMARY, lines)
    _table(folder / IMAGES, scores.images)
    _replace(folder / SCORES, json.dumps(_plain(content(scores, folders)), indent=1, ensure_ascii=False) + "\n")
    _replace(folder / REPORT, page(scores, folders, items, worst))


def content(scores: Scores, folders: Folders) -> dict[str, Any]:
    """Return everything as plain values: what was scored and how, the table, the images, what failed."""
    return {
        "lossfold": VERSION,
        "predictions": str(folders.predictions),
        "truth": str(folders.truth),
        "trimaps": str(folders.trimaps) if folders.trimaps else None,
        "settings": asdict(scores.settings),
        "empty": scores.empty,
        "bootstrap": {"replicates": scores.replicates, "confidence": scores.confidence, "seed": scores.seed},
        "classes": scores.classes,
        "summary": [asdict(line) for line in scores.summary],
        "images": scores.images,
        "problems": [asdict(problem) for problem in scores.problems],
        "notes": scores.notes,
    }


def _table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of the same keys; floats with all their digits, nothing where there is no value."""
    rows = list(rows)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8", errors=ODD, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["name"])
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8", ODD)
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    """The value without what JSON lacks: an infinite PSNR is the text "inf"."""
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
