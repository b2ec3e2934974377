"""What the adversarial losses refuse: a LossError that names the loss and the argument, before any work is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.losses.adversarial.critics import Linear, Patches, images
from tests.losses.adversarial.oracles import number
from tests.losses.adversarial.test_path_length import Pixel

X = torch.randn(2, 1, 6, 5)
MASK = torch.ones(2, 1, 6, 5)
REAL = torch.randn(2, 2, 4, 5)
CRITIC = Patches()
OTHER = torch.empty(2, 1, 6, 5, device="meta")


def gan(kind: str = "hinge", **options: Any) -> lf.GANLoss:
    return lf.GANLoss(kind, **options)


def refused(action: Callable[[], Any], *words: str) -> None:
    with pytest.raises(lf.LossError) as caught:
        action()
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


OPTIONS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "a wrong type": ("GANLoss", {"gan_type": "hing"}, ("gan_type must be", "did you mean 'hinge'")),
    "a type of other letters": ("GANLoss", {"gan_type": "LSGAN"}, ("gan_type must be", "did you mean 'lsgan'")),
    "a type that is no word": ("GANLoss", {"gan_type": 3}, ("gan_type must be", "3")),
    "a label that is no number": ("GANLoss", {"gan_type": "lsgan", "real_label_val": "1"}, ("real_label_val must be a", "'1'")),
    "a label that is NaN": ("GANLoss", {"gan_type": "lsgan", "fake_label_val": float("nan")}, ("fake_label_val must be a", "nan")),
    "a weight that is no number": ("GANLoss", {"gan_type": "lsgan", "loss_weight": None}, ("loss_weight must be a number",)),
    "a wrong polarity": ("GANLoss", {"gan_type": "smgan", "polarity": "invert"}, ("polarity must be", "inverted")),
    "target_is_real of the wrong kind": ("GANLoss", {"gan_type": "hinge", "target_is_real": 1}, ("target_is_real must be", "1")),
    "is_disc of the wrong kind": ("GANLoss", {"gan_type": "hinge", "is_disc": "yes"}, ("is_disc must be", "yes")),
    "an unknown option": ("GANLoss", {"gan_type": "hinge", "gan_typ": "x"}, ("gan_typ must be", "gan_type")),
    "a norm that is none": ("GradientPenaltyLoss", {"norm_mode": "hwc"}, ("norm_mode must be", "HWC")),
    "R1's norm": ("R1GradientPenalty", {"norm_mode": "pixels"}, ("norm_mode must be", "pixel")),
    "R2's norm": ("R2GradientPenalty", {"norm_mode": None}, ("norm_mode must be",)),
    "a negative decay": ("GeneratorPathRegularizer", {"decay": -0.1}, ("decay must be", "-0.1")),
    "a decay above 1": ("GeneratorPathRegularizer", {"decay": 1.5}, ("decay must be", "1.5")),
    "a shrink of 0": ("GeneratorPathRegularizer", {"batch_shrink": 0}, ("batch_shrink must be", "0")),
    "half a shrink": ("GeneratorPathRegularizer", {"batch_shrink": 1.5}, ("batch_shrink must be", "1.5")),
    "a shrink that is a bool": ("GeneratorPathRegularizer", {"batch_shrink": True}, ("batch_shrink must be", "True")),
    "a shift's weight": ("DiscShiftLoss", {"loss_weight": "0.1"}, ("loss_weight must be a number",)),
    "a component's name": ("GANLossComps", {"gan_type": "hinge", "loss_name": 3}, ("loss_name must be", "3")),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_options(what: str) -> None:
    name, options, words = OPTIONS[what]
    refused(lambda: lf.LOSSES[name](**options), name, *words)
    refused(lambda: lf.build({"type": name, **options}), *(word.split(" ")[0] for word in words[:1]))


CALLS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "target_is_real nowhere": (lambda: gan()(X), ("GANLoss", "target_is_real must be", "None")),
    "a target that is no bool": (lambda: gan()(X, 1.0), ("GANLoss", "target_is_real must be", r"1\.0")),
    "a side that is no bool": (lambda: gan()(X, True, 1), ("GANLoss", "is_disc must be", "1")),
    "a mask for hinge": (lambda: gan()(X, True, True, MASK), ("GANLoss", "mask must be left out", "smgan|hinge")),
    "no mask for smgan": (lambda: gan("smgan")(X, True, True), ("GANLoss", "mask must be", "None")),
    "a mask without its batch": (lambda: gan("smgan")(X, True, True, MASK[0, 0]), ("GANLoss", "mask must be", "6, 5")),
    "a mask of two channels": (
        lambda: gan("smgan")(X, True, True, MASK.expand(2, 2, 6, 5)),
        ("GANLoss", "mask must be", "2, 2, 6, 5"),
    ),
    "a mask of another batch": (lambda: gan("smgan")(X, True, True, MASK[:1]), ("GANLoss", "mask must be", "1, 1, 6, 5")),
    "an integer mask": (lambda: gan("smgan")(X, True, True, MASK.long()), ("GANLoss", "mask must be", "int64")),
    "a mask that is a list": (lambda: gan("smgan")(X, True, True, MASK.tolist()), ("GANLoss", "mask must be", "list")),
    "a mask elsewhere": (lambda: gan("smgan")(X, True, True, MASK.to("meta")), ("GANLoss", "mask must be", "meta")),
    "smgan of vectors": (lambda: gan("smgan")(X[:, 0, 0, 0], True, True, MASK), ("GANLoss", "input must be", r"\[2\]")),
    "other for hinge": (lambda: gan()(X, True, True, other=X), ("GANLoss", "other must be left out", "ragan|hinge")),
    "no other for ragan": (lambda: gan("ragan")(X, True, True), ("GANLoss", "other must be", "None")),
    "one other for a list": (lambda: gan("ragan")([X, X], True, True, other=X), ("GANLoss", "other must be", "2 outputs", "1")),
    "too few others": (lambda: gan("ragan")([X, X], True, True, other=[X]), ("GANLoss", "other must be", "2", "1")),
    "others elsewhere": (lambda: gan("ragan")(X, True, True, other=OTHER), ("GANLoss", "other must be", "meta")),
    "integer logits": (lambda: gan()(X.long(), True), ("GANLoss", "input must be", "float", "int64")),
    "complex logits": (lambda: gan()(X.to(torch.complex64), True), ("GANLoss", "input must be", "float", "complex64")),
    "logits of numbers": (lambda: gan()(3.0, True), ("GANLoss", "input must be", "float")),
    "a list with something else": (lambda: gan()([X, None], True), ("GANLoss", "input", "None")),
    "an empty list": (lambda: gan()([], True), ("GANLoss", "input must be", "empty|none|0|at least")),
    "outputs of two devices": (lambda: gan()([X, OTHER], True), ("GANLoss", "input must be", "meta")),
    "no weight for a discriminator": (
        lambda: gan("lsgan", loss_weight=0.5, is_disc=True),
        ("GANLoss", "loss_weight must be 1 with"),
    ),
    "a polarity for hinge": (lambda: gan(polarity="inverted"), ("GANLoss", "polarity must be 'paper'", "smgan")),
    "an argument too many": (lambda: gan()(X, True, True, None, None, None), ("GANLoss", "arguments must be")),
    "another argument": (lambda: gan()(X, True, real=True), ("GANLoss", "arguments must be", "real")),
    "a shift of integers": (lambda: lf.DiscShiftLoss()(X.long()), ("DiscShiftLoss", "pred must be", "int64")),
    "a shift of nothing": (lambda: lf.DiscShiftLoss()([]), ("DiscShiftLoss", "pred must be")),
}


@pytest.mark.parametrize("what", CALLS)
def test_calls(what: str) -> None:
    action, words = CALLS[what]
    refused(action, *words)


def critics() -> dict[str, tuple[Any, tuple[str, ...]]]:
    return {
        "no function": (3, ("discriminator must be",)),
        "None": (lambda x: None, ("discriminator must be", "None")),
        "a number": (lambda x: x.sum().item(), ("discriminator must be", "float")),
        "an empty list": (lambda x: [], ("discriminator must be",)),
        "a list of something": (lambda x: [x.sum(), "a"], ("discriminator must be",)),
        "a dict": (lambda x: {"logits": x.sum()}, ("discriminator must be", "dict")),
        "integers": (lambda x: x.long(), ("discriminator must be",)),
        "what does not depend on the images": (lambda x: torch.ones(2, 1), ("discriminator must be",)),
        "detached scores": (lambda x: CRITIC(x.detach()), ("discriminator must be",)),
        "scores without a graph": (torch.no_grad()(CRITIC.forward), ("discriminator must be",)),
    }


PENALTIES = ("GradientPenaltyLoss", "R1GradientPenalty", "R2GradientPenalty")


def call(name: str, critic: Any, x: Any, mask: Any = None) -> Tensor:
    return lf.LOSSES[name]()(critic, *([x, x] if name == "GradientPenaltyLoss" else [x]), mask)


@pytest.mark.parametrize("what", critics())
@pytest.mark.parametrize("name", PENALTIES)
def test_discriminators(name: str, what: str) -> None:
    critic, words = critics()[what]
    refused(lambda: call(name, critic, REAL), name, *words)


@pytest.mark.parametrize("name", PENALTIES)
def test_images_and_masks(name: str) -> None:
    argument = "fake" if name == "R2GradientPenalty" else "real"
    for wrong, word in (
        (REAL.long(), "int64"),
        (REAL.tolist(), "list"),
        (torch.ones(3), r"\[3\]"),
        (torch.ones(()), r"\[\]"),
        (None, "None"),
    ):
        refused(lambda w=wrong: call(name, CRITIC, w), name, f"{argument} must be", word)
    for wrong, word in (
        (torch.ones(2, 2, 4, 5), "2, 2, 4, 5"),
        (torch.ones(4, 5), r"\[4, 5\]"),
        (torch.ones(1, 1, 4, 5), "1, 1, 4, 5"),
        (torch.ones(2, 1, 4, 4), "2, 1, 4, 4"),
        (torch.ones(2, 1, 4, 5, dtype=torch.int64), "int64"),
        (torch.ones(2, 1, 4, 5, device="meta"), "meta"),
        (1.0, "float"),
    ):
        refused(lambda w=wrong: call(name, CRITIC, REAL, w), name, "mask must be", word)
    refused(lambda: call(name, REAL, CRITIC), name, "discriminator|real|fake")  # the wrong way round


def test_both_batches() -> None:
    loss = lf.GradientPenaltyLoss()
    for fake, word in ((REAL[:1], "1, 2, 4, 5"), (REAL[:, :1], "2, 1, 4, 5"), (REAL.to("meta"), "meta"), (REAL.long(), "int64")):
        refused(lambda f=fake: loss(CRITIC, REAL, f), "GradientPenaltyLoss", "fake must be", word)
    refused(lambda: loss(CRITIC, REAL), "GradientPenaltyLoss", "arguments must be", "fake is missing")
    refused(lambda: lf.R1GradientPenalty()(CRITIC), "R1GradientPenalty", "arguments must be", "real is missing")
    refused(lambda: lf.R1GradientPenalty()(REAL), "R1GradientPenalty", "arguments must be")


def test_a_discriminators_own_errors_are_its_own() -> None:
    """They are not dressed as wrong arguments."""

    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("of my own")

    for name in PENALTIES:
        with pytest.raises(RuntimeError, match="of my own"):
            call(name, broken, REAL)


GENERATORS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "no function": (3, ("generator must be",)),
    "None": (lambda w: None, ("generator must be", "None")),
    "three things": (lambda w: (w, w, w), ("generator must be",)),
    "a dict without images": (lambda w: {"latent": w}, ("generator must be|fake_img", "fake_img")),
    "a dict without styles": (lambda w: {"fake_img": Pixel()(w)}, ("generator must be|latent", "latent")),
    "integers": (lambda w: w.long(), ("generator must be",)),
    "numbers": (lambda w: w.sum(1), ("generator must be", r"B, C, \*S", r"\[4\]")),
    "images that do not depend on the styles": (lambda w: torch.ones(4, 1, 2, 2), ("generator must be",)),
    "styles that are not in the graph": (lambda w: (Pixel()(w), w.detach().clone()), ("generator must be",)),
    "styles of another batch": (lambda w: (Pixel()(w), (w * 1)[:2]), ("generator must be|styles|latent",)),
}


@pytest.mark.parametrize("what", GENERATORS)
def test_generators(what: str) -> None:
    generator, words = GENERATORS[what]
    regulariser = lf.GeneratorPathRegularizer(batch_shrink=1)
    refused(lambda: regulariser(generator, images(4, 5)), "GeneratorPathRegularizer", *words)
    assert number(regulariser.mean_path_length) == 0


def test_latents() -> None:
    for wrong, word in (
        ([1.0, 2.0], "list"),
        (torch.ones(4, 5, dtype=torch.int64), "int64"),
        (torch.ones(()), r"\[\]"),
        (torch.ones(0, 5), "0, 5"),
        (None, "None"),
    ):
        refused(lambda w=wrong: lf.GeneratorPathRegularizer()(Pixel(), w), "GeneratorPathRegularizer", "latents must be", word)
    refused(lambda: lf.functional.path_lengths(Pixel(), None), "path_lengths", "latents must be")


@pytest.mark.parametrize("name", PENALTIES)
def test_errors_in_a_set_name_the_term(name: str) -> None:
    paths = {"discriminator": "disc", "real": "x", "fake": "x"}
    loss = lf.LOSSES[name](inputs={key: path for key, path in paths.items() if key in lf.LOSSES[name].arguments})
    refused(lambda: lf.LossSet(slope=loss)({"disc": Linear(2, 4, 5), "x": REAL.long()}), name, "int64")
    refused(lambda: lf.LossSet(slope=loss)({"disc": nn.Identity()}), "slope", name, "'x'", "disc")
