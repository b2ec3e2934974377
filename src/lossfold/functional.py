"""Every registered loss as a function: ``dice_loss(logits, labels, weight=None, **options)``.

The functions are named after the classes in snake_case and take their options as keywords.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lossfold.compose import presets as presets
from lossfold.compose.loss_set import LossOutput, LossSet
from lossfold.losses import binary as binary
from lossfold.losses import generalized_dice as generalized_dice
from lossfold.losses import ohem as ohem
from lossfold.losses.lovasz import lovasz_bounds as lovasz_bounds
from lossfold.points import sample_points as sample_points
from lossfold.points import sample_uncertain_points as sample_uncertain_points
from lossfold.registry import LOSSES


def snake_case(name: str) -> str:
    """Return ``CrossEntropyLoss`` as ``cross_entropy_loss``, ``CEDiceLoss`` as ``ce_dice_loss``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def as_function(cls: type[nn.Module]) -> Callable[..., Tensor]:
    """Return the function that builds a loss from its options and applies it; of a set, the total."""
    tensors = [p for p in list(inspect.signature(cls.forward).parameters.values())[1:] if p.kind != p.VAR_KEYWORD]
    options = list(inspect.signature(cls).parameters.values())
    if issubclass(cls, LossSet):
        tensors = list(inspect.signature(LOSSES["CrossEntropyLoss"].forward).parameters.values())[1:]

    def function(logits: Tensor, labels: Tensor, weight: Tensor | None = None, normalizer: Any = None, **options: Any) -> Tensor:
        result: Tensor | LossOutput = cls(**options)(logits, labels, weight, normalizer)
        return result.total if isinstance(result, LossOutput) else result

    function.__name__ = function.__qualname__ = snake_case(cls.__name__)
    function.__doc__ = f"Return :class:`lossfold.{cls.__name__}` of these tensors.\n\n    {inspect.getdoc(cls)}"
    function.__signature__ = inspect.Signature([*tensors, *options], return_annotation=Tensor)  # type: ignore[attr-defined]
    return function


HELPERS = ("lovasz_bounds", "sample_points", "sample_uncertain_points")
__all__ = [*(snake_case(name) for name, cls in LOSSES.items() if cls is not LossSet), *HELPERS]
globals().update({snake_case(name): as_function(cls) for name, cls in LOSSES.items() if cls is not LossSet})
