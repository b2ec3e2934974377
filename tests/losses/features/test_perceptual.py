"""Perceptual and style losses against float64 formulas of torchvision's layers, and every option."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.losses.features.test_vgg import torchvision_features

LAYERS = {"relu1_1": 0.5, "conv2_1": 2.0, "pool2": 1.0}
INDICES = {1: 0.5, 3: 2.0, 5: 1.0}  # the same, in vgg11


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("weights") / "vgg11.pth"
    torch.save(torchvision_features("vgg11").state_dict(), path)
    return str(path)


def truth(
    pred: Tensor, target: Tensor, weights: str, *, criterion: str, content: dict[int, float], style: dict[int, float], norm: bool
) -> tuple[Tensor, Tensor]:
    """Both parts in float64, from the formulas, on torchvision's layers."""
    peer = torchvision_features("vgg11").double()
    peer.load_state_dict(torch.load(weights, weights_only=True))
    mean, std = (torch.tensor(x).double()[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def features(images: Tensor) -> dict[int, Tensor]:
        x, found = (images.double() / 2 + 0.5 if norm else images.double()) - mean, {}
        x = x / std
        for index, layer in enumerate(peer.features[:6]):
            x = layer(x.clone())
            found[index] = x
        return found

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean() if criterion == "l1" else ((a - b) ** 2).mean()

    def gram(x: Tensor) -> Tensor:
        return torch.einsum("bchw,bdhw->bcd", x, x) / x[0].numel()

    found, true = features(pred), features(target.detach())
    perceptual = sum(w * distance(found[i], true[i]) for i, w in content.items())
    styled = sum(w * distance(gram(found[i]), gram(true[i])) for i, w in style.items())
    return torch.as_tensor(perceptual), torch.as_tensor(styled)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("criterion", ["l1", "mse"])
def test_values_and_gradients(criterion: str, norm: bool, weights: str, images: tuple[Tensor, Tensor]) -> None:
    style = {3: 4.0}
    loss = lf.PerceptualLoss(
        layer_weights=LAYERS,
        layer_weights_style={"3": 4.0},
        criterion=criterion,
        norm_img=norm,
        perceptual_weight=0.7,
        style_weight=30.0,
        vgg_type="vgg11",
        pretrained=weights,
        loss_weight=2.0,
    )
    pred, target = images
    leaf = pred.clone().requires_grad_()
    parts = loss(leaf, target)
    double = pred.double().requires_grad_()
    expected = truth(double, target, weights, criterion=criterion, content=INDICES, style=style, norm=norm)
    for part, value, weight in zip(parts, expected, (1.4, 60.0), strict=True):
        torch.testing.assert_close(part.double(), weight * value, rtol=2e-5, atol=0)
        (slope,) = torch.autograd.grad(part, leaf, retain_graph=True)
        (exact,) = torch.autograd.grad(weight * value, double, retain_graph=True)
        assert float((slope.double() - exact).norm() / exact.norm()) < (
            1e-2 if criterion == "l1" else 1e-4
        )  # signs at 0 may differ
    in_double = loss.double()(double, target.double())  # the same network in float64 has the gradient to the last digits
    for part, value, weight in zip(in_double, expected, (1.4, 60.0), strict=True):
        (slope,) = torch.autograd.grad(part, double, retain_graph=True)
        (exact,) = torch.autograd.grad(weight * value, double, retain_graph=True)
        torch.testing.assert_close(slope, exact, rtol=1e-6, atol=1e-12)


def test_style_takes_the_layers_of_content_by_default(weights: str, images: tuple[Tensor, Tensor]) -> None:
    loss = lf.PerceptualLoss(layer_weights={"1": 1.0, 5: 3.0}, vgg_type="vgg11", pretrained=weights)
    expected = truth(*images, weights, criterion="l1", content={1: 1.0, 5: 3.0}, style={1: 1.0, 5: 3.0}, norm=True)
    for part, value in zip(loss(*images), expected, strict=True):
        torch.testing.assert_close(part.double(), value, rtol=2e-5, atol=0)


def test_parts_that_are_off_are_zero_with_a_zero_gradient(weights: str, images: tuple[Tensor, Tensor]) -> None:
    pred = images[0].clone().requires_grad_()
    common = {"vgg_type": "vgg11", "pretrained": weights}
    off = {
        "style": [
            lf.PerceptualLoss(layer_weights=LAYERS, style_weight=0.0, **common),
            lf.PerceptualLoss(layer_weights=LAYERS, layer_weights_style={}, **common),
        ],
        "perceptual": [
            lf.PerceptualLoss(layer_weights=LAYERS, perceptual_weight=0, **common),
            lf.PerceptualLoss(layer_weights={}, layer_weights_style=LAYERS, **common),
            lf.PerceptualLoss(layer_weights={"1": 0.0}, layer_weights_style=LAYERS, **common),
        ],
    }
    for name, losses in off.items():
        for loss in losses:
            parts = loss(pred, images[1])._asdict()
            silent = parts.pop(name)
            assert silent.shape == () and float(silent.detach()) == 0
            (slope,) = torch.autograd.grad(silent, pred)
            assert not slope.any()
            assert all(float(part.detach()) > 0 for part in parts.values())
    none = lf.PerceptualLoss(layer_weights={}, **common)(pred, images[1])
    assert float(none.total.detach()) == 0 and none.total.requires_grad


def test_sets_and_functions_take_the_sum(weights: str, images: tuple[Tensor, Tensor]) -> None:
    options = {"layer_weights": LAYERS, "vgg_type": "vgg11", "pretrained": weights}
    loss = lf.PerceptualLoss(**options)
    parts = loss(*images)
    out = lf.LossSet(look=0.25 * loss, l1=lf.L1Loss())(*images)
    torch.testing.assert_close(out.terms["look"], parts.perceptual + parts.style)
    torch.testing.assert_close(out.weighted["look"], 0.25 * parts.total)
    torch.testing.assert_close(lf.functional.perceptual_loss(*images, **options), parts.total)
    routed = lf.PerceptualLoss(**options, inputs={"pred": "fake", "target": "real"})
    torch.testing.assert_close(routed({"fake": images[0], "real": images[1]}).total, parts.total)


def test_the_target_takes_no_gradient(weights: str, images: tuple[Tensor, Tensor]) -> None:
    pred, target = (x.clone().requires_grad_() for x in images)
    lf.PerceptualLoss(layer_weights=LAYERS, vgg_type="vgg11", pretrained=weights)(pred, target).total.backward()
    assert pred.grad is not None and pred.grad.any() and target.grad is None


class Half(nn.Module):
    """Features as large as real ones, in float16."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"big": (images * 3000).half()}


def test_grams_of_half_features_do_not_overflow() -> None:
    """The Gram sums of float16 features of 3000 overflow 65504 where they are made in float16."""
    loss = lf.PerceptualLoss(layer_weights={"big": 1.0}, network=Half(), norm_img=False)
    pred, target = torch.full((1, 3, 8, 8), 0.9, requires_grad=True), torch.full((1, 3, 8, 8), 0.5)
    parts = loss(pred, target)
    a, b = (np.float64(np.float16(np.float32(x) * np.float32(3000))) for x in (0.9, 0.5))
    np.testing.assert_allclose(float(parts.perceptual.detach()), a - b, rtol=1e-6)
    np.testing.assert_allclose(float(parts.style.detach()), (a * a - b * b) / 3, rtol=1e-6)
    parts.total.backward()
    assert torch.isfinite(pred.grad).all() and pred.grad.all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_gram_matrices(half: torch.dtype, images: tuple[Tensor, Tensor]) -> None:
    """Where the network itself has nothing to autocast, its loss has the same bits."""
    loss = lf.PerceptualLoss(layer_weights={"features": 1.0}, network=nn.ReLU())
    exact = loss(*images)
    with torch.autocast("cpu", half):
        parts = loss(*images)
    assert torch.equal(parts.style, exact.style) and torch.equal(parts.perceptual, exact.perceptual)


def test_own_networks(images: tuple[Tensor, Tensor]) -> None:
    """A tensor is the feature "features"; a dict is taken by its names; what is trained elsewhere stays as it is."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4))
    loss = lf.PerceptualLoss(layer_weights={"features": 1.0}, network=network, norm_img=False, style_weight=0)
    assert network.training and all(p.requires_grad for p in network.parameters())
    eager = nn.Sequential(network[0], network[2]).eval()
    expected = (eager(images[0]) - eager(images[1])).abs().mean().detach()
    torch.testing.assert_close(loss.train()(*images).perceptual, expected)
    network.train()
    nn.init.zeros_(network[0].weight)
    torch.testing.assert_close(loss(*images).perceptual, expected)
    with pytest.raises(
        lf.LossError, match=r"layer_weights must be names among the network's features \['features'\], got 'relu1_1'"
    ):
        lf.PerceptualLoss(layer_weights={"relu1_1": 1.0}, network=network)(*images)
    with pytest.raises(lf.LossError, match="returns a int"):
        lf.PerceptualLoss(layer_weights={"a": 1.0}, network=Number())(*images)
    flat = lf.PerceptualLoss(layer_weights={"features": 1.0}, network=nn.Flatten())
    with pytest.raises(lf.LossError, match=r"layer_weights_style must be names of features \[B, C, H, W\]"):
        flat(*images)


class Number(nn.Module):
    def forward(self, images: Tensor) -> int:
        return 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer_weights": None}, "layer_weights must be a dict"),
        ({"layer_weights": ["relu1_1"]}, "layer_weights must be a dict"),
        ({"layer_weights": {"relu1_2": 1.0}}, "names of vgg11's layers.* got 'relu1_2' .did you mean"),
        ({"layer_weights": {99: 1.0}}, "indices from 0 to 20, got 99"),
        ({"layer_weights": {-1: 1.0}}, "indices from 0 to 20, got -1"),
        ({"layer_weights": {"relu1_1": -1.0}}, "numbers >= 0, also at 'relu1_1'"),
        ({"layer_weights": {"relu1_1": 1.0, "1": 1.0}}, "names each layer once"),
        ({"layer_weights_style": {"pool9": 1.0}}, "layer_weights_style must be given by names of vgg11's layers"),
        ({"vgg_type": "vgg17"}, "vgg_type must be one of"),
        ({"criterion": "l2"}, "criterion must be one of 'l1', 'mse'"),
        ({"perceptual_weight": -1.0}, "perceptual_weight must be a number >= 0"),
        ({"style_weight": True}, "style_weight must be a number >= 0"),
        ({"norm_img": 1}, "norm_img must be True or False"),
        ({"pretrained": None}, "got None .or network="),
        ({"network": nn.ReLU()}, "pretrained must be None, because network is given"),
        ({"network": 3, "pretrained": None}, "network must be a module, or None"),
        ({"layer_weight": {}}, "did you mean 'layer_weights'"),
    ],
)
def test_wrong_options(options: dict[str, object], words: str) -> None:
    good = {"layer_weights": {"relu1_1": 1.0}, "vgg_type": "vgg11", "pretrained": "random"}
    with pytest.raises(lf.LossError, match=words):
        lf.PerceptualLoss(**(good | options))


def test_options_may_change(weights: str, images: tuple[Tensor, Tensor]) -> None:
    """What the network is built from builds it again, everything else keeps it; a refused value changes nothing."""
    loss = lf.PerceptualLoss(layer_weights={"relu1_1": 1.0}, vgg_type="vgg11", pretrained="random")
    network, before = loss.frozen.network, loss(*images)
    loss.loss_weight, loss.layer_weights, loss.style_weight = 3.0, {"1": 2.0}, 0.5
    assert loss.frozen.network is network
    torch.testing.assert_close(loss(*images).perceptual, 6 * before.perceptual)
    with pytest.raises(lf.LossError):
        loss.pretrained = "/no/such/file"
    assert loss.pretrained == "random" and loss.layer_weights == {"1": 2.0}
    loss.pretrained = weights
    assert loss.frozen.network is not network
