"""The options of window losses, beside their samples."""

from __future__ import annotations

from typing import Any

from tests import internals
from tests.folds.window.cases import WindowCase

COMMON: dict[str, list[Any]] = {
    "window_size": [11, 1, 3, 7],
    "sigma": [1.5, 0.5, 8.0],
    "k1": [0.01, 0.1],
    "k2": [0.03, 0.2],
    "data_range": [1.0, 2.0, 255.0],
    "padding": ["valid", "reflect", "zeros"],
    "window": ["gaussian", "uniform"],
    "link": ["identity", "sigmoid"],
    "reduction": ["mean", "sum", "none", "sample_wise"],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {
    "MSSSIMLoss": {"betas": [(1.0,), (0.3, 0.7), (0.1, 2.0, 0.4)]},
    "L1SSIMLoss": {"ssim_weight": [0.2, 0.0, 1.0]},
}
OPTIONS = {name: COMMON | SPECIFIC.get(name, {}) for name in internals.folded("window")}


def together(row: dict[str, Any]) -> bool:
    """A sigmoid is from 0 to 1."""
    return row["link"] == "identity" or row["data_range"] == 1.0


def case_of(name: str, row: dict[str, Any]) -> WindowCase:
    return WindowCase(name, row | ({"reduction": "mean", "sample_wise": True} if row["reduction"] == "sample_wise" else {}))
