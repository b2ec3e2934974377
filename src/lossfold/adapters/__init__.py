"""Losses within other people's training loops; each module imports its framework, this package none.

``lossfold.adapters.hugging_face`` for transformers' Trainer, ``lossfold.adapters.lightning`` for Lightning,
``lossfold.adapters.mmengine`` for MMEngine's registries and Runner; metrics for all three. A loop of one's own needs
``criterion.advance()`` at most.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from lossfold.adapters.metrics import as_torchmetrics as as_torchmetrics
from lossfold.adapters.metrics import hf_metrics as hf_metrics

NAMES = ("hugging_face", "lightning", "mmengine")


def __getattr__(name: str) -> ModuleType:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: there are {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return [*globals(), *NAMES]
