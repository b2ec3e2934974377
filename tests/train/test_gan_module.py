"""GANWithCustomizedLoss: what a step computes, logs and changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

pytest.importorskip("lightning")

import lightning.pytorch as pl
from lightning.pytorch.plugins import MixedPrecision

import lossfold as lf
from lossfold.adapters.lightning import AdvanceLosses
from lossfold.train.errors import TrainError
from lossfold.train.gan import GANWithCustomizedLoss
from lossfold.train.gan.ema import decay_at
from lossfold.train.gan.objectives import KEYS
from tests.train.gans import (
    DISCRIMINATOR_LOSS,
    FAKE,
    GENERATOR_LOSS,
    PATH,
    R1,
    REAL,
    SIZE,
    Rows,
    fit,
    gan,
    loader,
    networks,
    sgd,
    weights,
)


class Kept(nn.Module):
    """A loss of one's own, which takes the whole dict and keeps it."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self.of = of
        self.seen: list[dict[str, Any]] = []
        self.gradients: list[bool] = []

    def forward(self, outputs: dict[str, Any]) -> Tensor:
        self.seen.append(dict(outputs))
        self.gradients.append(any(parameter.requires_grad for parameter in outputs["disc"].parameters()))
        found: Tensor = outputs[self.of].mean()
        return found


def test_every_term_is_logged_in_the_steps_that_compute_it() -> None:
    rows = Rows()
    model = fit(gan(), loader(4, 7), 7, logger=rows)
    assert len(rows.rows) == 7
    always = {f"train/{name}" for name in ("gen/total", "gen/adversarial", "disc/total", "disc/real", "disc/fake", "disc/shift")}
    for step, row in enumerate(rows.rows):
        lazy = {"train/gen/path"} if step % 2 == 0 else set()
        lazy |= {"train/disc/r1"} if step % 3 == 0 else set()
        assert row.keys() == always | lazy
        terms = row["train/disc/real"] + row["train/disc/fake"] + 0.1 * row["train/disc/shift"] + 0.6 * row.get("train/disc/r1", 0)
        assert row["train/disc/total"] == pytest.approx(terms, rel=1e-5)
        terms = row["train/gen/adversarial"] + 1.0 * row.get("train/gen/path", 0)
        assert row["train/gen/total"] == pytest.approx(terms, rel=1e-5)
    steps = {term.step for term in model.modules() if isinstance(term, lf.Term)}
    assert steps == {7} and model.trainer.global_step == 7


def test_a_step_offers_the_dict_to_both() -> None:
    judge, maker = Kept("disc_pred_real"), Kept("disc_pred_fake")
    model = fit(gan(generator_loss=lf.LossSet(own=maker), discriminator_loss=lf.LossSet(own=judge)), loader(4), 2)
    (_, one, two), (_, other, _) = judge.seen, maker.seen  # the first were offered when the losses were tried
    assert one.keys() == set(KEYS) and [one["iteration"], two["iteration"]] == [0, 1]
    assert not one["fake_imgs"].requires_grad and other["fake_imgs"].requires_grad
    assert judge.gradients == [True] * 3 and maker.gradients[1:] == [False] * 2
    assert all(parameter.requires_grad for parameter in model.discriminator.parameters())
    assert one["gen"] is model.generator and one["disc"] is model.discriminator and one["batch_size"] == 4
    assert one["real_imgs"].shape == one["fake_imgs"].shape == (4, 1, SIZE, SIZE) and one["latents"].shape == (4, 6)
    assert not torch.equal(one["latents"], two["latents"]) and not torch.equal(one["latents"], other["latents"])


@pytest.mark.parametrize("relativistic", [True, False])
def test_real_images_are_judged_for_the_generator_only_if_it_asks(relativistic: bool) -> None:
    ragan = {"type": "GANLoss", "gan_type": "ragan", "target_is_real": True, "inputs": FAKE | {"other": "disc_pred_real"}}
    model = gan(
        generator_loss=ragan if relativistic else GENERATOR_LOSS["adversarial"], discriminator_loss=DISCRIMINATOR_LOSS["real"]
    )
    calls: list[int] = []
    model.discriminator.register_forward_hook(lambda *_: calls.append(1))
    fit(model, loader(4), 1)
    assert len(calls) == 3 + relativistic


def test_the_discriminator_takes_more_steps() -> None:
    rows = Rows()
    model = gan(disc_steps=3, generator_loss=lf.LossSet(own=(maker := Kept("disc_pred_fake"))), schedule="linear")
    fit(model, loader(4, 2), 7, logger=rows)
    assert ["train/gen/total" in row for row in rows.rows] == [False, False, True, False, False, True, False]
    assert [outputs["iteration"] for outputs in maker.seen] == [0, 0, 1]
    steps = [term.step for term in model.discriminator_criterion.modules() if isinstance(term, lf.Term)]
    assert steps == [7] and model.trainer.global_step == 7
    rates = [scheduler.get_last_lr()[0] for scheduler in model.lr_schedulers()]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.0, 0.0], abs=1e-9)  # each has ended with its own steps: 7, and 7 // 3


