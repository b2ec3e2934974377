"""Image files of every kind as pixels that are decoded when asked for, and in windows where the format allows it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from lossfold.files.errors import FileError, check_bytes, reading

Array = npt.NDArray[Any]

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "WEBP", "AVIF", "PPM", "JPEG2000", "TGA", "PCX", "SGI", "TIFF")
"""What Pillow is asked to open; others, such as EPS, would start programs."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_START, GREY = b"\x89PNG\r\n\x1a\n", b"\0"
"""What a PNG begins with, and its colour type of grey values."""
ONE_BIT = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
INSTALL = 'install what reads it with pip install "lossfold[files]"'
ORIENTATION = 0x0112
"""EXIF's number of it, which is also TIFF's."""
SWAPPED = (5, 6, 7, 8)
"""EXIF orientations that exchange rows and columns."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What an EXIF orientation asks for."""
DESCRIBING = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks of a PNG that may hold the orientation."""


def _nothing() -> None:
    """Let go of nothing."""


@dataclass(frozen=True)
class Source:
    """An opened file, upright.

    Args:
        path: the file.
        size: height and width.
        channels: 1, or 3; transparency is left out.
        dtype: of the pixels as the file holds them.
        palette: colours uint8 `[N,3]` that the values are indices of; None: the values are colours or grey values.
        window: decodes rows and columns, `[h,w,channels]`.
        close: lets go of the file.
        has_alpha: whether transparency has been left out.
        white: the value that is white where it is not the dtype's; labels are not scaled by it, images are.
    """

    path: Path
    size: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    palette: Array | None
    window: Callable[[slice, slice], Array]
    close: Callable[[], None] = _nothing
    has_alpha: bool = False
    white: int | None = None

    def with_palette(self, palette: Array) -> "Source":
        """The same, whose values are indices of colours."""
        return replace(self, palette=palette)

    def with_window(self, window: Callable[[slice, slice], Array]) -> "Source":
        """The same, decoded by another function."""
        return replace(self, window=window)

    def with_white(self, white: int) -> "Source":
        """The same, of another white."""
        return replace(self, white=None if white == np.iinfo(self.dtype).max else white)


def suffixes() -> set[str]:
    """Suffixes of the files that `opened` reads."""
    Image.init()
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS} | {".npy"}


def opened(path: Path) -> Source:
    """Open a file by its first bytes, not by its name; nothing is decoded yet.

    Raises:
        FileError: it is no image, or broken.
    """
    start = check_bytes(path)
    with reading(path):
        if start.startswith(b"\x93NUMPY"):
            return _of_numpy(path)
        if start.startswith(TIFF_STARTS):
            from lossfold.files.tiff import of_tiff  # which builds on this file

            found = of_tiff(path)
            if found is not None:
                return found
        if start[:8] == PNG_START and start[24:25] == b"\x10" and start[25:26] in b"\x02\x04\x06":
            from lossfold.files.deep import of_deep_png

            return of_deep_png(path, start)
        if start[:2] in (b"P2", b"P3", b"P5", b"P6"):
            from lossfold.files.pnm import of_pnm

            return of_pnm(path)
        if start.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):
            from lossfold.files.deep import of_deep_jpeg2000

            if found := of_deep_jpeg2000(path):
                return found
        source = _of_pillow(path, start)
        if start[:8] == PNG_START and start[25:26] == GREY and start[24] in (2, 4):
            return _unscaled(source, (1 << start[24]) - 1)
        return source


def _unscaled(source: Source, white: int) -> Source:
    """Grey values as stored, which Pillow multiplies so that white is 255."""
    return source.with_window(lambda rows, columns: source.window(rows, columns) // (255 // white)).with_white(white)


def _of_numpy(path: Path) -> Source:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return of_array(path, array.shape, array.dtype, lambda: array)


def of_array(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    load: Callable[[], Array],
    turn: int = 1,
    close: Callable[[], None] = _nothing,
) -> Source:
    """A source of `[H,W]` or `[H,W,1..4]`; `load` gives the array, which is then turned as EXIF says.

    Raises:
        FileError: the shape is another.
    """
    if (
        len(shape) not in (2, 3)
        or (len(shape) == 3 and shape[2] not in (1, 2, 3, 4))
        or not all(isinstance(side, int) and side > 0 for side in shape)
    ):
        raise FileError(path, f"holds an array {list(shape)}", "expected [height,width], or [height,width,channels] of 1 to 4")
    channels = 3 if len(shape) == 3 and shape[2] > 2 else 1
    one_bit = dtype.kind == "b"
    plain = np.dtype(np.uint8) if one_bit else dtype.newbyteorder("=")

    def window(rows: slice, columns: slice) -> Array:
        array = load()
        if array.shape != tuple(shape):
            raise FileError(path, f"holds an array {list(array.shape)}, its header says {list(shape)}", "save it anew")
        return upright(array.reshape(*array.shape[:2], -1)[..., :channels], turn)[rows, columns].astype(plain)

    size = (shape[1], shape[0]) if turn in SWAPPED else (shape[0], shape[1])
    return Source(path, size, channels, plain, ONE_BIT if one_bit else None, window, close, len(shape) == 3 and shape[2] in (2, 4))


def upright(array: Array, orientation: int) -> Array:
    """Turn and mirror an array `[H,W,...]` as an EXIF orientation says (1 to 8), as a view."""
    if orientation in SWAPPED:
        array = array.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return array[rows, columns]


def png_orientation(path: Path) -> int:
    """The orientation of a PNG, whose chunk may follow the pixels, which are not decoded."""
    with path.open("rb") as file:
        file.seek(8)
        stream = PngImagePlugin.PngStream(file)
        while len(head := file.read(8)) == 8:
            end = (start := file.tell()) + (length := int.from_bytes(head[:4], "big")) + 4
            if head[4:] in DESCRIBING:
                stream.call(head[4:], start, length)
            file.seek(end)
        return orientation_of(stream.im_info)


def orientation_of(described: Mapping[Any, Any]) -> int:
    """The orientation, 1 to 8, by what Pillow calls an image's info: EXIF, EXIF as a text, or XMP; 1 if none says it."""
    probe = Image.new("1", (1, 1))
    probe.info = dict(described)
    return known_turn(probe.getexif().get(ORIENTATION))


