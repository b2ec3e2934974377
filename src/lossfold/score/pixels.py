"""The files of an item, row by row: what is larger than a limit is never held as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossfold.files import FileError, Opened, range_of
from lossfold.files.read import Kind

Array = npt.NDArray[Any]

LARGE = 1 << 26
"""Pixels from which on a file is opened anew for each band, and copied to the disk if its format can't be read in parts."""
IN_PARTS = (".npy", ".tif", ".tiff")
COPIED = 1 << 24
"""Pixels that are copied at once."""


class MismatchError(ValueError):
    """Files of one item that do not belong together, or hold what their task does not know."""


class Pixels:
    """An image or a mask whose bands of rows are asked for from top to bottom.

    Args:
        path: the file.
        kind: what its pixels are.
        colors: labels of colours, for masks.

    Raises:
        FileError: the file can't be read.
    """

    def __init__(self, path: Path, kind: Kind = "image", colors: dict[tuple[int, int, int], int] | None = None) -> None:
        self.path, self.kind, self.colors = path, kind, colors or None
        self.copy: tempfile.TemporaryDirectory[str] | None = None
        self.opened = self._open()
        self.shape, self.dtype = self.opened.shape, self.opened.dtype
        self.has_alpha, self.has_palette = self.opened.has_alpha, self.opened.has_palette
        self.large = self.shape[0] * self.shape[1] > LARGE

    def _open(self) -> Opened:
        return Opened(self.path, kind=self.kind, colors=self.colors)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[0], self.shape[1]

    @property
    def white(self) -> float:
        """The value that is white."""
        return range_of(self.dtype)

    def rows(self, top: int, bottom: int) -> Array:
        """Return the rows from `top` to `bottom`, cut at the image's border: `[h,W]` of masks, `[h,W,C]` of images."""
        top, bottom = max(0, top), min(self.shape[0], bottom)
        if not self.large:
            return self.opened[top:bottom, 0 : self.shape[1]]
        if self.copy is None and self.path.suffix.lower() not in IN_PARTS:
            self._copy()
        if self.copy is not None:
            return self._copied(top, bottom)
        self.opened.close()  # what was mapped or cached of the band before goes
        self.opened = self._open()
        return self.opened[top:bottom, 0 : self.shape[1]]

    def _copy(self) -> None:
        """Decode once, and keep the pixels on the disk instead of in memory."""
        self.copy = tempfile.TemporaryDirectory(prefix="lossfold-score-")
        step = max(1, COPIED // self.shape[1])
        with (Path(self.copy.name) / "pixels").open("wb") as file:
            for top in range(0, self.shape[0], step):
                np.ascontiguousarray(self.opened[top : top + step, 0 : self.shape[1]]).tofile(file)
        self.opened.close()
        del self.opened

    def _copied(self, top: int, bottom: int) -> Array:
        assert self.copy is not None
        row = int(np.prod(self.shape[1:]))
        values = np.fromfile(
            Path(self.copy.name) / "pixels", self.dtype, (bottom - top) * row, offset=top * row * self.dtype.itemsize
        )
        return values.reshape(bottom - top, *self.shape[1:])

    def close(self) -> None:
        """Let go of the file and of its copy."""
        if self.copy is not None:
            self.copy.cleanup()
        else:
            self.opened.close()


@contextmanager
def together(first: Pixels, *others: Pixels) -> Iterator[None]:
    """Within it files of one size are open, and afterwards closed.

    Raises:
        MismatchError: their sizes differ.
    """
    try:
        for other in others:
            if other.size != first.size:
                raise MismatchError(
                    f"{other.path} is {other.size[1]} x {other.size[0]} pixels, {first.path} {first.size[1]} x {first.size[0]}"
                )
        yield
    finally:
        for pixels in (first, *others):
            pixels.close()


def alphas(pixels: Pixels, values: Array) -> npt.NDArray[np.float64]:
    """Return alphas `[h,W]` in 0..1 of rows of an image.

    Raises:
        FileError: they have colours, or floats outside of 0..1.
    """
    if pixels.shape[2] != 1 or pixels.has_alpha:
        raise FileError(pixels.path, "holds colours or several channels", "an alpha has one grey value per pixel")
    found = values[..., 0].astype(np.float64)
    check_floats(pixels, found, "an alpha")
    return found / pixels.white


def check_floats(pixels: Pixels, values: Array, what: str) -> None:
    """Refuse floats outside of 0..1, and NaN.

    Raises:
        FileError: there are some.
    """
    if pixels.dtype.kind == "f" and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise FileError(pixels.path, f"holds floats from {values.min():g} to {values.max():g}", f"{what} of floats lies in 0..1")
