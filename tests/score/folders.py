"""Folders of predictions and truth of every task, small, with everything odd in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

IGNORE = 255


def smooth(rng: Any, *size: int, sigma: float = 4) -> Any:
    return ndimage.gaussian_filter(rng.random(size), [0] * (len(size) - 2) + [sigma, sigma])


def maps(rng: Any, size: tuple[int, int], classes: int = 3) -> tuple[Any, Any]:
    """A prediction and a truth with an ignored part; the last class is rare."""
    fields = smooth(rng, classes + 1, *size)
    fields[classes - 1] -= 0.04
    truth = fields[:classes].argmax(0).astype(np.uint8)
    pred = (fields[:classes] + 0.02 * rng.random(fields[:classes].shape)).argmax(0).astype(np.uint8)
    truth[fields[-1] > np.quantile(fields[-1], 0.9)] = IGNORE
    return pred, truth


def save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)


def segmentation(
    root: Path, count: int = 6, sizes: tuple[tuple[int, int], ...] = ((60, 83), (41, 30))
) -> dict[str, tuple[Any, Any]]:
    rng, made = np.random.default_rng(0), {}
    for index in range(count):
        pred, truth = made[f"{index:02}"] = maps(rng, sizes[index % len(sizes)])
        save(root / "pred" / f"{index:02}.png", pred)
        save(root / "truth" / f"{index:02}.png", truth)
    return made


def multilabel(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 4) -> dict[str, Any]:
    rng, made = np.random.default_rng(1), {}
    for index in range(count):
        fields = smooth(rng, 2, len(names), 50, 40)
        masks = fields > np.quantile(fields, 0.7)
        masks[0] = masks[1] ^ (rng.random(masks[1].shape) > 0.97)
        if index == 0:
            masks[:, 0] = False  # nowhere, and not found
        made[f"{index}"] = masks
        for side, folder in zip(masks, ("pred", "truth"), strict=True):
            for name, mask in zip(names, side, strict=True):
                save(root / folder / name / f"{index}.png", mask.astype(np.uint8) * 255)
    return made


def mattes(root: Path, count: int = 3, size: tuple[int, int] = (70, 90)) -> dict[str, Any]:
    rng, made = np.random.default_rng(2), {}
    for index in range(count):
        both = np.clip((smooth(rng, 2, *size, sigma=3) - 0.5) * 12 + 0.5, 0, 1)
        both[0] = 0.8 * both[1] + 0.2 * both[0]
        pred, truth = np.round(both * 255).astype(np.uint8)
        trimap = np.where((truth > 10) & (truth < 245), 128, np.where(truth >= 245, 255, 0)).astype(np.uint8)
        made[f"{index}"] = pred, truth, trimap
        for array, folder in zip(made[f"{index}"], ("pred", "truth", "trimaps"), strict=True):
            save(root / folder / f"{index}.png", array)
    return made


def images(root: Path, count: int = 3, size: tuple[int, int] = (48, 61), dtype: Any = np.uint8) -> dict[str, tuple[Any, Any]]:
    rng, made, white = np.random.default_rng(3), {}, np.iinfo(dtype).max
    for index in range(count):
        truth = np.clip(smooth(rng, 3, *size, sigma=2).transpose(1, 2, 0) * 3 - 1, 0, 1)
        pred = np.clip(truth + rng.normal(0, 0.02 * (index + 1), truth.shape), 0, 1)
        made[f"{index}"] = tuple(np.round(x * white).astype(dtype) for x in (pred, truth))  # type: ignore[assignment]
        for array, folder in zip(made[f"{index}"], ("pred", "truth"), strict=True):
            save(root / folder / f"{index}{'.png' if dtype == np.uint8 else '.npy'}", array)
    return made


def depths(root: Path, count: int = 3, size: tuple[int, int] = (60, 70)) -> dict[str, tuple[Any, Any]]:
    """Depths in metres of floats, with holes of every kind in the truth."""
    rng, made = np.random.default_rng(4), {}
    for index in range(count):
        truth = (40 * smooth(rng, *size, sigma=6) - 15).clip(0.5).astype(np.float32)
        pred = (truth * (1 + 0.1 * rng.standard_normal(size))).clip(0.1).astype(np.float32)
        for place, hole in enumerate((0.0, -1.0, np.inf, np.nan)):
            truth[place, 3 : 9 + index] = hole
        made[f"{index}"] = pred, truth
        for array, folder in zip(made[f"{index}"], ("pred", "truth"), strict=True):
            save(root / folder / f"{index}.{('npy', 'tiff')[index % 2]}", array)
    return made
