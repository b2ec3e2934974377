"""Every registered loss as a function: ``dice_loss(logits, labels, weight=None, **options)``.

The functions are named after the classes in snake_case and take their options as keywords.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lossfold.compose.loss_set import LossSet
from lossfold.compose.output import LossOutput
from lossfold.errors import LossError
from lossfold.losses.adversarial.components import Component
from lossfold.losses.adversarial.path_length import GeneratorPathRegularizer
from lossfold.losses.adversarial.path_length import generator_path_regularizer as generator_path_regularizer
from lossfold.losses.adversarial.path_length import path_lengths as path_lengths
from lossfold.losses.classes.cross_entropy import CrossEntropyLoss
from lossfold.losses.classes.lovasz import lovasz_bounds as lovasz_bounds
from lossfold.losses.features.perceptual import PerceptualParts
from lossfold.matching import mask_costs as mask_costs
from lossfold.matching import match as match
from lossfold.points import sample_points as sample_points
from lossfold.points import sample_uncertain_points as sample_uncertain_points
from lossfold.registry import LOSSES
from lossfold.registry import snake_case as snake_case
from lossfold.shapes.distances import distance_transform as distance_transform
from lossfold.shapes.distances import signed_distance as signed_distance
from lossfold.shapes.skeletons import tubed_skeleton as tubed_skeleton
from lossfold.shapes.soft_skeletons import soft_skeleton as soft_skeleton
from lossfold.signatures import options_of
from lossfold.trimaps import random_trimap as random_trimap
from lossfold.trimaps import region_from_trimap as region_from_trimap
from lossfold.trimaps import trimap_from_alpha as trimap_from_alpha


@functools.cache
def as_function(cls: type[nn.Module]) -> Callable[..., Tensor]:
    """Return the function that builds a loss from its options and applies it; of a set, or of two parts, the total."""
    tensors = list(inspect.signature(cls.forward).parameters.values())[1:]
    if any(p.kind == p.VAR_POSITIONAL for p in tensors):  # a set whose terms take what every loss of scores takes
        tensors = list(inspect.signature(CrossEntropyLoss.forward).parameters.values())[1:]
    names = [p.name for p in tensors]
    of_scores = names[:2] == ["logits", "labels"]
    tensors = tensors[:2] + [p.replace(kind=p.KEYWORD_ONLY) for p in tensors[2:]] if of_scores else tensors
    taken = ("data_info", "loss_name", *names)
    options = [p.replace(kind=p.KEYWORD_ONLY) for name, p in options_of(cls).items() if name not in taken]

    def function(*given: Any, **named: Any) -> Tensor:
        if of_scores and len(given) > 2:  # the third of functional.cross_entropy are class weights; N of them fit [N, C], too
            expected, hint = "given by name", "weight= are those of pixels, class_weight= those of classes"
            raise LossError(snake_case(cls.__name__), "weight", expected, f"{len(given)} arguments by position", hint)
        by_name = {name: named.pop(name) for name in names if name in named}
        result: Tensor | LossOutput | PerceptualParts = cls(**named)(*given, **by_name)
        return result.total if isinstance(result, (LossOutput, PerceptualParts)) else result

    function.__name__ = function.__qualname__ = snake_case(cls.__name__)
    function.__doc__ = f"Return :class:`lossfold.{cls.__name__}` of these tensors.\n\n    {inspect.getdoc(cls)}"
    function.__signature__ = inspect.Signature(sorted([*tensors, *options], key=lambda p: p.kind), return_annotation="Tensor")  # type: ignore[attr-defined]
    return function


HELPERS = (
    "distance_transform",
    "generator_path_regularizer",
    "lovasz_bounds",
    "mask_costs",
    "match",
    "path_lengths",
    "random_trimap",
    "region_from_trimap",
    "sample_points",
    "sample_uncertain_points",
    "signed_distance",
    "soft_skeleton",
    "trimap_from_alpha",
    "tubed_skeleton",
)


@functools.lru_cache(1)
def of_losses(entries: int) -> dict[str, type[nn.Module]]:
    """Return the losses that are functions, too, by the functions' names, after so many entries."""
    apart = (Component, GeneratorPathRegularizer)  # the function of the latter gives the moving mean, too
    found = {snake_case(name): cls for name, cls in LOSSES.items() if not issubclass(cls, apart) and cls is not LossSet}
    return {name: cls for name, cls in found.items() if name.isidentifier() and name not in HELPERS}


def __getattr__(name: str) -> Any:
    """Make a function when it is asked for: the signatures of all of them would take a tenth of the import."""
    found = of_losses(LOSSES.entries)
    if name == "__all__":
        return [*found, *HELPERS]
    if name not in found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return as_function(found[name])


def __dir__() -> list[str]:
    return sorted({*globals(), *of_losses(LOSSES.entries)})
