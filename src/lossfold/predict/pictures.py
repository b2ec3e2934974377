"""What is predicted from: files and arrays of any size, read in windows, as the networks take them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from lossfold.files.read import Opened, out_of_range, range_of
from lossfold.train.errors import TrainError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """An image of which windows can be had.

    Args:
        height: rows.
        width: columns.
        top: white.
        read: gives rows and columns as an array `[h,w,3]`.
        trimap: likewise `[h,w]` of 0, 128 and 255.
        close: lets go of the files.
    """

    height: int
    width: int
    top: float
    read: Callable[[slice, slice], Array]
    trimap: Callable[[slice, slice], Array] | None = None
    close: Callable[[], None] = lambda: None

    def window(self, rows: slice, columns: slice) -> Tensor:
        """A part for the network: `[1,C,h,w]` float32 in 0..1, the trimap as its last channel.

        Raises:
            TrainError: it holds values that are not finite, below 0 or above white, as training would not read it.
        """
        layers = [_scaled(self.read(rows, columns), self.top)]
        if self.trimap is not None:
            values = torch.from_numpy(np.ascontiguousarray(self.trimap(rows, columns)))
            layers.append(torch.where(values == 128, 0.5, (values > 128).float())[None])
        return torch.cat(layers)[None]

    def in_memory(self) -> "Picture":
        """The same, decoded."""
        every = slice(0, self.height), slice(0, self.width)
        try:
            array, trimap = self.read(*every), self.trimap and self.trimap(*every)
        finally:
            self.close()
        known = None if trimap is None else lambda rows, columns: trimap[rows, columns]
        return Picture(self.height, self.width, self.top, lambda rows, columns: array[rows, columns], known)

    def reduced(self, max_side: int) -> Tensor:
        """The whole image for the network with the given longer side."""
        factor = max_side / max(self.height, self.width)
        size = [max(1, round(side * factor)) for side in (self.height, self.width)]
        whole = self.window(slice(0, self.height), slice(0, self.width))
        small = functional.interpolate(whole[:, :3], size=size, mode="bilinear", antialias=True)
        return (
            torch.cat([small, functional.interpolate(whole[:, 3:], size=size, mode="nearest-exact")], 1) if self.trimap else small
        )


def _scaled(array: Array, top: float) -> Tensor:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TrainError("the image holds NaN or infinite values; take them out, nothing can be said of them and their neighbours")
    if found := out_of_range(array, top):
        raise TrainError(f"the image {found} as in training; scale them, or train with data.data_range set to what is white")
    return torch.from_numpy(np.array(array, np.float32)).permute(2, 0, 1) / top


def picture_of(image: Any, trimap: Any = None, data_range: float | None = None) -> Picture:
    """See an image, and a trimap, in windows.

    Args:
        image: a file; an array or a tensor `[H,W]`, `[H,W,3]` (tensors also `[3,H,W]`), uint8, uint16 or floats in 0..1; or an
            image of Pillow.
        trimap: a file, or the same of 0, 128 and 255 `[H,W]`.
        data_range: white; None: 255 of uint8, 65535 of uint16, 1 of floats.

    Raises:
        FileError: the file can't be read.
        TrainError: the array is no image, or the trimap has another size.
    """
    size, top, read, close = _opened(image) if isinstance(image, str | Path) else _of_array(_as_array(image))
    top = data_range or top
    if trimap is None:
        return Picture(*size, top, read, None, close)
    known: Callable[[slice, slice], Array]
    if isinstance(trimap, str | Path):
        mask = Opened(trimap, channels=1)
        other, known = mask.shape[:2], lambda rows, columns: mask[rows, columns][..., 0]
    else:
        array = np.asarray(trimap)
        other, known = tuple(array.shape), lambda rows, columns: array[rows, columns]
    if tuple(other) != size:
        raise TrainError(f"the trimap is {other[1]} x {other[0]} pixels, its image {size[1]} x {size[0]}")

    def checked(rows: slice, columns: slice) -> Array:
        values: Array = known(rows, columns)
        strange = np.setdiff1d(values, (0, 128, 255))
        if len(strange):
            raise TrainError(f"a trimap holds 0 (background), 128 (unknown) and 255 (foreground), got {strange[:5].tolist()}")
        return values

    return Picture(*size, top, read, checked, close)


Seen = tuple[tuple[int, int], float, Callable[[slice, slice], Array], Callable[[], None]]


def _opened(path: str | Path) -> Seen:
    file = Opened(path, channels=3)
    return (file.shape[0], file.shape[1]), range_of(file.dtype), lambda rows, columns: file[rows, columns], file.close


def _as_array(image: Any) -> Array:
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = image.permute(1, 2, 0) if image.dim() == 3 and image.shape[0] in (1, 3) else image
        array: Array = image.numpy()
        return array
    if hasattr(image, "convert") and hasattr(image, "getexif"):  # Pillow's
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(image)
        if upright.mode[0] not in "IF":
            return np.asarray(upright.convert("RGB"))
        deep = np.asarray(upright)  # as RGB it would be cut to 0..255
        sixteen = deep.dtype.kind in "iu" and deep.size and 0 <= deep.min() <= deep.max() < 1 << 16  # mode I has 32 bits
        return deep.astype(np.uint16) if sixteen else deep
    return np.asarray(image)


def _of_array(array: Array) -> Seen:
    array = array[..., None] if array.ndim == 2 else array
    array = array.astype(np.float32) if array.dtype == np.float64 else array
    known = array.dtype in (np.uint8, np.uint16, np.float32)
    if array.ndim != 3 or array.shape[2] not in (1, 3) or not known or 0 in array.shape:
        raise TrainError(
            f"an image is an array [H,W] or [H,W,3] of uint8, uint16 or floats in 0..1, got {list(array.shape)} {array.dtype}"
        )
    colours = np.broadcast_to(array, (*array.shape[:2], 3))
    return (array.shape[0], array.shape[1]), range_of(array.dtype), lambda rows, columns: colours[rows, columns], lambda: None
