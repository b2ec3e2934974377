"""What a set does with one of its losses: when it counts, how often, and with what weight at each step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.compose.schedules import Schedule
from lossfold.errors import LossError, is_number
from lossfold.losses.base import Summable
from lossfold.registry import part

WHEN_MEANS = ("applicable", "all")


@part
class Term(Summable):
    """A loss of a :class:`LossSet` with a schedule, a condition for each image, or an interval.

    It has no value of its own: the set reads it. A set among the losses is scheduled, gated and skipped as a whole.

    Args:
        loss: the loss, or a set; any module that a set takes.
        schedule: a factor on its weight as a function of the step: :class:`LinearSchedule`, :class:`CosineSchedule`,
            :class:`StepSchedule`, or any function from an integer to a number.
        when: which images it applies to, for losses over a fold: the name of a boolean tensor ``[B]`` (a path in the one dict of
            outputs, or a keyword of the set's call), or a function of the loss's arguments that returns one. Keys, shapes and the
            graph are the same whatever it says.
        when_mean: "applicable" takes the mean over the images it applies to, "all" adds their losses and divides by B.
        every: the loss is computed at the steps that this number divides, with so much more weight; at the others it is 0
            (lazy regularisation: Karras et al., StyleGAN2, CVPR 2020).

    Raises:
        LossError: for options of another kind.

    Example:
        >>> criterion = LossSet(l1=L1Loss(), ssim=Term(SSIMLoss(), schedule=LinearSchedule(start=0.0, end=1.0, steps=1000)))
        >>> criterion.advance()  # after each step of the optimiser
    """

    factor: Tensor

    def __init__(
        self,
        loss: nn.Module,
        *,
        schedule: Schedule | None = None,
        when: str | Callable[..., Tensor] | None = None,
        when_mean: str = "applicable",
        every: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(loss, nn.Module) or isinstance(loss, Term):
            raise LossError("Term", "loss", "a loss (an nn.Module)", type(loss).__name__)
        if schedule is not None and not callable(schedule):
            hint = "a constant weight is the loss's own: 0.5 * loss" if is_number(schedule) else ""
            raise LossError("Term", "schedule", "a function from the step to a number", repr(schedule), hint)
        if when is not None and not callable(when) and not (isinstance(when, str) and when):
            raise LossError("Term", "when", "the name of a boolean tensor [B], or a function that returns one", repr(when))
        if when_mean not in WHEN_MEANS:
            raise LossError("Term", "when_mean", "'applicable' or 'all'", repr(when_mean))
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise LossError("Term", "every", "an integer >= 1", repr(every))
        self.loss, self.schedule, self.when, self.when_mean, self.every = loss, schedule, when, when_mean, every
        self.register_buffer("factor", torch.ones((), dtype=torch.float64), persistent=False)
        self.go_to(0)

    @property
    def moves(self) -> bool:
        """Whether it depends on the step."""
        return self.schedule is not None or self.every > 1

    def go_to(self, step: int) -> None:
        """Take the weight of a step; the number lives in a buffer, so that compiled code sees it without being compiled again."""
        factor = 1.0 if self.schedule is None else self.schedule(step)
        if not is_number(factor):
            raise LossError("Term", "schedule", f"a function that returns a number (step {step})", repr(factor))
        self.step, self.active = step, step % self.every == 0
        self.factor.fill_(factor * self.every)

    def get_extra_state(self) -> dict[str, int]:
        """Return what a checkpoint keeps: the step."""
        return {"step": self.step}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on where a checkpoint stopped."""
        self.go_to(int(state["step"]))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        dtype = torch.float32 if self.factor.device.type == "mps" else torch.float64
        self.factor = self.factor.new_ones((), dtype=dtype)  # whatever .half() or to_empty() did to the number
        self.go_to(self.step)
        return self

    def __rmul__(self, factor: float) -> Self:
        if not is_number(factor):
            return NotImplemented
        scaled = copy.deepcopy(self)
        scaled.loss = scaled.loss * factor  # type: ignore[assignment, operator]  # losses and sets have it
        return scaled

    __mul__ = __rmul__

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Refuse: a term is part of a set."""
        raise LossError("Term", "call", "that of the LossSet it is in", "a call of its own", f"or call its loss, {self.loss!r}")

    def __repr__(self) -> str:
        defaults = {"schedule": None, "when": None, "when_mean": "applicable", "every": 1}
        options = [f"{name}={getattr(self, name)!r}" for name, default in defaults.items() if getattr(self, name) != default]
        return f"Term({', '.join([repr(self.loss), *options])})"
