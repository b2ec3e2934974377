"""What properties are asked with: a call that may fail, and whether two values are the same."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.verify.inputs import Inputs
from lossfold.verify.subject import Subject


class Broken(Exception):  # noqa: N818 - it says what is, and reads so where it is raised
    """A property does not hold.

    Args:
        text: what happens, in plain words.
        example: the smallest input found that shows it, as code.
    """

    def __init__(self, text: str, example: str = "") -> None:
        super().__init__(text)
        self.text, self.example = text, example


class Noted(Broken):
    """Something to know; nothing is wrong."""


class NotAsked(Exception):  # noqa: N818
    """A property does not apply, and why."""


def attempt(subject: Subject, inputs: Inputs, what: str = "") -> tuple[Tensor, Tensor]:
    """Return value and gradient; an error of the loss is a broken property."""
    try:
        return subject.outcome(inputs)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise Broken(f"{what}{': ' * bool(what)}the call ends with {text}", inputs.code()) from error


def differs(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two values are not the same to so many parts."""
    one, other = one.detach().double(), other.detach().double()
    return not torch.isclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=False)


def expect_same(subject: Subject, value: Tensor, inputs: Inputs, what: str, shown: Inputs, tolerance: float = 1e-6) -> None:
    """Refuse another value."""
    other = attempt(subject, inputs, what)[0]
    if differs(value, other, tolerance):
        raise Broken(f"{what} cost {other:.6g} in place of {value:.6g}", shown.code())