def test_the_moving_mean_by_hand() -> None:
    class Counting(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, SIZE * SIZE)
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, latents: Tensor) -> Tensor:
            if self.training:
                self.calls += 1
            return super().forward(latents).view(-1, 1, SIZE, SIZE)

    model = gan(generator=Counting(), latent_size=6, generator_loss=GENERATOR_LOSS["adversarial"], ema_decay=0.15)
    expected, seen = model.generator.weight.detach().clone(), [model.generator.weight.detach().clone()]  # type: ignore[operator, union-attr]

    class Weights(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append(trainer.lightning_module.generator.weight.detach().clone())

    fit(model, loader(4), 3, callbacks=[Weights()])
    decays = [1 / 10, 0.15, 0.15]  # (1 + t) / (10 + t), and 0.15 from t = 1 on: 2 / 11 is more
    assert [decay_at(0.15, t) for t in range(3)] == decays and decay_at(0.999, 10**6) == 0.999
    for decay, weight in zip(decays, seen[1:], strict=True):
        expected = decay * expected + (1 - decay) * weight
    mean = model.generator_mean
    assert mean is not None and torch.allclose(mean.weight, expected, atol=1e-6) and not torch.equal(mean.weight, seen[-1])  # type: ignore[arg-type]
    assert int(mean.calls) == int(model.generator.calls) == 6  # type: ignore[arg-type]
    assert gan(ema_decay=None).generator_mean is None


@pytest.mark.parametrize("parts", [2, 4])
def test_micro_batches_have_the_gradients_of_the_batch(parts: int) -> None:
    losses = {"generator_loss": GENERATOR_LOSS["adversarial"], "generator_optimizer": sgd, "discriminator_optimizer": sgd}
    start = gan()
    one, other = (fit(gan(accumulate=n, **losses), loader(8), 1, precision="64-true") for n in (1, parts))
    for name in ("generator", "discriminator"):
        before, whole, divided = (weights(getattr(model, name)).double() for model in (start, one, other))
        assert (whole - before).norm() > 1e-3
        assert torch.allclose(whole, divided, rtol=0, atol=1e-12)
    with pytest.raises(TrainError, match="a batch of 8 can't be divided into 3 micro-batches"):
        fit(gan(accumulate=3), loader(8), 1)


def test_lazy_regularisation_is_the_every_step_objective_on_average() -> None:
    """Along a step so small that the weights stay, n lazy steps move them as far as n steps of the whole objective."""

    def slow(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-7)

    moved: list[Tensor] = []
    for every in (1, 4):
        losses = {"discriminator_loss": DISCRIMINATOR_LOSS | {"r1": R1 | {"every": every, "loss_weight": 20.0}}}
        model = gan(generator_optimizer=slow, discriminator_optimizer=slow, **losses).double()
        start = weights(model.discriminator)
        fit(model, loader(8), 8, precision="64-true")
        moved.append((weights(model.discriminator) - start) / 1e-7)
    without = gan(generator_optimizer=slow, discriminator_optimizer=slow).double()
    without.discriminator_criterion = lf.LossSet({name: lf.build(DISCRIMINATOR_LOSS[name]) for name in ("real", "fake", "shift")})
    start = weights(without.discriminator)
    fit(without, loader(8), 8, precision="64-true")
    share = (moved[0] - (weights(without.discriminator) - start) / 1e-7).norm() / moved[0].norm()
    assert share > 0.01  # the penalty matters here
    assert (moved[0] - moved[1]).norm() / moved[0].norm() < 1e-5


def test_mixed_precision_stays_finite() -> None:
    rows = Rows()
    model = gan(**networks(group=4))
    fit(model, loader(4, 4), 60, precision="bf16-mixed", logger=rows)
    assert len(rows.rows) == 60
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in rows.rows)
    assert weights(model).isfinite().all() and sum("train/gen/path" in row for row in rows.rows) == 30


