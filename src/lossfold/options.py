"""Options of losses: what each may be, declared once in its field; checks, texts of errors and the schema read it there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from typing_extensions import dataclass_transform

from lossfold.errors import python_scalar, wrong
from lossfold.kinds import Kind as Kind
from lossfold.kinds import Labels as Labels
from lossfold.kinds import Matrix as Matrix
from lossfold.kinds import Number as Number
from lossfold.kinds import Numbers as Numbers
from lossfold.kinds import Only as Only
from lossfold.kinds import PerAxis as PerAxis
from lossfold.kinds import PerClass as PerClass
from lossfold.kinds import Truth as Truth
from lossfold.kinds import Word as Word

T = TypeVar("T")
C = TypeVar("C", bound=type)
KIND = "kind"
"""Where a field's metadata keep what it may be."""


def option(
    default: T,
    *,
    of: type | None = None,
    words: Iterable[str] | None = None,
    others: Kind | None = None,
    each_class: bool = False,
    each_axis: bool = False,
    between: tuple[float, float] | None = None,
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    less_than: float | None = None,
    odd: bool = False,
    several: bool = False,
    count: tuple[int, int] | None = None,
) -> T:
    """Declare an option, in the place of its default.

    ``smooth: float = option(1.0, at_least=0)``

    Args:
        default: its value where it is not given. True and False make an option of these, an integer one of integers, a float one
            of numbers; with None, which is then allowed, ``of`` says it.
        of: bool, int or float.
        words: the texts that it may be.
        others: what else it may be than a text.
        each_class: it is a list with a number >= 0 for each class, or None; with ``of=float`` a number for all of them will do.
        each_axis: it is a number > 0, a list with one for each axis of space, or None.
        between, at_least, more_than, at_most, less_than: the range of a number.
        odd: an odd integer.
        several: an integer, or a list of integers.
        count: it is a list of at least and at most so many numbers in the range.
    """
    none = default is None
    least, most = (at_least, at_most) if between is None else between
    if several:
        kind: Kind = Labels()
    elif words is not None:
        kind = Word(none, tuple(words), others)
    elif each_class:
        kind = PerClass(one=of is float)
    elif each_axis:
        kind = PerAxis()
    elif (of or type(default)) is bool:
        kind = Truth(none)
    elif count is not None:
        kind = Numbers(none, Number(False, least, more_than, most, less_than, of is int, odd), *count)
    else:
        kind = Number(none, least, more_than, most, less_than, (of or type(default)) is int, odd)
    return dataclasses.field(default=default, metadata={KIND: kind})


def same_as(cls: type, name: str) -> Any:
    """Declare the option that another loss has: its default and what it may be."""
    other = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
    return dataclasses.field(default=other.default, metadata={KIND: cast(Any, cls).kinds[name]})


def declared(fields: Mapping[str, object]) -> dict[str, Kind]:
    """Return what the fields among some attributes may be."""
    return {
        name: field.metadata[KIND]
        for name, field in fields.items()
        if isinstance(field, dataclasses.Field) and KIND in field.metadata
    }


def kinds_of(maker: object) -> Mapping[str, Kind]:
    """Return what the options of a class or a function may be, of those for which it is declared."""
    found: Mapping[str, Kind] | None = getattr(maker, "kinds", None)
    return declared(getattr(maker, "__dataclass_fields__", {})) if found is None else found


def checked_options(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of options as the loss keeps them; refuse those that they may not have."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        kind, value = kinds[name], python_scalar(value)
        if not kind.admits(value):
            error = wrong(name, kind.expected(value), repr(value), kind.hint(value))
            error.kind = kind
            raise error
        found[name] = kind.normal(value)
    return found


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(dataclasses.field,))
def configured(cls: C) -> C:
    """Make a dataclass of a loss, whose fields are its options (use as a decorator).

    They are keyword-only, and a loss's own come first: before those of its bases, which come before theirs.
    """
    made: Any = dataclass(kw_only=True, eq=False, repr=False)(cls)
    fields: dict[str, dataclasses.Field[Any]] = made.__dataclass_fields__
    depth: dict[str, int] = {}
    for index, owner in enumerate(made.__mro__):
        depth |= dict.fromkeys(vars(owner).get("__dataclass_fields__", ()), index)  # the farthest is the one that has brought it
    ordered = {name: fields[name] for name in sorted(fields, key=lambda name: (fields[name].kw_only is True, depth[name]))}
    fields.clear()
    fields.update(ordered)
    if "__init__" in vars(made):
        signature = inspect.signature(made.__init__)
        first, *others = signature.parameters.values()
        places = {name: place for place, name in enumerate(fields)}
        others.sort(key=lambda parameter: places[parameter.name])
        made.__init__.__signature__ = signature.replace(parameters=[first, *others])
    return cls
