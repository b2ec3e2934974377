"""The options of losses of a pair, beside their samples."""

from __future__ import annotations

from typing import Any

import lossfold as lf
from tests import internals
from tests.folds.pair.cases import PairCase

COMMON: dict[str, list[Any]] = {"link": ["identity", "sigmoid"], "reduction": ["mean", "sum", "none", "sample_wise"]}
REGIONAL: dict[str, list[Any]] = {"reference_area": [None, 262144, 100.0]}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "SmoothL1Loss": {"beta": [1.0, 0.1, 0]},
    "HuberLoss": {"delta": [1.0, 0.1]},
    "CharbonnierLoss": {"eps": [1e-12, 1e-3]},
    "CharbonnierCompLoss": {"eps": [1e-12, 1e-3]},
    "UnknownL1Loss": REGIONAL,
    "KnownL1Loss": REGIONAL,
    "KnownSmoothL1Loss": REGIONAL | {"beta": [1.0, 0.1, 0]},
    "MattingGradientLoss": REGIONAL | {"padding": ["replicate", "zeros"], "smoothness": [0.01, 0, 0.5]},
    "LaplacianPyramidLoss": {"levels": [5, 1, 2, 16], "residual": [False, True]},
    "GradientLoss": {"padding": ["zeros", "replicate"]},
    "TVLoss": {"order": ["l1", "l2"]},
    "MaskedTVLoss": {"order": ["l1", "l2"]},
}
OPTIONS = {
    name: COMMON | SPECIFIC.get(name, {}) for name in internals.folded("pair") if not issubclass(lf.LOSSES[name], lf.LossSet)
}


def together(row: dict[str, Any]) -> bool:
    """Sums and maps have no area to refer to."""
    return row["reduction"] in ("mean", "sample_wise") or row.get("reference_area") is None


def case_of(name: str, row: dict[str, Any]) -> PairCase:
    return PairCase(name, row | ({"reduction": "mean", "sample_wise": True} if row["reduction"] == "sample_wise" else {}))
