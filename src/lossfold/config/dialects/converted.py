"""What a dialect makes of an entry of its own: ours, and what has to be said about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from lossfold.errors import LossError, nearest, wrong


@dataclass(frozen=True)
class Converted:
    """An entry of another library in our words.

    Attributes:
        type: the name of the loss here.
        options: of it, but for those at their defaults.
        changes: where the loss here has another meaning, in a line each.
        missing: what somebody has to decide or to bring, in a line each.
        make: what builds a module with the other library's meaning and call, where the loss here has others.
    """

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    make: Callable[[], nn.Module] | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What :func:`lossfold.build` reads."""
        return {"type": self.type, **self.options}


Converter = Callable[..., Converted]


class Dialect(NamedTuple):
    """The words of another library.

    Attributes:
        name: short.
        losses: its classes by name, as functions of their options, with their defaults.
        refused: classes of which nothing can be made, and why.
        scopes: what may stand before a name, with a dot.
        heads: whether its losses are called by heads, with ``ignore_index`` and ``avg_factor``.
    """

    name: str
    losses: Mapping[str, Converter]
    refused: Mapping[str, str] = {}
    scopes: tuple[str, ...] = ()
    heads: bool = False

    def plain(self, name: object) -> str:
        """Return a class's name without the library's before it, "" for what is no name."""
        scope, dot, rest = name.partition(".") if isinstance(name, str) else ("", "", "")
        return rest if dot and scope in self.scopes else str(name) if isinstance(name, str) else ""

    def knows(self, name: object) -> bool:
        """Whether a name is one of the library's."""
        plain = self.plain(name)
        return plain in self.losses or plain in self.refused

    def convert(self, name: str, options: Mapping[str, Any]) -> Converted:
        """Return an entry in our words.

        Raises:
            LossError: nothing can be made of the class, or it does not have such an option, or not such a value.
        """
        plain = self.plain(name)
        if plain in self.refused:
            raise wrong("type", "a loss that there is here", repr(name), self.refused[plain])
        if plain not in self.losses:
            raise wrong("type", f"the name of a loss of {self.name}", repr(name), nearest(plain, [*self.losses, *self.refused]))
        converter = self.losses[plain]
        parameters = inspect.signature(converter).parameters
        valid = {
            option: one for option, one in parameters.items() if one.kind is not one.KEYWORD_ONLY
        }  # which are no words of a dict
        closed = all(one.kind is not one.VAR_KEYWORD for one in valid.values())
        for option, value in options.items():
            if closed and option not in valid:
                raise wrong(option, f"an option of {self.name}'s {plain}", repr(value)[:80], nearest(option, valid))
        for option, parameter in valid.items():
            if closed and parameter.default is parameter.empty and option not in options:
                raise wrong(option, "given", "nothing")
        return converter(**options)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not at the defaults of most losses."""
    usual = {"reduction": "mean", "loss_weight": 1, "loss_name": None, "sample_wise": False, "class_weight": None}
    return {name: value for name, value in options.items() if name not in usual or value != usual[name]}


def refuse(option: str, expected: str, got: object, hint: str = "") -> LossError:
    """Return the error about an option that has no counterpart."""
    return wrong(option, expected, repr(got)[:80], hint)
