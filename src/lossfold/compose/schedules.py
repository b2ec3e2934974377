"""Weights that change with the step: plain, frozen descriptions, functions from the step to a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lossfold.errors import LossError, naming, python_scalar
from lossfold.options import KIND, Number, checked_options, kinds_of, option
from lossfold.registry import PARTS, part

Schedule = Callable[[int], float]


NUMBER, STEPS = Number(), Number(whole=True, at_least=0)


@part
@dataclass(frozen=True, kw_only=True)
class LinearSchedule:
    """``start`` up to the step ``begin``, then in ``steps`` steps evenly to ``end``, where it stays.

    Example:
        >>> [LinearSchedule(start=0.0, end=1.0, steps=4)(step) for step in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """

    start: float = field(metadata={KIND: NUMBER})
    end: float = field(metadata={KIND: NUMBER})
    steps: int = field(metadata={KIND: Number(whole=True, at_least=1)})
    begin: int = option(0, at_least=0)

    def __post_init__(self) -> None:
        with naming(type(self).__name__):
            for name, value in checked_options(kinds_of(type(self)), vars(self)).items():
                object.__setattr__(self, name, value)

    def share(self, step: int) -> float:
        """Return how much of the way is done, 0 to 1."""
        return min(1.0, max(0, step - self.begin) / self.steps)

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        share = self.share(step)
        return (1 - share) * self.start + share * self.end


@part
@dataclass(frozen=True, kw_only=True)
class CosineSchedule(LinearSchedule):
    """As :class:`LinearSchedule`, along half a period of a cosine.

    Example:
        >>> [round(CosineSchedule(start=1.0, end=0.0, steps=4)(step), 3) for step in (0, 1, 2, 4)]
        [1.0, 0.854, 0.5, 0.0]

    Reference:
        Loshchilov and Hutter, SGDR, ICLR 2017 (the shape).
    """

    def share(self, step: int) -> float:
        """Return how much of the way is done, 0 to 1."""
        return (1 - math.cos(math.pi * super().share(step))) / 2


@part
@dataclass(frozen=True)
class StepSchedule:
    """Constant between the steps that are named: from each on, its value.

    Example:
        >>> [StepSchedule({0: 0.0, 1000: 0.5})(step) for step in (0, 999, 1000)]
        [0.0, 0.0, 0.5]
    """

    values: Mapping[int, float]

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping) or not self.values:
            raise LossError("StepSchedule", "values", "a dict from steps to numbers", repr(self.values))
        object.__setattr__(self, "values", {python_scalar(step): python_scalar(value) for step, value in self.values.items()})
        with naming("StepSchedule"):
            for step, value in self.values.items():
                checked_options({"values": STEPS}, {"values": step})
                checked_options({"values": NUMBER}, {"values": value})
        if 0 not in self.values:
            raise LossError("StepSchedule", "values", "given from step 0 on", f"{sorted(self.values)}")
        object.__setattr__(self, "values", dict(sorted(self.values.items())))

    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    def __call__(self, step: int) -> float:
        """Return the factor at a step."""
        return [value for begin, value in self.values.items() if begin <= step][-1]


SCHEDULES: dict[str, type[LinearSchedule] | type[StepSchedule]] = {
    "linear": LinearSchedule,
    "cosine": CosineSchedule,
    "step": StepSchedule,
}
"""What configurations call them."""
PARTS.update(SCHEDULES)
