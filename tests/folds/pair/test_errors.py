"""Bad input to a loss of a pair is refused: which loss, which argument, what was expected, what came."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES
from tests.contract.refusals import Bad, all_refused, refused
from tests.folds.pair.cases import PairCase

PAIR_LOSSES = internals.folded("pair")
PRED, TARGET, REGION = (torch.rand(2, 3, 8, 8) for _ in range(3))
REGION = REGION[:, :1]
PLAIN = [name for name in PAIR_LOSSES if not PairCase(name, {}).composes and PairCase(name, {}).has_target]
TARGETLESS = [name for name in PAIR_LOSSES if not PairCase(name, {}).has_target]
COMPOSING = [name for name in PAIR_LOSSES if PairCase(name, {}).composes]
LEAVES = [name for name in PAIR_LOSSES if not PairCase(name, {}).is_set]
SETS = [name for name in PAIR_LOSSES if PairCase(name, {}).is_set]
IN_UNIT = [name for name in PLAIN if PairCase(name, {}).region_argument == "region"]
BAD: Bad = {
    "a target of other channels": ((PRED, TARGET[:, :1], REGION), ["target", "2, 3, 8, 8", "2, 1, 8, 8"]),
    "a target of another batch": ((PRED, TARGET[:1], REGION), ["target", "2, 3, 8, 8", "1, 3, 8, 8"]),
    "a target without the channels": ((PRED, TARGET[:, 0], REGION), ["target", "2, 3, 8, 8", "2, 8, 8"]),
    "a target of bytes": ((PRED, (TARGET * 255).byte(), REGION), ["target", "float", "uint8", "255"]),
    "a complex target": ((PRED, TARGET.to(torch.complex64), REGION), ["target", "float", "complex64"]),
    "a prediction of bytes": (((PRED * 255).byte(), TARGET, REGION), ["pred", "float", "uint8", "255"]),
    "a boolean prediction": ((PRED > 0.5, TARGET, REGION), ["pred", "float", "bool"]),
    "a prediction that is no tensor": ((PRED.tolist(), TARGET, REGION), ["pred", "[Tt]ensor", "list"]),
    "a target that is no tensor": ((PRED, TARGET.numpy(), REGION), ["target", "[Tt]ensor", "ndarray"]),
    "one dimension": ((PRED[0, 0, 0], TARGET[0, 0, 0], REGION), ["pred|target", "B, C|B, 1", "8"]),
    "no channel": ((PRED[:, :0], TARGET[:, :0], REGION), ["pred", "channel", "2, 0, 8, 8"]),
    "a region that would broadcast": ((PRED, TARGET, REGION[:1]), ["region|weight", "2, 1, 8, 8", "1, 1, 8, 8"]),
    "a region of other channels": ((PRED, TARGET, PRED[:, :2]), ["region|weight", "2, 1, 8, 8", "2, 2, 8, 8"]),
    "a region of another size": ((PRED, TARGET, REGION[..., :7]), ["region|weight", "2, 1, 8, 8", "2, 1, 8, 7"]),
    "a region of two dimensions": ((PRED, TARGET, REGION[0, 0]), ["region|weight", "2, 1, 8, 8", r"\[8, 8\]"]),
    "a trimap of bytes": ((PRED, TARGET, (REGION * 255).byte()), ["region|weight", "float or bool", "uint8"]),
    "a region that is a number": ((PRED, TARGET, 0.5), ["region|weight", "tensor", "float"]),
    "a target on another device": ((PRED, TARGET.to("meta"), REGION), ["target", "cpu", "meta"]),
    "a region on another device": ((PRED, TARGET, REGION.to("meta")), ["region|weight", "cpu", "meta"]),
    "a sparse target": ((PRED, TARGET.to_sparse(), REGION), ["target", "dense", "sparse"]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_bad_arguments(name: str) -> None:
    all_refused(BAD, lf.LOSSES[name](), name)


def test_bad_arguments_of_a_set_name_the_term() -> None:
    all_refused(BAD, lf.LossSet(alpha=lf.UnknownL1Loss(), rough=lf.KnownL1Loss()), "alpha|rough")


@pytest.mark.parametrize("name", TARGETLESS)
def test_bad_arguments_without_a_target(name: str) -> None:
    loss = lf.LOSSES[name]()
    for what, ((pred, _, region), words) in BAD.items():
        if "target" in what:
            continue
        words = [word.replace("region|weight", "weight|mask") for word in words]
        refused(lambda pred=pred, region=region: loss(pred, region), name, *words)
        outputs = {"pred": pred, "weight": region, "mask": region}
        refused(lambda outputs=outputs: lf.LossSet(smooth=loss)(outputs), "smooth", *words)


FG, BG, MERGED, ALPHA = (torch.rand(2, c, 8, 8) for c in (3, 3, 3, 1))
BAD_COMPOSITIONS: Bad = {
    "an alpha of two channels": ((FG[:, :2], FG, BG, MERGED), ["pred_alpha", "2, 1, 8, 8", "2, 2, 8, 8"]),
    "a boolean alpha": ((ALPHA > 0.5, FG, BG, MERGED), ["pred_alpha", "float", "bool"]),
    "an alpha of bytes": ((ALPHA.byte(), FG, BG, MERGED), ["pred_alpha", "float", "uint8"]),
    "a background of one channel": ((ALPHA, FG, BG[:, :1], MERGED), ["bg", "2, 3, 8, 8", "2, 1, 8, 8"]),
    "a foreground of bytes": ((ALPHA, (255 * FG).byte(), BG, MERGED), ["fg", "float", "uint8", "255"]),
    "a merged image of bytes": ((ALPHA, FG, BG, (255 * MERGED).byte()), ["ori_merged", "float", "uint8", "255"]),
    "a merged image of another size": ((ALPHA, FG, BG, MERGED[..., 1:]), ["ori_merged", "2, 3, 8, 8", "2, 3, 8, 7"]),
    "a background elsewhere": ((ALPHA, FG, BG.to("meta"), MERGED), ["bg", "cpu", "meta"]),
    "an alpha elsewhere": ((ALPHA.to("meta"), FG, BG, MERGED), ["pred_alpha", "cpu", "meta"]),
    "a weight of two channels": ((ALPHA, FG, BG, MERGED, FG[:, :2]), ["weight", "2, 1, 8, 8", "2, 2, 8, 8"]),
    "an integer weight": ((ALPHA, FG, BG, MERGED, ALPHA.long()), ["weight", "float or bool", "int64"]),
}


@pytest.mark.parametrize("name", COMPOSING)
def test_bad_compositions(name: str) -> None:
    all_refused(BAD_COMPOSITIONS, lf.LOSSES[name](), name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", IN_UNIT)
def test_regions_out_of_range(name: str, engine: str) -> None:
    """A trimap given for a region: one value is enough, wherever it stands."""
    for at, wrong in itertools.product(((0, 0, 0, 0), (1, 0, 7, 7)), (-0.1, 1.001, 128.0, 255.0, torch.nan)):
        region = REGION.clone()
        region[at] = wrong
        words = ["region", r"\[0, 1\]", "nan" if wrong != wrong else str(wrong)[:4], *(["region_from_trimap"] if wrong > 1 else [])]
        refused(lambda region=region: lf.LOSSES[name](engine=engine)(PRED, TARGET, region), name, *words)
        refused(lambda region=region: lf.LossSet(term=lf.LOSSES[name](engine=engine))(PRED, TARGET, region), "term", *words)


@pytest.mark.parametrize("name", ["UnknownL1Loss", "KnownL1Loss", "KnownSmoothL1Loss", "MattingGradientLoss", *SETS])
def test_a_region_there_must_be(name: str) -> None:
    refused(lambda: lf.LOSSES[name]()(PRED, TARGET, None), name, "region", "unknown", "None")


@pytest.mark.parametrize("name", ["LaplacianPyramidLoss", "MattingGradientLoss", "GradientLoss", *TARGETLESS])
def test_filters_want_images(name: str) -> None:
    for space in ((64,), (4, 4, 2, 2), *([(4, 4, 4)] if name == "MattingGradientLoss" else [])):
        tensors = [one.reshape(2, -1, *space) for one in ((PRED, TARGET, REGION), (PRED, REGION))[name in TARGETLESS]]
        refused(lambda tensors=tensors: lf.LOSSES[name]()(*tensors), name, "pred", r"\[B, C, H, W\]")


OPTIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "link": ("L1Loss", {"link": "softmax"}, ["link", "identity", "sigmoid"]),
    "reduction": ("L1Loss", {"reduction": "avg"}, ["reduction", "mean", "avg"]),
    "sample_wise": ("MSELoss", {"sample_wise": 1}, ["sample_wise", "True or False"]),
    "sample_wise sums": ("MSELoss", {"sample_wise": True, "reduction": "sum"}, ["sample_wise", "reduction"]),
    "engine": ("HuberLoss", {"engine": "cuda"}, ["engine", "eager", "cuda"]),
    "loss_weight": ("HuberLoss", {"loss_weight": "1"}, ["loss_weight", "number"]),
    "beta": ("SmoothL1Loss", {"beta": -0.1}, ["beta", "from 0 to 1e30"]),
    "known beta": ("KnownSmoothL1Loss", {"beta": float("nan")}, ["beta", "from 0 to 1e30"]),
    "delta": ("HuberLoss", {"delta": 0}, ["delta", "> 0"]),
    "eps": ("CharbonnierLoss", {"eps": 0.0}, ["eps", "1e-30"]),
    "eps of a composition": ("CharbonnierCompLoss", {"eps": -1.0}, ["eps", "1e-30"]),
    "levels": ("LaplacianPyramidLoss", {"levels": 0}, ["levels", "1 to 16"]),
    "whole levels": ("LaplacianPyramidLoss", {"levels": 2.0}, ["levels", "1 to 16"]),
    "residual": ("LaplacianPyramidLoss", {"residual": 1}, ["residual", "True or False"]),
    "smoothness": ("MattingGradientLoss", {"smoothness": -1}, ["smoothness", ">= 0"]),
    "padding": ("MattingGradientLoss", {"padding": "zero"}, ["padding", "did you mean 'zeros'"]),
    "reference_area": ("UnknownL1Loss", {"reference_area": 0}, ["reference_area", "> 0"]),
    "reference_area of a sum": ("KnownL1Loss", {"reference_area": 1.0, "reduction": "sum"}, ["reference_area", "reduction"]),
    "reference_area of a set": ("MattingLoss", {"reference_area": -1}, ["reference_area", "> 0"]),
    "alpha_link": ("MattingLoss", {"alpha_link": "softmax"}, ["alpha_link", "identity"]),
    "a set's engine": ("MattingLoss", {"engine": "gpu"}, ["engine", "eager"]),
    "a set's loss_weight": ("MixedMattingLoss", {"loss_weight": None}, ["loss_weight", "number"]),
    "terms": ("MattingLoss", {"losses": ["unknow_l1_loss"]}, ["losses", "unknow_l1_loss", "did you mean 'unknown_l1_loss'"]),
    "terms twice": ("MattingLoss", {"losses": ["known_l1_loss"] * 2}, ["losses", "known_l1_loss", "twice"]),
    "no terms": ("MattingLoss", {"losses": []}, ["losses", "at least one"]),
    "a word for terms": ("MattingLoss", {"losses": "known_l1_loss"}, ["losses", "names of terms"]),
    "a weight of a loss that is not ours": ("MattingLoss", {"losses": {"mine": 2.0}}, ["losses", "mine"]),
    "a number for a term": ("MattingLoss", {"losses": [3]}, ["losses", "3"]),
    "segmentation": (
        "MixedMattingLoss",
        {"segmentation": ["known_smooth_l1"]},
        ["segmentation", "did you mean 'known_smooth_l1_loss'"],
    ),
    "matting": ("MixedMattingLoss", {"matting": ["laplacian"]}, ["matting", "loss_pha_laplacian"]),
    "tolerance": ("MixedMattingLoss", {"tolerance": 0.5}, ["tolerance", "0 to 0.5"]),
}


def test_bad_options() -> None:
    for what, (name, options, words) in OPTIONS.items():
        print(what)  # pytest tells it where the test fails
        refused(lambda name=name, options=options: lf.LOSSES[name](**options), name, *words)


@pytest.mark.parametrize("name", SETS)
def test_a_set_called_with_wrong_arguments(name: str) -> None:
    criterion = lf.LOSSES[name]()
    for given, named in (((PRED,), {}), ((PRED, TARGET), {"regions": REGION}), ((PRED, TARGET, REGION), {"pred": PRED})):
        with pytest.raises((lf.LossError, TypeError), match=r"region|pred"):
            criterion(*given, **named)
    refused(lambda: lf.LossSet(matting=criterion)(PRED, TARGET), "pred, target, region", "region")


def test_is_binary_is_boolean_and_one_a_sample() -> None:
    for wrong, words in (
        (torch.tensor([1, 0]), ["boolean", "int64"]),
        (torch.tensor([True]), ["2", r"\[1\]"]),
        (True, ["boolean"]),
        (torch.tensor([True, False], device="meta"), ["cpu", "meta"]),
    ):
        refused(lambda wrong=wrong: lf.MixedMattingLoss()(PRED, TARGET, REGION, wrong), "MixedMattingLoss", "is_binary", *words)
