"""What an option may be: kinds of values, each with its check, the text of its error and its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lossfold.errors import is_number, nearest, python_scalar
from lossfold.foreign import meant


@dataclass(frozen=True, eq=False, repr=False)
class Kind:
    """What an option may be.

    Args:
        none: whether None will do.
    """

    none: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """The texts that it may be, () where it is no text."""
        return ()

    @property
    def limits(self) -> dict[str, Any]:
        """The range of its numbers, and of how many there are, in the words of JSON's schemas."""
        return {}

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        raise NotImplementedError

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        raise NotImplementedError

    def hint(self, value: object) -> str:
        """Say what to do about a value, if there is something to say."""
        return ""

    def normal(self, value: Any) -> Any:
        """Return an admitted value as the loss keeps it."""
        return value


@dataclass(frozen=True, eq=False, repr=False)
class Truth(Kind):
    """True or False."""

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        return isinstance(value, bool) or (self.none and value is None)

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        return "True, False or None" if self.none else "True or False"


@dataclass(frozen=True, eq=False, repr=False)
class Word(Kind):
    """One of some words.

    Args:
        among: the words.
        others: what else it may be; None for nothing.
    """

    among: tuple[str, ...] = ()
    others: Kind | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The words."""
        return self.among

    @property
    def limits(self) -> dict[str, Any]:
        """The range of what else it may be."""
        return self.others.limits if self.others else {}

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        if isinstance(value, str):
            return value in self.among
        return (self.none and value is None) or (self.others is not None and self.others.admits(value))

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        words = "one of " + ", ".join(map(repr, self.among)) + " or None" * self.none
        return f"{words}, or {self.others.expected(value)}" if self.others else words

    def normal(self, value: Any) -> Any:
        """Return what is no text as the loss keeps it."""
        return self.others.normal(value) if self.others and value is not None and not isinstance(value, str) else value

    def hint(self, value: object) -> str:
        """Say which word is meant, or comes nearest."""
        if self.others and not isinstance(value, str):
            return self.others.hint(value)
        ours = meant(value, self.among)
        return f"that is {ours!r}" if ours else nearest(value, self.among)


@dataclass(frozen=True, eq=False, repr=False)
class Number(Kind):
    """A finite number, or an integer of 64 bits, in a range."""

    at_least: float | None = None
    more_than: float | None = None
    at_most: float | None = None
    less_than: float | None = None
    whole: bool = False
    odd: bool = False

    @property
    def limits(self) -> dict[str, Any]:
        """The range, in the words of JSON's schemas."""
        ends = (self.at_least, self.more_than, self.at_most, self.less_than)
        names = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        found: dict[str, Any] = {name: end for name, end in zip(names, ends, strict=True) if end is not None}
        return {**found, "not": {"multipleOf": 2}} if self.odd else found

    def admits(self, value: Any) -> bool:
        """Whether a value is one."""
        if value is None or not is_number(value):
            return self.none and value is None
        if self.whole and not (isinstance(value, int) and -(2**63) <= value < 2**63):
            return False
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.more_than is None or value > self.more_than)
            and (self.at_most is None or value <= self.at_most)
            and (self.less_than is None or value < self.less_than)
            and (not self.odd or value % 2 == 1)
        )

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        article = "an" if self.odd or self.whole else "a"
        return " ".join(["None or"] * self.none + [article, self.noun, self.where]).rstrip()

    @property
    def noun(self) -> str:
        """What it is, in a word."""
        return "odd integer" if self.odd else "integer" if self.whole else "number"

    @property
    def where(self) -> str:
        """Its range, in words."""
        if self.at_least is not None and self.at_most is not None:
            return f"from {written(self.at_least)} to {written(self.at_most)}"
        if self.at_least is not None and self.less_than is not None:
            return f"from {written(self.at_least)} to {written(self.less_than)}, which is too much"
        ends = ((">=", self.at_least), (">", self.more_than), ("<=", self.at_most), ("<", self.less_than))
        return " and ".join(f"{sign} {written(end)}" for sign, end in ends if end is not None)

    def hint(self, value: object) -> str:
        """Say that no number is infinite or of more than 64 bits."""
        if isinstance(value, float) and not is_number(value):
            return "a finite one"
        return "of 64 bits" if self.whole and isinstance(value, int) and not -(2**63) <= value < 2**63 else ""


@dataclass(frozen=True, eq=False, repr=False)
class Numbers(Kind):
    """A list of numbers; kept as a tuple.

    Args:
        each: what each may be.
        least, most: how many there are.
        distinct: whether each may stand there once.
    """

    each: Number = Number()
    least: int = 1
    most: int | None = None
    distinct: bool = False

    @property
    def limits(self) -> dict[str, Any]:
        """The range of each number, and of their count."""
        count = {"minItems": self.least, **({"maxItems": self.most} if self.most else {})}
        return {**self.each.limits, **count, **({"uniqueItems": True} if self.distinct else {})}

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        if value is None:
            return self.none
        numbers = listed(value)
        if not isinstance(numbers, (list, tuple)) or not self.least <= len(numbers) <= (self.most or len(numbers)):
            return False
        return all(map(self.each.admits, numbers)) and not (self.distinct and len(set(numbers)) < len(numbers))

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        count = f"{self.least} " if self.least == self.most else f"{self.least} to {self.most} " if self.most else ""
        some = f"a list of {count}{'distinct ' * self.distinct}{self.each.noun}s {self.each.where}".rstrip()
        return "None or " * self.none + some

    def normal(self, value: Any) -> Any:
        """Return a list, an array or a tensor as a tuple."""
        return value if value is None else tuple(x if self.each.whole else float(x) for x in listed(value))


