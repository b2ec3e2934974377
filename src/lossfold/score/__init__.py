"""Predictions and truth in two folders to a table: `lossfold score`.

From the bottom up: `settings`, `pixels` (files row by row), `windows` (parts with halos), `exact` (sums that no order changes);
`labels`, `matting`, `restoration`, `depth`: the sums of an image; `rows`, `work`, `processes`, `cluster`: rows that are made
once and kept; `formulas`, `scores`: what is computed from rows; `write`, `page`: files for people and programs; `run`, `command`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossfold.score.items import Problem as Problem
    from lossfold.score.rows import Row as Row
    from lossfold.score.run import score as score
    from lossfold.score.scores import Line as Line
    from lossfold.score.scores import Scores as Scores

PLACES = {"Problem": "items", "Row": "rows", "score": "run", "Line": "scores", "Scores": "scores"}
"""Where a name is: imported when it is asked for, as the command says first what is not installed."""


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"lossfold.score.{PLACES[name]}"), name)
