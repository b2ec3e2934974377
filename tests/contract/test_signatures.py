"""Constructors: plain, typed, keyword-only options with the defaults that the documentation names."""

from __future__ import annotations

import inspect

import pytest

import lossfold as lf
from tests.contract.cases import CASES, first_of

names = pytest.mark.parametrize("name", [case.name for case in first_of(lambda case: case.name)])
COMMON: dict[str, object] = {"loss_weight": 1.0, "engine": None, "inputs": None}
OF_FOLDS: dict[str, dict[str, object]] = {
    "label": {
        "link": "softmax",
        "ignore_index": -100,
        "class_weight": None,
        "reduction": "mean",
        "per_image": False,
        "align_corners": False,
        "resize": True,
        "validate": False,
    },
    "pair": {"link": "identity", "reduction": "mean", "sample_wise": False},
    "window": {
        "window_size": 11,
        "sigma": 1.5,
        "k1": 0.01,
        "k2": 0.03,
        "data_range": 1.0,
        "padding": "valid",
        "window": "gaussian",
        "link": "identity",
        "validate": False,
        "reduction": "mean",
        "sample_wise": False,
    },
}
OF_FOLDS["dense"] = OF_FOLDS["label"]
OF_FOLDS["shape"] = OF_FOLDS["label"] | {"absent": "skip", "include_background": True}
OVERLAP = {
    "average": "macro",
    "smooth": 1.0,
    "eps": 0.0,
    "squared": False,
    "log": False,
    "log_cosh": False,
    "absent": "skip",
    "include_background": True,
}
REGION = {"smooth": 1e-7, "absent": "skip", "include_background": True}
TERMS = ("unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty")
OWN: dict[str, dict[str, object]] = {
    "BinaryCrossEntropyLoss": {"link": "sigmoid", "pos_weight": None, "label_smoothing": 0.0},
    "CrossEntropyLoss": {"label_smoothing": 0.0},
    "FocalLoss": {"gamma": 2.0, "alpha": None, "normalize": "pixels"},
    "DiceLoss": OVERLAP,
    "JaccardLoss": OVERLAP,
    "TverskyLoss": OVERLAP | {"alpha": 0.5, "beta": 0.5, "exponent": 1.0},
    "GeneralizedDiceLoss": {"weighting": "square", "smooth": 0.0, "absent": "skip", "include_background": True},
    "CEDiceLoss": {"ce_weight": 1.0, "dice_weight": 1.0, "label_smoothing": 0.0} | OVERLAP,
    "LovaszLoss": {"classes": "present", "bins": 4096, "exact": None, "per_image": None},
    "OhemCrossEntropyLoss": {"thresh": 0.7, "min_kept": 100_000, "top_k_ratio": None},
    "MCCLoss": {"average": "macro", "smooth": 0.0, "absent": "skip", "include_background": True},
    "AsymmetricFocalLoss": {"delta": 0.7, "gamma": 2.0},
    "AsymmetricFocalTverskyLoss": REGION | {"delta": 0.7, "gamma": 0.75},
    "UnifiedFocalLoss": REGION | {"balance": 0.5, "delta": 0.6, "gamma": 0.5},
    "PolyLoss": {"epsilon": 1.0, "gamma": 0.0},
    "GeneralizedWassersteinDiceLoss": {"distances": None, "weighting": "foreground", "smooth": 1e-5},
    "ExpLogLoss": {"dice_weight": 0.8, "ce_weight": 0.2, "dice_exponent": 0.3, "ce_exponent": 0.3, "smooth": 1.0}
    | {"absent": "skip", "include_background": True},
    "BoundaryLoss": {"boundary": "inner", "spacing": None, "normalize": "none", "absent": "skip", "include_background": True},
    "SkeletonRecallLoss": {"smooth": 1.0, "do_tube": True, "absent": "skip", "include_background": False},
    "StructureLoss": {
        "link": "sigmoid",
        "kernel_size": 31,
        "factor": 5.0,
        "smooth": 1.0,
        "compat": None,
        "absent": "count",
        "per_image": True,
    },
    "HausdorffDTLoss": {"alpha": 2.0, "log": False, "spacing": None},
    "CLDiceLoss": {"iterations": 3, "smooth": 1.0, "dice_weight": 0.0, "average": "macro"},
    "L1Loss": {},
    "MSELoss": {},
    "SmoothL1Loss": {"beta": 1.0},
    "HuberLoss": {"delta": 1.0},
    "CharbonnierLoss": {"eps": 1e-12},
    "L1CompositionLoss": {},
    "MSECompositionLoss": {},
    "CharbonnierCompLoss": {"eps": 1e-12},
    "UnknownL1Loss": {"reference_area": None, "validate": False},
    "KnownL1Loss": {"reference_area": None, "validate": False},
    "KnownSmoothL1Loss": {"reference_area": None, "beta": 1.0, "validate": False},
    "MattingGradientLoss": {"smoothness": 0.01, "padding": "replicate", "reference_area": None, "validate": False},
    "LaplacianPyramidLoss": {"levels": 5, "residual": False},
    "GradientLoss": {"padding": "zeros"},
    "PSNRLoss": {"to_y": False},
    "TVLoss": {"order": "l1"},
    "MaskedTVLoss": {"order": "l1"},
    "MattingLoss": {"alpha_link": "identity", "reference_area": None, "validate": False},
    "MixedMattingLoss": {
        "alpha_link": "identity",
        "reference_area": None,
        "validate": False,
        "segmentation": ("known_smooth_l1_loss",),
        "matting": TERMS,
        "tolerance": 0.0,
    },
    "SSIMLoss": {},
    "L1SSIMLoss": {"ssim_weight": 0.2, "padding": "zeros"},
    "MSSSIMLoss": {"betas": (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)},
}


@names
def test_constructors_take_keywords_with_defaults(name: str) -> None:
    """Plain, typed, keyword-only options with their documented defaults."""
    parameters = dict(inspect.signature(lf.LOSSES[name]).parameters)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    assert all(p.annotation is not inspect.Parameter.empty for p in parameters.values())
    fold = next(case.fold for case in CASES if case.name == name)
    of_fold = {} if fold == "pair" and issubclass(lf.LOSSES[name], lf.LossSet) else OF_FOLDS[fold]
    assert name in OWN, f"write the options of {name} down in OWN, with their defaults"
    expected = COMMON | of_fold | OWN[name]
    assert {key: parameters[key].default for key in expected} == expected
    unsaid = set(parameters) - set(expected) - {"data_info", "loss_name", "soft_overlap", "losses"}
    assert not unsaid, f"write the defaults of {unsaid} down here"
    assert getattr(lf, name) is lf.LOSSES[name]
    assert (lf.LOSSES[name].__doc__ or "").strip()


@names
def test_unknown_options_and_positional_ones(name: str) -> None:
    cls = lf.LOSSES[name]
    with pytest.raises(lf.LossError, match=rf"{name}.*loss_wieght.*did you mean 'loss_weight'"):
        cls(loss_wieght=2)
    with pytest.raises(lf.LossError, match=rf"{name}.*keyword"):
        cls(2)


@names
def test_a_forced_engine_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(lf.LossError, match=rf"{name}.*engine.*'cuda'.*eager"):
        lf.LOSSES[name](engine="cuda")
