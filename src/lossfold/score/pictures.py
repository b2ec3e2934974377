"""Small pictures of an item's files: of the image, the truth and the prediction, and of where they differ."""

from __future__ import annotations

import base64
import colorsys
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lossfold.files import FileError
from lossfold.score.depth import counted, depths
from lossfold.score.items import Item
from lossfold.score.labels import foreground
from lossfold.score.pixels import Array, Pixels
from lossfold.score.scores import Scores
from lossfold.score.settings import LABELS, Settings

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]

LARGEST, SMALLEST = 420, 200
"""Sides of pictures, in pixels: larger files are reduced, smaller ones enlarged by whole numbers."""

COLOURS = (
    "#b9bec7", "#c8553d", "#6a994e", "#8d6cab", "#e0a458", "#23395b", "#d6628a", "#4f9da6",
    "#7f5539", "#f2d16b", "#2f7fc1", "#a3b18a", "#9d0208", "#5e548e", "#00a878", "#ff9f7a",
)  # fmt: skip
IGNORED, ADDED, MISSED, RIGHT = (30, 30, 30), (208, 0, 0), (27, 110, 194), (238, 240, 243)
NOTHING = (40, 60, 110)
"""Of pixels that do not count, that only the prediction has, that only the truth has, of those that agree, and without a depth."""


def colour(index: int) -> tuple[int, int, int]:
    """Return a class's colour: of a list, then hues at the golden angle."""
    if index < len(COLOURS):
        red, green, blue = bytes.fromhex(COLOURS[index][1:])
        return red, green, blue
    values = colorsys.hls_to_rgb(index * 0.618 % 1, 0.35 + 0.3 * (index % 2), 0.6)
    return round(255 * values[0]), round(255 * values[1]), round(255 * values[2])


def pictures(item: Item, scores: Scores) -> list[tuple[str, str]]:
    """Return captions and data addresses."""
    settings = scores.settings
    found: list[tuple[str, Picture]] = []
    if item.image is not None:
        with suppress(FileError):  # it is only shown
            found.append(("image", _photograph(_reduced(item.image))))
    if settings.task == "segmentation":
        colors = {(red, green, blue): label for red, green, blue, label in settings.colors}
        truth, pred = (sampled(Pixels(paths[0], "mask", colors)) for paths in (item.truths, item.predictions))
        counted = _counted(truth, settings)
        values = [*range(len(settings.classes))] or [int(name) for name in scores.classes]
        maps = [_map(labels, values) for labels in (truth, pred)]
        maps[0][~counted] = IGNORED
        wrong = _differing(truth != pred, np.zeros_like(counted), counted)
        found += [("truth", maps[0]), ("prediction", maps[1]), ("difference", wrong)]
    elif settings.task in LABELS:
        found += _masks(item, settings)
    elif settings.task == "depth":
        found += _depths(item, scores)
    else:
        found += _images(item, settings.data_range)
    return [(caption, _address(picture)) for caption, picture in found]


