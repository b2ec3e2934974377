"""Components: MMagic's names, one dict of outputs, their interval without compensation and a set's with it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.losses.adversarial.critics import Patches, images
from tests.losses.adversarial.oracles import number
from tests.losses.adversarial.test_path_length import Pixel
from tests.losses.features.test_clip import IDS, OpenClip
from tests.losses.features.test_identity import Stripes
from tests.seeds import seed

COMPONENTS = {
    "CLIPLossComps": "CLIPLoss",
    "DiscShiftLossComps": "DiscShiftLoss",
    "FaceIdLossComps": "FaceIdLoss",
    "GANLossComps": "GANLoss",
    "GradientPenaltyLossComps": "GradientPenaltyLoss",
    "GeneratorPathRegularizerComps": "GeneratorPathRegularizer",
    "R1GradientPenaltyComps": "R1GradientPenalty",
}
LOSSES = [*COMPONENTS, "GANLoss", "GradientPenaltyLoss", "R1GradientPenalty", "R2GradientPenalty", "GeneratorPathRegularizer"]
NEEDED: dict[str, dict[str, Any]] = {
    "CLIPLossComps": {"network": OpenClip()},
    "FaceIdLossComps": {"network": Stripes()},
    "GANLossComps": {"gan_type": "hinge", "target_is_real": True},
    "GANLoss": {"gan_type": "hinge"},
}
THEIRS: dict[str, dict[str, Any]] = {
    "DiscShiftLossComps": {"loss_weight": 1.0},
    "GeneratorPathRegularizerComps": {"batch_shrink": 1},
}
"""Defaults of MMagic that are not the loss's own."""
PATHS = {
    "CLIPLossComps": {"image": "fake_imgs", "text": "captions"},
    "DiscShiftLossComps": {"pred": "disc_pred_real"},
    "FaceIdLossComps": {"pred": "fake_imgs", "gt": "real_imgs"},
    "GANLossComps": {"input": "disc_pred_fake"},
    "GradientPenaltyLossComps": {"discriminator": "disc", "real_data": "real_imgs", "fake_data": "fake_imgs"},
    "GeneratorPathRegularizerComps": {"generator": "gen", "latents": "latents"},
    "R1GradientPenaltyComps": {"discriminator": "disc", "real_data": "real_imgs"},
}
"""What configurations of MMagic map, by MMagic's names of the arguments."""


def step(iteration: int = 0) -> dict[str, Any]:
    """What a trainer offers."""
    critic, real = Patches(3).double(), images(2, 3, 16, 16)
    fake = images(2, 3, 16, 16, seed=1).requires_grad_()
    return {
        "iteration": iteration,
        "gen": Pixel(),
        "disc": critic,
        "disc_pred_fake": critic(fake),
        "disc_pred_real": critic(real),
        "fake_imgs": fake,
        "real_imgs": real,
        "latents": images(4, 5),
        "captions": IDS,
    }


def made(name: str, **options: Any) -> Any:
    return lf.LOSSES[name](**NEEDED.get(name, {}), **options)


def scalar(loss: Any, *given: Any, **named: Any) -> Tensor:
    seed()
    value = loss(*given, **named)
    value = value.total if isinstance(value, lf.LossOutput) else value
    assert isinstance(value, Tensor) and value.dim() == 0
    return value


def by_hand(name: str, outputs: dict[str, Any]) -> Tensor:
    """The loss itself, of tensors."""
    loss = lf.LOSSES[COMPONENTS[name]](**NEEDED.get(name, {}), **THEIRS.get(name, {}))
    return scalar(loss, *(outputs[path] for path in PATHS[name].values()))


@pytest.mark.parametrize("name", LOSSES)
def test_registered_and_importable(name: str) -> None:
    cls = lf.LOSSES[name]
    assert getattr(lf, name) is cls and cls.__name__ == name
    assert name in COMPONENTS or callable(getattr(lf.functional, lf.functional.snake_case(name)))
    built = lf.build({"type": name, **NEEDED.get(name, {})})
    assert type(built) is cls


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_the_loss(name: str) -> None:
    assert issubclass(lf.LOSSES[name], lf.LOSSES[COMPONENTS[name]])
    component = made(name)
    assert component.interval == 1 and component.loss_name is None
    assert component.loss_weight == lf.LOSSES[COMPONENTS[name]](**NEEDED.get(name, {}), **THEIRS.get(name, {})).loss_weight
    outputs = step()
    expected = by_hand(name, outputs)
    torch.testing.assert_close(scalar(component, *(outputs[path] for path in PATHS[name].values())), expected)
    for option in ("data_info", "inputs"):
        torch.testing.assert_close(scalar(made(name, **{option: PATHS[name]}), outputs), expected)
        torch.testing.assert_close(scalar(made(name, **{option: PATHS[name]}), outputs_dict=outputs), expected)
        torch.testing.assert_close(scalar(lf.LossSet(one=made(name, **{option: PATHS[name]})), outputs), expected)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_missing_key_lists_the_keys_there_are(name: str) -> None:
    outputs = step()
    for argument, path in PATHS[name].items():
        short = {key: value for key, value in outputs.items() if key != path}
        for call in (
            lambda x, n=name: made(n, data_info=PATHS[n])(x),
            lambda x, n=name: made(n, data_info=PATHS[n])(outputs_dict=x),
            lambda x, n=name: lf.LossSet(one=made(n, data_info=PATHS[n]))(x),
        ):
            with pytest.raises(lf.LossError) as caught:
                call(short)
            message = str(caught.value)
            assert name in message and path in message, message
            assert all(key in message for key in short), message
            assert argument in message or {"real_data": "real", "fake_data": "fake", "gt": "target"}[argument] in message, message


