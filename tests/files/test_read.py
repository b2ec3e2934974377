"""Images and masks as files of every kind against the arrays that they were written from."""

import errno
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lossfold.files import FileError, Opened, read_alpha, read_image, read_mask, read_numbers, read_trimap, read_window, size_of
from lossfold.files.lock import lock
from lossfold.files.sources import of_array
from tests.files.writing import as_stored, chunks, deep_png, pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "deep.png", "deep.tif"])
def test_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    """What EXIF turns is turned, whole, in windows, and in the size."""
    right = pixels((5, 7, 3), "uint16" if kind.startswith("deep") else "uint8")
    if kind == "jpg":
        right = np.kron(right // 8 * 8, np.ones((16, 16, 1), np.uint8))
    stored, path, exif = np.ascontiguousarray(as_stored(right, orientation)), tmp_path / f"a.{kind}", Image.Exif()
    exif[0x0112] = orientation
    if kind == "deep.png":
        deep_png(path, stored, orientation)
    elif kind == "deep.tif":
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    else:
        Image.fromarray(stored).save(path, exif=exif, **({"quality": 95, "subsampling": 0} if kind == "jpg" else {}))
    found = read_image(path)
    assert found.dtype == right.dtype and found.shape == right.shape
    assert size_of(path) == right.shape[:2]
    assert np.abs(found.astype(int) - right).mean() < (6 if kind == "jpg" else 1e-9)  # JPEG rounds
    np.testing.assert_array_equal(read_window(path, 1, 2, 3, 4), found[1:4, 2:6])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["png", "tif", "npy"])
def test_sixteen_bits_are_kept(tmp_path: Path, kind: str, channels: int) -> None:
    """Grey values and colours with and without transparency keep all their bits; transparency is left out."""
    array, path = pixels((6, 5, channels), "uint16"), tmp_path / f"a.{kind}"
    flat = array[..., 0] if channels == 1 else array
    if kind == "png":
        deep_png(path, flat)
    elif kind == "npy":
        np.save(path, flat)
    else:
        extra = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
        tifffile.imwrite(path, flat, photometric="rgb" if channels > 2 else "minisblack", planarconfig="contig", **extra)
    if kind == "png" and channels == 2:
        assert read_image(path).shape == (6, 5, 1)
    right = array[..., : 3 if channels > 2 else 1]
    np.testing.assert_array_equal(read_image(path), right)
    grey = right if channels < 3 else (right @ [0.299, 0.587, 0.114])[..., None]
    assert np.abs(read_image(path, 1).astype(float) - grey).max() <= 1
    np.testing.assert_array_equal(read_image(path, 3), right if channels > 2 else np.repeat(right, 3, 2))


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 8, "compression": "lzw"},
        {"rowsperstrip": 8},
        {"compression": "zstd"},
        {"planarconfig": "separate"},
        {"byteorder": ">"},
        {},
    ],
)
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_windows_of_tiffs(tmp_path: Path, options: dict[str, object], depth: str) -> None:
    """A window is the part of the whole, however a TIFF is laid out; reading past its end is cut."""
    array, path = pixels((50, 70, 3), depth), tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(array, 2, 0) if "planarconfig" in options else array, photometric="rgb", **options)
    with Opened(path) as file:
        assert file.shape == array.shape and file.dtype == array.dtype
        np.testing.assert_array_equal(file[11:33, 13:44], array[11:33, 13:44])
        np.testing.assert_array_equal(file[40:90, 60:], array[40:, 60:])
        assert file[:, :].dtype.isnative
    np.testing.assert_array_equal(read_image(path), array)


