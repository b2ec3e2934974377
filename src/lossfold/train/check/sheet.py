"""A picture of some samples: the image above, what belongs to it below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from lossfold.train.data.depth import eight_bits
from lossfold.train.data.folders import FolderSamples
from lossfold.train.pictures import class_colours
from lossfold.train.segmentation.pictures import channel_map, label_map

SIDE, GAP, COLUMNS = 224, 6, 8
"""Longest side of a small picture and the gap between two, in pixels; how many stand side by side."""

Array = npt.NDArray[np.uint8]


def write(path: Path, samples: Sequence[tuple[Any, Any]], classes: int) -> None:
    """Draw samples into a file.

    Args:
        path: the file.
        samples: the part of the data that each is of, and the sample.
        classes: number of classes, for segmentation.
    """
    columns = [[_fitted(picture) for picture in _pictures(part, sample, classes)] for part, sample in samples]
    rows = max(map(len, columns), default=0)
    sheet = Image.new("RGB", (len(columns) * (SIDE + GAP) + GAP, rows * (SIDE + GAP) + GAP), "white")
    for x, column in enumerate(columns):
        for y, picture in enumerate(column):
            sheet.paste(picture, (GAP + x * (SIDE + GAP), GAP + y * (SIDE + GAP)))
    sheet.save(path)


def _fitted(picture: Array) -> Image.Image:
    image = Image.fromarray(picture)
    scale = SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)


def _pictures(part: Any, sample: Any, classes: int) -> list[Array]:
    if isinstance(sample, Tensor):
        return [_rows(sample)]
    first = _rows(sample[0])
    if not isinstance(part, FolderSamples):
        return [first, *map(_rows, sample[1:])]
    labels = sample[1].numpy()
    ignored = labels == part.reader.ignore_index
    if part.stacked:
        return [first, channel_map(first, labels == 1, ignored.all(0), class_colours(classes + 1)[1:])]
    return [first, label_map(labels.astype(np.int64), ignored, max(classes, 2))]


def _rows(image: Tensor) -> Array:
    picture: Array = eight_bits(image).expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    return picture
