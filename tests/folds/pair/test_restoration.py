"""Losses of restored images against their formulas written out, closed forms, scikit-image, and what is easily got wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate, same_bits
from tests.contract.refusals import refused
from tests.internals import Watch

every_engine = pytest.mark.parametrize("engine", ENGINES)
native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")


def images(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A prediction, a target, and weights of one channel, a quarter of them 0."""
    generator = torch.Generator().manual_seed(seed)
    pred, target, weight = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return pred, target, weight[:, :1].where(weight[:, :1] > 0.25, 0)


# Peak signal-to-noise ratio.


@every_engine
def test_psnr_is_scikit_images(engine: str, dtype: torch.dtype) -> None:
    """But for the 1e-8 under the logarithm, and of the values that the dtype holds."""
    pred, target, _ = (one.to(dtype) for one in images(3, 3, 24, 31))
    each = [
        peak_signal_noise_ratio(t.double().numpy(), p.double().numpy(), data_range=1) for p, t in zip(pred, target, strict=True)
    ]
    truth = torch.tensor(each, dtype=torch.float64)
    close(lf.PSNRLoss(engine=engine, reduction="none")(pred, target).double(), -truth, 1e-5, 1e-6)
    close(lf.PSNRLoss(engine=engine)(pred, target).double(), -truth.mean(), 1e-5, 1e-6)
    close(lf.PSNRLoss(engine=engine, reduction="sum")(pred, target).double(), -truth.sum(), 1e-5, 1e-6)


@every_engine
def test_psnr_is_of_samples_and_not_of_the_batch(engine: str) -> None:
    target = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    pred = torch.tensor([0.1, 0.01], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    found = lf.PSNRLoss(engine=engine)(pred, target)
    truth = torch.tensor((10 * math.log10(1e-2 + 1e-8) + 10 * math.log10(1e-4 + 1e-8)) / 2, dtype=torch.float64)
    close(found, truth)
    same_bits(found, lf.PSNRLoss(engine=engine)(pred.flip(0), target))


@every_engine
def test_psnr_of_empty_samples(engine: str) -> None:
    """Left out of a mean, counted as 0 dB in a mean over samples, and 0 with a graph where there is nothing else."""
    pred, target, weight = images(3, 2, 9, 7)
    weight[1] = 0
    each = lf.PSNRLoss(engine=engine, reduction="none")(pred, target, weight)
    assert each[1] == 0 and (each[[0, 2]] < 0).all()
    close(lf.PSNRLoss(engine=engine)(pred, target, weight), (each[0] + each[2]) / 2)
    close(lf.PSNRLoss(engine=engine, sample_wise=True)(pred, target, weight), (each[0] + each[2]) / 3)
    close(lf.PSNRLoss(engine=engine, reduction="sum")(pred, target, weight), each[0] + each[2])
    pred[1] = torch.nan
    for loss in (lf.PSNRLoss(engine=engine), lf.PSNRLoss(engine=engine, sample_wise=True)):
        result, gradient = evaluate(loss, Data(pred, target, weight))
        assert torch.isfinite(result) and (gradient[1] == 0).all() and (gradient[0] != 0).any()


@every_engine
def test_psnr_weighs_pixels(engine: str) -> None:
    pred, target, weight = images(2, 3, 9, 7)
    w = weight.expand_as(pred)
    square = ((pred - target) ** 2 * w).sum((1, 2, 3)) / w.sum((1, 2, 3))
    close(lf.PSNRLoss(engine=engine)(pred, target, weight), 10 * (square + 1e-8).log10().mean())


@every_engine
def test_psnr_of_equal_images(engine: str, dtype: torch.dtype) -> None:
    """-80 dB with no gradient; beside it a finite one in every dtype."""
    pred = torch.rand(2, 3, 8, 8).to(dtype)
    for to_y in (False, True):
        result, gradient = evaluate(lf.PSNRLoss(engine=engine, to_y=to_y), Data(pred, pred.clone()))
        close(result.double(), torch.tensor(-80.0, dtype=torch.float64), 1e-7, 0)
        assert gradient.abs().max() == 0 and gradient.dtype == dtype
        nearly = (pred.double() + 2**-9).to(dtype)
        result, gradient = evaluate(lf.PSNRLoss(engine=engine, to_y=to_y), Data(nearly, pred))
        assert torch.isfinite(result) and torch.isfinite(gradient).all() and -80 < result < -40


@every_engine
def test_psnr_of_the_luma(engine: str) -> None:
    """As one converts images to Y before measuring: the difference of two lumas does not see the offset."""
    pred, target, weight = images(2, 3, 9, 7)
    matrix = np.array([65.481, 128.553, 24.966]) / 255
    y = [torch.from_numpy(np.tensordot(matrix, one.numpy(), (0, 1)) + 16 / 255)[:, None] for one in (pred, target)]
    for where in (None, weight, weight[:, 0]):
        for options in ({}, {"reduction": "none"}, {"sample_wise": True}):
            found = lf.PSNRLoss(engine=engine, to_y=True, **options)(pred, target, where)
            close(found, lf.PSNRLoss(engine=engine, **options)(*y, where))
    assert abs(found - lf.PSNRLoss(engine=engine)(pred, target, weight)) > 0.1
    logits = pred.logit()
    close(lf.PSNRLoss(engine=engine, to_y=True, link="sigmoid")(logits, target), lf.PSNRLoss(to_y=True)(pred, target))
    leaf = pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: lf.PSNRLoss(engine=engine, to_y=True)(p, target, weight), (leaf,), fast_mode=True)


