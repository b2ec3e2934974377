"""Mixed precision of losses over a frozen network: they run it in autocast's dtype, and are near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.contract.case import slope_of, value
from tests.contract.scaling import HALVES, train
from tests.internals import FEATURES
from tests.losses.features.test_clip import IDS, OpenClip
from tests.losses.features.test_identity import Stripes
from tests.losses.features.test_texture import levels


class Layers(nn.Module):
    """A network of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = self.first(images).relu()
        return {"first": first, "second": self.second(first).relu()}


def feature_loss(name: str) -> tuple[Callable[[Tensor], Any], Tensor]:
    """A feature loss with a small network, as a function of its images."""
    generator = torch.Generator().manual_seed(7)
    pred, target = (torch.rand(2, 3, 32, 40, generator=generator) for _ in range(2))
    if name == "PerceptualLoss":
        perceptual = lf.PerceptualLoss(layer_weights={"4": 1.0}, vgg_type="vgg11", pretrained="random", style_weight=1.0)
        return lambda x: perceptual(x, target), pred
    if name == "LPIPSLoss":
        lpips = lf.LPIPSLoss(network=Layers(), linear=None)
        return lambda x: lpips(x, target), pred
    if name == "DISTSLoss":
        dists = lf.DISTSLoss(network=Layers(), weights=None)
        return lambda x: dists(x, target), pred
    if name == "FaceIdLoss":
        face = lf.FaceIdLoss(network=Stripes())
        return lambda x: face(x, target), pred
    if name == "LightCNNFeatureLoss":
        light = lf.LightCNNFeatureLoss(pretrained="random")
        pred, target = (torch.rand(2, 3, 128, 128, generator=generator) for _ in range(2))
        return lambda x: light(x, target), pred
    if name == "CLIPLoss":
        clip = lf.CLIPLoss(network=OpenClip())
        return lambda x: clip(x, IDS), pred
    assert name == "TransferalPerceptualLoss"
    texture = lf.TransferalPerceptualLoss()
    maps, attention, textures = levels()
    return lambda x: texture((x, *maps[1:]), attention, textures), maps[0]


slowly = pytest.mark.slow  # a deep network in halves, which CPUs emulate
NEAR = [pytest.param(name, half, marks=[slowly] * (name == "LightCNNFeatureLoss")) for name in FEATURES for half in HALVES]


@pytest.mark.parametrize(("name", "half"), NEAR, ids=str)
def test_feature_losses_are_near(name: str, half: torch.dtype) -> None:
    """Half images and a network in halves: finite, in float32, near the value and the gradient."""
    loss, images = feature_loss(name)
    exact = images.clone().requires_grad_()
    result = value(loss(exact))
    truth, slope = result.detach(), slope_of(result, exact)
    leaf = images.to(half).requires_grad_()
    with torch.autocast("cpu", half):
        result = value(loss(leaf))
    gradient = slope_of(result, leaf)
    assert result.dtype == torch.float32 and gradient.dtype == half
    torch.testing.assert_close(result, truth, rtol=3e-2, atol=0)
    assert torch.isfinite(gradient).all()
    similar = torch.cosine_similarity(gradient.float().flatten(), slope.flatten(), dim=0)
    swaps = name == "LightCNNFeatureLoss"  # of maxima that are nearly equal, in each of its layers: 8 times as many in bfloat16
    assert similar > ((0.9 if half == torch.bfloat16 else 0.97) if swaps else 0.99)


@pytest.mark.parametrize("name", [pytest.param(one, marks=slowly) if one == "LightCNNFeatureLoss" else one for one in FEATURES])
def test_scaled_gradients_of_feature_losses(name: str) -> None:
    train(*feature_loss(name))