def test_other_modes(tmp_path: Path) -> None:
    """One-bit, palette, inks, transparency, floats, white-is-zero and fax are what they show."""
    bits, indices = pixels((6, 8)) > 127, pixels((6, 8)) % 3
    palette = np.array([[0, 0, 0], [200, 30, 10], [5, 250, 120]], np.uint8)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    Image.fromarray(bits).save(tmp_path / "fax.tif", compression="group4")
    np.save(tmp_path / "bits.npy", bits)
    for name in ("bits.png", "fax.tif", "bits.npy"):
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 0], bits * 255)
        np.testing.assert_array_equal(read_mask(tmp_path / name), bits)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    for name in ("p.png", "p.gif", "p.tif"):
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), palette[indices])
        if name != "p.gif":  # whose writer may put the palette in another order
            np.testing.assert_array_equal(read_mask(tmp_path / name), indices)
        colors = {tuple(map(int, colour)): 7 - index for index, colour in enumerate(palette)}
        np.testing.assert_array_equal(read_mask(tmp_path / name, colors), 7 - indices.astype(int))
    colours, alpha = pixels((6, 8, 3)), pixels((6, 8, 1), seed=1)
    Image.fromarray(np.concatenate([colours, alpha], 2)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), colours)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "cmyk.tif"), colours)
    tifffile.imwrite(tmp_path / "white.tif", 65535 - pixels((6, 8), "uint16"), photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif")[..., 0], pixels((6, 8), "uint16"))
    floats = pixels((6, 8), "float32")
    tifffile.imwrite(tmp_path / "f.tif", floats)
    np.save(tmp_path / "f.npy", floats.astype(np.float64))
    for name in ("f.tif", "f.npy"):
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 0], floats)
    labels = pixels((6, 8), "uint16")
    tifffile.imwrite(tmp_path / "l.tif", labels)
    deep_png(tmp_path / "l.png", labels)
    for name in ("l.tif", "l.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
    Image.fromarray(np.repeat(indices[..., None], 3, 2)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), indices)


