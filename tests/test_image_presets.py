"""Presets of papers on images: golden values written out from the papers' formulas, and configurations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import close


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_modnet() -> None:
    """10 · MSE of the semantics, 10 · L1 of details in the unknown, the matte with four times the unknown, plain and composed."""
    detail, matte, alpha = (random(2, 1, 16, 16, seed=seed) for seed in range(3))
    unknown, image = (random(2, 1, 16, 16, seed=3) > 0.5).double(), random(2, 3, 16, 16, seed=4)
    step = {"detail": detail, "matte": matte, "alpha": alpha, "unknown": unknown, "image": image}
    step |= {"semantic": random(2, 1, 2, 2, seed=5), "semantic_target": random(2, 1, 2, 2, seed=6)}
    away = (matte - alpha).abs()
    expected = 10 * functional.mse_loss(step["semantic"], step["semantic_target"]) + 10 * (unknown * (detail - alpha).abs()).mean()
    expected = expected + (away + 4 * unknown * away).mean() + (image * away + 4 * image * unknown * away).mean()
    criterion = lf.presets.modnet()
    close(criterion(step).total, expected)
    close(criterion(**step).total, expected)
    close(lf.build(lf.to_config(criterion))(step).total, expected)
    with pytest.raises(lf.LossError, match="unknown must be in the dict"):
        criterion({name: one for name, one in step.items() if name != "unknown"})
    with pytest.raises(lf.LossError, match="one dict with semantic"):
        criterion(matte, alpha)


def test_rvm() -> None:
    """The sum of the authors' training: L1, Laplacian, foregrounds where alpha is, and five times the changes' squares."""
    alpha, true = random(2, 3, 1, 64, 64), random(2, 3, 1, 64, 64, seed=1)
    true[:, :, :, :20] = 0
    fore, real = random(2, 3, 3, 64, 64, seed=2), random(2, 3, 3, 64, 64, seed=3)
    seen = (true > 0).double()
    expected = functional.l1_loss(alpha, true) + lf.LaplacianPyramidLoss()(alpha.flatten(0, 1), true.flatten(0, 1))
    expected = expected + functional.l1_loss(fore * seen, real * seen)
    for one, other in ((alpha, true), (fore * seen, real * seen)):
        expected = expected + 5 * functional.mse_loss(one[:, 1:] - one[:, :-1], other[:, 1:] - other[:, :-1])
    step = {"alpha": alpha, "alpha_target": true, "foreground": fore, "foreground_target": real}
    criterion = lf.presets.rvm()
    close(criterion(step).total, expected)
    nested = lf.LossSet(video=0.5 * criterion, more=lf.L1Loss(inputs={"pred": "alpha", "target": "alpha_target"}))
    close(nested(step).total, 0.5 * expected + functional.l1_loss(alpha, true))
    with pytest.raises(lf.LossError, match="at least two frames"):
        criterion({name: one[:, :1] for name, one in step.items()})


def test_depth_anything() -> None:
    """The mean of the aligned differences, of which a tenth is left out, and twice the gradients'; SILog with 0.5 for metres."""
    pred, target = random(1, 1, 8, 10), random(1, 1, 8, 10, seed=1)

    def normal(x: Tensor) -> Tensor:
        middle = x.flatten().sort().values[39]
        return (x - middle) / (x - middle).abs().mean()

    residual = (normal(pred) - normal(target))[0, 0]
    expected = residual.abs().flatten().sort().values[:72].sum() / 80
    for k in range(4):
        r = residual[:: 2**k, :: 2**k]
        expected = expected + 2 * (r.diff(dim=0).abs().sum() + r.diff(dim=1).abs().sum()) / r.numel()
    close(lf.presets.depth_anything_v2()(pred, target).total, expected)
    d = (pred + 1).log() - (target + 1).log()
    close(lf.presets.depth_anything_v2(metric=True)(pred + 1, target + 1).total, (d.square().mean() - 0.5 * d.mean() ** 2).sqrt())


def test_birefnet() -> None:
    """Heads of any size, weights of pixels, configs; what does not fit is refused."""
    heads, target = [random(2, 1, 6, 7) - 0.5, 2 * random(2, 1, 12, 14, seed=1) - 1], random(2, 1, 12, 14, seed=2)
    weight = (random(2, 1, 12, 14, seed=3) > 0.4).double()
    whole = [functional.interpolate(head, (12, 14), mode="bilinear", align_corners=True) for head in heads]
    criterion = lf.presets.birefnet(2, ssim=0.0, mae=7.0)
    expected = torch.zeros((), dtype=torch.float64)
    for z in whole:
        p, each = z.sigmoid(), functional.binary_cross_entropy_with_logits(z, target, reduction="none")
        both, either = (weight * p * target).sum((1, 2, 3)), (weight * (p + target - p * target)).sum((1, 2, 3))
        far = (weight * (p - target).abs()).sum()
        expected = expected + 30 * (weight * each).sum() / weight.sum() + 0.5 * (1 - both / either).sum() + 7 * far / weight.sum()
    close(criterion(heads, target, weight).total, expected)
    close(criterion(heads=tuple(heads), target=target, weight=weight).total, expected)
    close(lf.build(lf.to_config(criterion))(heads, target, weight).total, expected)  # type: ignore[operator]
    assert lf.presets.birefnet(ssim=0.0, iou=0.0).plan(heads[1:], target).count("bce0") == 1
    empty = criterion([head.requires_grad_() for head in heads], torch.zeros_like(target))
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(empty.total, heads))
    with pytest.raises(lf.LossError, match=r"heads must be a list of 2 heads' logits.*1 of them"):
        criterion(heads[:1], target)
    with pytest.raises(lf.LossError, match="heads must be tensors"):
        criterion([heads[0], heads[1].expand(2, 3, 12, 14)], target)
    with pytest.raises(lf.LossError, match="target must be one map for each image"):
        criterion(heads, target[:, 0])
    with pytest.raises(lf.LossError, match="one of them at least"):
        lf.presets.birefnet(bce=0, iou=0, ssim=0)
