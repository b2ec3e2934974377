"""MMagic's, MMGeneration's and BasicSR's entries: they build with their meaning, or one line says what is missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests.migrate import oracles
from tests.migrate.entries import BASICSR, MMAGIC, MMGEN

REFUSED = {
    "GANFeatLoss": "adds up as it does",
    "AdvLoss": "several losses",
    "LightCNNFeatureLoss": "pretrained must be the path of light_cnn_feature.pth",
    "DDPMVLBLoss": "diffusion",
    "DDPMMSELoss": "diffusion",
    "smgan": "a fake's target is 1 in the hole there",
}


def built(entry: dict[str, Any], dialect: str) -> Any:
    """Build with random weights where there are frozen networks: nothing is downloaded here."""
    weights = {"pretrained": "random"} if entry["type"] == "PerceptualLoss" else {}
    return lf.build({**entry, **weights}, dialect=dialect)


@pytest.mark.parametrize(("dialect", "entries"), [("basicsr", [e for _, e in BASICSR]), ("mmagic", MMAGIC), ("mmgen", MMGEN)])
def test_every_entry_builds_or_says_why(dialect: str, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        word = entry["gan_type"] if entry.get("gan_type") == "smgan" else entry["type"]
        if word in REFUSED:
            with pytest.raises(lf.LossError, match=REFUSED[word]) as caught:
                lf.build(entry, dialect=dialect)
            assert "\n" not in str(caught.value)
            continue
        loss = built(entry, dialect)
        assert loss.loss_weight == entry.get("loss_weight", 1.0)


def test_how_many_there_are() -> None:
    assert sum(times for times, _ in BASICSR) == 55
    refused = [entry for times, entry in BASICSR if entry["type"] in REFUSED for _ in range(times)]
    assert len(refused) == 1


def test_basicsr_says_what_weights_it_lacks() -> None:
    entry = next(entry for _, entry in BASICSR if entry["type"] == "PerceptualLoss")
    with pytest.raises(lf.LossError, match="pretrained"):
        lf.build(entry, dialect="basicsr")
    loss = built(entry, "basicsr")
    assert (loss.norm_img, loss.style_weight, loss.criterion) == (False, 0, "l1")
    assert built({**entry, "range_norm": True, "criterion": "l2"}, "basicsr").criterion == "mse"
    with pytest.raises(lf.LossError, match=r"criterion must be 'l1' or 'l2', got 'fro'"):
        built({**entry, "criterion": "fro"}, "basicsr")
    usual = built({"type": "PerceptualLoss", "layer_weights": {"relu1_1": 1.0}, "vgg_type": "vgg11"}, "basicsr")
    assert (usual.norm_img, usual.style_weight) == (False, 0)


def test_defaults_are_the_dialects() -> None:
    assert lf.build({"type": "DiscShiftLoss"}, dialect="mmagic").loss_weight == 0.1
    assert lf.build({"type": "DiscShiftLossComps"}, dialect="mmagic").loss_weight == 1.0
    path = lf.build({"type": "GeneratorPathRegularizer"}, dialect="mmgen")
    assert (path.batch_shrink, path.decay, path.interval, path.loss_weight) == (1, 0.01, 1, 1.0)
    assert lf.build({"type": "GANLoss", "gan_type": "wgan_softplus"}, dialect="basicsr").gan_type == "wgan-logistic-ns"
    assert lf.build({"type": "PSNRLoss", "toY": True}, dialect="mmagic").to_y is False  # which changes nothing there
    with pytest.raises(lf.LossError, match="did you mean 'loss_weight'"):
        lf.build({"type": "L1Loss", "loss_weigh": 1.0}, dialect="basicsr")
    with pytest.raises(lf.LossError, match="layer_weights must be given"):
        lf.build({"type": "PerceptualLoss"}, dialect="basicsr")


def test_a_component_takes_the_dict_of_a_step() -> None:
    """MMGeneration's words: real_data, an interval without a factor, a scaler that is not needed."""
    info = {"discriminator": "disc", "real_data": "real_imgs", "loss_scaler": "loss_scaler"}
    loss = lf.build(
        {"type": "R1GradientPenalty", "loss_weight": 8.0, "norm_mode": "HWC", "interval": 2, "data_info": info}, dialect="mmgen"
    )
    real = torch.rand(2, 1, 4, 4)
    outputs = {"disc": lambda x: (x**2).sum((1, 2, 3)), "real_imgs": real, "iteration": 0}
    torch.testing.assert_close(loss(outputs), 8 * (4 * real**2).sum((1, 2, 3)).mean())
    assert loss({**outputs, "iteration": 1}) == 0


IMAGES = [entry for entry in MMAGIC if entry["type"] in ("L1Loss", "MSELoss", "CharbonnierLoss", "PSNRLoss", "MaskedTVLoss")]


@pytest.mark.parametrize("entry", IMAGES, ids=str)
def test_mmagics_pixel_losses_give_its_values(entry: dict[str, Any]) -> None:
    pytest.importorskip("mmengine")
    generator = torch.Generator().manual_seed(1)
    pred, target, weight = (torch.rand(2, channels, 6, 5, generator=generator, dtype=torch.float64) for channels in (3, 3, 1))
    pair = {"PSNRLoss": (target,), "MaskedTVLoss": ((weight > 0.4).double(),)}.get(entry["type"], (target, weight))
    theirs = oracles.mmagic()[entry["type"]](**{k: v for k, v in entry.items() if k != "type"})
    values, slopes = [], []
    for loss in (lf.build(entry, dialect="mmagic"), theirs):
        leaf = pred.clone().requires_grad_()
        values.append(loss(leaf, *pair))
        slopes.append(torch.autograd.grad(values[-1], leaf)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*slopes)
