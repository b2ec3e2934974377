"""`lossfold bench --check`: no ratio may fall below its recorded floor."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from .results import of_kind

Row = dict[str, Any]


def load(path: Path | None = None) -> Row:
    """The floors of a file, or the packaged ones.

    A file holds `provider`, the lossfold engine that is judged, and for the runs "full" and "quick" the
    floors by case and ratio: `{"provider": "lossfold-cpp", "quick": {"ce": {"vs_eager": 3.0}}}`.
    """
    text = path.read_text() if path else files(__package__).joinpath("floors.json").read_text()
    floors: Row = json.loads(text)
    return floors


def find_falls(rows: list[Row], floors: Row, run: str) -> dict[str, list[str]]:
    """By case, sentences about every ratio of the plain allocator that is missing or below its floor.

    Args:
        rows: a finished run.
        floors: from `load`.
        run: "full" or "quick".
    """
    provider = floors["provider"]
    timed = {row["case"] for row in of_kind(rows, "time")}
    falls: dict[str, list[str]] = {}
    for case, wanted in floors.get(run, {}).items():
        if case not in timed:
            continue
        found = of_kind(rows, "ratio", case=case, provider=provider, allocator="plain")
        for name, floor in wanted.items():
            values = [row[name] for row in found if name in row]
            if not values:
                falls.setdefault(case, []).append(f"{case}: no {name} of {provider}; the floor is {floor:g}")
            elif min(values) < floor:
                sentence = f"{case}: {name} of {provider} is {min(values):.2f}, below its floor {floor:g}"
                falls.setdefault(case, []).append(sentence)
    return falls