def test_a_wrong_argument_name_says_which_there_are() -> None:
    with pytest.raises(lf.LossError) as caught:
        lf.R1GradientPenaltyComps(data_info={"discriminator": "disc", "reel": "real_imgs"})(step())
    message = str(caught.value)
    assert all(word in message for word in ("R1GradientPenaltyComps", "reel", "real", "discriminator", "mask")), message
    with pytest.raises(lf.LossError, match=r"R1GradientPenaltyComps: (data_info|inputs).*real"):  # one argument, twice
        lf.R1GradientPenaltyComps(data_info={"discriminator": "disc", "real": "real_imgs", "real_data": "fake_imgs"})(step())


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_interval_skips_and_does_not_compensate(name: str) -> None:
    for iteration in range(7):
        component = made(name, interval=3, data_info=PATHS[name])
        outputs = step(iteration)
        value = scalar(component, outputs)
        if iteration % 3 == 0:
            torch.testing.assert_close(value, by_hand(name, outputs))
            assert value != 0
            continue
        assert number(value) == 0
        if value.requires_grad:
            leaves = [outputs["fake_imgs"], *outputs["disc"].parameters(), *outputs["gen"].parameters()]
            for slope in torch.autograd.grad(value, leaves, allow_unused=True):
                assert slope is None or torch.count_nonzero(slope) == 0

    outputs = {key: value for key, value in step(1).items() if key != "iteration"}
    with pytest.raises(lf.LossError, match=rf"{name}: iteration must be an integer .* interval=3, got only \['gen', 'disc'"):
        component(outputs)
    with pytest.raises(lf.LossError, match=rf"LossSet term 'one' \({name}\): iteration must be"):
        lf.LossSet(one=component)(outputs)
    with pytest.raises(lf.LossError, match=rf"{name}: interval must be 1 without data_info"):
        made(name, interval=3)


def test_a_skipped_component_runs_nothing() -> None:
    calls: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        calls.append(x)
        return x.square().sum((1, 2, 3))

    component = lf.R1GradientPenaltyComps(interval=4, data_info=PATHS["R1GradientPenaltyComps"])
    regulariser = lf.GeneratorPathRegularizerComps(interval=4, data_info=PATHS["GeneratorPathRegularizerComps"])
    for iteration in range(8):
        component(step(iteration) | {"disc": critic})
        before = regulariser.mean_path_length.clone()
        regulariser(step(iteration))
        assert torch.equal(before, regulariser.mean_path_length) == (iteration % 4 != 0)
    assert len(calls) == 2


def test_a_skipped_component_in_a_set_has_a_graph() -> None:
    """A backward of a step whose only term is skipped gives gradients of zero, not an error."""
    for name in COMPONENTS:
        outputs = step(1)
        out = lf.LossSet(one=made(name, interval=2, data_info=PATHS[name]))(outputs)
        assert number(out.total) == 0 and out.total.requires_grad, name
        out.total.backward()


def test_a_skipped_step_of_a_network_alone_has_a_graph() -> None:
    """R1 in a step of its own, as StyleGAN2's authors have it: nothing in the dict but the network asks for a gradient."""
    outputs = {"iteration": 1, "disc": Patches(3).double(), "real_imgs": images(2, 3, 16, 16)}
    component = lf.R1GradientPenaltyComps(interval=2, data_info=PATHS["R1GradientPenaltyComps"])
    lazy = lf.LossSet(r1=lf.Term(lf.R1GradientPenalty(inputs={"discriminator": "disc", "real": "real_imgs"}), every=2))
    lazy.advance()
    for value in (component(outputs), lf.LossSet(r1=component)(outputs).total, lazy(outputs).total):
        assert number(value) == 0 and value.requires_grad
        value.backward()
    assert all(p.grad is None or not p.grad.any() for p in outputs["disc"].parameters())


