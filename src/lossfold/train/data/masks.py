"""Masks as files: palette or grey images whose pixel values are class ids, or colours that stand for classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from lossfold.files import read_mask, some
from lossfold.train.data.depth import told
from lossfold.train.errors import TrainError

SHOWN = 5

Values = list[tuple[Path, set[int]]]
"""Mask files and the values that occur in each."""


def colour_table(colours: Sequence[str], num_classes: int, ignore_index: int) -> dict[tuple[int, int, int], int]:
    """The label of each colour, given in the order of the classes; one more is that of ignored pixels.

    Args:
        colours: such as "#804080", "rgb(128,64,128)" or "red".
        num_classes: number of classes.
        ignore_index: label of ignored pixels.

    Raises:
        TrainError: a colour is none, is there twice, or there are too few or too many.
    """
    if len(colours) not in (num_classes, num_classes + 1):
        raise TrainError(
            f"data.mask_colors lists {len(colours)} colours for {num_classes} classes; give one for each, and at most one more, "
            "of the pixels that are ignored"
        )
    table: dict[tuple[int, int, int], int] = {}
    for index, name in enumerate(colours):
        try:
            red, green, blue = ImageColor.getrgb(name)[:3]
        except ValueError as error:
            raise TrainError(f"data.mask_colors: {name!r} is no colour; write #804080, rgb(128,64,128) or a name") from error
        if (red, green, blue) in table:
            raise TrainError(f"data.mask_colors lists {name!r} twice")
        table[red, green, blue] = index if index < num_classes else ignore_index
    return table


@dataclass(frozen=True)
class MaskReader:
    """Read label arrays from mask files.

    Args:
        num_classes: labels run from 0 to this number, exclusive.
        ignore_index: value of pixels that count nowhere; the same in the file and in the labels.
        values: the value in the file that stands for each class; None when values are the labels.
        colors: the label of each colour, where masks hold colours.
    """

    num_classes: int
    ignore_index: int
    values: tuple[int, ...] | None = None
    colors: Mapping[tuple[int, int, int], int] | None = None

    def __post_init__(self) -> None:
        if self.values is not None and len(self.values) != self.num_classes:
            raise TrainError(f"data: mask_values lists {len(self.values)} values for {self.num_classes} classes")
        if self._silences():
            listed = f"the values {list(self.values)}" if self.values is not None else "the colours"
            meant = f", or, where {self.ignore_index} in the masks means ignored pixels, list it as the value of that class itself"
            raise TrainError(
                f"data.ignore_index: {self.ignore_index} is a class's label, by {listed} that the masks hold, which would "
                f"count nowhere; expected beyond 0..{self.num_classes - 1}: write data.ignore_index: {max(255, self.num_classes)}"
                f"{meant if self.values is not None and self.num_classes > 2 else ''}"
            )

    def _silences(self) -> bool:
        """Whether a class has the label of ignored pixels, though the masks hold another value for it.

        A list that keeps this value for this label says that the class itself is to be ignored; of two classes one would be left.
        """
        if (self.values is None and self.colors is None) or not 0 <= self.ignore_index < self.num_classes:
            return False
        return self.values is None or self.num_classes == 2 or self.values[self.ignore_index] != self.ignore_index

    @property
    def known(self) -> list[int]:
        """Every value that a mask may hold."""
        return [*(self.values or range(self.num_classes)), self.ignore_index]

    def read(self, path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
        """Return the labels `[H,W]`: uint8 where the classes and the ignore label fit, else int32.

        Raises:
            TrainError: the file can't be read, holds colours that stand for nothing, or a value that is no class.
        """
        return self.labels(self.raw(path), path)

    def raw(self, path: Path) -> npt.NDArray[np.integer]:
        """Return what the file holds, `[H,W]`.

        Raises:
            TrainError: the file can't be read, or holds colours that stand for nothing.
        """
        with told():
            return read_mask(path, self.colors)

    def labels(self, raw: npt.NDArray[np.integer], path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
        """Return the labels of what a file holds.

        Raises:
            TrainError: a value is no class.
        """
        wrong = self._wrong(occurring(raw))
        if wrong:
            raise TrainError(self._complaint([(path, wrong)]))
        labels = raw.astype(np.int32)
        for label, value in enumerate(self.values or ()):
            labels[raw == value] = label
        small = 0 <= self.ignore_index <= 255 and self.num_classes <= 256
        return labels.astype(np.uint8) if small else labels

    def check(self, found: Values) -> None:
        """Report every wrong mask at once.

        Args:
            found: the values that occur in each file.

        Raises:
            TrainError: masks hold values that are no class, or nothing but ignored pixels and one class.
        """
        wrong = [(path, bad) for path, values in found if (bad := self._wrong(values))]
        everything = set().union(*(values for _, values in found))
        if self.ignore_index in everything and len(everything) == 2 and self.values is None:
            other = next(iter(everything - {self.ignore_index}))
            raise TrainError(
                f"data: the masks hold only {other} and {self.ignore_index}, and {self.ignore_index} is ignored: nothing "
                f"would be learned. If {self.ignore_index} is the object, set data.foreground: {self.ignore_index}"
            )
        if wrong:
            raise TrainError(self._complaint(wrong))

    def _wrong(self, found: Iterable[int]) -> list[int]:
        return sorted(set(found) - set(self.known))

    def _complaint(self, wrong: list[tuple[Path, list[int]]]) -> str:
        listed = "; ".join(f"{path.name} has {some(map(str, values))}" for path, values in wrong[:SHOWN])
        expected = self.known[:-1]
        span = f"0..{self.num_classes - 1}" if self.values is None else str(expected)
        lossy = any(path.suffix.lower() in (".jpg", ".jpeg") for path, _ in wrong)
        return (
            f"data: {len(wrong)} mask(s) in {wrong[0][0].parent} hold values that are no class: {listed}. "
            f"Expected {span}, or {self.ignore_index} for ignored pixels; see data.classes, data.mask_values, data.foreground and "
            f"data.ignore_index{'. JPEG blurs values: save masks as PNG' if lossy else ''}"
        )


def occurring(values: npt.NDArray[np.integer]) -> set[int]:
    """The values of an array of integers."""
    if values.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist())
    return set(np.unique(values).tolist())
