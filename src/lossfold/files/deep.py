"""PNGs and JPEG 2000 of more bits than Pillow keeps, by imagecodecs."""

import struct
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from lossfold.files.errors import FileError, reading
from lossfold.files.sources import Array, Source, needed, of_array, png_orientation

CODESTREAM = b"\xff\x4f\xff\x51"
"""What JPEG 2000 begins with, inside of its container or without one."""


def of_deep_png(path: Path, start: bytes) -> Source:
    """A PNG of 16 bits a channel and several channels, which Pillow would cut to 8."""
    codecs = needed("imagecodecs", path)
    width, height = (int.from_bytes(start[at : at + 4], "big") for at in (16, 20))
    channels = {2: 3, 4: 2, 6: 4}[start[25]]

    @cache
    def load() -> Array:
        with reading(path):
            return np.asarray(codecs.png_decode(path.read_bytes()))

    return of_array(path, (height, width, channels), np.dtype(np.uint16), load, png_orientation(path))


def of_deep_jpeg2000(path: Path) -> Source | None:
    """A JPEG 2000 of other than 8 bits, which Pillow would shift or cut; None for those that it reads."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        at = content.find(CODESTREAM)
        if at < 0:
            return None
        right, bottom, left, top = struct.unpack(">4I", content[at + 8 : at + 24])
        count = int.from_bytes(content[at + 40 : at + 42], "big")
        depths = {byte + 1 for byte in content[at + 42 : at + 42 + 3 * count : 3]}  # above 128 of signed numbers
    if depths == {8} or (depths == {16} and count == 1):
        return None
    depth = max(depths, default=0)
    if len(depths) != 1 or depth > 16:
        raise FileError(path, f"holds {count} components of unusual depths", "save it with 8 or 16 bits, without a sign, in each")
    codecs = needed("imagecodecs", path)
    if not codecs.JPEG2K.available:
        raise FileError(path, f"has {depth} bits, and this imagecodecs can't decode JPEG 2000", "save it as PNG or TIFF")

    @cache
    def load() -> Array:
        with reading(path):
            return np.asarray(codecs.jpeg2k_decode(path.read_bytes()))

    size = (bottom - top, right - left)
    dtype = np.dtype(np.uint8 if depth < 8 else np.uint16)
    return of_array(path, size if count == 1 else (*size, count), dtype, load).with_white((1 << depth) - 1)