@dataclass(frozen=True, eq=False, repr=False)
class PerClass(Kind):
    """A number for each class, or None; kept as a tuple.

    Args:
        one: whether a single number will do, for all classes.
    """

    none: bool = True
    one: bool = False

    @property
    def limits(self) -> dict[str, Any]:
        """The range of each number."""
        return {"minimum": 0}

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        if value is None or isinstance(value, (int, float)):
            return value is None or (self.one and is_number(value) and value >= 0)
        numbers = listed(value)
        return isinstance(numbers, (list, tuple)) and len(numbers) > 0 and all(is_number(x) and x >= 0 for x in numbers)

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        each = "one for each class"
        return f"a number >= 0, or {each}" if self.one else f"a list of finite numbers >= 0, {each}"

    def normal(self, value: Any) -> Any:
        """Return a list, an array or a tensor as a tuple."""
        return value if value is None or isinstance(value, (int, float)) else tuple(float(x) for x in listed(value))


@dataclass(frozen=True, eq=False, repr=False)
class Matrix(PerClass):
    """A number for each pair of classes, kept as a tuple of rows."""

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        rows = listed(value)
        if value is None or not isinstance(rows, (list, tuple)) or not rows:
            return value is None
        rows = [listed(row) for row in rows]
        square = all(isinstance(row, (list, tuple)) and len(row) == len(rows) for row in rows)
        return square and all(is_number(x) and x >= 0 for row in rows for x in row)

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        return "a square matrix of finite numbers >= 0, a row for each class"

    def normal(self, value: Any) -> Any:
        """Return lists, an array or a tensor as a tuple of rows."""
        return value if value is None else tuple(tuple(float(x) for x in listed(row)) for row in listed(value))


@dataclass(frozen=True, eq=False, repr=False)
class Labels(Kind):
    """An integer, or several; kept as a tuple where there are several."""

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        one = Number(whole=True)
        if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
            numbers = listed(value)
            return isinstance(numbers, (list, tuple)) and len(numbers) > 0 and all(one.admits(x) and x is not None for x in numbers)
        return one.admits(value)

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        return "an integer, or a list of integers"

    def hint(self, value: object) -> str:
        """Say that no label has more than 64 bits."""
        return Number(whole=True).hint(value)

    def normal(self, value: Any) -> Any:
        """Return several as a tuple, each once; one as it is."""
        if isinstance(value, int):
            return value
        labels = tuple(dict.fromkeys(int(x) for x in listed(value)))
        return labels[0] if len(labels) == 1 else labels


@dataclass(frozen=True, eq=False, repr=False)
class PerAxis(Kind):
    """A number > 0 for all axes of space, one for each, or None; kept as a number or a tuple."""

    none: bool = True

    @property
    def limits(self) -> dict[str, Any]:
        """The range of each number."""
        return {"exclusiveMinimum": 0}

    def admits(self, value: object) -> bool:
        """Whether a value is one."""
        if value is None or isinstance(value, (int, float)):
            return value is None or (is_number(value) and value > 0)
        numbers = listed(value)
        return isinstance(numbers, (list, tuple)) and len(numbers) > 0 and all(is_number(x) and x > 0 for x in numbers)

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        return "a number > 0, or one for each axis of space"

    def normal(self, value: Any) -> Any:
        """Return a list, an array or a tensor as a tuple."""
        return value if value is None or isinstance(value, (int, float)) else tuple(float(x) for x in listed(value))


@dataclass(frozen=True, eq=False, repr=False)
class Only(Kind):
    """Nothing but its default, of which something else may become of later."""

    default: Any = None

    def admits(self, value: object) -> bool:
        """Whether a value is the default."""
        return value is self.default

    def expected(self, value: object) -> str:
        """Say what would be right in place of a value."""
        return "left out"


def listed(value: Any) -> Any:
    """Return an array as a list; a tensor ``[C, 1, 1]``, as broadcasting wants it, too; the scalars in a list as Python's."""
    if isinstance(value, Tensor) and value.dim() and value.numel() == len(value):
        value = value.flatten()
    if isinstance(value, (list, tuple)):
        return [python_scalar(one) for one in value]
    return value.tolist() if hasattr(value, "tolist") else value


def written(number: float) -> str:
    """Return a number as people write it: 1e6, 0.5, 65536."""
    return str(number) if isinstance(number, int) else f"{number:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
