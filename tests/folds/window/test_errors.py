"""Bad input to a window loss is refused: which loss, which argument, what was expected, what came."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, evaluate
from tests.contract.refusals import Bad, all_refused, refused
from tests.folds.window.cases import WindowCase

WINDOW_LOSSES = internals.folded("window")
SIDE = 180
PRED, TARGET, WEIGHT = torch.rand(2, 3, SIDE, SIDE), torch.rand(2, 3, SIDE, SIDE), torch.rand(2, 1, SIDE, SIDE)
SHAPE = f"2, 3, {SIDE}, {SIDE}"
BAD: Bad = {
    "a target of other channels": ((PRED, TARGET[:, :1]), ["target", SHAPE, f"2, 1, {SIDE}"]),
    "a target of another batch": ((PRED, TARGET[:1]), ["target", SHAPE, f"1, 3, {SIDE}"]),
    "a target without the channels": ((PRED, TARGET[:, 0]), ["target", SHAPE, rf"\[2, {SIDE}, {SIDE}\]"]),
    "a target of bytes": ((PRED, (TARGET * 255).byte()), ["target", "float", "uint8", "255"]),
    "a complex target": ((PRED, TARGET.to(torch.complex64)), ["target", "float", "complex64"]),
    "a prediction of bytes": (((PRED * 255).byte(), TARGET), ["pred", "float", "uint8", "255"]),
    "a boolean prediction": ((PRED > 0.5, TARGET), ["pred", "float", "bool"]),
    "a prediction that is no tensor": ((PRED[0, 0, 0].tolist(), TARGET), ["pred", "[Tt]ensor", "list"]),
    "a target that is no tensor": ((PRED, TARGET.numpy()), ["target", "[Tt]ensor", "ndarray"]),
    "a sequence": ((PRED[0], TARGET[0]), ["pred", r"\[B, C, H, W\]", rf"\[3, {SIDE}, {SIDE}\]"]),
    "four dimensions": ((PRED[None, None], TARGET[None, None]), ["pred", r"\[B, C, H, W\]", f"1, 1, {SHAPE}"]),
    "no channel": ((PRED[:, :0], TARGET[:, :0]), ["pred", "channel", "2, 0"]),
    "a weight that would broadcast": ((PRED, TARGET, WEIGHT[:1]), ["weight", f"2, 1, {SIDE}", f"1, 1, {SIDE}"]),
    "a weight of other channels": ((PRED, TARGET, PRED[:, :2]), ["weight", f"2, 1, {SIDE}", f"2, 2, {SIDE}"]),
    "a weight of the places": ((PRED, TARGET, WEIGHT[..., 5:-5, 5:-5]), ["weight", f"2, 1, {SIDE}", "2, 1, 170, 170"]),
    "a weight of two dimensions": ((PRED, TARGET, WEIGHT[0, 0]), ["weight", f"2, 1, {SIDE}", rf"\[{SIDE}, {SIDE}\]"]),
    "a weight of bytes": ((PRED, TARGET, WEIGHT.byte()), ["weight", "float or bool", "uint8"]),
    "a weight that is a number": ((PRED, TARGET, 0.5), ["weight", "tensor", "float"]),
    "a target on another device": ((PRED, TARGET.to("meta")), ["target", "cpu", "meta"]),
    "a weight on another device": ((PRED, TARGET, WEIGHT.to("meta")), ["weight", "cpu", "meta"]),
    "a sparse target": ((PRED, TARGET.to_sparse()), ["target", "dense", "sparse"]),
}


@pytest.mark.parametrize("name", WINDOW_LOSSES)
def test_bad_arguments(name: str) -> None:
    all_refused(BAD, lf.LOSSES[name](), name)
    all_refused(BAD, lf.LossSet(term=lf.LOSSES[name]()), "term", name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "options", "side"),
    [
        ("SSIMLoss", {}, 11),
        ("SSIMLoss", {"window_size": 7}, 7),
        ("SSIMLoss", {"padding": "reflect"}, 6),
        ("SSIMLoss", {"padding": "zeros"}, 1),
        ("MSSSIMLoss", {}, 176),
        ("MSSSIMLoss", {"betas": (1.0, 1.0), "padding": "reflect"}, 12),
        ("MSSSIMLoss", {"betas": (1.0, 1.0, 1.0), "padding": "zeros"}, 4),
    ],
    ids=str,
)
def test_too_small_images_are_told_the_side_they_need(name: str, options: dict[str, Any], side: int, engine: str) -> None:
    """And that side is enough."""
    loss = lf.LOSSES[name](**options, engine=engine)
    for space in ((side - 1, 200), (200, side - 1)):
        image = torch.rand(1, 1, *space)
        size = options.get("window_size", 11)
        scales = [f"{len(loss.betas)} scales"] if name == "MSSSIMLoss" else []
        words = [f"at least {side}", f"{size}x{size} window", loss.padding, *scales]
        refused(lambda image=image: loss(image, image), name, "pred", *words)
    result, gradient = evaluate(loss, WindowCase(name, options).make((side, side)))
    assert result.isfinite() and gradient.isfinite().all()


OPTIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "an even window": ("SSIMLoss", {"window_size": 8}, ["window_size", "odd", "1 to 63", "8"]),
    "a large window": ("SSIMLoss", {"window_size": 65}, ["window_size", "1 to 63", "65"]),
    "no window": ("MSSSIMLoss", {"window_size": -1}, ["window_size", "1 to 63", "-1"]),
    "half a window": ("SSIMLoss", {"window_size": 7.0}, ["window_size", "integer", "7.0"]),
    "a true window": ("SSIMLoss", {"window_size": True}, ["window_size", "integer", "True"]),
    "sigma": ("SSIMLoss", {"sigma": 0}, ["sigma", "from 1e-6", "0"]),
    "k1": ("SSIMLoss", {"k1": -0.01}, ["k1", "from 1e-6"]),
    "k2": ("MSSSIMLoss", {"k2": float("nan")}, ["k2", "from 1e-6", "nan"]),
    "data_range": ("SSIMLoss", {"data_range": (0, 1)}, ["data_range", "number", r"\(0, 1\)"]),
    "an endless data_range": ("SSIMLoss", {"data_range": float("inf")}, ["data_range", "1e12", "inf"]),
    "padding": ("SSIMLoss", {"padding": "same"}, ["padding", "valid", "reflect", "zeros", "same"]),
    "nearly a padding": ("MSSSIMLoss", {"padding": "zero"}, ["padding", "did you mean 'zeros'"]),
    "reduction": ("SSIMLoss", {"reduction": "avg"}, ["reduction", "mean", "avg"]),
    "sample_wise": ("SSIMLoss", {"sample_wise": 1}, ["sample_wise", "True or False"]),
    "sample_wise sums": ("MSSSIMLoss", {"sample_wise": True, "reduction": "sum"}, ["sample_wise", "reduction"]),
    "engine": ("SSIMLoss", {"engine": "cuda"}, ["engine", "eager", "cuda"]),
    "loss_weight": ("MSSSIMLoss", {"loss_weight": "1"}, ["loss_weight", "number"]),
    "no betas": ("MSSSIMLoss", {"betas": []}, ["betas", "1 to 16 numbers > 0"]),
    "many betas": ("MSSSIMLoss", {"betas": [0.1] * 17}, ["betas", "1 to 16 numbers > 0"]),
    "a negative beta": ("MSSSIMLoss", {"betas": [0.5, -0.5]}, ["betas", "> 0", "-0.5"]),
    "betas of SSIM": ("SSIMLoss", {"betas": [1.0]}, ["betas", "option"]),
    "a misspelt option": ("SSIMLoss", {"windowsize": 11}, ["windowsize", "did you mean 'window_size'"]),
    "a window's size as its shape": ("SSIMLoss", {"window": 11}, ["window", "gaussian", "uniform", "11"]),
}


def test_bad_options() -> None:
    for what, (name, options, words) in OPTIONS.items():
        print(what)  # pytest tells it where the test fails
        refused(lambda name=name, options=options: lf.LOSSES[name](**options), name, *words)


@pytest.mark.parametrize("name", WINDOW_LOSSES)
def test_a_map_is_no_term(name: str) -> None:
    refused(lambda: lf.LossSet(term=lf.LOSSES[name](reduction="none")), "term", name, "reduction")


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_a_map_can_not_be_forced_on_the_cpp_engine() -> None:
    refused(lambda: lf.SSIMLoss(reduction="none", engine="cpp")(PRED, TARGET), "SSIMLoss", "engine", "'eager' or None", "cpp")
