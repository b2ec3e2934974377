"""PNM of grey values and colours, plain and binary, of any maxval: Pillow would scale labels, and cut colours to 8 bits."""

import re
from functools import cache
from pathlib import Path

import numpy as np

from lossfold.files.errors import FileError, reading
from lossfold.files.sources import Array, Source, of_array

HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)" + rb"(?:\s|#[^\r\n]*[\r\n])")
LONGEST = 1 << 16
"""Bytes of a header, with its comments."""


def of_pnm(path: Path) -> Source:
    """P2, P3, P5 and P6: the stored numbers, of which maxval is white.

    Raises:
        FileError: the header is damaged, or the file shorter than it says.
    """
    with path.open("rb") as file:
        header = HEADER.match(file.read(LONGEST))
    if header is None or not 0 < (white := int(header[4])) < 65536:
        raise FileError(path, "has no header of a PNM", "it is damaged: copy it again, or take it away")
    kind, width, height = (int(header[group]) for group in (1, 2, 3))
    shape = (height, width, 3) if kind in (3, 6) else (height, width)
    dtype = np.dtype(np.uint8 if white < 256 else ">u2")

    @cache
    def load() -> Array:
        with reading(path):
            if kind > 3:
                values: Array = np.memmap(path, dtype, "r", header.end(), shape)
            else:
                words = re.sub(rb"#[^\r\n]*", b"", path.read_bytes()[header.end() :]).split()
                values = np.array(words[: int(np.prod(shape))], np.int64).reshape(shape)
            if (kind < 4 or white not in (255, 65535)) and not 0 <= values.min() <= values.max() <= white:
                raise FileError(path, f"holds values above its maxval {white}", "it is damaged: copy it again, or take it away")
        return values

    return of_array(path, shape, dtype, load).with_white(white)
