"""Results as files: written beside their place and renamed when they are whole; large ones part by part."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lossfold.predict.pictures import Array
from lossfold.train.pictures import rgb

LARGE = 1 << 26
"""Pixels beyond which an image is read in windows, and a result is written part by part, as a TIFF that is not compressed."""


class Results:
    """The files of one image's result, a file for each of its parts.

    Args:
        paths: where they go, without their suffixes.
        height: rows of the result.
        width: its columns.
        dtype: of a pixel; int32 is written as uint16.
        pixel: shape of a pixel: () or (3,).
        colours: the palette of class ids.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        height: int,
        width: int,
        dtype: np.dtype[Any],
        pixel: tuple[int, ...],
        colours: Sequence[str] = (),
    ) -> None:
        shape, dtype = (height, width, *pixel), np.dtype(np.uint16) if dtype == np.int32 else dtype
        self.colours = [rgb(colour) for colour in colours] if dtype == np.uint8 else []
        self.large = height * width > LARGE
        suffix = ".tif" if self.large or (dtype == np.uint16 and len(shape) == 3) else ".png"
        self.paths = [path.with_name(path.name + suffix) for path in paths]
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.arrays: list[Any] = (
            [self._mapped(path, shape, dtype) for path in self.paths] if self.large else [np.empty(shape, dtype) for _ in paths]
        )

    def _mapped(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> "Mapped":
        import tifffile

        palette: dict[str, Any] = {"photometric": "rgb" if len(shape) == 3 else "minisblack"}
        if self.colours:
            table = np.zeros((256, 3), np.uint16)
            table[: len(self.colours)] = np.array(self.colours, np.uint16) * 257
            palette = {"photometric": "palette", "colormap": table.T}
        return Mapped(tifffile.memmap(part_of(path), shape=shape, dtype=dtype, **palette))

    def put(self, top: int, left: int, parts: Array) -> None:
        """Take up what is known: `[parts,h,w]` or `[parts,h,w,3]`."""
        for array, part in zip(self.arrays, parts, strict=True):
            array[top : top + part.shape[0], left : left + part.shape[1]] = part

    def keep(self) -> None:
        """Put the files in their places."""
        for path, array in zip(self.paths, self.arrays, strict=True):
            if isinstance(array, np.ndarray):
                self._write(path, array)
        for path in self.paths:
            os.replace(part_of(path), path)

    def leave(self) -> None:
        """Take away what is not whole."""
        for path in self.paths:
            part_of(path).unlink(missing_ok=True)

    def _write(self, path: Path, array: Array) -> None:
        if path.suffix == ".tif":
            import tifffile

            tifffile.imwrite(part_of(path), array, photometric="rgb", compression="zlib")
            return
        image = Image.fromarray(array)
        if self.colours:
            image.putpalette([value for colour in self.colours for value in colour])
        image.save(part_of(path), "PNG")


class Mapped:
    """An array in a file of which parts are written: it is in memory only while they are.

    Args:
        made: the file's array, which has just been created.
    """

    def __init__(self, made: Any) -> None:
        self._made: tuple[Any, ...] = made.filename, made.dtype, "r+", made.offset, made.shape

    def __setitem__(self, part: Any, values: Array) -> None:
        memmap: Any = np.memmap
        memmap(*self._made)[part] = values


class Numbers:
    """A file `.npy` of values `[K,H,W]` float32, written part by part."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.paths = [path]
        self._file = Mapped(np.lib.format.open_memmap(part_of(path), "w+", np.float32, shape))

    def put(self, top: int, left: int, values: Array) -> None:
        """Take up values `[K,h,w]`."""
        self._file[:, top : top + values.shape[1], left : left + values.shape[2]] = values

    def keep(self) -> None:
        """Put the file in its place."""
        os.replace(part_of(self.paths[0]), self.paths[0])

    def leave(self) -> None:
        """Take away what is not whole."""
        part_of(self.paths[0]).unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where a file is written until it is whole: a short name of this process."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-{os.getpid()}.part")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; what of a name is no UTF-8 is escaped."""
    part_of(path).write_text(text, "utf-8", "backslashreplace")
    os.replace(part_of(path), path)
