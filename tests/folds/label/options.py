"""The options of losses of labels, beside their samples."""

from __future__ import annotations

from typing import Any

from tests.folds.label.cases import LabelCase

COMMON: dict[str, list[Any]] = {
    "link": ["softmax", "identity"],
    "class_weight": [None, [0.5, 2.0, 1.0, 0.25]],
    "per_image": [False, True],
    "reduction": ["mean", "sum", "none"],
}
OVERLAP: dict[str, list[Any]] = {
    "average": ["macro", "micro"],
    "absent": ["skip", "count", "zero"],
    "include_background": [True, False],
    "squared": [False, True],
    "log": [False, True],
    "smooth": [1.0, 0.0],
    "eps": [0.0, 0.25],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "CrossEntropyLoss": {"label_smoothing": [0.0, 0.1]},
    "FocalLoss": {
        "gamma": [2.0, 0.5, 0.0],
        "alpha": [None, 0.25, [0.1, 0.4, 0.3, 0.2]],
        "normalize": ["pixels", "focal"],
    },
    "DiceLoss": OVERLAP,
    "JaccardLoss": OVERLAP,
    "TverskyLoss": OVERLAP | {"alpha": [0.5, 0.3], "beta": [0.5, 0.9], "exponent": [1.0, 0.75]},
    "GeneralizedDiceLoss": {
        "weighting": ["square", "simple", "uniform"],
        "absent": ["skip", "count", "zero"],
        "include_background": [True, False],
        "smooth": [0.0, 1.0],
    },
    "MCCLoss": {
        "average": ["macro"],
        "absent": ["skip", "count", "zero"],
        "include_background": [True, False],
        "smooth": [0.0, 0.5],
    },
    "PolyLoss": {"epsilon": [1.0, -0.5], "gamma": [0.0, 2.0]},
    "AsymmetricFocalLoss": {"delta": [0.7, 0.4], "gamma": [2.0, 0.5]},
    "AsymmetricFocalTverskyLoss": {"delta": [0.7, 0.4], "gamma": [0.75, 0.5], "absent": ["skip", "count"], "smooth": [1.0, 0.1]},
    "GeneralizedWassersteinDiceLoss": {
        "distances": [[[0.0, 1.0, 0.5, 1.0], [1.0, 0.0, 0.7, 0.2], [0.5, 0.7, 0.0, 1.0], [1.0, 0.2, 1.0, 0.0]]],
        "weighting": ["foreground", "volume"],
        "smooth": [1e-5, 0.5],
    },
    "LovaszLoss": {"classes": ["present", "all", [0, 3], [2]], "bins": [4096, 64], "exact": [False, True]},
    "BoundaryLoss": {
        "boundary": ["inner", "both"],
        "spacing": [None, 0.7],
        "normalize": ["none", "extent"],
        "absent": ["skip", "count"],
        "include_background": [True, False],
    },
    "SkeletonRecallLoss": {"smooth": [1.0, 0.0], "absent": ["skip", "count"], "include_background": [True, False]},
    "OhemCrossEntropyLoss": {"thresh": [0.3, 0.7], "min_kept": [0, 2, 9, 1000], "top_k_ratio": [None, 0.35, 1.0]},
}
OPTIONS = {name: COMMON | own for name, own in SPECIFIC.items()}


def together(row: dict[str, Any]) -> bool:
    return True


def case_of(name: str, row: dict[str, Any]) -> LabelCase:
    return LabelCase(name, row)
