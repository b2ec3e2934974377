"""What a class or a function can be told: its options by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from torch import nn


def parameters_of(maker: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a call; those of modules are their constructors', whatever ``__new__`` takes."""
    try:
        if isinstance(maker, type) and issubclass(maker, nn.Module):
            return list(inspect.signature(maker.__init__).parameters.values())[1:]
        return list(inspect.signature(maker).parameters.values())
    except (TypeError, ValueError):  # some classes written in C do not say
        return [Parameter("options", Parameter.VAR_KEYWORD)]


def options_of(maker: Callable[..., Any]) -> dict[str, Parameter]:
    """Return what can be given by name."""
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {parameter.name: parameter for parameter in parameters_of(maker) if parameter.kind in by_name}


def is_open(maker: Callable[..., Any]) -> bool:
    """Whether a class or a function takes options of any name."""
    return any(parameter.kind == Parameter.VAR_KEYWORD for parameter in parameters_of(maker))


def is_same(value: object, default: object) -> bool:
    """Whether an option is at its default; arrays are at none."""
    return value is default or (not getattr(value, "ndim", 0) and bool(value == default))