def known_turn(turn: object) -> int:
    """The orientation, 1 if it is none."""
    return next((known for known in TURNS if known == turn), 1)


def _image(path: Path, start: bytes) -> tuple[Image.Image, IO[bytes]]:
    """Open an image as `Image.open` does, without its limit on the pixels: `read.py` has one of its own."""
    Image.init()
    file = path.open("rb")
    with ExitStack() as failing:
        failing.enter_context(file)
        for name in FORMATS:
            make, accept = Image.OPEN.get(name, (None, None))
            if make is not None and (accept is None or accept(start[:16]) is True):
                try:
                    image = make(file, str(path))
                    failing.pop_all()
                    return image, file
                except (SyntaxError, IndexError, TypeError, KeyError, EOFError):
                    file.seek(0)  # another format may take it
    readable = "PNG, JPEG, TIFF, BMP, GIF, WebP, AVIF, PNM, JPEG 2000, TGA or .npy"
    hint = "convert the HEIC photograph to JPEG or PNG" if start[4:12] in (b"ftypheic", b"ftypmif1") else f"expected {readable}"
    raise FileError(path, "is no image that can be read, or its first bytes are damaged", hint)


def _of_pillow(path: Path, start: bytes) -> Source:
    image, file = _image(path, start)
    try:
        return _of_opened(path, image, file)
    except BaseException:
        file.close()
        raise


def _of_opened(path: Path, image: Image.Image, file: IO[bytes]) -> Source:
    mode, (width, height) = image.mode, image.size
    turn = png_orientation(path) if image.format == "PNG" else known_turn(image.getexif().get(ORIENTATION))
    by_pillow = image.format == "TIFF"  # which it turns by itself, but says the upright size by its tag alone
    if turn in SWAPPED and not (by_pillow and image.tag_v2.get(ORIENTATION) in SWAPPED):  # type: ignore[attr-defined]
        width, height = height, width

    @cache
    def load() -> Image.Image:
        with reading(path):
            image.load()
            return image if by_pillow or turn == 1 else image.transpose(TURNS[turn])

    def window(rows: slice, columns: slice) -> Array:
        part = load()
        if (rows, columns) != (slice(0, height), slice(0, width)):
            part = part.crop((columns.start, rows.start, columns.stop, rows.stop))
        if mode in ("LA", "La", "PA"):
            part = part.getchannel(0)
        elif mode in ("CMYK", "YCbCr", "HSV", "LAB", "RGBa"):
            part = part.convert("RGB")
        array = np.array(part)
        return array.reshape(*array.shape[:2], -1)[..., :channels].astype(dtype)

    palette = ONE_BIT if mode == "1" else None
    if mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        palette = np.concatenate([colours, np.zeros((256 - len(colours), 3), np.uint8)])
    channels = 1 if mode in ("1", "L", "LA", "La", "P", "PA", "F", "I") or mode.startswith("I;16") else 3
    # mode I: 16 bits of PNM and of older Pillow's PNG
    dtype = np.dtype(np.uint16 if mode.startswith("I") else np.float32 if mode == "F" else np.uint8)

    def close() -> None:
        image.close()
        file.close()

    return Source(path, (height, width), channels, dtype, palette, window, close, mode in ("LA", "La", "PA", "RGBA", "RGBa"))


def needed(name: str, path: Path) -> Any:
    """Import a package that only some files need.

    Raises:
        FileError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise FileError(path, f"needs the package {name}", INSTALL) from error
