"""Mixed precision: inside and outside of autocast, half inputs, and gradients that are scaled.

A loss reads half inputs exactly and computes in float32: its value is that of the same numbers in float32, to the bit, and its
gradient that gradient rounded once for each of its passes. Losses over a frozen network run it in autocast's dtype, and are near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests import cases as labels
from tests.cases import ADVERSARIAL_LOSSES, FEATURE_LOSSES, Case, same_bits, value
from tests.dense import cases as dense
from tests.features.test_clip import IDS, OpenClip
from tests.features.test_identity import Stripes
from tests.features.test_texture import levels
from tests.pair import cases as pair
from tests.window import cases as window

HALVES = [torch.bfloat16, torch.float16]
SEVERAL_PASSES = {"MSSSIMLoss", "MattingLoss"}
"""Scales, and terms of two kinds: their gradients are rounded before they add up."""
Made = tuple[Tensor, tuple[Tensor | None, ...]]


def make(case: Case, dtype: torch.dtype = torch.float32) -> Made:
    """What a loss differentiates, and its other arguments."""
    if isinstance(case, pair.PairCase):
        paired = pair.make_pair(case, dtype=dtype)
        return paired.pred, (*paired.others, paired.region)
    if isinstance(case, window.WindowCase):
        images = window.make_images(case, dtype=dtype)
        return images.pred, (images.target, images.weight)
    data = (dense.make_dense if isinstance(case, dense.DenseCase) else labels.make)(case, (9, 7), dtype=dtype)
    return data.scores, (data.labels, data.weight)


def slope_of(result: Any, leaf: Tensor) -> tuple[Tensor, Tensor]:
    total = value(getattr(result, "total", result))
    return total.detach(), torch.autograd.grad(total, leaf, torch.ones_like(total))[0]


def wide(given: Any) -> Any:
    """The same numbers in float32."""
    return given.float() if isinstance(given, Tensor) and given.is_floating_point() else given


ALL: list[Case] = [*labels.cases(), *dense.dense_cases(), *pair.pair_cases(), *window.window_cases()]
SCALARS: list[Case] = list(
    {case.name + case.link: case for case in reversed(ALL) if case.options.get("reduction") is None}.values()
)


def test_every_loss_is_here() -> None:
    """Or, where a network is among the arguments, in `tests.adversarial.test_extremes` and `test_penalty_precision`."""
    assert {case.name for case in ALL} | {*FEATURE_LOSSES, *ADVERSARIAL_LOSSES} | labels.CONTAINERS == set(lf.LOSSES)
    assert {case.name for case in SCALARS} == {case.name for case in ALL}


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_half_inputs_are_read_exactly(case: Case, half: torch.dtype) -> None:
    """Inside of autocast and outside; float32 inputs inside of it give the same bits as outside."""
    loss = case.build()
    scores, others = make(case, half)
    exact = scores.float().requires_grad_()
    truth, slope = slope_of(loss(exact, *map(wide, others)), exact)
    assert torch.isfinite(truth).all() and torch.isfinite(slope).all()
    leaf = scores.requires_grad_()
    with torch.autocast("cpu", half):
        inside = slope_of(loss(leaf, *others), leaf)
        single = slope_of(loss(exact, *map(wide, others)), exact)
    for result, gradient in (inside, slope_of(loss(leaf, *others), leaf)):
        same_bits(result, truth)
        if case.name not in SEVERAL_PASSES:
            same_bits(gradient, slope.to(half))
        else:
            assert gradient.dtype == half
            assert (gradient.float() - slope).norm() < torch.finfo(half).eps * slope.norm()
    same_bits(single[0], truth)
    same_bits(single[1], slope)


def network(channels: int) -> nn.Conv2d:
    """Nearly the identity, so that its output is what the loss wants."""
    layer = nn.Conv2d(channels, channels, 1)
    with torch.no_grad():
        layer.weight.copy_(0.98 * torch.eye(channels)[:, :, None, None])
        layer.bias.fill_(0.004)
    return layer


def step(layer: nn.Module, scaler: Any, optimizer: Any, loss: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """One step as PyTorch's recipe has it; returns the value."""
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.float16):
        scores = layer(images)
        result = loss(scores)
        total = value(getattr(result, "total", result))
    assert scores.dtype == torch.float16 and total.dtype == torch.float32
    scaler.scale(total).backward()
    scaler.step(optimizer)
    scaler.update()
    return total.detach()


def train(loss: Callable[[Tensor], Any], images: Tensor) -> None:
    """Three steps at a usual scale, then one at a scale that no half holds."""
    layer = network(images.shape[1])
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    result = loss(layer(images))
    plain = torch.autograd.grad(value(getattr(result, "total", result)), list(layer.parameters()))
    scaler: Any = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
    for number in range(3):
        before = [parameter.detach().clone() for parameter in layer.parameters()]
        assert torch.isfinite(step(layer, scaler, optimizer, loss, images))
        moved = torch.cat([(old - new).detach().flatten() for old, new in zip(before, layer.parameters(), strict=True)])
        assert torch.isfinite(moved).all() and moved.any()
        if number == 0:
            slope = torch.cat([gradient.flatten() for gradient in plain])
            assert float((moved / 1e-3 - slope).norm() / slope.norm()) < 0.05
    assert scaler.get_scale() == 512.0
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    broken: Any = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    step(layer, broken, optimizer, loss, images)
    assert broken.get_scale() == 2.0**59
    assert all(torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))


@pytest.mark.parametrize("case", SCALARS, ids=lambda case: case.id)
def test_scaled_gradients(case: Case) -> None:
    """fp16 with GradScaler: three steps are those of float32, and what overflows is skipped and scaled down."""
    area = {"reference_area": 63} if "reference_area" in case.options else {}  # the picture's, in place of a crop's
    loss = case.build(**area)
    scores, others = make(case)
    train(lambda x: loss(x, *others), scores)


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


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_feature_losses_are_near(name: str, half: torch.dtype) -> None:
    """Half images and a network in halves: finite, in float32, near the value and the gradient."""
    loss, images = feature_loss(name)
    exact = images.clone().requires_grad_()
    truth, slope = slope_of(loss(exact), exact)
    leaf = images.to(half).requires_grad_()
    with torch.autocast("cpu", half):
        result, gradient = slope_of(loss(leaf), leaf)
    assert result.dtype == torch.float32 and gradient.dtype == half
    torch.testing.assert_close(result, truth, rtol=3e-2, atol=0)
    assert torch.isfinite(gradient).all()
    similar = torch.cosine_similarity(gradient.float().flatten(), slope.flatten(), dim=0)
    swaps = name == "LightCNNFeatureLoss"  # of maxima that are nearly equal, in each of its layers: 8 times as many in bfloat16
    assert similar > ((0.9 if half == torch.bfloat16 else 0.97) if swaps else 0.99)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_scaled_gradients_of_feature_losses(name: str) -> None:
    train(*feature_loss(name))
