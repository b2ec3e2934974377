"""TIFFs: of any number of bits, whole or in windows."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lossfold.files.errors import FileError, reading
from lossfold.files.sources import ORIENTATION, Array, Source, known_turn, needed, of_array, orientation_of

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
JPEG = 7
XMP = 700

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it says of a damaged file is no line on stderr


def of_tiff(path: Path) -> Source | None:
    """A TIFF of grey values, colours or a palette; None for other inks of 8 bits, which Pillow converts.

    Raises:
        FileError: it has several pages, or inks of more than 8 bits.
    """
    tifffile = needed("tifffile", path)
    file = tifffile.TiffFile(path)
    try:
        source = _of_file(tifffile, path, file)
    except BaseException:
        file.close()
        raise
    if source is None:
        file.close()
    return source


def _of_file(tifffile: Any, path: Path, file: Any) -> Source | None:
    page = file.pages[0]
    kind, planes = int(page.photometric), page.axes == "SYX"
    if len(file.pages) > 1 and file.pages[1].shape[:2] == page.shape[:2] and not file.pages[1].is_reduced:
        raise FileError(path, f"holds {len(file.pages)} pages", "save each as a file of its own")
    if kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE) and (kind, int(page.compression)) != (YCBCR, JPEG):
        if page.dtype != np.uint8:
            raise FileError(path, f"holds {page.photometric.name} of {page.dtype}", "save it as RGB or as grey values")
        return None
    if kind == WHITE_IS_ZERO and page.dtype.kind not in "bu":
        raise FileError(path, f"holds {page.dtype} where white is zero", "save it so that black is zero")
    bits = page.bitspersample  # a tuple where channels differ, whose values tifffile scales to 8 bits
    white = (1 << bits) - 1 if page.dtype.kind == "u" and isinstance(bits, int) else None

    def plain(array: Array) -> Array:
        array = np.moveaxis(array, 0, 2) if planes else array
        if kind != WHITE_IS_ZERO:
            return array
        return ~array if white is None else array.dtype.type(white) - array

    @cache
    def load() -> Array:
        with reading(path):
            # of the page, as the series that is mapped otherwise may have axes of length 1 before the page's
            return plain(tifffile.memmap(path, page=0, mode="r") if page.is_memmappable else page.asarray())

    tag = page.tags.valueof(ORIENTATION)
    turn = orientation_of({"xmp": page.tags.valueof(XMP)}) if tag is None else known_turn(tag)
    source = of_array(path, (*page.shape[1:], page.shape[0]) if planes else page.shape, page.dtype, load, turn, file.close)
    if kind == PALETTE:
        source = source.with_palette((page.colormap.T >> 8).astype(np.uint8))
    elif white is not None:
        source = source.with_white(white)
    if turn != 1 or planes or page.is_memmappable or len(page.dataoffsets) == 1:
        return source

    def window(rows: slice, columns: slice) -> Array:
        with reading(path):
            array = plain(_segments(page, rows, columns))[..., : source.channels]
        return array.astype(source.dtype, copy=False)

    return source.with_window(window)


def _segments(page: Any, rows: slice, columns: slice) -> Array:
    """Decode the tiles or strips that a window touches, and put the window together, `[h,w,samples]`."""
    out = np.zeros((rows.stop - rows.start, columns.stop - columns.start, page.samplesperpixel), page.dtype)
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    across = -(-page.imagewidth // width)
    tables = {} if page.jpegtables is None else {"jpegtables": page.jpegtables}
    for index in (
        y * across + x
        for y in range(rows.start // height, -(-rows.stop // height))
        for x in range(columns.start // width, -(-columns.stop // width))
        if page.databytecounts[y * across + x]  # an empty one was left out: all zero
    ):
        page.parent.filehandle.seek(page.dataoffsets[index])
        segment = page.decode(page.parent.filehandle.read(page.databytecounts[index]), index, **tables)[0][0]
        top, left = index // across * height, index % across * width
        y, x = (
            slice(max(asked.start, at), min(asked.stop, at + side))
            for asked, at, side in ((rows, top, segment.shape[0]), (columns, left, segment.shape[1]))
        )
        out[y.start - rows.start : y.stop - rows.start, x.start - columns.start : x.stop - columns.start] = segment[
            y.start - top : y.stop - top, x.start - left : x.stop - left
        ]
    return out
