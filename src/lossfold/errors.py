"""The one error users see: which loss, which argument, what was expected, what came."""

from __future__ import annotations

import difflib
import numbers
import re
import sys
from collections.abc import Iterable
from typing import Any


class LossError(ValueError):
    """A loss was given something it can't use; raised before any work is done.

    Args:
        loss: the loss, and the term of the set it is, as the user wrote it.
        argument: the argument that is wrong.
        expected: what would be right.
        got: what came.
        hint: what to do next, if there is something to say.

    Attributes:
        kind: what the option may be, a :class:`lossfold.options.Kind`, where that is what is wrong.
    """

    kind: object = None

    def __init__(self, loss: str, argument: str, expected: str, got: str, hint: str = "") -> None:
        self.loss, self.argument, self.expected, self.got, self.hint = loss, argument, expected, got, hint

    def __str__(self) -> str:
        text = f"{cut(self.loss)}: {cut(self.argument)} must be {self.expected}, got {cut(self.got)}"
        return f"{text} ({self.hint})" if self.hint else text


def wrong(argument: str, expected: str, got: str, hint: str = "") -> LossError:
    """Return the error of an argument; :class:`naming` adds which loss it was given to."""
    return LossError("", argument, expected, got, hint)


class naming:  # noqa: N801 - reads as a verb
    """Within it, errors that do not say so yet are those of a loss."""

    def __init__(self, loss: str) -> None:
        self.loss = loss

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LossError) and not error.loss:
            error.loss = self.loss


def cut(text: str) -> str:
    """Return a text in which no word is longer than 200 characters, and no more than 1000 in all."""
    text = re.sub(r"(\S{180})\S{20,}", r"\1[...]", text[:4000])
    return text if len(text) <= 1000 else text[:990] + "[...]"


def nearest_name(name: object, valid: Iterable[str]) -> str | None:
    """Return the valid name that comes nearest to a wrong one, None if none is near."""
    names, wrong = sorted(valid), str(name)[:200]
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    lowered = {n.lower(): n for n in names}
    close = close or difflib.get_close_matches(wrong.lower(), list(lowered), n=1, cutoff=0.5)
    return lowered.get(close[0], close[0]) if close else None


def nearest(name: object, valid: Iterable[str], elsewhere: str = "") -> str:
    """Say which valid name comes nearest to a wrong one, and which there are, or what lists them where they are many."""
    names = sorted(valid)
    best = nearest_name(name, names)
    there = elsewhere or f"valid: {', '.join(names)}"
    return f"did you mean {best!r}? {there}" if best else there


def python_scalar(value: Any) -> Any:
    """Return a scalar of NumPy, a 0-d tensor, or another number or text, as Python's own; anything else as it is."""
    if type(value) in (int, float, bool, str, type(None), tuple, list, dict):
        return value
    if getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None)):
        return value.item()
    if isinstance(value, str):  # an enumeration's, say
        return str.__str__(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def is_number(value: object) -> bool:
    """Whether a value is a finite real number of Python's (bool is not); :func:`python_scalar` makes one of NumPy's."""
    largest = sys.float_info.max
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -largest <= value <= largest
