"""The contact sheet: small pictures of images and results, taken while they are made, and the page that shows them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from lossfold.predict.journal import Journal
from lossfold.predict.pictures import Array, Picture
from lossfold.predict.predictor import Predictor
from lossfold.predict.sampler import Sampler
from lossfold.predict.tasks import STEPS, ImageTask
from lossfold.predict.writing import part_of, write_text
from lossfold.train.pages import template
from lossfold.train.pictures import rgb
from lossfold.train.segmentation.pictures import channel_map

SIDE = 360
"""Longer side of the sheet's pictures in pixels."""

GREEN = np.array((64, 130, 92), np.float32)
"""What mattes are shown on."""


class Small:
    """A reduced copy of something of any size that is seen in parts: pixels at even distances, then means of them.

    Args:
        height: rows.
        width: columns.
        shape: of a pixel.
        dtype: of a pixel.
    """

    def __init__(self, height: int, width: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.step = max(1, max(height, width) // (2 * SIDE))
        self.pixels = np.zeros((-(-height // self.step), -(-width // self.step), *shape), dtype)

    def put(self, top: int, left: int, part: Array) -> None:
        """Take up a part `[h,w,...]`."""
        kept = part[-top % self.step :: self.step, -left % self.step :: self.step]
        row, column = -(-top // self.step), -(-left // self.step)
        self.pixels[row : row + kept.shape[0], column : column + kept.shape[1]] = kept


class Thumbnail:
    """The sheet's picture of one image and its result, side by side.

    Args:
        task: the task.
        picture: the image.
        top: white in its result.
    """

    def __init__(self, task: ImageTask, picture: Picture, top: int) -> None:
        self.task, self.top = task, top
        self.image = Small(picture.height, picture.width, (3,), np.float32)
        kind: tuple[tuple[int, ...], Any] = ((3,), np.float32) if task.name == "restoration" else ((len(task.parts),), np.int32)
        self.result = Small(task.scale * picture.height, task.scale * picture.width, *kind)

    def watch(self, picture: Picture) -> Picture:
        """The same image, whose parts are taken up when they are read."""

        def read(rows: slice, columns: slice) -> Array:
            part = picture.read(rows, columns)
            self.image.put(rows.start, columns.start, part / picture.top)
            return part

        return dataclasses.replace(picture, read=read)

    def put(self, top: int, left: int, parts: Array) -> None:
        """Take up a part of the result, `[parts,h,w]` or `[1,h,w,3]`."""
        self.result.put(top, left, parts[0] / self.top if parts.ndim == 4 else np.moveaxis(parts, 0, 2))

    def save(self, path: Path) -> None:
        """Write it as JPEG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        image = _bytes(self.image.pixels)
        shown = [_reduced(each) for each in (image, *self._results(image))]
        height, width = shown[0].size[1], shown[0].size[0]
        both = Image.new("RGB", (sum(each.width for each in shown) + 4 * (len(shown) - 1), height), "white")
        for index, each in enumerate(shown):
            both.paste(each.resize((width, height)) if each.size != (width, height) else each, (index * (width + 4), 0))
        both.save(part_of(path), "JPEG", quality=88)
        part_of(path).replace(path)

    def _results(self, image: Array) -> list[Array]:
        found = self.result.pixels
        if self.task.name == "restoration":
            return [_bytes(found)]
        if self.task.name == "depth":
            near = 1 / found.astype(np.float32).clip(1)
            low, high = np.quantile(near, (0.02, 0.98))
            return [_bytes(np.repeat((near - low) / max(high - low, 1e-12), 3, 2))]
        if self.task.name == "matting":
            alpha = found.astype(np.float32) / 255
            return [np.repeat(found, 3, 2).astype(np.uint8), _bytes((alpha * image + (1 - alpha) * GREEN) / 255)]
        colours: Sequence[str] = self.task.colours  # type: ignore[assignment]
        if self.task.name == "multiclass":
            return [np.array([rgb(colour) for colour in colours], np.uint8)[found[..., 0]]]
        return [channel_map(image, np.moveaxis(found > 0, 2, 0), np.zeros(found.shape[:2], bool), colours)]


def _bytes(values: Array) -> Array:
    shown: Array = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return shown


def _reduced(array: Array) -> Image.Image:
    image = Image.fromarray(array)
    image.thumbnail((SIDE, SIDE))
    return image


def write_images_sheet(journal: Journal, predictor: Predictor, images: dict[str, Path], done: Any) -> None:
    """Write `index.html` of predicted images.

    Args:
        journal: of the results' folder.
        predictor: what has predicted.
        images: files by key.
        done: how it went.
    """
    output = journal.output
    kept = [key for key in images if key not in done.failed]
    titles = {"multiclass": "class map", "matting": "alpha, on green", "restoration": "restored", "depth": "depth, near is bright"}
    script = f'predictor = lossfold.load("{predictor.source.as_posix()}")\n'
    script += f'array = predictor("image.png"{", trimap=" + repr("trimap.png") if predictor.task.takes_trimap else ""})'
    _write(
        output,
        task=predictor.name,
        source=predictor.source.as_posix(),
        pictures=[(key, f"sheet/{quote(key, errors='surrogateescape')}.jpg", _facts(journal.of(key))) for key in kept],
        columns=f"image, {titles.get(predictor.name, 'masks')}",
        legend=[*zip(predictor.class_names, predictor.colours, strict=False)],
        failed=list(done.failed.items()),
        samples=False,
        script=script,
        score=f"lossfold score {output.as_posix()}/predictions TRUTH"
        + (f" --task {predictor.name}" if predictor.name != "multiclass" else "")
        + (f" --prediction-unit 1/{STEPS} --unit UNIT" if predictor.name == "depth" else ""),
    )


def write_samples_sheet(output: Path, sampler: Sampler, count: int) -> None:
    """Write `index.html` of a GAN's samples."""
    _write(
        output,
        task="gan",
        source=sampler.source.as_posix(),
        pictures=[(f"{index:06}", f"predictions/{index:06}.png", "") for index in range(count)],
        columns="samples",
        legend=[],
        failed=[],
        samples=True,
        script=f'sampler = lossfold.load("{sampler.source.as_posix()}")\nimages = sampler(16, seed=1)',
        score="",
    )


def _facts(entry: dict[str, Any] | None) -> str:
    """The size of an image, and the classes that cover most of it."""
    if entry is None:
        return ""
    most = sorted(entry.get("shares", {}).items(), key=lambda item: -item[1])[:3]
    return ", ".join(
        [f"{entry['width']} x {entry['height']}", *(f"{name} {100 * share:.1f} %" for name, share in most if share > 0)]
    )


def _write(output: Path, **content: Any) -> None:
    write_text(output / "index.html", template("predictions.html").render(title=output.name, **content))
