"""LPIPS against the package ``lpips`` with the same backbone, and against float64."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.nets import lpips as channel_weights
from lossfold.nets.weights import initialize
from tests.losses.features.test_vgg import torchvision_features


@pytest.fixture(scope="module")
def peer() -> Any:
    """The package's own class, its backbone random (He's, so that deep features are no noise): nothing is downloaded."""
    torch.manual_seed(5)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        package = importlib.import_module("lpips")
        patch.setattr(package.pretrained_networks.tv, "vgg16", lambda **_: torchvision_features("vgg16"))  # no classifier: 500 MB
        network = package.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    initialize(network.net)
    return network


@pytest.fixture(scope="module")
def backbone(peer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its backbone with torchvision's names."""
    state = {}
    for part in (peer.net.slice1, peer.net.slice2, peer.net.slice3, peer.net.slice4, peer.net.slice5):
        for index, layer in part.named_children():
            if isinstance(layer, nn.Conv2d):
                state[f"features.{index}.weight"], state[f"features.{index}.bias"] = layer.weight.detach(), layer.bias.detach()
    assert len(state) == 26
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("linear", ["lpips", None])
def test_the_package_gives_the_same(
    linear: str | None, normalize: bool, peer: Any, backbone: str, images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "lpips", linear is not None)
    pair = [(x + 1) / 2 for x in images] if normalize else list(images)
    loss = lf.LPIPSLoss(pretrained=backbone, linear=linear, normalize=normalize)
    mine, theirs = (pair[0].clone().requires_grad_() for _ in range(2))
    expected = peer(theirs, pair[1], normalize=normalize).flatten()
    value = loss(mine, pair[1])
    torch.testing.assert_close(value, expected.mean(), rtol=1e-4, atol=0)
    each = lf.LPIPSLoss(pretrained=backbone, linear=linear, normalize=normalize, reduction="none", loss_weight=3.0)(mine, pair[1])
    torch.testing.assert_close(each, 3 * expected, rtol=1e-4, atol=0)
    value.backward()
    expected.mean().backward()
    assert float((mine.grad - theirs.grad).norm() / theirs.grad.norm()) < 1e-3


def test_against_float64(backbone: str, images: tuple[Tensor, Tensor]) -> None:
    """From the formula, with the channels' weights read from the package's file, on the loss's own features in float64."""
    folder = Path(importlib.util.find_spec("lpips").submodule_search_locations[0])
    state = torch.load(folder / "weights/v0.1/vgg.pth", map_location="cpu", weights_only=True)
    loss = lf.LPIPSLoss(pretrained=backbone).double()
    expected = torch.zeros(2, dtype=torch.float64)
    found, true = (loss.frozen.network((x.double() + 1) / 2) for x in images)
    assert tuple(found) == channel_weights.LAYERS
    for index, name in enumerate(channel_weights.LAYERS):
        a, b = (x[name] / x[name].pow(2).sum(1, keepdim=True).sqrt() for x in (found, true))
        weight = state[f"lin{index}.model.1.weight"].double()[0]
        expected += (weight * (a - b) ** 2).sum(1).mean((1, 2))
    torch.testing.assert_close(loss(*(x.double() for x in images)), expected.mean(), rtol=1e-6, atol=0)
    assert lf.LPIPSLoss(pretrained=backbone)(*images).dtype == torch.float32


class Dark(nn.Module):
    """Features that are 0 for black pixels."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"one": images, "two": (images * 2).relu()}


def test_pixels_without_features_have_a_finite_gradient() -> None:
    """The root in the norm has no slope at 0: published code gives NaN there."""
    loss = lf.LPIPSLoss(network=Dark(), linear=None, normalize=True)
    pred, target = torch.zeros(1, 3, 4, 4, requires_grad=True), torch.rand(1, 3, 4, 4)
    loss(pred, target).backward()
    assert torch.isfinite(pred.grad).all()
    assert float(loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))) == 0


def test_own_networks_and_channel_weights(tmp_path: Path) -> None:
    weights = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, 4.0])]
    torch.save({f"lin{i}.model.1.weight": w[None, :, None, None] for i, w in enumerate(weights)}, tmp_path / "mine.pth")
    loss = lf.LPIPSLoss(network=Dark(), linear=str(tmp_path / "mine.pth"), normalize=True)
    pred, target = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    a, b = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (pred, target))  # the factor 2 drops out
    expected = ((weights[0] + weights[1])[:, None, None] * (a - b) ** 2).sum(1).mean()
    torch.testing.assert_close(loss(pred, target).double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(loss.half()(pred, target).double(), expected, rtol=1e-2, atol=0)  # the weights follow the loss
    assert loss.weights.dtype == torch.float16
    with pytest.raises(lf.LossError, match=r"with \[64, 128, 256, 512, 512\] channels, as linear has"):
        lf.LPIPSLoss(network=Dark(), normalize=True)(pred, target)
    with pytest.raises(lf.LossError, match=r"returns a dict of features \[B, C, H, W\], got one that returns"):
        lf.LPIPSLoss(network=nn.Flatten(), linear=None)(pred, target)
    loss.linear = None
    torch.testing.assert_close(loss(pred, target).double(), 2 * ((a - b) ** 2).sum(1).mean(), rtol=1e-5, atol=0)


def test_wrong_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(words: str, **options: Any) -> None:
        with pytest.raises(lf.LossError, match=words):
            lf.LPIPSLoss(**({"pretrained": "random"} | options))

    refused("net must be one of 'vgg16'", net="alex")
    refused("reduction must be one of 'mean', 'none'", reduction="sum")
    refused("normalize must be True or False", normalize=None)
    refused("linear must be the path of a state dict, got '/nothing' .there is no such file", linear="/nothing")
    refused("linear must be 'lpips', the path", linear="")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    refused("linear must be weights of LPIPS, got .* without 'lin0", linear=str(tmp_path / "other.pth"))
    torch.save({"lin0.model.1.weight": torch.zeros(3, 3, 1, 1)}, tmp_path / "wide.pth")
    refused(r"'lin0.model.1.weight' \[1, C, 1, 1\], got \[3, 3, 1, 1\]", linear=str(tmp_path / "wide.pth"))
    monkeypatch.setattr(channel_weights.importlib.util, "find_spec", lambda _: None)
    refused("pip install --no-deps lpips, or linear=None")
    with pytest.raises(lf.LossError, match="in a set"):
        lf.LossSet(look=lf.LPIPSLoss(linear=None, pretrained="random", reduction="none"))


def test_images_too_small() -> None:
    loss = lf.LPIPSLoss(pretrained="random", linear=None)
    with pytest.raises(lf.LossError, match="pred must be images of at least 16x16"):
        loss(torch.rand(1, 3, 15, 32), torch.rand(1, 3, 15, 32))
