"""Identity and LightCNN losses: the networks' published names, the crop, the formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from lossfold.nets.ir_se import IRSE50
from lossfold.nets.light_cnn import LightCNN
from lossfold.nets.weights import initialize


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in network.state_dict().items() if not name.endswith("num_batches_tracked")}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{entry}": (width,) for entry in ("weight", "bias", "running_mean", "running_var")}


def test_ir_se50_has_the_published_names() -> None:
    """As TreB1eN's InsightFace_Pytorch lists them, whose ``model_ir_se50.pth`` ArcFace users load: 24 units in four stages."""
    expected = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,), **norm("input_layer.1", 64)}
    widths = [64] * 3 + [128] * 4 + [256] * 14 + [512] * 3
    before = 64
    for index, width in enumerate(widths):
        unit = f"body.{index}"
        if width != before:
            expected |= {f"{unit}.shortcut_layer.0.weight": (width, before, 1, 1), **norm(f"{unit}.shortcut_layer.1", width)}
        expected |= norm(f"{unit}.res_layer.0", before) | norm(f"{unit}.res_layer.4", width)
        expected[f"{unit}.res_layer.1.weight"] = (width, before, 3, 3)
        expected[f"{unit}.res_layer.2.weight"] = (width,)
        expected[f"{unit}.res_layer.3.weight"] = (width, width, 3, 3)
        expected[f"{unit}.res_layer.5.fc1.weight"] = (width // 16, width, 1, 1)
        expected[f"{unit}.res_layer.5.fc2.weight"] = (width, width // 16, 1, 1)
        before = width
    expected |= norm("output_layer.0", 512) | norm("output_layer.4", 512)
    expected |= {"output_layer.3.weight": (512, 25088), "output_layer.3.bias": (512,)}
    with torch.device("meta"):
        network = IRSE50()
    assert shapes(network) == expected
    assert sum(p.numel() for p in network.parameters()) == 43_797_696


def test_ir_se50_shrinks_at_the_first_unit_of_each_stage() -> None:
    with torch.device("meta"):
        network = IRSE50().eval()
        x = network.input_layer(torch.empty(1, 3, 112, 112))
        sizes = []
        for unit in network.body:
            x = unit(x)
            sizes.append(x.shape[2])
        assert network(torch.empty(2, 3, 112, 112)).shape == (2, 512)
    assert sizes == [56] * 3 + [28] * 4 + [14] * 14 + [7] * 3


def test_a_unit_is_the_formula() -> None:
    """One unit with a shortcut of its own, and one without, from their parts in float64."""
    network = IRSE50().body[3:5].double().eval()
    initialize(network)
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    x = torch.randn(1, 64, 8, 8, dtype=torch.float64)
    result = network(x)
    with torch.no_grad():
        for unit, stride in zip(network, (2, 1), strict=True):
            state = unit.state_dict()

            def bn(y: Tensor, name: str, state: dict[str, Tensor] = state) -> Tensor:
                mean, var, weight, bias = (
                    state[f"{name}.{e}"][:, None, None] for e in ("running_mean", "running_var", "weight", "bias")
                )
                return (y - mean) / (var + 1e-5).sqrt() * weight + bias

            y = functional.conv2d(bn(x, "res_layer.0"), state["res_layer.1.weight"], padding=1)
            y = torch.where(y > 0, y, state["res_layer.2.weight"][:, None, None] * y)
            y = bn(functional.conv2d(y, state["res_layer.3.weight"], padding=1, stride=stride), "res_layer.4")
            squeezed = y.mean((2, 3)) @ state["res_layer.5.fc1.weight"][..., 0, 0].T
            y = y * (squeezed.relu() @ state["res_layer.5.fc2.weight"][..., 0, 0].T).sigmoid()[..., None, None]
            shortcut = "shortcut_layer.0.weight"
            x = y + (
                bn(functional.conv2d(x, state[shortcut], stride=stride), "shortcut_layer.1")
                if shortcut in state
                else x[..., ::stride, ::stride]
            )
    torch.testing.assert_close(result.detach(), x, rtol=1e-9, atol=1e-9)


def test_the_published_file_loads(tmp_path: Path) -> None:
    """A state dict by those names, `num_batches_tracked` and all; one entry too few or too many is refused."""
    torch.manual_seed(1)
    network = IRSE50()
    initialize(network)
    state = network.state_dict()
    torch.save(state, tmp_path / "model_ir_se50.pth")
    loss = lf.FaceIdLoss(pretrained=str(tmp_path / "model_ir_se50.pth"))
    assert all(torch.equal(x, state[name]) for name, x in loss.frozen.network.state_dict().items())
    pred, target = (torch.rand(2, 3, 256, 256) * 2 - 1 for _ in range(2))
    leaf = pred.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    with torch.no_grad():
        found, true = (network.eval()(functional.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112)) for x in (pred, target))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(value.detach(), (1 - (found * true).sum(1)).mean(), rtol=1e-4, atol=1e-6)
    assert leaf.grad.any() and not leaf.grad[:, :, :35].any() and not leaf.grad[..., 220:].any()
    small = {name: x for name, x in state.items() if name == "body.3.shortcut_layer.0.weight"}
    torch.save(small, tmp_path / "small.pth")
    with pytest.raises(lf.LossError, match=r"without 'input_layer\.0\.weight'"):
        lf.FaceIdLoss(pretrained=str(tmp_path / "small.pth"))


class Stripes(nn.Module):
    """Identity features that can be followed by hand: the face itself."""

    def forward(self, faces: Tensor) -> Tensor:
        assert faces.shape[1:] == (3, 112, 112)
        return faces.flatten(1)


def pooled(image: np.ndarray, size: int) -> np.ndarray:
    """Mean of areas, from the bounds that adaptive pooling has: floor(i·n/s) to ceil((i+1)·n/s)."""
    rows, columns = image.shape[-2:]
    found = np.empty((*image.shape[:-2], size, size))
    for i in range(size):
        for j in range(size):
            top, bottom, left, right = (
                i * rows // size,
                -(-(i + 1) * rows // size),
                j * columns // size,
                -(-(j + 1) * columns // size),
            )
            found[..., i, j] = image[..., top:bottom, left:right].mean((-1, -2))
    return found


@pytest.mark.parametrize("size", [(256, 256), (300, 256), (256, 200)])
@pytest.mark.parametrize("crop", [True, False])
def test_crop_and_cosine_against_float64(size: tuple[int, int], crop: bool) -> None:
    """A side that is not 256 is brought to it, whichever it is; published code looks at the rows only."""
    images = [torch.rand(2, 3, *size) * 2 - 1 for _ in range(2)]
    faces = []
    for image in images:
        x = image.double().numpy()
        if crop:
            x = (pooled(x, 256) if size != (256, 256) else x)[..., 35:223, 32:220]
        faces.append(pooled(x, 112).reshape(2, -1))
    a, b = faces
    expected = np.mean(1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    loss = lf.FaceIdLoss(network=Stripes(), crop=crop, loss_weight=3.0)
    assert float(loss(*images)) == pytest.approx(3 * expected, rel=1e-5)


def test_identity_is_zero_for_the_same_face_and_has_gradients_for_pred_only() -> None:
    loss = lf.FaceIdLoss(network=Stripes())
    face = torch.rand(2, 3, 64, 64)
    assert float(loss(face, face)) == pytest.approx(0, abs=1e-6) and float(loss(face, -face)) == pytest.approx(2, abs=1e-6)
    pred, target = face.clone().requires_grad_(), torch.rand_like(face).requires_grad_()
    lf.LossSet(who=loss)(pred, target).total.backward()
    assert pred.grad.any() and target.grad is None
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(pred, target), loss(pred, target))
    routed = lf.FaceIdLoss(network=Stripes(), inputs={"pred": "fake_imgs", "target": "real_imgs"})
    torch.testing.assert_close(routed({"fake_imgs": pred, "real_imgs": target}), loss(pred, target))


def test_light_cnn_has_mmagics_names_and_formula(tmp_path: Path) -> None:
    widths = {0: (3, 48, 5), 2: (48, 48, 1), 3: (48, 96, 3), 5: (96, 96, 1), 6: (96, 192, 3), 8: (192, 192, 1), 9: (192, 128, 3)}
    widths |= {10: (128, 128, 1), 11: (128, 128, 3)}
    expected = {f"features.{i}.filter.weight": (2 * o, c, k, k) for i, (c, o, k) in widths.items()}
    expected |= {f"features.{i}.filter.bias": (2 * o,) for i, (_, o, _) in widths.items()}
    network = LightCNN()
    initialize(network)
    assert shapes(network) == expected
    state = network.state_dict()
    torch.save(state | {"classifier.2.bias": torch.zeros(1)}, tmp_path / "light_cnn.pth")  # a discriminator has a classifier too
    images = [torch.rand(1, 3, 37, 32) for _ in range(2)]

    def features(x: Tensor) -> Tensor:
        x = x.double()
        for index in range(13):
            if index in widths:
                weight, bias = (state[f"features.{index}.filter.{e}"].double() for e in ("weight", "bias"))
                y = functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
                x = torch.maximum(y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :])
            else:
                x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
        return x

    found, true = map(features, images)
    assert found.shape == (1, 128, 3, 2)
    for criterion, value in (("l1", (found - true).abs().mean()), ("mse", ((found - true) ** 2).mean())):
        loss = lf.LightCNNFeatureLoss(pretrained=str(tmp_path / "light_cnn.pth"), criterion=criterion, loss_weight=0.1)
        torch.testing.assert_close(loss(*images).double(), 0.1 * value, rtol=1e-4, atol=0)
    pred, target = (x.clone().requires_grad_() for x in images)
    loss(pred, target).backward()
    assert pred.grad.any() and target.grad is None


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("FaceIdLoss", {}, "pretrained must be the path of IR-SE50's state dict .*model_ir_se50.pth.*, or 'random', got None"),
        ("FaceIdLoss", {"network": nn.Flatten(), "crop": 1}, "crop must be True or False"),
        ("FaceIdLoss", {"pretrained": "/nothing"}, ".*there is no such file"),
        ("LightCNNFeatureLoss", {}, "pretrained must be the path of LightCNN's state dict .*, or 'random', got None"),
        ("LightCNNFeatureLoss", {"pretrained": "random", "criterion": "l2"}, "criterion must be one of"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(lf.LossError, match=f"{name}: {words}"):
        lf.LOSSES[name](**options)


def test_networks_of_several_features_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"a": images, "b": images}

    with pytest.raises(lf.LossError, match=r"network must be a module that returns one tensor, got one that returns \['a', 'b'\]"):
        lf.FaceIdLoss(network=Two())(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
