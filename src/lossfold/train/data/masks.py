"""Masks as files: palette or grey images whose pixel values are class ids."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lossfold.train.errors import TrainError

INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Pillow's modes with one integer per pixel."""

SHOWN = 5


@dataclass(frozen=True)
class MaskReader:
    """Read label arrays from mask files.

    Args:
        num_classes: labels run from 0 to this number, exclusive.
        ignore_index: value of pixels that count nowhere; the same in the file and in the labels.
        values: the value in the file that stands for each class; None when values are the labels.
    """

    num_classes: int
    ignore_index: int
    values: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.values is not None and len(self.values) != self.num_classes:
            raise TrainError(f"data: mask_values lists {len(self.values)} values for {self.num_classes} classes")

    @property
    def known(self) -> list[int]:
        """Every value that a mask may hold."""
        return [*(self.values or range(self.num_classes)), self.ignore_index]

    def read(self, path: Path) -> npt.NDArray[np.uint8] | npt.NDArray[np.int32]:
        """Return the labels `[H,W]`: uint8 where the classes and the ignore label fit, else int32.

        Raises:
            TrainError: the file holds colours, or a value that is no class.
        """
        raw = self._raw(path)
        wrong = self._wrong(np.unique(raw))
        if wrong:
            raise TrainError(self._complaint([(path, wrong)]))
        labels = raw.astype(np.int32)
        for label, value in enumerate(self.values or ()):
            labels[raw == value] = label
        if self.values is not None:
            labels[(raw == self.ignore_index) & (self.ignore_index not in self.values)] = self.ignore_index
        small = 0 <= self.ignore_index <= 255 and self.num_classes <= 256
        return labels.astype(np.uint8) if small else labels

    def check(self, paths: Iterable[Path]) -> None:
        """Read all masks and report every wrong one at once.

        Raises:
            TrainError: masks hold values that are no class, or nothing but ignored pixels and one class.
        """
        paths = list(paths)
        with ThreadPoolExecutor() as pool:
            values = list(pool.map(self._values, paths))
        wrong = [(path, bad) for path, found in zip(paths, values, strict=True) if (bad := self._wrong(found))]
        if wrong:
            raise TrainError(self._complaint(wrong))
        everything = set(np.concatenate(values).tolist())
        if self.ignore_index in everything and len(everything) == 2 and self.values is None:
            other = next(iter(everything - {self.ignore_index}))
            raise TrainError(
                f"data: the masks hold only {other} and {self.ignore_index}, and {self.ignore_index} is ignored: nothing "
                f"would be learned. If {self.ignore_index} is a class, set data.mask_values: [{other}, {self.ignore_index}] "
                f"and another data.ignore_index, such as -100; with model.task binary or multilabel "
                f"data.foreground: {self.ignore_index}"
            )

    def _values(self, path: Path) -> npt.NDArray[np.int64]:
        return np.unique(self._raw(path)).astype(np.int64)

    def _wrong(self, found: npt.NDArray[np.generic]) -> list[int]:
        return sorted(set(found.tolist()) - set(self.known))

    def _raw(self, path: Path) -> npt.NDArray[np.generic]:
        with Image.open(path) as image:
            if image.mode not in INDEX_MODES:
                raise TrainError(
                    f"data: the mask {path} holds colours (mode {image.mode}), expected one class id per pixel: "
                    "a palette or grey image in a lossless format such as PNG"
                )
            return np.array(image)

    def _complaint(self, wrong: list[tuple[Path, list[int]]]) -> str:
        listed = "; ".join(
            f"{path.name} has {', '.join(map(str, values[:SHOWN]))}{', ...' if len(values) > SHOWN else ''}"
            for path, values in wrong[:SHOWN]
        )
        expected = self.known[:-1]
        span = f"0..{self.num_classes - 1}" if self.values is None else str(expected)
        return (
            f"data: {len(wrong)} mask(s) in {wrong[0][0].parent} hold values that are no class: {listed}. "
            f"Expected {span}, or {self.ignore_index} for ignored pixels; see data.classes, data.mask_values and "
            "data.ignore_index"
        )
