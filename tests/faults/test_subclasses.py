"""Tensors of torchvision and MONAI, of several kinds in one call, are plain values: the same numbers, plain tensors back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
import lossfold.folds.label.needs
from lossfold import metrics

tv_tensors = pytest.importorskip("torchvision.tv_tensors")
meta = pytest.importorskip("monai.data").MetaTensor
PAIRS = [
    "L1Loss",
    "MSELoss",
    "SmoothL1Loss",
    "HuberLoss",
    "CharbonnierLoss",
    "PSNRLoss",
    "GradientLoss",
    "SSIMLoss",
    "UnknownL1Loss",
]
PAIRS += ["KnownL1Loss", "KnownSmoothL1Loss", "MattingGradientLoss", "LaplacianPyramidLoss", "MattingLoss", "MixedMattingLoss"]
SCORES = ["CrossEntropyLoss", "DiceLoss", "FocalLoss", "LovaszLoss", "OhemCrossEntropyLoss", "GeneralizedDiceLoss", "CEDiceLoss"]
engines = pytest.mark.parametrize("engine", lf.engines.available())


def same(call: Callable[..., Any], *given: Tensor) -> None:
    image, mask = tv_tensors.Image, tv_tensors.Mask
    kinds = [lambda x: x, image, mask]
    expected = call(*given)
    wraps = kinds[: len(given)] if len(given) <= 3 else [kinds[i % 3] for i in range(len(given))]
    for ways in (wraps, [meta, *wraps[1:]]):
        found = call(*(way(one) for way, one in zip(ways, given, strict=True)))
        found, truth = (getattr(value, "total", value) for value in (found, expected))
        assert type(found) is Tensor
        assert torch.equal(found, truth)


@engines
@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str, engine: str) -> None:
    options = {} if name == "PSNRLoss" else {"engine": engine}
    given = (torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16).round())
    same(getattr(lf, name)(**options), *given[: 2 if name == "PSNRLoss" else 3])


@engines
@pytest.mark.parametrize("name", SCORES)
def test_scores(name: str, engine: str) -> None:
    x, y, w = torch.randn(2, 3, 9, 9), torch.randint(0, 3, (2, 9, 9)), torch.rand(2, 9, 9)
    same(getattr(lf, name)(engine=engine), x, y, w)
    if name == "CrossEntropyLoss":
        leaf = meta(x).requires_grad_()
        lf.CrossEntropyLoss(engine=engine, reduction="none")(leaf, tv_tensors.Mask(y), tv_tensors.Image(w)).sum().backward()
        assert leaf.grad is not None
        same(lf.CrossEntropyLoss(engine=engine, reduction="none"), x, y, w)


def test_the_rest() -> None:
    a, b, w = (torch.rand(2, 1, 16, 16) for _ in range(3))
    x, y = torch.randn(2, 3, 9, 9), torch.randint(0, 3, (2, 9, 9))
    same(lf.LovaszLoss(exact=True), x, y, torch.rand(2, 9, 9))
    same(lambda *given: lf.functional.lovasz_bounds(*given)[0], x, y, torch.rand(2, 9, 9))
    same(lf.L1CompositionLoss(), a, *(torch.rand(2, 3, 16, 16) for _ in range(3)), w)
    same(lambda *given: lf.GANLoss("smgan")(given[0], True, mask=given[1]), a, w)
    same(lf.masked_loss(lambda pred, target: (pred - target) ** 4), a, b, w)
    for measure in (metrics.matting_sad, metrics.matting_grad, metrics.matting_conn):
        same(measure, a, b, w)
    same(metrics.psnr, a, b)
    same(metrics.ssim, a, b)
    same(lambda p, t: metrics.iou(p, t, C=3), y, y.roll(1))


def test_terms_of_a_set_still_share_their_pass() -> None:
    x, y = meta(torch.randn(2, 3, 9, 9)), tv_tensors.Mask(torch.randint(0, 3, (2, 9, 9)))
    criterion = lf.LossSet(a=lf.CrossEntropyLoss(inputs={"logits": "heads.0"}), b=lf.DiceLoss(inputs={"logits": "heads.0"}))
    calls = []
    collect = lf.folds.label.needs.LabelNeeds.collect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lf.folds.label.needs.LabelNeeds, "collect", lambda self, given: calls.append(1) or collect(self, given))
        out = criterion({"heads": [x, x], "labels": y})
    assert len(calls) == 1 and type(out.total) is Tensor