def test_psnr_wants_three_channels_for_a_luma() -> None:
    pred, target, weight = images(2, 3, 9, 7)
    loss = lf.PSNRLoss(to_y=True)
    refused(lambda: loss(pred[:, :1], target[:, :1]), "PSNRLoss", "pred", "RGB", "3", "2, 1, 9, 7")
    refused(lambda: loss(pred, target, weight.expand(2, 3, 9, 7)), "PSNRLoss", "weight", "2, 1, 9, 7", "2, 3, 9, 7")
    refused(lambda: lf.PSNRLoss(to_y="yes"), "PSNRLoss", "to_y", "True or False")


@native
def test_psnr_shares_the_pass_of_pixel_losses() -> None:
    pred, target, weight = images(2, 3, 9, 7)
    losses = {"l1": lf.L1Loss(engine="cpp"), "psnr": lf.PSNRLoss(engine="cpp"), "mse": lf.MSELoss(engine="cpp", sample_wise=True)}
    leaf = pred.clone().requires_grad_()
    with Watch() as watch:
        out = lf.LossSet(losses)(leaf, target, weight)
        out.total.backward()
    assert watch.names == ["pair_fold", "pair_unfold"]
    for name, loss in losses.items():
        close(out.terms[name], loss(pred, target, weight))
    beside = lf.LossSet(l1=lf.L1Loss(engine="cpp"), psnr=lf.PSNRLoss(engine="cpp", to_y=True))
    assert beside.plan().count("pair fold") == 2
    close(beside(pred, target).terms["psnr"], lf.PSNRLoss(to_y=True)(pred, target))


# Gradients.


@every_engine
@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_the_gradient_loss_written_out(engine: str, padding: str) -> None:
    pred, target, weight = images(2, 3, 9, 7)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=torch.float64)
    padded = functional.pad(pred - target, (1,) * 4, mode={"zeros": "constant"}.get(padding, padding))
    values = sum(functional.conv2d(padded, k.expand(3, 1, 3, 3), groups=3).abs() for k in (sobel, sobel.T))
    loss = lf.GradientLoss(padding=padding, engine=engine)
    close(loss(pred, target), values.mean())
    w = weight.expand_as(values)
    close(loss(pred, target, weight), (values * w).sum() / w.sum())
    each = (values * w).sum((1, 2, 3)) / w.sum((1, 2, 3))
    close(lf.GradientLoss(padding=padding, sample_wise=True, engine=engine)(pred, target, weight), each.mean())
    close(lf.GradientLoss(padding=padding, reduction="none")(pred, target, weight), values * w)


@every_engine
def test_an_offset_costs_nothing_but_at_zero_padding(engine: str) -> None:
    pred, _, _ = images(1, 2, 8, 8)
    assert lf.GradientLoss(padding="replicate", engine=engine)(pred, pred + 0.5) < 1e-12
    # of a constant, |Sx| + |Sy| is 3 + 3 in the four corners and 4 in the other 24 pixels of the border, of 64
    close(lf.GradientLoss(engine=engine)(pred, pred + 0.5), torch.tensor(0.5 * (4 * 6 + 24 * 4) / 64, dtype=torch.float64))


# What the other losses of restoration promise.


@every_engine
@pytest.mark.parametrize("name", ["L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "CharbonnierLoss", "GradientLoss"])
def test_weights_and_samples_in_halves(name: str, engine: str, dtype: torch.dtype) -> None:
    """Each way of averaging, of numbers that the dtype holds, against the mean of the loss's own map in float64."""
    pred, target, weight = images(3, 3, 9, 7)
    pred, target, weight = pred.to(dtype), target.to(dtype), weight.to(torch.float32)
    weight[1] = 0
    for where in (None, weight, weight[:, 0], (weight > 0.5), weight.expand(3, 3, 9, 7)):
        full = torch.ones(3, 1, 9, 7) if where is None else where[:, None] if where.dim() == 3 else where
        w = full.double().expand(3, 3, 9, 7)
        values = lf.LOSSES[name](reduction="none", engine="eager")(pred.double(), target.double())
        sums, areas = (values * w).sum((1, 2, 3)), w.sum((1, 2, 3))
        for options, truth in (
            ({}, sums.sum() / areas.sum()),
            ({"reduction": "sum"}, sums.sum()),
            ({"sample_wise": True}, torch.where(areas > 0, sums / areas.clamp(min=1e-9), 0).mean()),
        ):
            result, gradient = evaluate(lf.LOSSES[name](engine=engine, **options), Data(pred, target, where))
            close(result.double(), truth, 2e-6, 0)
            assert torch.isfinite(gradient).all() and gradient.dtype == dtype
            assert (gradient[w.to(torch.bool) == 0] == 0).all() or name == "GradientLoss"


@every_engine
@pytest.mark.parametrize("options", [{}, {"sample_wise": True}, {"reduction": "sum"}], ids=str)
def test_charbonnier_of_equal_images_with_weights(engine: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    pred = torch.rand(2, 3, 8, 8).to(dtype)
    weight = torch.rand(2, 1, 8, 8).round()
    result, gradient = evaluate(lf.CharbonnierLoss(engine=engine, **options), Data(pred, pred.clone(), weight))
    truth = 3e-6 * weight.double().sum() if options.get("reduction") == "sum" else torch.tensor(1e-6, dtype=torch.float64)
    close(result.double(), truth, 1e-6, 0)
    assert gradient.abs().max() == 0