@pytest.mark.parametrize("white", [3, 100, 255, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("plain", [False, True])
def test_pnm_of_any_maxval(tmp_path: Path, white: int, channels: int, plain: bool) -> None:
    """Labels are the stored numbers; images are scaled to all of 8 or 16 bits, colours as well."""
    full = 255 if white < 256 else 65535
    stored = pixels((5, 7, channels), "uint16").astype(int) % (white + 1)
    body = " ".join(map(str, stored.ravel())).encode() if plain else stored.astype("u1" if white < 256 else ">u2").tobytes()
    path = tmp_path / "a.pnm"
    kind = (2 if plain else 5) + (channels == 3)
    path.write_bytes(b"P%d # made\n7 5\n# of 9 9 9\n%d\n" % (kind, white) + body)
    found = read_image(path)
    assert found.dtype == (np.uint8 if white < 256 else np.uint16)
    np.testing.assert_array_equal(found, np.floor(stored * full / white + 0.5))
    np.testing.assert_array_equal(read_window(path, 1, 2, 3, 4), found[1:4, 2:6])
    if channels == 1:
        np.testing.assert_array_equal(read_mask(path), stored[..., 0])
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(FileError):
        read_image(path)


@pytest.mark.parametrize("shape", [(1, 9, 7), (1, 9, 7, 3), (1, 3, 9, 7)])
def test_a_tiff_of_one_page_with_more_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """What is mapped is the page, not the array it was written from."""
    array, path = pixels(shape, "uint16"), tmp_path / "a.tif"
    planes = {"planarconfig": "separate"} if shape[1] == 3 else {}
    tifffile.imwrite(path, array, photometric="minisblack" if len(shape) == 3 else "rgb", **planes)
    right = np.moveaxis(array[0], 0, 2) if planes else array[0].reshape(9, 7, -1)
    np.testing.assert_array_equal(read_image(path), right)
    np.testing.assert_array_equal(read_window(path, 1, 2, 3, 4), right[1:4, 2:6])


def test_an_array_of_another_shape_than_its_header_says_is_refused(tmp_path: Path) -> None:
    source = of_array(tmp_path / "a", (4, 5), np.dtype(np.uint8), lambda: np.zeros((1, 4, 5), np.uint8))
    with pytest.raises(FileError, match=r"holds an array \[1, 4, 5\], its header says \[4, 5\]"):
        source.window(slice(0, 4), slice(0, 5))


@pytest.mark.parametrize("bits", [2, 4])
def test_pngs_of_few_bits(tmp_path: Path, bits: int) -> None:
    """Masks are as stored, images go to white."""
    stored, path, per = pixels((6, 16)) % (1 << bits), tmp_path / "a.png", 8 // bits
    packed = sum(stored[:, place::per] << bits * (per - 1 - place) for place in range(per))
    head = struct.pack(">IIBBBBB", 16, 6, bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in packed)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))
    np.testing.assert_array_equal(read_mask(path), stored)
    np.testing.assert_array_equal(read_numbers(path), stored)
    np.testing.assert_array_equal(read_image(path)[..., 0], stored * (255 // (2**bits - 1)))
    np.testing.assert_array_equal(read_window(path, 1, 2, 3, 4), read_image(path)[1:4, 2:6])


@pytest.mark.parametrize("bits", [2, 4, 7, 12])
@pytest.mark.parametrize("white", [False, True])
def test_tiffs_of_other_bits(tmp_path: Path, bits: int, white: bool) -> None:
    """White is the largest number of so many bits, or 0 where the file says so."""
    most, path = (1 << bits) - 1, tmp_path / "a.tif"
    stored = (pixels((6, 8), "uint16") % (most + 1)).astype(np.uint8 if bits < 8 else np.uint16)
    tifffile.imwrite(path, stored, bitspersample=bits, photometric="miniswhite" if white else "minisblack")
    right = most - stored if white else stored
    np.testing.assert_array_equal(read_mask(path), right)
    full = 255 if bits < 8 else 65535
    np.testing.assert_array_equal(read_image(path)[..., 0], np.floor(right / most * full + 0.5))


@pytest.mark.parametrize("white", [100, 4095])
def test_numbers_are_as_stored(tmp_path: Path, white: int) -> None:
    stored, path = pixels((5, 7), "uint16") % (white + 1), tmp_path / "a.pgm"
    path.write_bytes(b"P5 7 5 %d\n" % white + stored.astype("u1" if white < 256 else ">u2").tobytes())
    np.testing.assert_array_equal(read_numbers(path), stored)


def test_a_file_system_without_locks_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def answer(code: int) -> None:
        def flock(*_: object) -> None:
            raise OSError(code, "said")

        monkeypatch.setattr(fcntl, "flock", flock)

    for code in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
        answer(code)
        lock(0, tmp_path)
    for code, kind in ((errno.EAGAIN, FileExistsError), (errno.EIO, OSError)):
        answer(code)
        with pytest.raises(kind):
            lock(0, tmp_path)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_jpeg_2000(tmp_path: Path, bits: int) -> None:
    """Colours of more than 8 bits keep them all, or are refused where the decoder is missing."""
    stored, path = pixels((9, 7, 3), "uint16") >> (16 - bits), tmp_path / "a.jp2"
    path.write_bytes(imagecodecs.jpeg2k_encode(stored, level=0, bitspersample=bits))
    np.testing.assert_array_equal(read_image(path), np.round(stored.astype(float) * 65535 / (2**bits - 1)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(imagecodecs.JPEG2K, "available", False)
        with pytest.raises(FileError, match=f"{bits} bits"):
            read_image(path)


@pytest.mark.parametrize("kind", ["xmp", "xmp.webp", "profile"])
def test_upright_by_text(tmp_path: Path, kind: str) -> None:
    """Sizes, windows and whole reads are turned alike by XMP and by EXIF as a text."""
    right, path, info = pixels((5, 7, 3)), tmp_path / ("a.webp" if kind == "xmp.webp" else "a.png"), PngInfo()
    stored, xmp = Image.fromarray(np.ascontiguousarray(as_stored(right, 6))), '<x:xmpmeta tiff:Orientation="6"/>'
    if kind == "xmp.webp":
        stored.save(path, xmp=xmp.encode(), lossless=True)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
        info.add_itxt("XML:com.adobe.xmp", xmp) if kind == "xmp" else info.add_text(
            "Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True
        )
        stored.save(path, pnginfo=info)
    assert size_of(path) == (5, 7)
    np.testing.assert_array_equal(read_image(path), right)
    np.testing.assert_array_equal(read_window(path, 1, 2, 3, 4), right[1:4, 2:6])


def test_damaged_tiffs_are_named_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever a header claims, a `FileError` or pixels come of it, and no line on stderr."""
    tifffile.imwrite(tmp_path / "a.tif", pixels((5, 5)))
    whole, rng, refused = (tmp_path / "a.tif").read_bytes(), np.random.default_rng(0), 0
    at = whole.index(b"\x01\x01\x04\0") + 2
    damaged = [whole[:at] + b"\2" + whole[at + 1 :]]  # the height is a text
    for _ in range(60):
        place = int(rng.integers(8, 200))
        damaged.append(whole[:place] + bytes([rng.choice([0, 2, 255])]) + whole[place + 1 :])
    (tmp_path / "b.tif").write_bytes(damaged[0])
    for read in (read_mask, size_of):
        with pytest.raises(FileError):
            read(tmp_path / "b.tif")
    for content in damaged:
        (tmp_path / "b.tif").write_bytes(content)
        for read in (read_mask, size_of):
            try:
                read(tmp_path / "b.tif")
            except FileError:
                refused += 1
    assert refused > 10 and "Tiff" not in capfd.readouterr().err


def test_mattes(tmp_path: Path) -> None:
    """Alphas of every depth, and trimaps of three values."""
    eight, deep = pixels((6, 8)), pixels((6, 8), "uint16")
    Image.fromarray(eight).save(tmp_path / "a.png")
    deep_png(tmp_path / "d.png", deep)
    np.testing.assert_array_equal(read_alpha(tmp_path / "a.png"), eight.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(read_alpha(tmp_path / "d.png"), deep.astype(np.float32) / np.float32(65535))
    known = np.array([0, 128, 255], np.uint8)[eight % 3]
    Image.fromarray(known).save(tmp_path / "t.png")
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.png"), np.array([0, 0.5, 1])[eight % 3])
    Image.fromarray(np.stack([eight] * 3, 2)).save(tmp_path / "rgb.png")
    Image.fromarray(eight % 2).save(tmp_path / "small.png")
    for read, name, said in (
        (read_alpha, "rgb.png", "several channels"),
        (read_alpha, "small.png", "multiply the alpha by 255"),
        (read_trimap, "a.png", "128 .unknown."),
    ):
        with pytest.raises(FileError, match=said):
            read(tmp_path / name)


def test_broken_files_are_named(tmp_path: Path) -> None:
    """Whatever is wrong with a file, the error names it and says what to do; none of it is another exception."""
    Image.fromarray(pixels((64, 64, 3))).save(tmp_path / "good.png")
    Image.fromarray(pixels((64, 64, 3))).save(tmp_path / "good.jpg")
    tifffile.imwrite(tmp_path / "good.tif", pixels((64, 64, 3), "uint16"), photometric="rgb", compression="zlib")
    deep_png(tmp_path / "deep.png", pixels((64, 64, 3), "uint16"))
    np.save(tmp_path / "good.npy", pixels((64, 64)))
    for good in sorted(tmp_path.iterdir()):
        content = good.read_bytes()
        for part in (10, len(content) // 3, len(content) - 200):
            bad = tmp_path / f"cut{part}.{good.name}"
            bad.write_bytes(content[:part])
            with pytest.raises(FileError, match=f"{bad.name}.*; "):
                read_image(bad)
    bomb = bytearray((tmp_path / "good.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    texts = {
        "empty.png": (b"", "is empty"),
        "lfs.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "page.png": (b"<!DOCTYPE html><html>", "web page"),
        "text.png": (b"hello", "no image"),
        "bomb.png": (bytes(bomb[:29]) + struct.pack(">I", zlib.crc32(bytes(bomb[12:29]))) + bytes(bomb[33:]), "bomb"),
    }
    for name, (content, said) in texts.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=said):
            read_image(tmp_path / name)
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    tifffile.imwrite(tmp_path / "pages.tif", pixels((3, 8, 8)), photometric="minisblack")
    np.save(tmp_path / "five.npy", pixels((8, 8, 5)))
    np.save(tmp_path / "int.npy", pixels((8, 8)).astype(np.int64))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    for name, said in {
        "link.png": "is a link to",
        "pages.tif": "3 pages",
        "five.npy": "array",
        "int.npy": "int64",
        "objects.npy": "dec",
    }.items():
        with pytest.raises(FileError, match=said):
            read_image(tmp_path / name)
    with pytest.raises(FileError, match=r"holds colours.*mask_colors"):
        read_mask(tmp_path / "good.png")
    with pytest.raises(FileError, match=r"stand for no class: #[0-9a-f]{6} .*mask_colors"):
        read_mask(tmp_path / "good.png", {(0, 0, 0): 0})
    with pytest.raises(FileError, match="integers"):
        np.save(tmp_path / "f.npy", pixels((8, 8), "float32"))
        read_mask(tmp_path / "f.npy")