def test_losses_are_scaled_in_half_precision() -> None:
    """Scaled, unscaled before clipping, stepped: the weights are those of an unscaled training, to half's digits."""
    losses = {"generator_optimizer": sgd, "discriminator_optimizer": sgd, "gradient_clip": 0.01}
    start, plain = gan(), fit(gan(**losses), loader(8), 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = fit(gan(**losses), loader(8), 1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    for name in ("generator", "discriminator"):
        before, one, other = (weights(getattr(model, name)) for model in (start, plain, scaled))
        assert (one - before).norm() == pytest.approx(0.01, rel=1e-3)
        assert (other - before).norm() == pytest.approx(0.01, rel=1e-3)
        assert (one - other).norm() < 0.1 * (one - before).norm()
    assert scaler.get_scale() == 1024.0


def test_a_plain_generator_and_a_discriminator_of_several_scales() -> None:
    class Scales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList([nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 5)])

        def forward(self, images: Tensor) -> list[Tensor]:
            return [head(images) for head in self.heads]

    class Named(nn.Sequential):
        def forward(self, latents: Tensor) -> dict[str, Tensor]:
            return {"fake_img": super().forward(latents), "latent": latents}

    plain = nn.Sequential(nn.Linear(6, SIZE * SIZE), nn.Unflatten(1, (1, SIZE, SIZE)))
    for generator in (plain, Named(*copy.deepcopy(plain))):
        rows = Rows()
        model = gan(generator=generator, discriminator=Scales(), latent_size=6)
        fit(model, loader(4), 2, logger=rows)
        assert {"train/gen/path", "train/disc/r1"} <= rows.rows[0].keys()
        assert model(torch.zeros(2, 6)).shape == (2, 1, SIZE, SIZE)
        assert model.samples(torch.zeros(3, 6)).dtype == torch.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generator_loss": {"type": "GANLos", "gan_type": "hinge"}}, "GANLoss"),
        ({"generator_loss": {"type": "GANLoss", "gan_type": "hing"}}, "hinge"),
        ({"generator_loss": {"type": "GANLoss", "gan_type": "hinge", "inputs": FAKE}}, "does not take.*target_is_real"),
        ({"generator_loss": {"type": "L1Loss"}}, "model.generator_loss does not take the outputs of a step .iteration, gen, disc"),
        ({"discriminator_loss": {"type": "DiscShiftLoss", "inputs": {"pred": "disc_pred"}}}, "discriminator_loss .*disc_pred_fake"),
        ({"discriminator_loss": {"type": "TVLoss", "inputs": {"pred": "fake_imgs"}}}, "discriminator_loss does not depend on"),
        ({"generator_loss": {"type": "DiscShiftLoss", "inputs": REAL}}, "names among pred"),
        ({"generator_loss": {"type": "DiscShiftLoss", "inputs": {"pred": "disc_pred_real"}}}, "generator_loss does not depend on"),
        ({"generator_loss": PATH | {"inputs": {"generator": "disc", "latents": "latents"}}}, "model.generator_loss does not take"),
        ({"latent_size": 7}, "model.generator: StyleGenerator does not take latents .2, 7."),
        ({"generator": nn.Linear(6, 9)}, "model.latent_size must be named, at least 1, for Linear, got None"),
        ({"discriminator": nn.Linear(6, 9)}, "model.discriminator: Linear does not take the generator's images .2, 1, 8, 8."),
        ({"disc_steps": 0}, "model.disc_steps must be an integer, at least 1, got 0"),
        ({"accumulate": -1}, "model.accumulate must be an integer, at least 1, got -1"),
        ({"ema_decay": 1.0}, "model.ema_decay must lie"),
        ({"gradient_clip": 0.0}, "model.gradient_clip must be above 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises((lf.LossError, TrainError), match=message):
        gan(**options)


def test_trying_the_losses_changes_nothing() -> None:
    torch.manual_seed(3)
    parts = networks(group=4)
    before, state = {name: copy.deepcopy(net.state_dict()) for name, net in parts.items()}, torch.get_rng_state()
    model = GANWithCustomizedLoss(**parts, generator_loss=GENERATOR_LOSS, discriminator_loss=DISCRIMINATOR_LOSS)
    assert torch.equal(torch.get_rng_state(), state)
    for name, net in parts.items():
        assert net.training and all(torch.equal(value, net.state_dict()[key]) for key, value in before[name].items())
        assert all(parameter.grad is None for parameter in net.parameters())
    assert float(model.generator_criterion.members[1].loss.mean_path_length) == 0.0  # type: ignore[union-attr, arg-type]
    assert model.generator_criterion.training


def test_data_of_another_size_and_doubled_steps_are_refused() -> None:
    wider: DataLoader[Any] = DataLoader(torch.zeros(4, 1, 16, 16), batch_size=4)  # type: ignore[arg-type]
    with pytest.raises(TrainError, match=r"makes images \[4, 1, 8, 8\], the data are \[4, 1, 16, 16\]"):
        fit(gan(), wider, 1)
    with pytest.raises(TrainError, match="leave AdvanceLosses out"):
        fit(gan(), loader(4), 1, callbacks=[AdvanceLosses()])


def test_presets_and_objects_are_objectives() -> None:
    rows = Rows()
    model = gan(generator_loss=lf.presets.stylegan2_generator(), discriminator_loss=lf.presets.stylegan2_discriminator())
    fit(model, loader(4), 17, logger=rows)
    assert [step for step, row in enumerate(rows.rows) if "train/disc/r1" in row] == [0, 16]
    assert [step for step, row in enumerate(rows.rows) if "train/gen/path" in row] == [0, 4, 8, 12, 16]
    where = {"discriminator": "disc", "real_data": "real_imgs"}
    components = [
        {"type": "R1GradientPenaltyComps", "interval": 4, "data_info": where},
        {"type": "GANLossComps", "gan_type": "hinge", "target_is_real": True, "is_disc": True, "data_info": REAL},
    ]
    rows = Rows()
    fit(gan(discriminator_loss=components), loader(4), 5, logger=rows)
    assert [sum("r1" in key for key in row) for row in rows.rows] == [1, 0, 0, 0, 1]
