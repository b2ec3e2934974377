"""Files of several folders that belong together by their stem, and their division into training and held-out ones."""

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from lossfold.train.errors import TrainError

SHOWN = 5
"""Examples that an error message lists."""

LAYOUTS = (("{kind}", "{split}"), ("{split}", "{kind}"))

T = TypeVar("T")


def match(names: Sequence[str], folders: Sequence[Path], layout: str) -> list[tuple[Path, ...]]:
    """Match the files of the folders by stem, sorted.

    Args:
        names: what a file of each folder is called in a message.
        folders: the folders; what the first holds, every other must hold, and no more.
        layout: what is expected, for the message about a missing folder.

    Raises:
        TrainError: a folder is missing or empty, a file has no partner, or two files share a stem.
    """
    first, *others = found = [_by_stem(folder, layout) for folder in folders]
    for index, other in enumerate(others, start=1):
        for ours, theirs, name, there in ((first, other, names[0], folders[index]), (other, first, names[index], folders[0])):
            lonely = sorted(ours.keys() - theirs.keys())
            if lonely:
                raise TrainError(
                    f"data: {len(lonely)} {name}(s) without a partner in {there}: "
                    f"{_some(ours[stem].name for stem in lonely)}. {names[0].capitalize()} and {names[index]} must share their "
                    "name up to the suffix"
                )
    return [tuple(files[stem] for files in found) for stem in sorted(first)]


def _by_stem(folder: Path, layout: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise TrainError(f"data: there is no folder {folder}. {layout}")
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}  # others are only written
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in known or not path.is_file():
            continue
        if path.stem in files:
            raise TrainError(f"data: {files[path.stem].name} and {path.name} in {folder} have the same stem")
        files[path.stem] = path
    if not files:
        raise TrainError(f"data: {folder} holds no image that Pillow can read")
    return files


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def has_folder(root: Path, kind: str) -> bool:
    """Whether a folder of this kind is there, divided or not."""
    return any((root / folder).is_dir() for folder in (kind, f"train/{kind}", f"val/{kind}"))


def split(
    root: Path, kinds: Sequence[str], find: Callable[[Sequence[Path]], list[T]], val_fraction: float, seed: int
) -> tuple[list[T], list[T]]:
    """Find the training and the held-out items under `root`: `root/kind/split`, `root/split/kind`, or a random share.

    Args:
        root: the folder.
        kinds: names of the folders that belong together.
        find: the items of one such set of folders, in an order of their own.
        val_fraction: share that is held out where no folders say so.
        seed: decides the random share.

    Raises:
        TrainError: as `find` does, or nothing would be left on one side.
    """
    for first, second in LAYOUTS:
        sides = [
            [root / first.format(kind=kind, split=side) / second.format(kind=kind, split=side) for kind in kinds]
            for side in ("train", "val")
        ]
        if any(folder.is_dir() for folders in sides for folder in folders):
            one, other = map(find, sides)
            return one, other
    items = find([root / kind for kind in kinds])
    if not 0 < val_fraction < 1:
        raise TrainError(f"data: val_fraction must lie between 0 and 1, got {val_fraction}")
    held_out = round(len(items) * val_fraction)
    if not 0 < held_out < len(items):
        raise TrainError(f"data: {len(items)} image(s) in {root / kinds[0]} can't be split by {val_fraction}")
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    training, rest = ([items[index] for index in sorted(part)] for part in (order[held_out:], order[:held_out]))
    return training, rest
