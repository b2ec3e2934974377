"""What a set does with one of its losses: when it counts, how often, and with what weight at each step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.compose.schedules import Schedule
from lossfold.errors import LossError, is_number, naming, python_scalar
from lossfold.folds.arithmetic import buffers_apart
from lossfold.losses.base import Summable
from lossfold.options import Kind, Number, Word, checked_options
from lossfold.registry import part


@part
class Term(Summable):
    """A loss of a :class:`LossSet` with a schedule, a condition for each image, or an interval.

    It has no value of its own: the set reads it. A set among the losses is scheduled and skipped as a whole; a condition is given
    to the losses in it.

    Args:
        loss: the loss, or a set; any module that a set takes.
        schedule: a factor on its weight as a function of the step: :class:`LinearSchedule`, :class:`CosineSchedule`,
            :class:`StepSchedule`, or any function from an integer to a number.
        when: which images it applies to, for losses over a fold: the name of a boolean tensor ``[B]`` (a path in the one dict of
            outputs; or, if the set is called with tensors, a keyword beside them), or a function of the loss's arguments, as the
            set hands them on, that returns one. Keys and shapes are the same whatever it says. Labels, regions and weights are
            checked in all images, those it does not apply to included.
        when_mean: "applicable" takes the mean over the images it applies to, "all" adds their losses and divides by B.
        every: the loss is computed at the steps that this number divides, with so much more weight; at the others it is 0
            (lazy regularisation: Karras et al., StyleGAN2, CVPR 2020). A term in a term is computed where both are, with the
            weight of that interval. ``torch.compile`` makes a graph for each combination of terms that a step computes: with
            several intervals raise ``torch._dynamo.config.recompile_limit``, which is 8.
        balance: the name of another term of the set: the loss has the adaptive weight ‖∇ other‖ / (‖∇ loss‖ + 1e-4), of the other
            term with its weights and of this loss without, so that its ``loss_weight`` says how large its gradient is beside the
            other's (VQGAN: Esser, Rombach and Ommer, CVPR 2021). It costs two backward passes to ``balance_at``, and is one call's:
            with ``sync`` and in ``accumulate()`` it is refused. The weight has no gradient, and where none are recorded it is the
            last one, 1 at first.
        balance_at: where gradients are taken: the path of a tensor, as of a decoder's last weights, in the one dict of outputs and
            in the modules there (``"gen.decoder.last.weight"``); or a function of what the set is called with that returns it.
        balance_limit: what the adaptive weight is at most.

    Raises:
        LossError: for options of another kind.

    Example:
        >>> criterion = LossSet(l1=L1Loss(), ssim=Term(SSIMLoss(), schedule=LinearSchedule(start=0.0, end=1.0, steps=1000)))
        >>> criterion.advance()  # after each step of the optimiser
    """

    kinds: ClassVar[dict[str, Kind]] = {
        "when_mean": Word(among=("applicable", "all")),
        "every": Number(whole=True, at_least=1, at_most=2**31 - 1),
        "balance_limit": Number(more_than=0),
    }
    factor: Tensor
    balanced: Tensor

    def __init__(
        self,
        loss: nn.Module,
        *,
        schedule: Schedule | None = None,
        when: str | Callable[..., Tensor] | None = None,
        when_mean: str = "applicable",
        every: int = 1,
        balance: str | None = None,
        balance_at: str | Callable[..., Tensor] | None = None,
        balance_limit: float = 1e4,
    ) -> None:
        super().__init__()
        if not isinstance(loss, nn.Module) or isinstance(loss, Term):
            raise LossError("Term", "loss", "a loss (an nn.Module)", type(loss).__name__)
        if schedule is not None and (not callable(schedule) or isinstance(schedule, nn.Module)):
            hint = "a constant weight is the loss's own: 0.5 * loss" if is_number(python_scalar(schedule)) else ""
            raise LossError("Term", "schedule", "a function from the step to a number", repr(schedule), hint)
        if when is not None and not callable(when) and not (isinstance(when, str) and when):
            raise LossError("Term", "when", "the name of a boolean tensor [B], or a function that returns one", repr(when))
        with naming("Term"):
            options = checked_options(self.kinds, {"when_mean": when_mean, "every": every, "balance_limit": balance_limit})
        if balance is not None and not (isinstance(balance, str) and balance):
            raise LossError("Term", "balance", "the name of another term, or None", repr(balance))
        if (balance_at is not None) != (balance is not None) or not (
            balance_at is None or callable(balance_at) or (isinstance(balance_at, str) and balance_at)
        ):
            expected = (
                "a path in the one dict of outputs, or a function, beside balance=" if balance else "left out without balance="
            )
            raise LossError("Term", "balance_at", expected, repr(balance_at))
        self.balance, self.balance_at = balance, balance_at
        self.balance_limit: float = options["balance_limit"]
        self.loss, self.schedule, self.when = loss, schedule, when
        self.when_mean: str = options["when_mean"]
        self.every: int = options["every"]
        with torch.inference_mode(False):
            self.register_buffer("factor", torch.ones((), dtype=torch.float64), persistent=False)
            self.register_buffer("balanced", torch.ones((), dtype=torch.float64), persistent=False)
        self.go_to(0)

    @property
    def moves(self) -> bool:
        """Whether it depends on the step."""
        return self.schedule is not None or self.every > 1

    def factor_at(self, step: int) -> float:
        """Return the factor on the weight at a step, where the term is computed."""
        try:
            factor = 1.0 if self.schedule is None else python_scalar(self.schedule(step))
        except TypeError as error:
            raise LossError("Term", "schedule", "a function from the step to a number", repr(self.schedule), str(error)) from error
        if not is_number(factor) or not is_number(factor * self.every):
            raise LossError("Term", "schedule", f"a function that returns a number (step {step})", repr(factor))
        return factor * self.every

    def go_to(self, step: int) -> None:
        """Take the weight of a step; the number lives in a buffer, so that compiled code sees it without being compiled again."""
        self.take(step, self.factor_at(step))

    def take(self, step: int, factor: float) -> None:
        """Be at a step whose factor is known."""
        self.step, self.active = step, step % self.every == 0
        self.factor.fill_(factor)

    def adapt(self, weight: Tensor, limit: float) -> None:
        """Take an adaptive weight, from 0 to a limit; the last one stays in the place of one that is NaN."""
        with torch.no_grad():
            found = weight.to(self.balanced.device, self.balanced.dtype).clamp(0, limit)
            self.balanced.copy_(torch.where(found.isnan(), self.balanced, found))

    def get_extra_state(self) -> Tensor:
        """Return what a checkpoint keeps: the step, as a tensor, because some formats keep nothing else."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on where a checkpoint stopped."""
        if not isinstance(state, Tensor) or state.numel() != 1 or state.is_floating_point():
            raise LossError("Term", "state", "the step, an integer tensor", f"{state!r}"[:80])
        self.go_to(int(state))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        with buffers_apart(self, fn, "factor", "balanced"):
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.go_to(self.step)  # whatever .half() or to_empty() did to the number
        return self

    def __rmul__(self, factor: float) -> Self:
        factor = python_scalar(factor)
        if not is_number(factor):
            return NotImplemented
        if not isinstance(self.loss, Summable):
            raise LossError("Term", "loss", "a loss of lossfold, whose weight can be multiplied", type(self.loss).__name__)
        scaled = copy.deepcopy(self)
        scaled.loss = scaled.loss * factor  # type: ignore[assignment, operator]  # losses and sets have it
        return scaled

    __mul__ = __rmul__

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Refuse: a term is part of a set."""
        raise LossError("Term", "call", "that of the LossSet it is in", "a call of its own", f"or call its loss, {self.loss!r}")

    def __repr__(self) -> str:
        defaults: dict[str, Any] = {"schedule": None, "when": None, "when_mean": "applicable", "every": 1}
        defaults |= {"balance": None, "balance_at": None, "balance_limit": 1e4}
        options = [f"{name}={getattr(self, name)!r}" for name, default in defaults.items() if getattr(self, name) != default]
        return f"Term({', '.join([repr(self.loss), *options])})"


def terms_in(module: nn.Module) -> Iterator[Term]:
    """Yield every term once, however often it stands in a module."""
    yield from (one for one in module.modules() if isinstance(one, Term))


def advance(module: nn.Module, steps: int = 1) -> None:
    """Tell every term in a module, which need not be a set, that so many steps are done; all of them, or none if one fails."""
    moved = [(term, term.step + steps, term.factor_at(term.step + steps)) for term in terms_in(module)]
    for term, step, factor in moved:
        term.take(step, factor)
