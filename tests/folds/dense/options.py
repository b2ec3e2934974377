"""The options of losses of dense targets, beside their samples."""

from __future__ import annotations

from typing import Any

from tests.folds.dense.cases import DenseCase

COMMON: dict[str, list[Any]] = {
    "class_weight": [None, [0.5, 2.0, 1.0, 0.25]],
    "per_image": [False, True],
    "reduction": ["mean", "sum", "none"],
}
OVERLAP: dict[str, list[Any]] = {
    "link": ["softmax", "sigmoid", "identity"],
    "average": ["macro", "micro"],
    "absent": ["skip", "count", "zero"],
    "include_background": [True, False],
    "squared": [False, True],
    "log": [False, True],
    "smooth": [1.0, 0.0],
    "eps": [0.0, 0.25],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "BinaryCrossEntropyLoss": {
        "link": ["sigmoid", "identity"],
        "label_smoothing": [0.0, 0.1],
        "pos_weight": [None, 2.5, [3.0, 0.5, 1.0, 0.0]],
    },
    "CrossEntropyLoss": {"link": ["softmax", "identity"], "label_smoothing": [0.0, 0.1]},
    "FocalLoss": {
        "link": ["sigmoid", "identity"],
        "gamma": [2.0, 0.5, 0.0],
        "alpha": [None, 0.25, [0.1, 0.4, 0.3, 0.0]],
        "normalize": ["pixels", "focal"],
    },
    "MCCLoss": {
        "link": ["softmax", "sigmoid", "identity"],
        "average": ["macro"],
        "absent": ["skip", "count", "zero"],
        "include_background": [True, False],
        "smooth": [0.0, 0.5],
    },
    "PolyLoss": {"link": ["identity"], "epsilon": [1.0, -0.5], "gamma": [0.0, 2.0]},
    "AsymmetricFocalLoss": {"link": ["sigmoid"], "delta": [0.7, 0.4], "gamma": [2.0, 0.5]},
    "AsymmetricFocalTverskyLoss": {
        "link": ["softmax", "sigmoid"],
        "delta": [0.7, 0.4],
        "gamma": [0.75, 0.5],
        "absent": ["skip", "count"],
    },
    "DiceLoss": OVERLAP,
    "JaccardLoss": OVERLAP,
    "TverskyLoss": OVERLAP | {"alpha": [0.5, 0.3], "beta": [0.5, 0.9], "exponent": [1.0, 0.75]},
    "GeneralizedDiceLoss": {
        "link": ["softmax", "sigmoid", "identity"],
        "weighting": ["square", "simple", "uniform"],
        "absent": ["skip", "count", "zero"],
        "include_background": [True, False],
        "smooth": [0.0, 1.0],
    },
    "BoundaryLoss": {
        "link": ["softmax", "sigmoid", "identity"],
        "boundary": ["inner", "outer"],
        "absent": ["skip", "count"],
        "include_background": [True, False],
    },
    "SkeletonRecallLoss": {"link": ["sigmoid", "identity"], "smooth": [1.0, 0.0], "include_background": [True]},
    "StructureLoss": {"link": ["sigmoid", "identity"], "kernel_size": [31, 3], "factor": [5.0, 0.0], "absent": ["count", "skip"]},
    "LovaszLoss": {
        "link": ["sigmoid", "identity", "hinge"],
        "classes": ["present", "all", [0, 3]],
        "bins": [4096, 64],
        "exact": [False, True],
    },
}
OPTIONS = {name: COMMON | own for name, own in SPECIFIC.items()}


def together(row: dict[str, Any]) -> bool:
    return row["link"] != "hinge" or row.get("classes") == "present"


def case_of(name: str, row: dict[str, Any]) -> DenseCase:
    return DenseCase(name, row)
