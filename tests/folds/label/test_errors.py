"""Bad input is refused before any work: which loss, which argument, what was expected, what came."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from lossfold.registry import snake_case
from tests import internals
from tests.contract.case import ENGINES, value
from tests.contract.refusals import Bad, all_refused, refused
from tests.folds.label.cases import LabelCase

NAMES = internals.folded("label")
LOGITS = torch.randn(2, 5, 3, 4)
LABELS = torch.randint(0, 5, (2, 3, 4))

BAD: Bad = {
    # what is wrong: (the arguments, words that the message must have: argument, expected, came)
    "logits without a class dimension": ((LOGITS[0, 0, 0], LABELS), ["logits", r"\[B, ?C", r"\[4\]|\(4,?\)"]),
    "labels of another length": ((LOGITS[..., 0], LABELS[:, :2, 0]), ["labels", "2, 3", "2, 2"]),
    "labels without height": ((LOGITS, LABELS[:, :0]), ["labels", "2, 3, 4", "2, 0, 4"]),
    "labels of flat images": ((LOGITS, LABELS.flatten(1)), ["labels", "2, 3, 4", "2, 12"]),
    "labels of another batch": ((LOGITS, LABELS[:1]), ["labels", "2, 3, 4", "1, 3, 4"]),
    "labels with a channel": ((LOGITS, LABELS[:, None]), ["labels", "2, 3, 4", "2, 1, 3, 4"]),
    "one-hot labels": ((LOGITS, LABELS[:, None].expand(-1, 5, -1, -1)), ["labels", "0, 1 or ignore_index|2, 5, 3, 4"]),
    "flat labels": ((LOGITS, LABELS.flatten()), ["labels", "2, 3, 4", "24"]),
    "float labels": ((LOGITS, LABELS.float()), ["labels", "int64", "float32"]),
    "int16 labels": ((LOGITS, LABELS.short()), ["labels", "int64", "int16"]),
    "boolean labels": ((LOGITS, LABELS.bool()), ["labels", "int64", "bool"]),
    "integer logits": ((LOGITS.long(), LABELS), ["logits", "float", "int64"]),
    "complex logits": ((LOGITS.to(torch.complex64), LABELS), ["logits", "float", "complex64"]),
    "a class weight as pixel weight": ((LOGITS, LABELS, torch.ones(5)), ["weight", "2, 3, 4", "5", "did you mean class_weight"]),
    "a scalar as pixel weight": ((LOGITS, LABELS, torch.ones(())), ["weight", "2, 3, 4"]),
    "a weight that would broadcast": ((LOGITS, LABELS, torch.ones(1, 3, 4)), ["weight", "2, 3, 4", "1, 3, 4"]),
    "a weight of one image": ((LOGITS, LABELS, torch.ones(3, 4)), ["weight", "2, 3, 4", "3, 4"]),
    "a weight for each class": ((LOGITS, LABELS, torch.ones(2, 5, 3, 4)), ["weight", "2, 3, 4", "2, 5, 3, 4"]),
    "an integer weight": ((LOGITS, LABELS, torch.ones(2, 3, 4, dtype=torch.int64)), ["weight", "float|bool", "int64"]),
    "labels on another device": ((LOGITS, LABELS.to("meta")), ["labels", "cpu", "meta"]),
    "a weight on another device": ((LOGITS, LABELS, torch.ones(2, 3, 4, device="meta")), ["weight", "cpu", "meta"]),
    "logits that are no tensor": ((LOGITS.tolist(), LABELS), ["logits", "[Tt]ensor", "list"]),
    "labels that are no tensor": ((LOGITS, LABELS.numpy()), ["labels", "[Tt]ensor", "ndarray"]),
    "a weight that is a number": ((LOGITS, LABELS, 0.5), ["weight", "[Tt]ensor", "float"]),
    "arguments in the wrong order": ((LABELS, LOGITS), ["logits", "float", "int64"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments(name: str) -> None:
    all_refused(BAD, lf.LOSSES[name](), name)


def test_bad_arguments_of_a_set_and_of_a_function() -> None:
    """The message names the term too."""
    all_refused(BAD, lf.LossSet(entropy=lf.CrossEntropyLoss(), region=lf.DiceLoss()), "LossSet|entropy")
    all_refused(BAD, lambda logits, labels, weight=None: lf.functional.dice_loss(logits, labels, weight=weight), "[Dd]ice")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_label_out_of_range(name: str, engine: str) -> None:
    for reduction in ("mean",) if issubclass(lf.LOSSES[name], lf.LossSet) else ("mean", "none"):
        loss = lf.LOSSES[name](engine=engine, reduction=reduction)
        for label in (5, 255, -1, -99, 2**40):
            labels = LABELS.clone()
            labels[1, 2, 3] = label
            refused(lambda loss=loss, labels=labels: loss(LOGITS, labels), name, "labels", str(label), r"\[0, 5\)")


@pytest.mark.parametrize("engine", ENGINES)
def test_label_out_of_range_in_other_label_dtypes(engine: str) -> None:
    for label_dtype, label in ((torch.uint8, 255), (torch.int32, -7), (torch.int32, 2**31 - 1)):
        labels = LABELS.to(label_dtype)
        labels[0, 0, 0] = label
        refused(lambda labels=labels: lf.DiceLoss(engine=engine)(LOGITS, labels), "labels", str(label))


@pytest.mark.parametrize("engine", ENGINES)
def test_label_out_of_range_names_the_term_of_a_set(engine: str) -> None:
    labels = LABELS.clone()
    labels[0, 1, 1] = 255
    criterion = lf.LossSet(entropy=lf.CrossEntropyLoss(engine=engine), region=lf.DiceLoss(engine=engine))
    refused(lambda: criterion(LOGITS, labels), "labels", "255", "entropy|region", "ignore_index")


@pytest.mark.parametrize("engine", ENGINES)
def test_every_label_in_range_is_taken(engine: str) -> None:
    """The guard is no stricter than the contract: the last class and the ignore label pass."""
    labels = torch.full_like(LABELS, 4)
    labels[0, 0, 0] = -100
    assert torch.isfinite(lf.DiceLoss(engine=engine)(LOGITS, labels))


def test_a_bad_label_leaves_the_loss_usable() -> None:
    for engine in ENGINES:
        loss = lf.DiceLoss(engine=engine)
        before = loss(LOGITS, LABELS)
        with pytest.raises(lf.LossError):
            loss(LOGITS, torch.full_like(LABELS, 9))
        assert torch.equal(loss(LOGITS, LABELS), before)


VALUES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("*", {"reduction": "avg"}, ["reduction", "mean", "avg"]),
    ("*", {"reduction": "menn"}, ["reduction", "did you mean.*mean", "menn"]),
    ("*", {"link": "sofmax"}, ["link", "softmax", "sofmax"]),
    ("*", {"class_weight": [1.0, -1.0]}, ["class_weight", "-1"]),
    ("*", {"class_weight": [1.0, float("nan")]}, ["class_weight", "nan"]),
    ("*", {"class_weight": 2.0}, ["class_weight", "2.0"]),
    ("*", {"class_weight": []}, ["class_weight"]),
    ("*", {"class_weight": "balanced"}, ["class_weight", "balanced"]),
    ("*", {"ignore_index": 2.5}, ["ignore_index", "2.5"]),
    ("*", {"ignore_index": None}, ["ignore_index", "None"]),
    ("*", {"per_image": "yes"}, ["per_image", "yes"]),
    ("*", {"loss_weight": "heavy"}, ["loss_weight", "heavy"]),
    ("*", {"loss_weight": float("nan")}, ["loss_weight", "nan"]),
    ("*", {"engine": "cuda"}, ["engine", "eager", "cuda"]),
    ("CrossEntropyLoss", {"label_smoothing": 2}, ["label_smoothing", "2", "1"]),
    ("CrossEntropyLoss", {"label_smoothing": -0.1}, ["label_smoothing", "-0.1"]),
    ("FocalLoss", {"gamma": -1.0}, ["gamma", "-1"]),
    ("FocalLoss", {"alpha": -0.25}, ["alpha", "-0.25"]),
    ("FocalLoss", {"alpha": [0.1, -0.2]}, ["alpha", "-0.2"]),
    ("FocalLoss", {"normalize": "focl"}, ["normalize", "focal", "focl"]),
    ("DiceLoss", {"smooth": -1.0}, ["smooth", "-1"]),
    ("DiceLoss", {"average": "weighted"}, ["average", "macro", "weighted"]),
    ("DiceLoss", {"absent": "skipp"}, ["absent", "skip", "skipp"]),
    ("DiceLoss", {"squared": "no"}, ["squared", "no"]),
    ("JaccardLoss", {"smooth": float("inf")}, ["smooth", "inf"]),
    ("JaccardLoss", {"absent": "zeros"}, ["absent", "zero", "zeros"]),
    ("TverskyLoss", {"alpha": -0.5}, ["alpha", "-0.5"]),
    ("TverskyLoss", {"beta": -0.5}, ["beta", "-0.5"]),
    ("TverskyLoss", {"exponent": 0.0}, ["exponent", "0"]),
    ("*", {"align_corners": "yes"}, ["align_corners", "yes"]),
    ("LovaszLoss", {"classes": "presnt"}, ["classes", "did you mean.*present", "presnt"]),
    ("LovaszLoss", {"classes": []}, ["classes", "list", r"\[\]"]),
    ("LovaszLoss", {"classes": [0, 0]}, ["classes", "distinct", "0, 0"]),
    ("LovaszLoss", {"classes": [-1]}, ["classes", "-1"]),
    ("LovaszLoss", {"classes": [0.5]}, ["classes", "0.5"]),
    ("LovaszLoss", {"classes": None}, ["classes", "None"]),
    ("LovaszLoss", {"classes": 3}, ["classes", "3"]),
    ("LovaszLoss", {"bins": 1}, ["bins", "1"]),
    ("LovaszLoss", {"bins": 65537}, ["bins", "65537"]),
    ("LovaszLoss", {"bins": 64.0}, ["bins", "64.0"]),
    ("LovaszLoss", {"exact": "no"}, ["exact", "no"]),
    ("LovaszLoss", {"exact": True, "engine": "cpp"}, ["engine", "cpp", "exact"]),
    ("LovaszLoss", {"link": "hinges"}, ["link", "hinges", "hinge"]),
    ("LovaszLoss", {"link": "hinge", "bins": 100}, ["bins", "16", "hinge"]),
    ("LovaszLoss", {"link": "hinge", "classes": "all"}, ["classes", "hinge"]),
    ("OhemCrossEntropyLoss", {"thresh": 1.5}, ["thresh", "1.5"]),
    ("OhemCrossEntropyLoss", {"thresh": None}, ["thresh", "None"]),
    ("OhemCrossEntropyLoss", {"min_kept": -1}, ["min_kept", "-1"]),
    ("OhemCrossEntropyLoss", {"min_kept": 0.5}, ["min_kept", "0.5"]),
    ("OhemCrossEntropyLoss", {"top_k_ratio": 0.0}, ["top_k_ratio", "0"]),
    ("OhemCrossEntropyLoss", {"top_k_ratio": 1.01}, ["top_k_ratio", "1.01"]),
    ("GeneralizedDiceLoss", {"weighting": "squared"}, ["weighting", "square", "squared"]),
    ("GeneralizedDiceLoss", {"smooth": -1e-6}, ["smooth", "-1e-06"]),
    ("CEDiceLoss", {"ce_weight": "x"}, ["ce_weight", "x"]),
    ("CEDiceLoss", {"dice_weight": None}, ["dice_weight", "None"]),
    ("CEDiceLoss", {"label_smoothing": 1.5}, ["label_smoothing", "1.5"]),
    ("CEDiceLoss", {"smooth": -1.0}, ["smooth", "-1"]),
]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_option_values(name: str) -> None:
    """Refused when the loss is built, not when it first runs."""
    for of, options, words in VALUES:
        if of in ("*", name):
            refused(lambda options=options: lf.LOSSES[name](**options), name, *words)


@pytest.mark.parametrize("name", NAMES)
def test_class_weight_of_the_wrong_length(name: str) -> None:
    loss = lf.LOSSES[name](class_weight=[1.0, 2.0, 3.0])
    refused(lambda: loss(LOGITS, LABELS), name, "class_weight", "5", "3")


def test_a_class_that_the_logits_do_not_have() -> None:
    for exact in (False, True):
        refused(lambda exact=exact: lf.LovaszLoss(classes=[0, 5], exact=exact)(LOGITS, LABELS), "LovaszLoss", "classes", "5")


def test_alpha_of_the_wrong_length() -> None:
    refused(lambda: lf.FocalLoss(alpha=[0.5, 0.5])(LOGITS, LABELS), "FocalLoss", "alpha", "5", "2")


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options(name: str) -> None:
    near = "did you mean"
    refused(lambda: lf.build({"type": name, "ignore_indx": 3}), name, "ignore_indx", near, "ignore_index")
    function = getattr(lf.functional, snake_case(name))
    with pytest.raises((lf.LossError, TypeError), match="ignore_indx"):
        function(LOGITS, LABELS, ignore_indx=3)
    with pytest.raises((lf.LossError, TypeError), match="ignore_indx"):
        lf.LOSSES[name](ignore_indx=3)


@pytest.mark.parametrize("name", NAMES)
def test_a_forced_engine_that_cannot_serve_says_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.ones(2, 3, 4).requires_grad_()
    loss = lf.LOSSES[name](engine="cpp")
    if "cpp" in ENGINES and LabelCase(name, {}).differentiates_weights:  # the others refuse such a weight on any engine
        refused(lambda: loss(LOGITS, LABELS, weight), name, "engine", "cpp", "gradient", "weight")
    monkeypatch.setattr("lossfold.engines.native.PROBLEM", "no compiler here")
    assert lf.engines.available() == ("eager",)
    refused(lambda: loss(LOGITS, LABELS), name, "engine", "cpp", "no compiler here")
    assert torch.isfinite(value(lf.LOSSES[name]()(LOGITS, LABELS)))


def test_the_environment_forces_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSFOLD_ENGINE", "cuda")
    refused(lambda: lf.DiceLoss()(LOGITS, LABELS), "LOSSFOLD_ENGINE|engine", "cuda", "eager")
    for engine in ENGINES:
        monkeypatch.setenv("LOSSFOLD_ENGINE", engine)
        assert torch.isfinite(lf.DiceLoss()(LOGITS, LABELS))


def test_a_set_refuses_what_is_no_loss() -> None:
    refused(lambda: lf.LossSet(ce=3.0), "ce", "float")
    refused(lambda: lf.LossSet(ce=torch.nn.CrossEntropyLoss), "ce")
    refused(lambda: lf.LossSet(), "LossSet", "term")
    refused(lambda: lf.LossSet({"a.b": lf.DiceLoss()}), "a.b")


def test_a_loss_error_is_a_value_error() -> None:
    assert issubclass(lf.LossError, ValueError)


def test_unknown_names_of_the_registry() -> None:
    refused(lambda: lf.LOSSES["DiceLos"], "DiceLos", "did you mean", "DiceLoss")
    refused(lambda: lf.build({"type": "CrossEntropy"}), "CrossEntropy", "CrossEntropyLoss")
    assert "DiceLoss" in lf.LOSSES and "DiceLos" not in lf.LOSSES
