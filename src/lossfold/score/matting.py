"""Alphas: the errors of an image over the unknown region of its trimap, or over all of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossfold.metrics.matting_errors import MAPS, REACH, Mattes, stretched
from lossfold.score.exact import Total
from lossfold.score.items import Item
from lossfold.score.labels import shown, values_of
from lossfold.score.pixels import MismatchError, Pixels, alphas, together
from lossfold.score.settings import Settings
from lossfold.score.windows import windows

Floats = npt.NDArray[np.float64]

SIDE = 1024


def measure_alpha(item: Item, settings: Settings) -> dict[str, Any]:
    """Return SAD, MSE, Grad and Conn of an image, None where nothing counts, and how many pixels count."""
    pred, truth = Pixels(item.predictions[0]), Pixels(item.truths[0])
    trimap = (Pixels(item.trimap, "mask"),) if item.trimap else ()
    files = (pred, truth, *trimap)
    with together(truth, pred, *trimap):
        height, width = truth.size
        in_one = height * width <= settings.whole * 1e6
        most = [0.0, 0.0]
        totals, area = {name: Total() for name in settings.metrics}, 0
        ends = _ends(files, settings) if "grad" in totals and settings.normalize else None
        halo = REACH if "grad" in totals else 0
        for window in windows(files, settings.tile or SIDE, halo):
            mattes = mattes_of(files, window.arrays, settings)
            most = [max(top, float(array.max())) for top, array in zip(most, window.arrays[:2], strict=True)]
            area += int(mattes.region[0][window.part].sum())
            for name in totals.keys() - {"conn"}:
                totals[name].add(errors(name, mattes, ends)[window.part])
        if "conn" in totals and in_one:
            mattes = mattes_of(files, [file.rows(0, height) for file in files], settings)
            totals["conn"].add(errors("conn", mattes, None, settings.levels == "published"))
    for file, top in zip(files[:2], most, strict=True):
        if top == 1 and file.white > 1:
            raise MismatchError(
                f"{file.path} holds only 0 and 1, but {file.white:g} is opaque; multiply the alpha by {file.white:g}"
            )
    row: dict[str, Any] = {"size": [height, width], "area": area}
    for name, total in totals.items():
        left_out = area == 0 or (name == "conn" and not in_one)
        row[name] = None if left_out else total.value / area if name == "mse" else total.value / 1000
    if "conn" in totals and not in_one:
        row["not_in_parts"] = ["conn"]
    return row


def mattes_of(files: tuple[Pixels, ...], arrays: Any, settings: Settings) -> Mattes:
    """Return alphas and region of a part of the files."""
    pred, target = (alphas(file, values) for file, values in zip(files[:2], arrays[:2], strict=True))
    region = np.ones_like(pred)
    if len(files) == 3:
        trimap = arrays[2]
        strange = sorted({*values_of(trimap).tolist()} - {0, 128, 255})
        if strange:
            raise MismatchError(
                f"{files[2].path} holds {shown(strange)}; a trimap holds 0 (background), 128 (unknown), 255 (foreground)"
            )
        region = (trimap == 128).astype(np.float64)
        if settings.keep_trimap:
            pred = np.where(trimap == 128, pred, trimap == 255).astype(np.float64)
    return Mattes(*(torch.from_numpy(np.ascontiguousarray(one))[None] for one in (pred, target, region)))


def errors(name: str, mattes: Mattes, ends: list[tuple[float, float]] | None, flag: bool = False) -> Floats:
    """Return the error of each pixel that counts, 0 elsewhere; for Grad between the ends of the whole image's alphas."""
    if name == "grad" and ends is not None:
        ends_of = torch.tensor(ends, dtype=torch.float64)
        pred, target = (stretched(alpha, *pair.unbind()) for alpha, pair in zip(mattes[:2], ends_of, strict=True))
        mattes = mattes._replace(pred=pred, target=target)
    found: Floats = (MAPS[name](mattes, flag) * mattes.region)[0].numpy()
    return found


def _ends(files: tuple[Pixels, ...], settings: Settings) -> list[tuple[float, float]]:
    """Return the smallest and the largest alpha of the prediction and of the truth."""
    ends = [(math.inf, -math.inf)] * 2
    for window in windows(files, settings.tile or SIDE):
        mattes = mattes_of(files, window.arrays, settings)
        ends = [
            (min(least, float(alpha.min())), max(most, float(alpha.max())))
            for (least, most), alpha in zip(ends, mattes[:2], strict=True)
        ]
    return ends
