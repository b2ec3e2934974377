"""The row of each image, and the journal that keeps rows beside the output, so that a run that was killed goes on."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lossfold.files.lock import lock
from lossfold.score.items import Item, Problem

SECONDS = 1.0
"""Between two times that what was written is forced to the disk: so much work a power cut costs at most, a killed process none."""

WRITTEN = SCORES, SUMMARY, IMAGES, REPORT = "scores.json", "summary.csv", "images.csv", "report.html"
"""What stands beside the journal when all is done."""
ELSEWHERE = "name another folder with -o (out=), or replace them with --overwrite (overwrite=True)"


@dataclass(frozen=True)
class Row:
    """The sums of an image.

    Args:
        name: the image.
        stamps: path, size and time of its files when they were read.
        sums: what its metrics are ratios of, and what adds.
    """

    name: str
    stamps: list[list[str | int]]
    sums: dict[str, Any]


class Journal:
    """Rows as lines of JSON behind a line that says what they are of.

    Args:
        path: the file; its folder is made.
        of: what decides the rows: the settings, and where the files are.
        resume: whether rows that are there are kept.
        overwrite: whether what the folder holds of other settings or files may be replaced.

    Raises:
        FileExistsError: another process writes it, or the folder holds something else.
    """

    def __init__(self, path: Path, of: dict[str, Any], resume: bool = True, overwrite: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        written = [name for name in WRITTEN if (path.parent / name).exists()]
        if written and not overwrite and not path.exists():
            raise FileExistsError(f"{path.parent} holds {written[0]}, which is not of lossfold score; {ELSEWHERE}")
        self.file = path.open("a+b")
        try:
            lock(self.file.fileno(), path)
            self._begin(of, resume, overwrite, bool(written))
        except BaseException:
            self.file.close()
            raise
        self.forced = time.monotonic()

    def _begin(self, of: dict[str, Any], resume: bool, overwrite: bool, written: bool) -> None:
        self.file.seek(0)
        first, *lines = self.file.read().split(b"\n")
        self.rows: dict[str, Row] = {}
        same = _read(first) == of
        if (written or any(lines)) and not same and not overwrite:
            raise FileExistsError(f"{self.path.parent} holds scores of {other(_read(first), of)}; {ELSEWHERE}")
        if resume and same:
            for line in lines:  # a torn one, the last or what a power cut left, is not counted
                given = _read(line)
                if isinstance(given, dict) and given.keys() == {"name", "stamps", "sums"}:
                    self.rows[given["name"]] = Row(**given)
            if lines and lines[-1]:
                self._write(b"\n")  # ends the torn line
        else:
            self.file.truncate(0)
            self._write(json.dumps(of).encode() + b"\n")

    def kept(self, item: Item) -> Row | None:
        """Return the row of an image whose files are as they were."""
        row = self.rows.get(item.name)
        try:
            return row if row and row.stamps == item.stamps else None
        except OSError:
            return None

    def add(self, row: Row) -> None:
        """Write a row."""
        self._write(json.dumps(asdict(row)).encode() + b"\n")
        if time.monotonic() - self.forced > SECONDS:
            os.fsync(self.file.fileno())
            self.forced = time.monotonic()

    def _write(self, line: bytes) -> None:
        self.file.write(line)
        self.file.flush()

    def close(self) -> None:
        """Force what was written to the disk, and let go of the file."""
        os.fsync(self.file.fileno())
        self.file.close()


def other(held: Any, wanted: dict[str, Any]) -> str:
    """Return what a journal's first line says that is not wanted."""
    if not isinstance(held, dict) or held.keys() != wanted.keys():
        return "another version, or torn ones"
    for name in ("predictions", "truth"):
        if held[name] != wanted[name]:
            return f"other files, {name} {held[name]}"
    return "other options"


def _read(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def collected(results: list[Row | Problem]) -> tuple[list[Row], list[Problem]]:
    """Return rows and problems, each sorted by name."""
    rows = sorted((result for result in results if isinstance(result, Row)), key=lambda row: row.name)
    problems = sorted((result for result in results if isinstance(result, Problem)), key=lambda problem: problem.name)
    return rows, problems
