"""The network of a loss: frozen, in no parameters and no checkpoint, moved and copied with the loss."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.losses.features.frozen import FeatureLoss


def perceptual(**options: Any) -> lf.PerceptualLoss:
    return lf.PerceptualLoss(
        **({"layer_weights": {"relu1_1": 1.0, "conv2_1": 1.0}, "vgg_type": "vgg11_bn", "pretrained": "random"} | options)
    )


def test_frozen(images: tuple[Tensor, Tensor]) -> None:
    """train() and requires_grad_() do not reach the network; a step of an optimiser has nothing to change."""
    loss = perceptual()
    model = nn.ModuleDict({"network": nn.Conv2d(3, 3, 1), "loss": loss})
    before = loss(*images).total
    network = loss.frozen.network
    statistics = network.features[1].running_mean.clone()
    model.train().requires_grad_(True)
    assert not any(module.training for module in network.modules()) and not any(p.requires_grad for p in network.parameters())
    loss(model["network"](images[0]), images[1]).total.backward()
    assert model["network"].weight.grad.any() and all(p.grad is None for p in network.parameters())
    assert torch.equal(loss(*images).total, before) and torch.equal(network.features[1].running_mean, statistics)
    assert not list(loss.parameters()) and not list(loss.buffers()) and not loss.state_dict()
    assert [name for name, _ in model.named_parameters()] == ["network.weight", "network.bias"]
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    assert len(file.getvalue()) < 10_000


def test_copies_share_the_network_until_one_is_moved(images: tuple[Tensor, Tensor]) -> None:
    loss = perceptual()
    other, scaled = copy.deepcopy(loss), 0.5 * loss
    assert other.frozen is not loss.frozen
    assert other.frozen.network is loss.frozen.network is scaled.frozen.network
    before = loss(*images)
    torch.testing.assert_close(scaled(*images).total, 0.5 * before.total)
    other.double()
    assert other.frozen.network is not loss.frozen.network
    assert loss.frozen.dtype == torch.float32 and loss(*images).total.dtype == torch.float32
    assert other(*images).total.dtype == torch.float64
    torch.testing.assert_close(other(*images).total.float(), before.total, rtol=1e-5, atol=0)
    scaled.double()
    loss.half()
    assert scaled.frozen.network is not other.frozen.network
    assert loss.frozen.network.features[0].weight.dtype == loss.frozen.network.mean.dtype == torch.float16
    assert loss(*images).total.dtype == torch.float32


def test_an_own_network_is_copied_once(images: tuple[Tensor, Tensor]) -> None:
    loss = lf.PerceptualLoss(layer_weights={"features": 1.0}, network=nn.Conv2d(3, 4, 3))
    other = copy.deepcopy(loss)
    assert loss.network is loss.frozen and other.network is other.frozen and other.frozen.network is loss.frozen.network
    other.loss_weight = 2.0
    assert other.frozen.network is loss.frozen.network
    assert torch.equal(other(*images).total, 2 * loss(*images).total)
    other.to("meta")
    assert other.frozen.device == torch.device("meta") and loss.frozen.device == torch.device("cpu")
    with pytest.raises(lf.LossError, match=r"pred must be on the network's device, meta, got cpu .*\.to\('cpu'\)"):
        other(*images)


def test_pickle_and_repr(images: tuple[Tensor, Tensor]) -> None:
    loss = 0.5 * perceptual(criterion="mse", norm_img=False, style_weight=2.0)
    again = pickle.loads(pickle.dumps(loss))
    assert torch.equal(again(*images).total, loss(*images).total)
    assert repr(again) == repr(loss) and "0x" not in repr(loss)
    rebuilt = eval(repr(loss), vars(lf))
    assert repr(rebuilt) == repr(loss)
    assert (
        lf.build({"type": "PerceptualLoss", "layer_weights": {"4": 1}, "vgg_type": "vgg13", "pretrained": "random"})(*images).total
        > 0
    )


def test_moves_inside_of_a_model(images: tuple[Tensor, Tensor]) -> None:
    model = nn.Sequential(perceptual())
    model.to(torch.float64)
    assert model[0].frozen.dtype == torch.float64 and model[0](*images).total.dtype == torch.float64


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast(half: torch.dtype, images: tuple[Tensor, Tensor]) -> None:
    """The network runs in autocast's dtype, the criterion and the Gram matrices in float32."""
    seen: list[torch.dtype] = []
    loss = perceptual(style_weight=10.0)
    loss.frozen.network.features[4].register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    exact = loss(*images)
    leaf = images[0].clone().requires_grad_()
    with torch.autocast("cpu", half):
        parts = loss(leaf, images[1])
    assert seen == [torch.float32] * 2 + [half] * 2
    assert all(part.dtype == torch.float32 for part in parts)
    torch.testing.assert_close(parts, type(parts)(*exact), rtol=3e-2, atol=0)
    parts.total.backward()
    assert leaf.grad.dtype == torch.float32 and torch.isfinite(leaf.grad).all() and leaf.grad.any()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_images_are_brought_to_the_networks_dtype(half: torch.dtype, images: tuple[Tensor, Tensor]) -> None:
    """The arithmetic on images is done after the cast: the value is that of the rounded images, exactly."""
    loss = perceptual()
    pred, target = (x.to(half) for x in images)
    leaf = pred.clone().requires_grad_()
    parts = loss(leaf, target)
    assert torch.equal(parts.total, loss(pred.float(), target.float()).total)
    parts.total.backward()
    assert leaf.grad.dtype == half and leaf.grad.any()


