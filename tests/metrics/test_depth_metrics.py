"""The metrics of depth against NumPy, with holes and alignments; their means over batches."""

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
            "sq_rel": np.average((p - t) ** 2 / t, weights=w),
            "rmse_log": np.sqrt(np.average(np.log(p / t) ** 2, weights=w)),
            "silog": 100 * np.sqrt(np.average((np.log(p / t) - np.average(np.log(p / t), weights=w)) ** 2, weights=w)),
            "delta1": np.average(np.maximum(p / t, t / p) < 1.25, weights=w),
        }
        for name, value in expected.items():
            close(getattr(metrics, name)(pred, holes, weight)[i], exact(value))
        shares = {f"delta{k}": np.average(np.maximum(p / t, t / p) < 1.25**k, weights=w) for k in (1, 2, 3)}
        assert len({*shares.values()}) == 3
        all_of_them = metrics.DepthMetrics([*expected, "delta2", "delta3"])
        all_of_them.update(pred[i : i + 1], holes[i : i + 1], weight[i : i + 1])
        for name, value in (expected | shares).items():
            close(all_of_them.compute()[name], exact(value))
    for i in range(2):
        loss = lf.SILogLoss(variance_focus=1.0)(pred[i : i + 1], target[i : i + 1])
        close(metrics.silog(pred, target)[i], 100 * loss)
    assert metrics.silog(5 * target, target).max() < 1e-5 and metrics.rmse_log(0 * target, target).isinf().all()
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
