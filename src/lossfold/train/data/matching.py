"""Files of several folders that belong together, their division into training and held-out ones, and whether all can be read."""

import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from lossfold.files import FileError, find, pair, some
from lossfold.train.data.depth import told
from lossfold.train.errors import TrainError

LISTED = 20
"""Samples that the error about unusable ones lists."""

HELD_OUT = ("val", "valid", "validation")
"""What the folder of held-out files may be called, beside train."""

LAYOUTS = (("{kind}", "{split}"), ("{split}", "{kind}"))

T = TypeVar("T")
U = TypeVar("U")


def match(
    names: Sequence[str], folders: Sequence[Path], layout: str, recursive: bool = False, pattern: str | None = None
) -> list[tuple[Path, ...]]:
    """Match the files of the folders by name, sorted.

    Args:
        names: what a file of each folder is called in a message.
        folders: the folders; what the first holds, every other must hold, and no more.
        layout: what is expected, for the message about a missing folder.
        recursive: whether sub-folders are searched.
        pattern: what the others' names look like; see `lossfold.files.pair`.

    Raises:
        TrainError: a folder is missing or empty, a file has no partner, or two files share a name.
    """
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise TrainError(f"data: there is no folder {missing[0]}. {layout}")
    with told():
        first, *others = [find(folder, recursive=recursive) for folder in folders]
        pairs = [pair(first, other, pattern) for other in others]
    for index, found in enumerate(pairs, start=1):
        for lonely, name, there in ((found.lonely, names[0], folders[index]), (found.spare, names[index], folders[0])):
            if lonely:
                raise TrainError(
                    f"data: {len(lonely)} {name}(s) without a partner in {there}: {some(path.name for path in lonely)}. "
                    f"{names[0].capitalize()} and {names[index]} must share their name up to the suffix, or say how they differ "
                    "with data.pattern, such as {name}_" + names[index]
                )
    if not pairs:
        return [(path,) for path in first.values()]
    return [(pairs[0].both[key][0], *(found.both[key][1] for found in pairs)) for key in pairs[0].both]


def has_folder(root: Path, kind: str) -> bool:
    """Whether a folder of this kind is there, divided or not."""
    return any((root / folder).is_dir() for folder in (kind, f"train/{kind}", *(f"{name}/{kind}" for name in HELD_OUT)))


def split(
    root: Path, kinds: Sequence[str], find: Callable[[Sequence[Path]], list[T]], val_fraction: float, seed: int
) -> tuple[list[T], list[T]]:
    """Find the training and the held-out items under `root`: `root/kind/split`, `root/split/kind`, or a random share.

    Args:
        root: the folder.
        kinds: the folders that belong together, inside `root` or with a path of their own.
        find: the items of one such set of folders, in an order of their own.
        val_fraction: share that is held out where no folders say so.
        seed: decides the random share.

    Raises:
        TrainError: as `find` does, or nothing would be left on one side.
    """
    for layout in LAYOUTS:
        if layout[0] == "{split}" and any(Path(kind).is_absolute() for kind in kinds):
            continue  # the path would drop the split
        training, *others = [
            [root / layout[0].format(kind=kind, split=side) / layout[1].format(kind=kind, split=side) for kind in kinds]
            for side in ("train", *HELD_OUT)
        ]
        held_out = next((folders for folders in others if any(folder.is_dir() for folder in folders)), others[0])
        if any(folder.is_dir() for folder in (*training, *held_out)):
            return find(training), find(held_out)
    items = find([root / kind for kind in kinds])
    if not 0 < val_fraction < 1:
        raise TrainError(f"data: val_fraction must lie between 0 and 1, got {val_fraction}")
    count = round(len(items) * val_fraction)
    if not 0 < count < len(items):
        raise TrainError(f"data: {len(items)} image(s) in {root / kinds[0]} can't be split by {val_fraction}")
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    one, other = ([items[index] for index in sorted(part)] for part in (order[count:], order[:count]))
    return one, other


def check_all(read: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Read every item once, and list all that can't be used in one error.

    Args:
        read: raises TrainError or FileError for what can't be used.
        items: what is read.

    Raises:
        TrainError: with a line for each, up to `LISTED`.
    """
    problems: dict[int, str] = {}

    def tried(numbered: tuple[int, T]) -> list[U]:
        number, item = numbered
        try:
            return [read(item)]
        except (TrainError, FileError) as error:
            problems[number] = str(error).removeprefix("data: ")
            return []

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = [one for ones in pool.map(tried, enumerate(items)) for one in ones]
    lines = [problems[number] for number in sorted(problems)]
    if len(lines) == 1:
        raise TrainError(f"data: {lines[0]}")
    if lines:
        more = [f"and {len(lines) - LISTED} more"] * (len(lines) > LISTED)
        raise TrainError("\n  ".join([f"data: {len(lines)} of {len(items)} can't be used:", *lines[:LISTED], *more]))
    return found


class OwnFiles:
    """What data modules of one's own files have in common; it stands before a task's base, and `samples` has no files yet."""

    samples: Any
    train_set: Any
    val_set: Any
    check_files: bool
    without_chance: ClassVar[dict[str, Any]] = {"crop_size": None}
    """Options of samples that leave them whole, and the same each time."""

    def divided(self) -> tuple[list[Any], list[Any]]:
        """The training and the held-out files."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Read every file once."""
        if self.check_files:
            training, held_out = self.divided()
            check_all(self.samples.check, training + held_out)

    def setup(self, stage: str) -> None:
        """Find the files and divide them."""
        training, self.val_set = self.whole()
        self.train_set = replace(training, **{name: getattr(self.samples, name) for name in self.without_chance})

    def whole(self) -> tuple[Any, Any]:
        """The training and the held-out samples, all of them whole, without chance."""
        training, held_out = (replace(self.samples, files=files, **self.without_chance) for files in self.divided())
        return training, held_out