def wrong_images() -> dict[str, tuple[Any, Any, str]]:
    ok = torch.rand(2, 3, 32, 32)
    return {
        "bytes": (
            (ok * 255).byte(),
            ok,
            r"pred must be images \[B, 3, H, W\] of floats, got torch.uint8 \(bytes are images / 255\)",
        ),
        "bytes of the target": (ok, (ok * 255).byte(), "target must be images .* of floats, got torch.uint8"),
        "grey": (ok[:, :1], ok, r"pred must be images .*, got 1 channels \(grey images are pred.expand\(-1, 3, -1, -1\)\)"),
        "alpha": (torch.rand(2, 4, 32, 32), ok, "got 4 channels"),
        "one image": (ok[0], ok[0], r"got a tensor \[3, 32, 32\]"),
        "no image": (ok[:0], ok[:0], r"got a tensor \[0, 3, 32, 32\]"),
        "another size": (ok, ok[..., :16], r"target must be of pred's shape \[2, 3, 32, 32\], got \[2, 3, 32, 16\]"),
        "another batch": (ok, ok[:1], "target must be of pred's shape"),
        "no tensor": (ok, None, "target must be images .*, got NoneType"),
    }


@pytest.mark.parametrize("case", list(wrong_images()))
def test_wrong_images(case: str) -> None:
    pred, target, words = wrong_images()[case]
    with pytest.raises(lf.LossError, match=words):
        perceptual()(pred, target)
    with pytest.raises(lf.LossError, match=words):
        lf.LossSet(look=perceptual())(pred, target)


def test_images_too_small_for_the_deepest_layer() -> None:
    deep = perceptual(layer_weights={"pool3": 1.0})
    small = torch.rand(1, 3, 8, 7)
    with pytest.raises(lf.LossError, match="pred must be images of at least 8x8 for these layers, got 8x7"):
        deep(small, small)
    assert deep(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)).total > 0


def test_compiles(images: tuple[Tensor, Tensor]) -> None:
    loss = lf.LossSet(look=perceptual(), l1=lf.L1Loss(engine="eager"))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    one, two = (images[0].clone().requires_grad_() for _ in range(2))
    compiled(one, images[1]).total.backward()
    loss(two, images[1]).total.backward()
    torch.testing.assert_close(one.grad, two.grad)


def test_every_feature_loss_says_where_weights_come_from() -> None:
    for cls in (cls for cls in lf.LOSSES.values() if issubclass(cls, FeatureLoss)):
        sample = cls.samples[0]
        if "pretrained" in sample:
            with pytest.raises(lf.LossError, match=r"pretrained must be .*'random'.*, got None \(or network=\)"):
                cls(**{key: value for key, value in sample.items() if key != "pretrained"})
