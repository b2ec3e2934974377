"""AbsRel, RMSE and δ1 against NumPy, with holes and alignments; their means over batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lossfold as lf
from lossfold import metrics
from tests.contract.case import close
from tests.losses.depth.test_depth import scene, with_holes
from tests.losses.images.test_images import exact


def test_they_equal_numpy() -> None:
    pred, target, weight = scene()
    holes, there = with_holes(target)
    for i in range(2):
        p, t, w = (one[i][there[i]].numpy() for one in (pred, target, weight))
        expected = {
            "abs_rel": np.average(np.abs(p - t) / t, weights=w),
            "rmse": np.sqrt(np.average((p - t) ** 2, weights=w)),
            "delta1": np.average(np.maximum(p / t, t / p) < 1.25, weights=w),
        }
        for name, value in expected.items():
            close(getattr(metrics, name)(pred, holes, weight)[i], exact(value))
    for align, changed in (("median", 7 * target), ("least_squares", 3 * target - 0.2)):
        assert metrics.abs_rel(changed, target, align=align).max() < 1e-12
        assert metrics.abs_rel(changed, target).min() > 0.5
    assert metrics.delta1(1.3 * target, target, threshold=1.25**2).min() == 1


def test_means_over_batches() -> None:
    pred, target, _ = scene(5)
    target[4] = 0  # nothing was measured
    score = metrics.DepthMetrics()
    for rows in (slice(0, 2), slice(2, 5)):
        score.update(pred[rows], target[rows])
    found = score.compute()
    for name in ("abs_rel", "rmse", "delta1"):
        close(found[name], getattr(metrics, name)(pred[:4], target[:4]).mean())
    broken = pred.clone()
    broken[0, 0, 0, 0] = torch.nan
    spoilt = metrics.DepthMetrics(["abs_rel"])
    spoilt.update(broken, target)
    assert spoilt.compute()["abs_rel"].isnan()
    blank = pred.clone()
    blank[4, 0, 0, 0] = torch.nan  # in the image of which nothing counts
    same = metrics.DepthMetrics()
    same.update(blank, target)
    close(same.compute()["abs_rel"], found["abs_rel"])
    dead = metrics.DepthMetrics(align="median")  # predictions that no factor mends
    dead.update(0 * pred, target)
    assert dead.compute()["abs_rel"].isnan()
    for options, message in (({"metrics": ["mae"]}, "metrics must be a list"), ({"align": "mean"}, "align must be one of")):
        with pytest.raises(lf.LossError, match=message):
            metrics.DepthMetrics(**options)
    with pytest.raises(lf.LossError, match="abs_rel: target must be of shape"):
        metrics.abs_rel(pred, target[:, :, :3])
