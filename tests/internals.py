"""The one place where tests look behind the public face: what a loss is made of, and which compiled operators run."""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import lossfold as lf
from lossfold.engines import transforms
from lossfold.engines.native import NAMESPACE as NAMESPACE
from lossfold.folds import fold as folds
from lossfold.folds.collect import collect
from lossfold.losses.base import Loss
from lossfold.losses.folded import Folded
from lossfold.losses.scores import ScoreLoss

FOLDS = ("label", "dense", "pair", "window", "shape")


def of_two_classes(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample's options, with numbers for two classes where the contract takes random ones."""
    pairs = {"distances": [[0.0, 1.0], [0.5, 0.0]]}
    return {
        key: pairs.get(key, [0.5, 2.0]) if value == "random" and key != "pretrained" else value for key, value in sample.items()
    }


@functools.cache
def folded(fold: str) -> tuple[str, ...]:
    """The registered losses of a fold, as the plan of a set of each of them tells."""
    found = []
    for name, cls in lf.LOSSES.items():
        samples = [*getattr(cls, "samples", ()), *getattr(cls, "dense_samples", ())]
        if samples and issubclass(cls, Folded | lf.LossSet):
            options = {key: value for key, value in samples[0].items() if value != "random"}
            loss = cls(**options)
            plan = loss.plan() if isinstance(loss, lf.LossSet) else lf.LossSet(term=loss).plan()
            on_its_own = fold == "label" and isinstance(loss, ScoreLoss) and not loss.folds
            if f"{fold} fold" in plan or on_its_own or (fold == "dense" and getattr(cls, "dense_samples", ())):
                found.append(name)
    return tuple(found)


def foldless() -> tuple[str, ...]:
    """The registered losses that fold nothing: of networks, of features, and functions."""
    return tuple(name for name, cls in lf.LOSSES.items() if issubclass(cls, Loss) and not issubclass(cls, Folded))


FEATURES = (
    "PerceptualLoss",
    "TransferalPerceptualLoss",
    "LPIPSLoss",
    "DISTSLoss",
    "FaceIdLoss",
    "LightCNNFeatureLoss",
    "CLIPLoss",
)
"""Foldless losses that compare features of a frozen network; the others take what a discriminator or a generator makes."""


def wants_images(loss: type[Any]) -> bool:
    """Whether a loss of a pair takes ``[B, C, H, W]`` alone."""
    return bool(getattr(loss, "images_only", False))


def has_map(loss: type[Any]) -> bool:
    """Whether a loss of a pair has a value for each pixel."""
    return bool(getattr(loss, "has_map", False))


def most_sums() -> int:
    """Of one pass."""
    return folds.MOST_SUMS


def collected(loss: Any, *call: Any) -> tuple[Any, Any]:
    """The fold of one call, and what `settled` wants to know of the call."""
    given = loss.check(*call)
    return collect(loss.needs(given), given), given


def settled(loss: Any, fold: Any, given: Any) -> Tensor:
    """The value of a fold, or of a sum of folds."""
    result = loss.weigh(loss.reduce(fold, given))
    assert isinstance(result, Tensor)
    return result


def inside_transform() -> bool:
    return transforms.inside_transform()


class Watch(TorchDispatchMode):
    """Records every call of an operator of lossfold's namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == NAMESPACE:
            self.calls.append((func, args, kwargs))
        return func(*args, **kwargs)

    def count(self, name: str) -> int:
        return sum(func._schema.name.split("::")[1] == name for func, _, _ in self.calls)

    @property
    def names(self) -> list[str]:
        return [func._schema.name.split("::")[1] for func, _, _ in self.calls]


QUICK_OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")
OPCHECKS = (*QUICK_OPCHECKS, "test_aot_dispatch_dynamic")  # the last compiles a graph


def opcheck(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tests: tuple[str, ...]) -> None:
    """The prediction, which comes first, asks for a gradient; the unfold is the gradient."""
    copies = [a.detach().clone() if isinstance(a, Tensor) else a for a in args]
    if "unfold" not in operator._schema.name:
        copies[0].requires_grad_()
    torch.library.opcheck(operator, tuple(copies), kwargs, test_utils=tests)


def registered(fold: str) -> set[str]:
    """The names of a fold's operators that take tensors."""
    schemas = [one for one in torch._C._jit_get_all_schemas() if re.match(f"{NAMESPACE}::{fold}_", one.name)]
    return {one.name for one in schemas if one.arguments}
