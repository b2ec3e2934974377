"""GAN objectives from configurations: the dialects build the same, and the presets have StyleGAN2's numbers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.config.dialects import WRITERS
from tests.losses.adversarial.critics import Patches
from tests.losses.adversarial.oracles import array, number, softplus
from tests.losses.adversarial.test_components import step
from tests.losses.adversarial.test_path_length import Mapped, Pixel
from tests.seeds import seed

INPUT = {"input": "disc_pred_fake"}
TERMS: dict[str, tuple[str, dict[str, Any]]] = {
    "real": ("GANLoss", {"gan_type": "hinge", "target_is_real": True, "is_disc": True, "inputs": {"input": "disc_pred_real"}}),
    "fake": ("GANLoss", {"gan_type": "hinge", "target_is_real": False, "is_disc": True, "inputs": INPUT}),
    "shift": ("DiscShiftLoss", {"loss_weight": 0.2, "inputs": {"pred": "disc_pred_real"}}),
    "penalty": (
        "GradientPenaltyLoss",
        {
            "norm_mode": "HWC",
            "loss_weight": 10.0,
            "inputs": {"discriminator": "disc", "real": "real_imgs", "fake": "fake_imgs"},
        },
    ),
    "r1": (
        "R1GradientPenaltyComps",
        {"loss_weight": 5.0, "interval": 2, "data_info": {"discriminator": "disc", "real_data": "real_imgs"}},
    ),
    "path": ("GeneratorPathRegularizer", {"decay": 0.5, "inputs": {"generator": "gen", "latents": "latents"}}),
}


def by_hand() -> lf.LossSet:
    return lf.LossSet({name: lf.LOSSES[kind](**options) for name, (kind, options) in TERMS.items()})


def terms(criterion: Any, outputs: dict[str, Any]) -> dict[str, Tensor]:
    seed()
    weighted: dict[str, Tensor] = copy.deepcopy(criterion)(outputs).weighted
    return {name: value.detach() for name, value in weighted.items()}


@pytest.mark.parametrize("form", ["dict", "yaml", "json"])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_dialect_builds_the_same(write: Any, form: str, tmp_path: Path) -> None:
    config = write("LossSet", {name: write(*term) for name, term in TERMS.items()})
    if form == "dict":
        built = lf.build(config)
    else:
        yaml = pytest.importorskip("yaml")
        file = tmp_path / f"gan.{form}"
        file.write_text(json.dumps(config) if form == "json" else yaml.safe_dump(config, sort_keys=False))
        built = lf.build(file)
    assert repr(built) == repr(by_hand())
    for iteration in (0, 1):
        found, expected = terms(built, step(iteration)), terms(by_hand(), step(iteration))
        assert list(found) == list(TERMS)
        for name, value in expected.items():
            assert torch.equal(found[name], value) and bool(value) == (name != "r1" or iteration == 0)


def test_there_and_back() -> None:
    criterion = lf.LossSet(
        adversarial=lf.GANLoss(
            "smgan", target_is_real=True, polarity="inverted", inputs=INPUT | {"mask": "hole"}, loss_weight=0.01
        ),
        slope=lf.Term(lf.R2GradientPenalty(norm_mode="HWC"), every=8),
        face=lf.DiscShiftLossComps(interval=3, loss_name="loss_shift", data_info={"pred": "disc_pred_fake"}),
    )
    again = lf.build(lf.to_config(criterion))
    assert lf.to_config(again) == lf.to_config(criterion) and again["face"].loss_name is None  # its key is its name
    criterion["face"].loss_name = None
    assert repr(again) == repr(criterion) and again["slope"].every == 8 and again["face"].interval == 3


def test_mmagics_configuration() -> None:
    """The auxiliary losses of its StyleGAN2 and PGGAN configs, as they are written there."""
    built = lf.build(
        [
            {
                "type": "R1GradientPenaltyComps",
                "loss_weight": 80.0,
                "interval": 16,
                "norm_mode": "HWC",
                "data_info": {"real_data": "real_imgs", "discriminator": "disc"},
            },
            {"type": "DiscShiftLossComps", "loss_weight": 0.001 * 0.5, "data_info": {"pred": "disc_pred_fake"}},
            {
                "type": "GradientPenaltyLossComps",
                "loss_weight": 10.0,
                "norm_mode": "HWC",
                "data_info": {"discriminator": "disc", "real_data": "real_imgs", "fake_data": "fake_imgs"},
            },
        ]
    )
    outputs = step(16)
    seed()
    expected = 80 * lf.R1GradientPenalty(norm_mode="HWC")(outputs["disc"], outputs["real_imgs"])
    expected = expected + 0.0005 * outputs["disc_pred_fake"].square().mean()
    penalty = lf.GradientPenaltyLoss(norm_mode="HWC")(outputs["disc"], outputs["real_imgs"], outputs["fake_imgs"])
    seed()
    torch.testing.assert_close(built(outputs).total, expected + 10 * penalty)
    assert number(next(iter(built(step(17)).terms.values()))) == 0


@pytest.mark.parametrize(
    ("name", "option", "ours"),
    [
        ("GeneratorPathRegularizerComps", "pl_batch_shrink", "batch_shrink"),
        ("R1GradientPenaltyComps", "use_apex_amp", "autocast"),
        ("GANLoss", "real_label", "real_label_val"),
        ("GradientPenaltyLoss", "norm", "norm_mode"),
    ],
)
def test_other_names_of_options_are_explained(name: str, option: str, ours: str) -> None:
    options = {"gan_type": "hinge"} if name == "GANLoss" else {}
    with pytest.raises(lf.LossError, match=rf"cfg\.{option} must be .*{ours}"):
        lf.build({"type": name, option: 2, **options})


def test_stylegan2s_discriminator() -> None:
    """softplus on both sides, γ/2 = 5 times R1 over whole images, 16-fold at every sixteenth step."""
    criterion, outputs = lf.presets.stylegan2_discriminator(), step()
    real, fake = array(outputs["disc_pred_real"]), array(outputs["disc_pred_fake"])
    r1 = number(lf.R1GradientPenalty(norm_mode="HWC")(outputs["disc"], outputs["real_imgs"]))
    for iteration in range(33):
        out = criterion(outputs)
        gan = number(out.weighted["real"]) + number(out.weighted["fake"])
        assert gan == pytest.approx(softplus(-real).mean() + softplus(fake).mean(), rel=1e-10)
        assert number(out.weighted["r1"]) == pytest.approx(80 * r1 if iteration % 16 == 0 else 0, rel=1e-10)
        assert number(out.total) == pytest.approx(gan + number(out.weighted["r1"]), rel=1e-10)
        criterion.advance()
    mine = lf.presets.stylegan2_discriminator(r1_gamma=1.0, r1_every=4)(outputs).weighted["r1"]
    assert number(mine) == pytest.approx(0.5 * 4 * r1, rel=1e-10)


def test_stylegan2s_generator() -> None:
    """softplus of fakes as real, twice the regulariser on half of the batch, 4-fold at every fourth step."""
    criterion = lf.presets.stylegan2_generator()
    by_itself = lf.GeneratorPathRegularizer(decay=0.01, batch_shrink=2)
    for iteration in range(9):
        outputs = step() | {"gen": Mapped("pair")}
        seed(iteration)
        out = criterion(outputs)
        fake = array(outputs["disc_pred_fake"])
        assert number(out.weighted["gan"]) == pytest.approx(softplus(-fake).mean(), rel=1e-10)
        seed(iteration)
        expected = 8 * number(by_itself(Pixel(), outputs["latents"])) if iteration % 4 == 0 else 0  # the styles' gradient
        assert number(out.weighted["path"]) == pytest.approx(expected, rel=1e-10)
        criterion.advance()


def test_presets_are_configurations() -> None:
    for name, options in (("stylegan2_discriminator", {"r1_gamma": 2.0}), ("stylegan2_generator", {"path_every": 8})):
        built = lf.build({"type": name, **options})
        assert repr(built) == repr(getattr(lf.presets, name)(**options)) == repr(lf.build(lf.to_config(built)))
        assert repr(built) != repr(lf.build({"type": name}))
    for name, option in (("stylegan2_discriminator", "r1_gamma"), ("stylegan2_generator", "path_weight")):
        with pytest.raises(lf.LossError, match=rf"{name}: {option} must be a number"):
            getattr(lf.presets, name)(**{option: "1"})


def test_lazy_regularisation_is_the_every_step_objective_on_average() -> None:
    """Over a period, the mean of the gradients is that of the objective with R1 at every step."""
    inputs = {"discriminator": "disc", "real": "real_imgs"}
    disc = {"disc": Patches(3).double(), "real_imgs": step()["real_imgs"], "disc_pred_real": step()["disc_pred_real"].detach()}
    weight = disc["disc"].first.weight
    lazy = lf.LossSet(r1=lf.Term(lf.R1GradientPenalty(inputs=inputs), every=4))
    slopes = []
    for _ in range(8):
        value = lazy(disc).total
        slopes.append(torch.autograd.grad(value, weight, allow_unused=True)[0] if value.requires_grad else None)
        lazy.advance()
    mean = sum(slope for slope in slopes if slope is not None) / 8
    (expected,) = torch.autograd.grad(lf.R1GradientPenalty(inputs=inputs)(disc), weight)
    torch.testing.assert_close(mean, expected)