def sampled(pixels: Pixels) -> Array:
    """Return every so many rows and columns of a file, read a band at a time."""
    step = _step(pixels)
    band = max(1, 256 // step) * step
    parts = [pixels.rows(top, top + band)[::step, ::step] for top in range(0, pixels.shape[0], band)]
    pixels.close()
    return np.concatenate(parts)


def _reduced(path: Path, white: float | None = None) -> Floats:
    """Return an image from 0 to 1, each pixel the mean of so many rows and columns."""
    pixels = Pixels(path)
    step = _step(pixels)
    band = max(1, 256 // step) * step
    parts = []
    for top in range(0, pixels.shape[0] // step * step, band):
        values = pixels.rows(top, min(top + band, pixels.shape[0] // step * step)).astype(np.float64)
        values = values[:, : values.shape[1] // step * step]
        height, width, channels = values.shape
        parts.append(values.reshape(height // step, step, width // step, step, channels).mean((1, 3)))
    found: Floats = np.concatenate(parts) / (white or pixels.white)
    pixels.close()
    return found


def _step(pixels: Pixels) -> int:
    """How many rows and columns become one, at most all of them."""
    return min(-(-max(pixels.size) // LARGEST), *pixels.size)


def _masks(item: Item, settings: Settings) -> list[tuple[str, Picture]]:
    """The channels' masks, painted one over the other, and where any of them is wrong."""
    layers, size = [], None
    for paths in zip(item.truths, item.predictions, strict=True):
        truth = sampled(Pixels(paths[0], "mask"))
        pixels = Pixels(paths[1], "mask" if settings.threshold is None else "image")
        pred = sampled(pixels)
        pred = pred != 0 if settings.threshold is None else foreground(pixels, pred, settings.threshold)
        counted = _counted(truth, settings)
        layers.append(((truth != 0) & counted, pred, counted))
        size = truth.shape
    assert size is not None
    painted = [np.full((*size, 3), RIGHT, np.uint8) for _ in range(2)]
    for index, layer in enumerate(layers):
        for picture, mask in zip(painted, layer[:2], strict=True):
            picture[mask] = colour(index + 1)
    counted = np.any([each for _, _, each in layers], 0)
    painted[0][~counted] = IGNORED
    added, missed = (
        np.any([x & ~y & each for x, y, each in pairs], 0)
        for pairs in ([(pred, truth, each) for truth, pred, each in layers], layers)
    )
    return [("truth", painted[0]), ("prediction", painted[1]), ("difference", _differing(added, missed & ~added, counted))]


def _images(item: Item, white: float | None) -> list[tuple[str, Picture]]:
    truth, pred = (_reduced(paths[0], white) for paths in (item.truths, item.predictions))
    error = np.abs(truth - pred).mean(2)
    if item.trimap is not None:
        known = sampled(Pixels(item.trimap, "mask"))[: error.shape[0], : error.shape[1]] != 128
        error[known] = 0.0
    return [("truth", _photograph(truth)), ("prediction", _photograph(pred)), ("difference", _heat(error))]


def _depths(item: Item, scores: Scores) -> list[tuple[str, Picture]]:
    """Truth and prediction by their inverse, near is bright, as the metrics see them; and the relative error."""
    settings = scores.settings
    factor, shift = next(row.sums["scale_shift"] for row in scores.rows if row.name == item.name)
    files = Pixels(item.predictions[0], "numbers"), Pixels(item.truths[0], "numbers")
    pred, truth = depths(files, tuple(sampled(file) for file in files), settings)
    pred, counts = np.clip(factor * np.nan_to_num(pred) + shift, settings.least, settings.most), counted(truth, settings)
    inverse = 1 / truth[counts]
    far, near = np.quantile(inverse, (0.02, 0.98)) if len(inverse) else (0.0, 1.0)
    truth = np.where(counts, truth, 1.0)
    shown = [_photograph((1 / values[..., None] - far) / max(near - far, 1e-9)) for values in (truth, pred)]
    shown[0][~counts] = NOTHING
    return [
        ("truth, near is bright, blue where there is none", shown[0]),
        ("prediction", shown[1]),
        ("relative difference", _heat(np.where(counts, np.abs(pred - truth) / truth, 0.0))),
    ]


def _heat(error: Floats) -> Picture:
    """Black where there is no error, then red, yellow, and white at the largest."""
    most = max(float(error.max()), 1e-9)
    heat = np.clip(np.stack([3 * error, 3 * error - most, 3 * error - 2 * most], -1) / most, 0, 1)
    picture: Picture = np.round(255 * heat).astype(np.uint8)
    return picture


def _counted(truth: Array, settings: Settings) -> npt.NDArray[np.bool_]:
    return np.ones(truth.shape, bool) if settings.ignore is None else np.asarray(truth != settings.ignore)


def _map(labels: Array, values: list[int]) -> Picture:
    picture = np.zeros((*labels.shape, 3), np.uint8)
    for index, value in enumerate(values):
        picture[labels == value] = colour(index)
    return picture


def _differing(added: Array, missed: Array, counted: Array) -> Picture:
    picture = np.full((*counted.shape, 3), RIGHT, np.uint8)
    for mask, shade in ((added, ADDED), (missed, MISSED), (~counted, IGNORED)):
        picture[mask] = shade
    return picture


def _photograph(values: Floats) -> Picture:
    grey = np.repeat(values, 3, 2) if values.shape[2] == 1 else values
    picture: Picture = np.round(np.clip(np.nan_to_num(grey), 0, 1) * 255).astype(np.uint8)
    return picture


def _address(picture: Picture) -> str:
    """A picture as a data address; small ones are enlarged without smoothing."""
    factor = max(1, round(SMALLEST / max(picture.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.repeat(picture, factor, 0), factor, 1)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
