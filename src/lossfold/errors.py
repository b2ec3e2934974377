"""The one error users see: which loss, which argument, what was expected, what came."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class LossError(ValueError):
    """A loss was given something it can't use; raised before any work is done.

    Args:
        loss: the loss, and the term of the set it is, as the user wrote it.
        argument: the argument that is wrong.
        expected: what would be right.
        got: what came.
        hint: what to do next, if there is something to say.
    """

    def __init__(self, loss: str, argument: str, expected: str, got: str, hint: str = "") -> None:
        self.loss, self.argument, self.expected, self.got, self.hint = loss, argument, expected, got, hint

    def __str__(self) -> str:
        text = f"{self.loss}: {self.argument} must be {self.expected}, got {self.got}"
        return f"{text} ({self.hint})" if self.hint else text


def nearest(name: object, valid: Iterable[str]) -> str:
    """Say which valid name comes nearest to a wrong one, and which there are."""
    names = sorted(valid)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    lowered = {n.lower(): n for n in names}
    close = close or difflib.get_close_matches(str(name).lower(), list(lowered), n=1, cutoff=0.5)
    best = lowered.get(close[0], close[0]) if close else None
    return (f"did you mean {best!r}? " if best else "") + f"valid: {', '.join(names)}"


def is_number(value: object) -> bool:
    """Whether a value is a finite real number (bool is not)."""
    largest = sys.float_info.max
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -largest <= value <= largest
