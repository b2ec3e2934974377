"""What is known of a loss without running it: its options with kinds, words and meanings, for schemas and for the command line."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lossfold.options import Kind, Only, kinds_of
from lossfold.signatures import options_of


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a loss.

    Attributes:
        name: of the option.
        required: whether it has to be given.
        default: its value if it is not given.
        kind: its annotation, resolved.
        may_be: what is declared of its values, if something is.
        meaning: what the documentation says.
    """

    name: str
    required: bool
    default: Any
    kind: Any
    may_be: Kind | None
    meaning: str

    @property
    def words(self) -> tuple[str, ...]:
        """What it may be, where it is one of some words."""
        return self.may_be.words if self.may_be else ()

    @property
    def limits(self) -> dict[str, Any]:
        """The range of its numbers, in the words of JSON's schemas."""
        return self.may_be.limits if self.may_be else {}

    @property
    def fixed(self) -> bool:
        """Whether nothing but the default is taken."""
        return isinstance(self.may_be, Only)

    def __str__(self) -> str:
        """Return how it is written in a signature."""
        kind = kind_name(self.kind)
        if self.words:
            others = [one for one in kind.split(" | ") if one != "str"]
            kind = " | ".join([*map(repr, self.words), *others])
        return f"{self.name}: {kind}" + ("" if self.required else f" = {self.default!r}")


def described(maker: Callable[..., Any]) -> list[Option]:
    """Return a loss's options."""
    hints, may_be = annotations_of(maker), kinds_of(maker)
    meanings = {"data_info": "another word for inputs, MMagic's.", "loss_name": "the name of the term in a list of losses."}
    meanings |= meanings_of(maker)
    found = []
    for name, option in options_of(maker).items():
        required = option.default is option.empty
        default = None if required else option.default
        kind = hints.get(name, Any)
        kind = kind.type if isinstance(kind, dataclasses.InitVar) else kind
        found.append(Option(name, required, default, kind, may_be.get(name), meanings.get(name, "")))
    return found


def annotations_of(maker: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a loss's options, resolved."""
    owners = maker.__mro__ if isinstance(maker, type) else ()
    hints: dict[str, Any] = {}
    for owner in reversed([*owners, inspect.unwrap(maker)]):
        for source in (owner, getattr(owner, "__init__", None)):
            hints |= hints_of(source)
    return hints


resolved = functools.lru_cache(maxsize=1024)(typing.get_type_hints)  # many losses have the same bases


def hints_of(thing: Any) -> dict[str, Any]:
    """Return the annotations of a class or function, {} where they can't be resolved."""
    try:
        return (resolved if isinstance(thing, collections.abc.Hashable) else typing.get_type_hints)(thing)
    except (NameError, TypeError, AttributeError):  # names that only a type checker sees
        return {}


def documentation(thing: object) -> str:
    """Return the documentation of a module, a function or a class; without one, that of the class's bases below ``nn.Module``."""
    if not isinstance(thing, type):
        return inspect.getdoc(thing) or ""
    owners = [owner for owner in thing.__mro__ if owner not in (object, nn.Module)]
    return inspect.cleandoc(next((owner.__doc__ for owner in owners if owner.__doc__), ""))


def meanings_of(maker: Callable[..., Any]) -> dict[str, str]:
    """Return what the section Args of the documentation says of each option."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", documentation(maker), flags=re.M)
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", section[1].rstrip()) if section else []:
        names, _, meaning = entry.strip().partition(":")
        text = re.sub(r"\s+", " ", re.sub(r":\w+:`([^`]*)`|``([^`]*)``", r"\1\2", meaning)).strip()
        found |= {name.strip(): text for name in names.split(",")}
    return found


def kind_name(kind: Any) -> str:
    """Return an annotation as people write it."""
    if kind is Any:
        return "any"
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " | ".join(kind_name(one) for one in typing.get_args(kind))
    if kind is type(None):
        return "None"
    arguments = [kind_name(one) for one in typing.get_args(kind) if one is not ...]
    name = getattr(typing.get_origin(kind) or kind, "__name__", str(kind))
    return f"{name}[{', '.join(arguments)}]" if arguments and typing.get_origin(kind) is not collections.abc.Callable else name


def is_tensor(kind: Any) -> bool:
    """Whether an annotation is that of tensors, which a configuration does not hold."""
    return isinstance(kind, type) and issubclass(kind, Tensor)
