"""Scores against their definitions in NumPy: integers and float64, image by image, and the bootstrap by a plain loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lossfold import metrics as m
from lossfold.score import score
from tests.metrics.test_boundaries import definition

from . import folders


def counts(pred: Any, truth: Any, label: int, ignore: int) -> list[int]:
    counted = truth != ignore
    both = [(x == label) & counted for x in (pred, truth)]
    diagonal = math.hypot(*pred.shape)
    edges = definition(pred, truth, label, ignore, math.ceil(0.0075 * diagonal), max(1, round(0.02 * diagonal)))
    return [int((both[0] & both[1]).sum()), int(both[0].sum()), int(both[1].sum()), int(counted.sum()), *edges]


def ratios(sums: Any) -> dict[str, Any]:
    hits, predicted, true, _, lines, near, targets, found, overlap, bands = np.moveaxis(sums.astype(float), -1, 0)
    with np.errstate(all="ignore"):
        p, r = near / lines, found / targets
        f1 = np.where(near + found > 0, 2 * p * r / (p + r), 0.0)
        f1[lines + targets == 0] = np.nan
        return {
            "iou": 100 * (hits / (predicted + true - hits)),
            "dice": 100 * (2 * hits / (predicted + true)),
            "accuracy": 100 * (hits / true),
            "boundary_iou": 100 * (overlap / bands),
            "boundary_f1": 100 * f1,
        }


def test_class_maps(tmp_path: Path) -> None:
    made = folders.segmentation(tmp_path)
    found = score(tmp_path / "pred", tmp_path / "truth", classes=["a", "b", "c", "d"], ignore=255, replicates=40, seed=3)
    assert not found.problems
    sums = np.array([[counts(*pair, label, 255) for label in range(4)] for pair in made.values()])
    whole, each = ratios(sums.sum(0)), ratios(sums)
    random = np.random.default_rng(3)
    drawn = [ratios(sums[random.integers(0, len(sums), len(sums))].sum(0)) for _ in range(40)]
    for line in found.summary:
        if line.metric == "pixel_accuracy":
            assert line.value == 100 * (sums[..., 0].sum() / sums[:, 0, 3].sum())
            continue
        label = {"a": 0, "b": 1, "c": 2, "d": 3}.get(line.label)
        if label == 3:  # nowhere
            assert line.value is None and line.low is None and line.images == 0
            continue
        value = whole[line.metric][:3].sum() / 3 if label is None else whole[line.metric][label]
        samples = [np.nanmean(one[line.metric]) if label is None else one[line.metric][label] for one in drawn]
        ordered = np.sort(samples)
        assert line.value == pytest.approx(value, rel=1e-15) if label is None else line.value == value
        assert (line.low, line.high) == pytest.approx((ordered[0], ordered[38]), rel=1e-14)
        images = np.nanmean(each[line.metric], 1) if label is None else each[line.metric][:, label]
        known = images[~np.isnan(images)]
        assert line.images == len(known) and line.image_mean == pytest.approx(math.fsum(known) / len(known), rel=1e-14)
    for row, values in zip(found.images, each["iou"], strict=True):
        assert row["iou/a"] == values[0] and row["iou/d"] is None
    tables = torch.stack([sum_of(pair) for pair in made.values()]).sum(0)
    confusion: dict[tuple[int, int], int] = {}
    for one in found.rows:
        for true, pred, count in one.sums["confusion"]:
            confusion[true, pred] = confusion.get((true, pred), 0) + count
    assert {(t, p): int(tables[t, p]) for t in range(3) for p in range(3) if tables[t, p]} == confusion


def sum_of(pair: Any) -> torch.Tensor:
    return m.confusion(*(torch.from_numpy(x.astype(np.int64))[None] for x in pair), 3, ignore=255)


def test_masks_of_several_channels_and_of_one(tmp_path: Path) -> None:
    made = folders.multilabel(tmp_path)
    found = score(tmp_path / "pred", tmp_path / "truth", "multilabel", classes=["cat", "dog"], empty=1.0)
    sums = np.array([[counts(*pair, True, 9) for pair in np.swapaxes(masks, 0, 1)] for masks in made.values()])
    whole = ratios(sums.sum(0))
    right = np.array([[(pair[0] == pair[1]).mean() for pair in np.swapaxes(masks, 0, 1)] for masks in made.values()])
    for index, name in enumerate(("cat", "dog")):
        for metric in ("iou", "dice", "boundary_iou", "boundary_f1"):
            assert found.value(metric, name) == whole[metric][index]
        assert found.value("accuracy", name) == pytest.approx(100 * right[:, index].mean(), rel=1e-15)
    assert (
        found.images[0]["iou/cat"] == 100 and found.images[0]["boundary_f1/cat"] == 100
    )  # there is nothing, and nothing was found
    dog = score(tmp_path / "pred" / "dog", tmp_path / "truth" / "dog", "binary")
    assert [line.value for line in dog.summary] == [line.value for line in found.summary if line.label == "dog"]
    masks = torch.from_numpy(np.stack([one[:, 1] for one in made.values()], 1))
    assert dog.summary[0].image_mean == pytest.approx(m.iou_binary(*masks).item(), rel=1e-14)


@pytest.mark.parametrize(("trimap", "fill"), [(True, True), (True, False), (False, True)])
def test_alphas(tmp_path: Path, trimap: bool, fill: bool) -> None:
    made = folders.mattes(tmp_path)
    trimaps = tmp_path / "trimaps" if trimap else None
    found = score(tmp_path / "pred", tmp_path / "truth", "matting", trimaps=trimaps, keep_trimap=fill, levels="published")
    for row, (pred, truth, three) in zip(found.images, made.values(), strict=True):
        alphas = [torch.from_numpy(x / 255.0)[None] for x in (pred, truth)]
        region = torch.from_numpy(three == 128)[None] if trimap else None
        if trimap and fill:
            alphas[0] = torch.where(region, alphas[0], torch.from_numpy(three / 255.0).round()[None])  # type: ignore[arg-type]
        for name in ("sad", "mse", "grad"):
            assert row[name] == pytest.approx(getattr(m, f"matting_{name}")(*alphas, region).item(), rel=1e-12), name
        assert row["conn"] == pytest.approx(m.matting_conn(*alphas, region, levels="published").item(), rel=1e-12)
        error = (alphas[0] - alphas[1]).abs()[0].numpy()[three == 128] if trimap else np.abs(pred / 255.0 - truth / 255.0)
        assert row["sad"] == math.fsum(error.ravel().tolist()) / 1000  # rounded once
        assert row["mse"] == math.fsum(np.square(error).ravel().tolist()) / error.size


@pytest.mark.parametrize(("kind", "options"), [(np.uint8, {}), (np.uint16, {}), (np.uint8, {"to_y": True, "crop_border": 3})])
def test_restored_images(tmp_path: Path, kind: Any, options: dict[str, Any]) -> None:
    made = folders.images(tmp_path, dtype=kind)
    folders.save(tmp_path / "pred" / "right.png", made["0"][1].astype(np.uint8))
    folders.save(tmp_path / "truth" / "right.png", made["0"][1].astype(np.uint8))
    found = score(tmp_path / "pred", tmp_path / "truth", "restoration", **options)
    white = float(np.iinfo(kind).max)
    for row, pair in zip(found.images, made.values(), strict=False):
        tensors = [torch.from_numpy(x.astype(float)).permute(2, 0, 1)[None] for x in pair]
        assert row["psnr"] == pytest.approx(m.psnr(*tensors, data_range=white, **options).item(), rel=1e-13)
        assert row["ssim"] == pytest.approx(m.ssim(*tensors, data_range=white, **options).item(), abs=1e-9)
        if not options:
            squares = np.square(pair[0].astype(object) - pair[1].astype(object)).sum()
            assert row["psnr"] == 10 * math.log10(white**2 / (int(squares) / pair[0].size))
    assert found.images[-1]["psnr"] == math.inf and found.value("psnr") == math.inf
    assert found.summary[0].high == math.inf and found.images[-1]["ssim"] == pytest.approx(1)


@pytest.mark.parametrize("scale_shift", ["none", "median", "least_squares"])
@pytest.mark.parametrize(("least", "most"), [(1e-3, None), (3.0, 6.0)])
def test_depths(tmp_path: Path, scale_shift: str, least: float, most: float | None) -> None:
    made = folders.depths(tmp_path)
    found = score(tmp_path / "pred", tmp_path / "truth", "depth", scale_shift=scale_shift, least=least, most=most, replicates=30)
    assert not found.problems and len(found.images) == 3
    for row, pair in zip(found.images, made.values(), strict=True):
        p, t = (x.astype(float) for x in pair)
        counts = np.isfinite(t) & (t >= least) & (t <= (most or np.inf))
        p, t = p[counts], t[counts]
        if scale_shift == "median":
            p = p * np.sort(t)[(len(t) - 1) // 2] / np.sort(p)[(len(p) - 1) // 2]
        if scale_shift == "least_squares":
            (factor, shift), *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), t, rcond=None)
            p = factor * p + shift
        p = p.clip(least, most)
        d = np.log(p) - np.log(t)
        expected = {
            "abs_rel": (np.abs(p - t) / t).mean(),
            "sq_rel": ((p - t) ** 2 / t).mean(),
            "rmse": np.sqrt(((p - t) ** 2).mean()),
            "rmse_log": np.sqrt((d**2).mean()),
            "silog": 100 * d.std(),
            **{f"delta{k}": (np.maximum(p / t, t / p) < 1.25**k).mean() for k in (1, 2, 3)},
        }
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-10), name
        tensors = [torch.from_numpy(x)[None, None, None] for x in (p, t)]
        assert row["abs_rel"] == pytest.approx(m.abs_rel(*tensors).item(), rel=1e-12)
    assert found.value("rmse") == pytest.approx(np.mean([row["rmse"] for row in found.images]), rel=1e-14)
    assert [row.name for row in found.worst(1)] == [max(found.images, key=lambda row: row["abs_rel"])["name"]]
    assert [row.name for row in found.worst(1, "delta1")] == [min(found.images, key=lambda row: row["delta1"])["name"]]


def test_depths_in_files_of_16_bits(tmp_path: Path) -> None:
    """Millimetres beside KITTI's 256ths, both scored in metres; a wrong unit is said, and so are predictions of nothing."""
    made = folders.depths(tmp_path / "floats", 2)
    for name, (pred, truth) in made.items():
        folders.save(tmp_path / "pred" / f"{name}.png", np.round(256 * pred).astype(np.uint16))
        folders.save(tmp_path / "truth" / f"{name}.png", np.round(1000 * np.nan_to_num(truth.clip(0), posinf=0)).astype(np.uint16))
    both = tmp_path / "pred", tmp_path / "truth", "depth"
    whole = score(tmp_path / "floats" / "pred", tmp_path / "floats" / "truth", "depth")
    found = score(*both, unit=0.001, prediction_unit=1 / 256)
    for one, other in zip(found.images, whole.images, strict=True):
        assert one["abs_rel"] == pytest.approx(other["abs_rel"], rel=2e-3) and one["delta1"] == pytest.approx(
            other["delta1"], abs=5e-3
        )
    assert not found.notes and "are the files' units right" in score(*both, prediction_unit=1 / 256).notes[0]
    scaled = score(*both, scale_shift="median")
    assert scaled.value("abs_rel") == pytest.approx(found.value("abs_rel"), abs=5e-3) and not scaled.notes
    for name in made:
        folders.save(tmp_path / "pred" / f"{name}.png", np.zeros((60, 70), np.uint16))
    assert "no finite depth above 0" in score(*both, scale_shift="median").problems[0].reason


def test_depths_are_the_stored_numbers(tmp_path: Path) -> None:
    """Files whose largest number is no full range are no pictures that would be brightened."""
    pytest.importorskip("lightning")
    from lossfold.train.data.depth_folders import DepthFolderSamples

    stored = np.random.default_rng(0).integers(1, 4000, (20, 30), dtype=np.uint16)
    for folder in ("pred", "truth"):
        (tmp_path / folder).mkdir()
    (tmp_path / "truth" / "a.pgm").write_bytes(b"P5 30 20 4095\n" + stored.astype(">u2").tobytes())
    np.save(tmp_path / "pred" / "a.npy", stored)
    assert score(tmp_path / "pred", tmp_path / "truth", "depth", most=4000).images[0]["abs_rel"] == 0
    samples = DepthFolderSamples([], 0, 0.5)
    np.testing.assert_array_equal(samples.depth(tmp_path / "truth" / "a.pgm")[0].numpy(), stored * 0.5)
