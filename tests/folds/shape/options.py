"""The options of losses of shapes, beside their samples."""

from __future__ import annotations

from typing import Any

from tests.folds.shape.cases import ShapeCase

COMMON: dict[str, list[Any]] = {
    "link": ["softmax", "sigmoid", "identity"],
    "class_weight": [None, [0.5, 2.0, 1.0, 0.25, 1.5]],
    "per_image": [False, True],
    "reduction": ["mean", "sum", "none"],
    "absent": ["skip", "count", "zero"],
    "include_background": [True, False],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "HausdorffDTLoss": {"alpha": [2.0, 1.0, 0.5], "log": [False, True], "spacing": [None, 0.5]},
    "CLDiceLoss": {"iterations": [0, 2], "smooth": [1.0, 0.0], "dice_weight": [0.0, 0.5], "average": ["macro", "micro"]},
}
OPTIONS = {name: COMMON | own for name, own in SPECIFIC.items()}


def together(row: dict[str, Any]) -> bool:
    return True


def case_of(name: str, row: dict[str, Any]) -> ShapeCase:
    return ShapeCase(name, {key: value for key, value in row.items() if value is not None})