def test_every_compensates_and_advances() -> None:
    outputs = step()
    criterion = lf.LossSet(
        r1=lf.Term(lf.R1GradientPenalty(loss_weight=5.0, inputs={"discriminator": "disc", "real": "real_imgs"}), every=4)
    )
    single = 5 * lf.R1GradientPenalty()(outputs["disc"], outputs["real_imgs"])
    values = []
    for _ in range(8):
        values.append(criterion(outputs).weighted["r1"])
        criterion.advance()
    torch.testing.assert_close(values[0], 4 * single)
    torch.testing.assert_close(sum(values) / 8, single)
    assert [bool(value) for value in values] == [True, False, False, False] * 2
    config = {
        "r1": {
            "type": "R1GradientPenalty",
            "every": 16,
            "loss_weight": 5.0,
            "inputs": {"discriminator": "disc", "real": "real_imgs"},
        }
    }
    torch.testing.assert_close(lf.build(config)(outputs).total, 16 * single)


def test_a_component_advances_with_the_dict_and_not_with_the_set() -> None:
    criterion = lf.LossSet(r1=lf.R1GradientPenaltyComps(interval=4, data_info=PATHS["R1GradientPenaltyComps"]))
    assert criterion(step(4)).total != 0 and criterion(step(5)).total == 0
    criterion.advance()
    assert criterion(step(4)).total != 0


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("CLIPLossComps", "FaceIdLossComps")])
def test_copies(name: str) -> None:
    options = {"loss_weight": 0.5} | ({"interval": 4, "data_info": PATHS[name]} if name in COMPONENTS else {})
    loss = made(name, **options)
    names = {one: getattr(lf, one) for one in dir(lf)}
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), eval(repr(loss), names), lf.build(lf.to_config(loss))):
        assert type(again) is type(loss) and repr(again) == repr(loss) and "loss_weight=0.5" in repr(loss)
        assert again.state_dict().keys() == loss.state_dict().keys()
        if name in COMPONENTS:
            assert again.interval == 4
            torch.testing.assert_close(scalar(again, step()), scalar(copy.deepcopy(loss), step()))
    loss.load_state_dict(again.state_dict())


def test_loss_name_is_mmagics_and_names_a_term_of_a_list() -> None:
    built = lf.build(
        [
            {
                "type": "GANLossComps",
                "gan_type": "hinge",
                "target_is_real": True,
                "loss_name": "loss_fool",
                "data_info": {"input": "disc_pred_fake"},
            },
            {"type": "DiscShiftLossComps", "data_info": {"pred": "disc_pred_real"}, "loss_name": "loss_shift"},
        ]
    )
    outputs = step()
    assert list(built(outputs).terms) == ["loss_fool", "loss_shift"]
    expected = by_hand("GANLossComps", outputs) + by_hand("DiscShiftLossComps", outputs)
    torch.testing.assert_close(built(outputs).total, expected)
    assert lf.GANLossComps(gan_type="hinge", loss_name="loss_gan").loss_name == "loss_gan"


def test_second_derivatives_through_a_set() -> None:
    """A term of a set keeps its graph."""
    outputs = step()
    criterion = lf.LossSet(r1=lf.R1GradientPenaltyComps(data_info=PATHS["R1GradientPenaltyComps"], norm_mode="HWC"))
    slopes = torch.autograd.grad(criterion(outputs).total, outputs["disc"].first.weight, create_graph=True)[0]
    assert torch.autograd.grad(slopes.square().sum(), outputs["disc"].first.weight)[0].any()


@pytest.mark.parametrize("interval", [0, -1, 1.5, True, "2", None], ids=repr)
def test_wrong_intervals(interval: Any) -> None:
    for name in COMPONENTS:
        with pytest.raises(lf.LossError, match=rf"{name}: interval must be"):
            made(name, interval=interval)


@pytest.mark.parametrize("iteration", ["3", 1.5, None], ids=repr)
def test_wrong_iterations(iteration: Any) -> None:
    component = lf.DiscShiftLossComps(interval=2, data_info={"pred": "disc_pred_real"})
    with pytest.raises(lf.LossError, match=r"DiscShiftLossComps: iteration must be"):
        component(step() | {"iteration": iteration})


def test_nn_modules_of_a_dict_are_not_kept() -> None:
    """A loss that is handed a network does not make it its own: no parameters, nothing in the state."""
    outputs = step()
    for name in COMPONENTS:
        component = made(name, data_info=PATHS[name])
        before = {key for key, _ in component.named_parameters()}
        component(outputs)
        assert {key for key, _ in component.named_parameters()} == before
        assert not any(module is outputs["disc"] or module is outputs["gen"] for module in component.modules())
    assert isinstance(outputs["disc"], nn.Module)
