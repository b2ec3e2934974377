"""Files of every kind, written without the code that is tested."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def pixels(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> Array:
    """Random values over the dtype's whole range; floats in 0..1."""
    generator = np.random.default_rng(seed)
    if dtype == "float32":
        return generator.random(shape, np.float32)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def deep_png(path: Path, array: Array, exif: int | None = None) -> Path:
    """A PNG of 16 bits a channel, by the standard: grey, grey and alpha, RGB or RGBA."""
    height, width = array.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array[:, :, None].reshape(height, width, -1).shape[2]]
    rows = b"".join(b"\0" + array[y].astype(">u2").tobytes() for y in range(height))
    turn = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HHI", exif or 1, 0, 0)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    if exif:
        parts.insert(1, (b"eXIf", turn))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks(*parts))
    return path


def chunks(*parts: tuple[bytes, bytes]) -> bytes:
    """Chunks of a PNG of their kinds and data."""
    return b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts)


def as_stored(array: Array, orientation: int) -> Array:
    """What a camera stores of an upright picture with an EXIF orientation: the standard's 0th row and 0th column.

    1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6 right top, 7 right bottom, 8 left bottom.
    """
    rotations = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (1, False), 7: (1, True), 8: (3, False)}
    turns, mirrored = rotations[orientation]
    stored = np.rot90(array, turns)
    return stored[:, ::-1] if mirrored else stored
