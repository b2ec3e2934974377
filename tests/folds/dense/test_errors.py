"""Bad input to a dense loss is refused: which loss, which argument, what was expected, what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES, close, evaluate
from tests.contract.refusals import Bad, all_refused, refused
from tests.folds.dense.cases import DenseCase

SCORES, TARGETS = torch.randn(2, 5, 3, 4), torch.rand(2, 5, 3, 4)
LOSSES: dict[str, dict[str, Any]] = {
    "BinaryCrossEntropyLoss": {},
    "CrossEntropyLoss": {},
    "FocalLoss": {"link": "sigmoid"},
    "DiceLoss": {"link": "sigmoid"},
    "GeneralizedDiceLoss": {"link": "softmax"},
    "LovaszLoss": {"link": "hinge"},
}
BAD: Bad = {
    "targets of other channels": ((SCORES, TARGETS[:, :4]), ["labels", "2, 5, 3, 4", "2, 4, 3, 4"]),
    "targets of another batch": ((SCORES, TARGETS[:1]), ["labels", "2, 5, 3, 4", "1, 5, 3, 4"]),
    "targets without height": ((SCORES, TARGETS[:, :, :0]), ["labels", "2, 5, 3, 4", "2, 5, 0, 4"]),
    "flat targets of another length": ((SCORES.flatten(2), TARGETS.flatten(2)[..., :5]), ["labels", "2, 5, 12", "2, 5, 5"]),
    "complex targets": ((SCORES, TARGETS.to(torch.complex64)), ["labels", "float", "complex64"]),
    "integer logits": ((SCORES.long(), TARGETS), ["logits", "float", "int64"]),
    "a class weight as weight": ((SCORES, TARGETS, torch.ones(5)), ["weight", "2, 3, 4", "did you mean class_weight"]),
    "a weight that would broadcast": ((SCORES, TARGETS, torch.ones(1, 3, 4)), ["weight", "2, 3, 4", "1, 3, 4"]),
    "a weight of another size": ((SCORES, TARGETS, torch.ones(2, 5, 3, 5)), ["weight", "2, 3, 4", "2, 5, 3, 5"]),
    "an integer weight": ((SCORES, TARGETS, torch.ones(2, 3, 4, dtype=torch.int64)), ["weight", "float|bool", "int64"]),
    "a weight that is a number": ((SCORES, TARGETS, 0.5), ["weight", "[Tt]ensor", "float"]),
    "targets on another device": ((SCORES, TARGETS.to("meta")), ["labels", "cpu", "meta"]),
    "a normalizer that is a vector": ((SCORES, TARGETS, None, torch.ones(2)), ["normalizer", "scalar"]),
    "a normalizer that is a word": ((SCORES, TARGETS, None, "7"), ["normalizer", "number"]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_bad_arguments(name: str) -> None:
    all_refused(BAD, lf.LOSSES[name](**LOSSES[name]), name)


def test_bad_arguments_of_a_set_name_the_term() -> None:
    criterion = lf.LossSet(entropy=lf.BinaryCrossEntropyLoss(), region=lf.DiceLoss(link="sigmoid", per_image=True))
    all_refused(BAD, criterion, "entropy|region")


@pytest.mark.parametrize("name", ["BinaryCrossEntropyLoss", "FocalLoss", "DiceLoss", "LovaszLoss"])
def test_targets_without_the_channels(name: str) -> None:
    """Only one channel may be left out."""
    refused(lambda: lf.LOSSES[name](**LOSSES[name])(SCORES, TARGETS[:, 0]), name, "labels", "2, 5, 3, 4", "2, 3, 4")
    refused(lambda: lf.LOSSES[name](**LOSSES[name])(SCORES, (TARGETS[:, 0] * 5).long()), name, "labels", "2, 5, 3, 4", "2, 3, 4")


def test_a_weight_for_each_channel_of_a_softmax_is_refused() -> None:
    for name in ("CrossEntropyLoss", "DiceLoss", "GeneralizedDiceLoss"):
        refused(lambda name=name: lf.LOSSES[name]()(SCORES, TARGETS, torch.ones(2, 5, 3, 4)), name, "weight", "2, 3, 4")
    for engine in ENGINES:
        loss = lf.CrossEntropyLoss(link="identity", engine=engine)
        refused(lambda loss=loss: loss(SCORES.sigmoid(), TARGETS, torch.ones(2, 5, 3, 4)), "CrossEntropyLoss", "weight", "2, 3, 4")


def spoilt(value: float, dtype: torch.dtype) -> torch.Tensor:
    targets = TARGETS.clone() if dtype.is_floating_point else (TARGETS > 0.5).to(dtype)
    targets = targets.to(dtype)
    targets[1, 2, 2, 3] = value
    return targets


SPOILT: list[tuple[float, torch.dtype, list[str]]] = [
    (255, torch.uint8, ["0, 1 or ignore_index", "255"]),
    (2, torch.int64, ["0, 1 or ignore_index", "2"]),
    (-1, torch.int32, ["0, 1 or ignore_index", "-1"]),
    (255.0, torch.float32, [r"\[0, 1\]", "255", "divide by 255"]),
    (1.5, torch.float32, [r"\[0, 1\]", r"1\.5"]),
    (-0.25, torch.float64, [r"\[0, 1\]", r"-0\.25"]),
    (1.5, torch.bfloat16, [r"\[0, 1\]", r"1\.5"]),
    (float("nan"), torch.float32, [r"\[0, 1\]", "nan"]),
    (-100.0, torch.float32, [r"\[0, 1\]", "-100"]),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", LOSSES)
def test_targets_out_of_range(name: str, engine: str) -> None:
    for reduction in ("mean", "none"):
        loss = lf.LOSSES[name](**LOSSES[name], engine=engine, reduction=reduction)
        for value, kind, words in SPOILT:
            refused(lambda loss=loss, value=value, kind=kind: loss(SCORES, spoilt(value, kind)), name, "labels", *words)


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_out_of_range_that_do_not_count(engine: str) -> None:
    """Of weight 0, or the value that is ignored, they are not looked at."""
    loss = lf.BinaryCrossEntropyLoss(engine=engine, ignore_index=255)
    weight = torch.ones(2, 5, 3, 4)
    weight[1, 2, 2, 3] = 0
    truth = loss(SCORES, TARGETS, weight)
    close(loss(SCORES, spoilt(7.0, torch.float32), weight), truth, 0, 0)
    assert torch.isfinite(loss(SCORES, spoilt(255, torch.uint8)))


@pytest.mark.parametrize("engine", ENGINES)
def test_exact_lovasz_refuses_targets_too(engine: str) -> None:
    refused(lambda: lf.LovaszLoss(link="hinge", exact=True)(SCORES, spoilt(7.0, torch.float32)), "LovaszLoss", "labels", "7")
    message = refused(
        lambda: lf.LovaszLoss(link="sigmoid", engine=engine)(SCORES, spoilt(7.0, torch.float32)), "LovaszLoss", "labels"
    )
    assert "[0, 1]" in message


WRONG_OPTIONS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("BinaryCrossEntropyLoss", {"pos_weight": -1.0}, ["pos_weight", ">= 0"]),
    ("BinaryCrossEntropyLoss", {"pos_weight": [1.0, -1.0]}, ["pos_weight", ">= 0"]),
    ("BinaryCrossEntropyLoss", {"pos_weight": "random"}, ["pos_weight", "random"]),
    ("BinaryCrossEntropyLoss", {"label_smoothing": 1.5}, ["label_smoothing", "1.5"]),
    ("BinaryCrossEntropyLoss", {"link": "softmax"}, ["link", "sigmoid", "softmax"]),
    ("CrossEntropyLoss", {"link": "sigmoid"}, ["link", "softmax", "sigmoid"]),
    ("DiceLoss", {"link": "hinge"}, ["link", "sigmoid", "hinge"]),
    ("OhemCrossEntropyLoss", {"link": "sigmoid"}, ["link", "sigmoid"]),
    ("LovaszLoss", {"link": "hinge", "classes": [0]}, ["classes", "hinge"]),
    ("LovaszLoss", {"link": "hinge", "bins": 100}, ["bins", "16"]),
    ("LovaszLoss", {"link": "hinge", "exact": True, "engine": "cpp"}, ["engine", "exact"]),
]


@pytest.mark.parametrize(("name", "options", "words"), WRONG_OPTIONS, ids=str)
def test_wrong_options(name: str, options: dict[str, Any], words: list[str]) -> None:
    refused(lambda: lf.LOSSES[name](**options), name, *words)


def test_alpha_above_one_is_for_labels_alone() -> None:
    refused(lambda: lf.FocalLoss(link="sigmoid", alpha=2.0)(SCORES, TARGETS), "FocalLoss", "alpha", r"\[0, 1\]", "2")
    refused(lambda: lf.FocalLoss(link="identity", alpha=[0, 1, 2, 0, 0])(SCORES.sigmoid(), TARGETS), "FocalLoss", "alpha")
    assert torch.isfinite(lf.FocalLoss(alpha=2.0)(SCORES, torch.zeros(2, 3, 4, dtype=torch.int64)))


MISUSED: list[tuple[str, Callable[[], Any], list[str]]] = [
    ("of a batch's loss", lambda: lf.DiceLoss(link="sigmoid")(SCORES, TARGETS, normalizer=3), ["per_image"]),
    ("of a sum", lambda: lf.DiceLoss(link="sigmoid", per_image=True, reduction="sum")(SCORES, TARGETS, normalizer=3), ["mean"]),
    ("with softmax", lambda: lf.DiceLoss(per_image=True)(SCORES, TARGETS, normalizer=3), ["masks", "softmax"]),
    ("with labels", lambda: lf.DiceLoss(per_image=True)(SCORES, torch.zeros(2, 3, 4).long(), normalizer=3), ["masks"]),
    ("of Lovász", lambda: lf.LovaszLoss(link="hinge")(SCORES, TARGETS, normalizer=3), ["left out"]),
    (
        "of generalised Dice",
        lambda: lf.GeneralizedDiceLoss(link="sigmoid", per_image=True)(SCORES, TARGETS, normalizer=3),
        ["left out"],
    ),
    ("nan", lambda: lf.DiceLoss(link="sigmoid", per_image=True)(SCORES, TARGETS, normalizer=float("nan")), ["number"]),
]


@pytest.mark.parametrize(("action", "words"), [given[1:] for given in MISUSED], ids=[given[0] for given in MISUSED])
def test_normalizer_misused(action: Callable[[], Any], words: list[str]) -> None:
    refused(action, "normalizer", *words)


def test_a_slightly_interpolated_target_passes() -> None:
    """Bicubic resizing overshoots: up to a hundredth beyond [0, 1] is taken as it is."""
    case = DenseCase("BinaryCrossEntropyLoss", {})
    data = case.make()
    targets = data.truth.clone()
    targets[0, 0, 0, 0], targets[0, 0, 0, 1] = -0.009, 1.009
    for engine in ENGINES:
        result, _ = evaluate(case.changed(engine=engine).build(), data.with_target(targets))
        truth = torch.nn.functional.binary_cross_entropy_with_logits(data.pred, targets)
        close(result, truth)
