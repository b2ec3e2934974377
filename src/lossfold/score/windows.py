"""Parts of an image with what lies around them: every sum over parts is that over the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lossfold.score.pixels import Array, Pixels


class Window(NamedTuple):
    """A part of all of an item's files, with a halo where the image goes on.

    Args:
        arrays: the part of each file, with the halo.
        part: rows and columns of the arrays that are the part itself.
        top, left: where in the image the arrays begin.
    """

    arrays: tuple[Array, ...]
    part: tuple[slice, slice]
    top: int
    left: int


def windows(files: tuple[Pixels, ...], side: int, halo: int = 0, border: int = 0) -> Iterator[Window]:
    """Cut files of one size into parts, a band of rows after the other.

    Args:
        files: the files.
        side: rows and columns of a part.
        halo: rows and columns around it that are handed over, too.
        border: rows and columns at the image's edges that belong to no part.
    """
    height, width = files[0].size
    for top in range(border, height - border, side):
        bottom = min(top + side, height - border)
        above = max(0, top - halo)
        bands = [file.rows(above, bottom + halo) for file in files]
        for left in range(border, width - border, side):
            right = min(left + side, width - border)
            beside = max(0, left - halo)
            # Copies, as a view would keep its band while the next is read.
            arrays = tuple(np.ascontiguousarray(band[:, beside : right + halo]) for band in bands)
            yield Window(arrays, (slice(top - above, bottom - above), slice(left - beside, right - beside)), above, beside)
            del arrays
        del bands
