"""Entries that every label case has: lossfold's engines, plain PyTorch, and the same compiled."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ..case import Entry, LossFunction

LossMaker = Callable[[Any, dict[str, Any]], Any]
"""Takes the module lossfold and the options common to all its losses; returns a loss."""


def own_entries(make: LossMaker, common: dict[str, Any], note: str = "") -> dict[str, Entry]:
    """The entries of lossfold's engines for a loss that `make` builds.

    Args:
        make: builds the loss from the module and its common options.
        common: options of every loss of the case, such as its ignore label.
        note: shown in the rows of both.
    """

    def entry(engine: str | None) -> Entry:
        def build() -> LossFunction:
            loss = make(import_module("lossfold"), {**common, "engine": engine})
            if engine is None:
                loss.compile(dynamic=False)

            def run(leaf: Tensor, *rest: Tensor) -> Tensor:
                result = loss(leaf, *rest)
                return result if isinstance(result, Tensor) else _total(result)

            return run

        return Entry(build, note=note)

    forced = {f"lossfold-{engine}": entry(engine) for engine in ("cpp", "triton", "eager")}
    return {**forced, "lossfold-compiled": entry(None)}


def plain_entries(function: LossFunction) -> dict[str, Entry]:
    """The entries of plain PyTorch: the function as written, and under torch.compile (inductor)."""
    return {
        "eager": Entry(lambda: function),
        "compile": Entry(lambda: torch.compile(function, dynamic=False)),
    }


def with_long_labels(loss: Callable[[Tensor, Tensor], Tensor]) -> LossFunction:
    """Hand the labels over as int64, as most libraries ask; free where they are int64 already."""

    def run(logits: Tensor, labels: Tensor) -> Tensor:
        return loss(logits, labels.long())

    return run


def _total(output: Any) -> Tensor:
    total = output.total
    assert isinstance(total, Tensor)
    return total
