"""Restored images: PSNR and SSIM of an image, in float64, the squared error of integers exact."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossfold.files import FileError
from lossfold.score.exact import Total
from lossfold.score.items import Item
from lossfold.score.pixels import Array, MismatchError, Pixels, together
from lossfold.score.settings import Settings
from lossfold.score.windows import windows

Floats = npt.NDArray[np.float64]

SIDE = 512
SIGMA, REACH = 1.5, 5
K1, K2 = 0.01, 0.03
LUMA = (65.481, 128.553, 24.966, 16.0)


def measure_image(item: Item, settings: Settings) -> dict[str, Any]:
    """Return the PSNR (infinite where the two are equal) and the SSIM of an image, as `lossfold.metrics` defines them."""
    pred, truth = Pixels(item.predictions[0]), Pixels(item.truths[0])
    with together(truth, pred):
        _check(pred, truth, settings)
        height, width = truth.size
        white, crop = settings.data_range or truth.white, settings.crop_border
        squares, whole, similar = Total(), 0, Total()
        halo = REACH if "ssim" in settings.metrics else 0
        inside = [slice(crop + REACH, max(crop + REACH, side - crop - REACH)) for side in (height, width)]
        for window in windows((pred, truth), settings.tile or SIDE, halo, crop):
            rows, columns = window.part
            if truth.dtype.kind == "f" or settings.data_range:
                _check_range(truth.path, window.arrays[1], white)
            one, other = (planes(file, array, white, settings) for file, array in zip((pred, truth), window.arrays, strict=True))
            error = np.square(one - other)[:, rows, columns]
            if truth.dtype.kind == "u" and not settings.to_y:
                whole += int(error.astype(np.int64).sum())
            else:
                squares.add(error)
            if "ssim" in settings.metrics:
                # Of the part only the pixels whose window lies inside of what counts, and around these all that they look at.
                spans = []
                for begin, part, span in zip((window.top, window.left), window.part, inside, strict=True):
                    start, stop = max(begin + part.start, span.start), min(begin + part.stop, span.stop)
                    spans.append(slice(start - begin - REACH, max(start, stop) - begin + REACH))
                if all(span.stop - span.start > 2 * REACH for span in spans):
                    for pair in zip(one[:, spans[0], spans[1]], other[:, spans[0], spans[1]], strict=True):
                        similar.add(similarity(*pair, white))
        channels = 1 if settings.to_y else truth.shape[2]
    mse = (whole or squares.value) / ((height - 2 * crop) * (width - 2 * crop) * channels)
    row: dict[str, Any] = {"size": [height, width], "mse": mse}
    if "psnr" in settings.metrics:
        row["psnr"] = 10 * math.log10(white**2 / mse) if mse else math.inf
    if "ssim" in settings.metrics:
        row["ssim"] = similar.value / ((height - 2 * crop - 2 * REACH) * (width - 2 * crop - 2 * REACH) * channels)
    return row


def _check(pred: Pixels, truth: Pixels, settings: Settings) -> None:
    kinds = [f"{file.shape[2]} channel(s) of {file.dtype}" for file in (pred, truth)]
    if kinds[0] != kinds[1]:
        raise MismatchError(f"{pred.path} holds {kinds[0]}, {truth.path} {kinds[1]}")
    least = min(truth.size) - 2 * settings.crop_border
    need = 2 * REACH + 1 if "ssim" in settings.metrics else 1
    if least < need:
        raise MismatchError(f"{truth.path.name} has {least} pixels across inside of the border; it takes {need}")
    if settings.to_y and truth.shape[2] != 3:
        raise MismatchError(f"{truth.path.name} has no colours, of which to take the luma")


def _check_range(path: Path, values: Array, white: float) -> None:
    """Refuse floats of 0 to 255 whose white is said to be 1, and what is no picture of the range that was given."""
    if np.ptp(values) > 1.5 * white:
        hint = f"{path} holds values from {values.min():g} to {values.max():g}, and white is {white:g}"
        usual = 255 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        raise MismatchError(f"{hint}; say the difference between white and black: --data-range {usual}")


def planes(file: Pixels, array: Array, white: float, settings: Settings) -> Floats:
    """Return what is compared, float64 `[C,h,W]`: the channels, or the luma."""
    values: Floats = np.moveaxis(array, 2, 0).astype(np.float64, order="C")
    if file.dtype.kind == "f" and not np.isfinite(values).all():
        raise FileError(file.path, "holds values that are not finite", "save the image without NaN and infinities")
    if not settings.to_y:
        return values
    red, green, blue, offset = LUMA
    return ((red * values[:1] + green * values[1:2] + blue * values[2:] + offset * white) / 255).astype(np.float64)


def similarity(pred: Floats, truth: Floats, white: float) -> Floats:
    """Return the SSIM of each pixel whose window lies inside two maps `[h,W]`."""
    c1, c2 = (K1 * white) ** 2, (K2 * white) ** 2
    mean_p, mean_t = smooth(pred), smooth(truth)
    cross, squares = mean_p * mean_t, np.square(mean_p) + np.square(mean_t)
    covariance = smooth(pred * truth) - cross
    variances = smooth(np.square(pred) + np.square(truth)) - squares
    found: Floats = (2 * cross + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return found


def smooth(maps: Floats) -> Floats:
    """Return the Gaussian mean of each pixel's window, where it lies inside; every pixel by the same additions in one order."""
    taps = [math.exp(-(x * x) / (2 * SIGMA**2)) for x in range(-REACH, REACH + 1)]
    taps = [tap / math.fsum(taps) for tap in taps]
    for axis in (0, 1):
        maps = np.moveaxis(maps, axis, 0)
        length = maps.shape[0] - 2 * REACH
        found = maps[REACH : REACH + length] * taps[REACH]
        for k in range(REACH):
            found += (maps[k : k + length] + maps[2 * REACH - k : 2 * REACH - k + length]) * taps[k]
        maps = np.moveaxis(found, 0, axis)
    return maps
