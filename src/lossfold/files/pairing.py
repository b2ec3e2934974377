"""Files of folders that belong together: by their name, by a pattern, in sub-folders too."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lossfold.files.errors import FileError
from lossfold.files.sources import suffixes as image_suffixes

SHOWN = 5
"""Examples that an error message lists."""

USUAL = (
    "{name}",
    *(f"{{name}}{mark}{word}" for word in ("mask", "masks", "label", "labels", "seg", "gt") for mark in "_-"),
    "mask_{name}",
)
"""Patterns that are tried where none is given."""


def find(folder: Path, suffixes: Collection[str] | None = None, recursive: bool = False) -> dict[str, Path]:
    """Find the files of a folder, sorted; hidden ones and other kinds are passed over.

    Args:
        folder: the folder.
        suffixes: in small letters, with the dot; None: those of images.
        recursive: whether sub-folders, and links to folders, are searched, too.

    Returns:
        Each file by its key: its path inside the folder, with / between the parts, without the suffix.

    Raises:
        FileError: there is no such folder, it holds no such file, or two files have the same key.
    """
    if not folder.is_dir():
        raise FileError(folder, "is no folder", "see the path")
    known = image_suffixes() if suffixes is None else set(suffixes)
    files: dict[str, Path] = {}
    for path in sorted(path for path in _walk(folder, recursive) if path.suffix.lower() in known):
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in files:
            raise FileError(
                folder, f"holds {files[key].name} and {path.name}, which have the same stem", "rename one, or take it away"
            )
        files[key] = path
    if not files:
        deeper = "" if recursive or not any(path.is_dir() for path in folder.iterdir()) else " itself, though it has sub-folders"
        raise FileError(folder, f"holds no image that can be read{deeper}", f"known are {', '.join(sorted(known))}")
    return files


def _walk(folder: Path, recursive: bool, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files of a folder but the hidden ones; a link to a folder that it is in is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield folder / entry.name
            elif recursive:
                yield from _walk(folder / entry.name, recursive, (*above, real))


@dataclass(frozen=True)
class Pairs:
    """What belongs together.

    Args:
        both: the two files of each key, sorted by key.
        lonely: files of the first folder without a partner.
        spare: files of the second folder without a partner.
    """

    both: dict[str, tuple[Path, Path]]
    lonely: list[Path]
    spare: list[Path]

    def check(self, first: str, second: str) -> None:
        """Refuse files without a partner.

        Args:
            first: what a file of the first folder is called.
            second: what one of the second is called.

        Raises:
            FileError: with the names of some of them.
        """
        for files, name in ((self.lonely, first), (self.spare, second)):
            if files:
                raise FileError(
                    files[0].parent,
                    f"holds {len(files)} {name}(s) without a partner: {some(path.name for path in files)}",
                    f"{first} and {second} share their name up to the suffix, or by a pattern such as {{name}}_{second}",
                )


def pair(
    images: Mapping[str, Path], others: Mapping[str, Path], pattern: str | None = None, image_pattern: str = "{name}"
) -> Pairs:
    """Put the files of two folders together.

    Args:
        images: files by key, as `find` gives them.
        others: files by key; the folder may be the same.
        pattern: what another file's name looks like up to the suffix, with {name} for what it shares with its image's, and * for
            anything: `{name}_mask`; others are passed over. None: the first of some usual ones that fits everything, or
            the one that fits most.
        image_pattern: the same for the images' names.

    Raises:
        FileError: a pattern has no {name}, or two files have the same name by it.
    """
    together = set(images.values()) == set(others.values())  # one folder with both
    patterns = [pattern] if pattern else USUAL[together:]
    tried = [_pair(images, others, each, image_pattern, together) for each in patterns]
    whole = [pairs for pairs in tried if pairs.both and not pairs.lonely and not pairs.spare]
    return whole[0] if whole else max(tried, key=lambda pairs: len(pairs.both))


def _pair(images: Mapping[str, Path], others: Mapping[str, Path], pattern: str, image_pattern: str, together: bool) -> Pairs:
    second = _named(others, pattern)
    partners = set(second.values()) if together else set()
    first = _named({key: path for key, path in images.items() if path not in partners}, image_pattern)
    both = {name: (first[name], second[name]) for name in sorted(first.keys() & second.keys())}
    lonely, spare = ([one[name] for name in sorted(one.keys() - both.keys())] for one in (first, second))
    return Pairs(both, lonely, spare)


def _named(files: Mapping[str, Path], pattern: str) -> dict[str, Path]:
    """The files that fit a pattern, by what stands for {name}."""
    if pattern.count("{name}") != 1:
        raise FileError(Path(pattern), "is a pattern without one {name}", "write, for instance, {name}_mask")
    wanted = re.compile(re.escape(pattern).replace(r"\{name\}", "(?P<name>.+)").replace(r"\*", ".*") + r"\Z", re.DOTALL)
    named: dict[str, Path] = {}
    for key, path in files.items():
        folder, _, stem = key.rpartition("/")
        if fit := wanted.match(stem):
            name = f"{folder}/{fit['name']}" if folder else fit["name"]
            if name in named:
                raise FileError(
                    path, f"and {named[name].name} are both {name} by the pattern {pattern}", "make the pattern narrower"
                )
            named[name] = path
    return named


def some(names: Iterable[str]) -> str:
    """The first of some names, for a message."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
