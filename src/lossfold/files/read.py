"""Images and masks as arrays, with nothing lost and nothing guessed."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lossfold.files.errors import FileError, reading
from lossfold.files.sources import Array, Source, opened

RANGES: dict[str, float] = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""Each dtype of images, and the value that is white."""

WHOLE, LIMIT = 1 << 28, 1 << 31
"""Pixels of an image that is read at once, and of one that is read in windows: what claims more is taken for a bomb."""

SHOWN = 5
"""Colours that an error message lists."""

LUMA = (19595, 38470, 7471)
"""Shares of red, green and blue in grey (ITU-R BT.601), in 65536ths."""

Kind = Literal["image", "mask", "numbers"]
"""What the pixels of a file are."""

Colors = Mapping[tuple[int, int, int], int]
"""The label that each colour of a mask stands for."""


def range_of(dtype: npt.DTypeLike) -> float:
    """The value that is white in images of a dtype: 255, 65535, or 1.0 for float32."""
    return RANGES[np.dtype(dtype).name]


def out_of_range(values: Array, white: float) -> str:
    """What is wrong with an image that has values below 0 or above white; "" if none is."""
    low, high = (values.min(), values.max()) if values.dtype != np.uint8 or white < 255 else (0, 0)
    return "" if 0 <= low <= high <= white else f"holds values from {low:g} to {high:g}, expected 0 to {white:g}"


def size_of(path: str | Path) -> tuple[int, int]:
    """Height and width of an image, upright, without decoding it.

    Raises:
        FileError: the file is no image.
    """
    source = opened(Path(path))
    source.close()
    return source.size


def read_image(path: str | Path, channels: Literal[1, 3] | None = None, max_pixels: int = WHOLE) -> Array:
    """Read an image in its own range: 8 bits as uint8, 16 as uint16, floats as float32.

    It is turned as EXIF or XMP says. Palettes and inks become colours, one-bit images 0 and 255; transparency is left out. What
    counts to another number than 255 or 65535 (maxval of PNM, the bits of JPEG 2000) is scaled to the whole range of uint8, or of
    uint16 above 8 bits. Floats are as they are in the file: NaN, infinities and what lies outside 0..1, too.

    Args:
        path: PNG, JPEG, TIFF, BMP, GIF (the first picture), WebP, AVIF, PNM, JPEG 2000, TGA or .npy.
        channels: 3: colours, grey values three times. 1: grey values, of colours by ITU-R BT.601. None: as the file.
        max_pixels: what has more is refused before it is decoded.

    Returns:
        `[H,W,C]`, uint8, uint16 or float32.

    Raises:
        FileError: the file can't be read, or holds other numbers.
    """
    with Opened(path, channels=channels, max_pixels=max_pixels) as image:
        return image[:, :]


def read_mask(path: str | Path, colors: Colors | None = None, max_pixels: int = WHOLE) -> Array:
    """Read a mask of integers: palette indices, grey values of any number of bits as stored, 0 and 1 of one-bit images.

    Args:
        path: a file as for `read_image`.
        colors: the label that each colour stands for; None: values are the labels, and colours are refused unless they are grey.
        max_pixels: what has more is refused before it is decoded.

    Returns:
        `[H,W]`, of the file's integers, or int32 with `colors`.

    Raises:
        FileError: the file can't be read, or holds colours that are not listed, or no integers.
    """
    with Opened(path, kind="mask", colors=colors, max_pixels=max_pixels) as mask:
        return mask[:, :]


def read_numbers(path: str | Path, max_pixels: int = WHOLE) -> Array:
    """Read what is measured, as depths: the stored numbers of grey values of any number of bits, or floats.

    Returns:
        `[H,W]`, uint8, uint16 or float32.

    Raises:
        FileError: the file can't be read, or holds other numbers.
    """
    with Opened(path, kind="numbers", channels=1, max_pixels=max_pixels) as numbers:
        return numbers[:, :][..., 0]


def read_window(path: str | Path, top: int, left: int, height: int, width: int, channels: Literal[1, 3] | None = None) -> Array:
    """Read a part of an image, `[height,width,C]`; see `Opened`."""
    with Opened(path, channels=channels) as image:
        return image[top : top + height, left : left + width]


