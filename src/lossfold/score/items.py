"""What belongs together: each image's prediction, truth and what else is scored with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lossfold.files import FileError, Pairs, find, pair
from lossfold.files.pairing import USUAL
from lossfold.score.settings import Settings


@dataclass(frozen=True)
class Item:
    """The files of one image.

    Args:
        name: the prediction's path inside its folder, without the suffix.
        predictions, truths: the files: one each, or of the task multilabel one for each class.
        trimap: that of an alpha.
        image: what was predicted from, to be shown.
    """

    name: str
    predictions: tuple[Path, ...]
    truths: tuple[Path, ...]
    trimap: Path | None = None
    image: Path | None = None

    @property
    def stamps(self) -> list[list[str | int]]:
        """Path, size and time of each file that is scored: another one is scored again."""
        files = (*self.predictions, *self.truths, *((self.trimap,) if self.trimap else ()))
        return [[str(file.absolute()), (state := file.stat()).st_size, state.st_mtime_ns] for file in files]


@dataclass(frozen=True)
class Problem:
    """A file or an image that can't be scored.

    Args:
        name: the image, or the file.
        reason: what is wrong with it.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Folders:
    """Where the files are.

    Args:
        predictions, truth: the two folders, or two files; the folder of `lossfold predict` stands for the predictions in it.
        trimaps: of alphas; without it the whole image counts.
        images: what was predicted from, for the page.
        pattern: what the truth's names look like up to the suffix, `{name}_mask`; None: the first of some usual ones that fits.
    """

    predictions: Path
    truth: Path
    trimaps: Path | None = None
    images: Path | None = None
    pattern: str | None = None


def find_items(folders: Folders, settings: Settings) -> tuple[list[Item], list[Problem]]:
    """Put the files together, sorted by name, and list those without a partner.

    Raises:
        FileError: a folder is missing or holds no image, or nothing fits together.
    """
    if (folders.predictions / "predict.json").is_file() and (folders.predictions / "predictions").is_dir():
        folders = replace(folders, predictions=folders.predictions / "predictions")  # what `lossfold predict` was told to write to
    parts = settings.classes if settings.task == "multilabel" else ("",)
    found = [_pairs(folders.predictions / part, folders.truth / part, folders.pattern) for part in parts]
    problems = [
        Problem(str(file), f"has no {other} in {folder}")
        for pairs, part in zip(found, parts, strict=True)
        for files, other, folder in (
            (pairs.lonely, "truth", folders.truth / part),
            (pairs.spare, "prediction", folders.predictions / part),
        )
        for file in files
    ]
    trimaps = _others(folders.trimaps, "trimap")
    images = _others(folders.images, "image")
    items = []
    for name in sorted({name for pairs in found for name in pairs.both}):
        if any(name not in pairs.both for pairs in found):
            continue  # listed as without a partner where it is missing
        trimap = trimaps.get(name) if trimaps is not None else None
        if trimaps is not None and trimap is None:
            problems.append(Problem(name, f"has no trimap in {folders.trimaps}"))
            continue
        predictions, truths = zip(*(pairs.both[name] for pairs in found), strict=True)
        items.append(Item(name, predictions, truths, trimap, (images or {}).get(name)))
    same = os.path.realpath(folders.predictions) == os.path.realpath(folders.truth)
    if same and (not items or os.path.realpath(items[0].predictions[0]) == os.path.realpath(items[0].truths[0])):
        raise FileError(folders.predictions, "is given as the predictions and as the truth, both are the same", "see the paths")
    if not items:
        example = "; ".join(problem.name + " " + problem.reason for problem in problems[:2])
        raise FileError(
            folders.predictions,
            f"and {folders.truth} have no image in common ({example})",
            "predictions and truth share their name up to the suffix, or say how: --truth-pattern {name}_mask",
        )
    return items, problems


def _pairs(predictions: Path, truth: Path, pattern: str | None) -> Pairs:
    if predictions.is_file() and truth.is_file():
        return Pairs({predictions.stem: (predictions, truth)}, [], [])
    first, second = find(predictions, recursive=True), find(truth, recursive=True)
    pairs = pair(first, second, pattern)
    if not pairs.both and pattern is None:
        pairs = max((pair(first, second, usual) for usual in USUAL), key=lambda tried: len(tried.both))
    return pairs


def _others(folder: Path | None, word: str) -> Mapping[str, Path] | None:
    """Files by the name that they share with the predictions: their own, or followed by what they are."""
    if folder is None:
        return None
    if folder.is_file():
        raise FileError(folder, "is no folder", f"name the folder of the {word}s")
    files = find(folder, recursive=True)
    short = {name.removesuffix(mark + word): path for name, path in files.items() for mark in "_-"}
    return {**short, **files}