class Opened:
    """An image or a mask of any size, of which `opened[top:bottom, left:right]` reads a part.

    Of .npy, of TIFFs that are tiled, in strips or not compressed, and upright, only what is needed is read. Everything else is
    decoded as a whole, once, when the first part is asked for, and held in the file's own depth (colours of 8 bits in 4 bytes).

    Args:
        path: the file.
        kind: what its pixels are: see `read_image` and `read_mask`; numbers are images that are not scaled to the whole range.
        channels: see `read_image`.
        colors: see `read_mask`.
        max_pixels: what has more is refused.

    Raises:
        FileError: as `read_image` and `read_mask` do.

    Example:
        >>> with Opened("slide.tif") as slide:  # doctest: +SKIP
        ...     slide.shape, slide[0:512, 1024:1536].shape
        ((30000, 30000, 3), (512, 512, 3))
    """

    def __init__(
        self,
        path: str | Path,
        kind: Kind = "image",
        channels: Literal[1, 3] | None = None,
        colors: Colors | None = None,
        max_pixels: int = LIMIT,
    ) -> None:
        self.path = Path(path)
        self._source: Source = opened(self.path)
        try:
            with reading(self.path):  # a damaged header may claim anything
                self._check(max_pixels, kind, channels, colors)
        except BaseException:
            self.close()
            raise

    def _check(self, max_pixels: int, kind: Kind, channels: Literal[1, 3] | None, colors: Colors | None) -> None:
        height, width = self._source.size
        if height * width > max_pixels:
            raise FileError(
                self.path,
                f"claims {width} x {height} pixels, above the limit of {max_pixels:,} (a decompression bomb?)",
                "cut it into tiles if it is what it claims, or take it away",
            )
        self.has_alpha = self._source.has_alpha
        self.has_palette = self._source.palette is not None  # also of one-bit images: black and white
        self._mask, self._numbers, self._colors = kind == "mask", kind == "numbers", colors
        self.shape: tuple[int, ...]
        if self._mask:
            self._check_mask()
            self.dtype, self.shape = np.dtype(np.int32) if colors else self._source.dtype, (height, width)
        else:
            palette = self._source.palette
            coloured = self._source.channels == 3 or (palette is not None and bool((palette != palette[:, :1]).any()))
            self.dtype, self.shape = self._image_dtype(), (height, width, channels or (3 if coloured else 1))

    def __getitem__(self, part: tuple[slice, slice]) -> Array:
        rows, columns = (slice(*each.indices(side)) for each, side in zip(part, self.shape, strict=False))
        if rows.step != 1 or columns.step != 1:
            raise IndexError("a part is two slices without steps")
        rows, columns = (slice(each.start, max(each.start, each.stop)) for each in (rows, columns))
        with reading(self.path):
            values = self._source.window(slice(rows.start, rows.stop), slice(columns.start, columns.stop))
            return self._labels(values) if self._mask else self._image(values)

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def _image_dtype(self) -> np.dtype[Any]:
        dtype = self._source.dtype
        if dtype.name in RANGES:
            return dtype
        if dtype.kind == "f":
            return np.dtype(np.float32)
        raise FileError(self.path, f"holds {dtype} values", "save the image as uint8, uint16, or floats from 0 to 1")

    def _image(self, values: Array) -> Array:
        if self._source.palette is not None:
            values = self._source.palette[values[..., 0]]
        values, wanted = self._scaled(values).astype(self.dtype, copy=False), self.shape[2]
        if values.shape[2] < wanted:
            return np.repeat(values, wanted, 2)
        if values.shape[2] > wanted:
            return to_grey(values)
        return values

    def _scaled(self, values: Array) -> Array:
        """Stored numbers over the whole range of their dtype, where another one than its largest is white."""
        if (white := self._source.white) is None or self._numbers:
            return values
        full = np.iinfo(self._source.dtype).max
        scaled: Array = ((values.astype(np.uint32) * full + white // 2) // white).astype(self._source.dtype)
        return scaled

    def _check_mask(self) -> None:
        source = self._source
        if source.dtype.kind not in "iu":
            raise FileError(self.path, f"holds {source.dtype} values", "a mask holds integers: save the labels as uint8 or uint16")
        if self._colors and source.palette is None and source.dtype != np.uint8:
            raise FileError(self.path, f"holds {source.dtype} values", "colours of masks have 8 bits")

    def _labels(self, values: Array) -> Array:
        palette = self._source.palette
        if not self._colors:
            if values.shape[2] == 3 and (values != values[..., :1]).any():
                raise FileError(
                    self.path,
                    f"holds colours, not one label a pixel: {_commonest(_codes(values))}",
                    "say which colour is which class (data.mask_colors), or save it as a palette or grey image",
                )
            return values[..., 0]
        values = self._scaled(values) if palette is None else palette[values[..., 0]]
        codes = _codes(values)
        known = sorted((red * 65536 + green * 256 + blue, label) for (red, green, blue), label in self._colors.items())
        table, labels = (np.array(column, np.int32) for column in zip(*known, strict=True))
        place = np.searchsorted(table, codes).clip(max=len(table) - 1)
        strange = table[place] != codes
        if strange.any():
            raise FileError(
                self.path,
                f"holds colours that stand for no class: {_commonest(codes[strange])}",
                "list them in data.mask_colors; JPEG blurs colours, masks want PNG",
            )
        found_labels: Array = labels[place]
        return found_labels


def _codes(values: Array) -> npt.NDArray[np.int32]:
    """Colours `[H,W,3]` as integers 0xRRGGBB; grey values `[H,W,1]` as those of their colours."""
    codes = np.zeros(values.shape[:2], np.int32)
    for channel in range(3):
        codes = codes * 256 + values[..., min(channel, values.shape[2] - 1)]
    return codes


def _commonest(codes: npt.NDArray[np.int32]) -> str:
    found, counts = np.unique(codes, return_counts=True)
    most = [f"#{found[index]:06x} ({counts[index]:,} pixels)" for index in np.argsort(-counts)[:SHOWN]]
    return ", ".join(most) + f", and {len(found) - SHOWN} more" * (len(found) > SHOWN)


def to_grey(values: Array) -> Array:
    """Grey values `[H,W,1]` of colours `[H,W,3]`, in their dtype (ITU-R BT.601)."""
    if values.dtype.kind == "f":
        return (values @ (np.array(LUMA, np.float32) / 65536))[..., None].astype(values.dtype)
    red, green, blue = (values[..., channel].astype(np.uint32) * share for channel, share in enumerate(LUMA))
    return ((red + green + blue + 0x8000) >> 16).astype(values.dtype)[..., None]
