"""The single losses of a set, what a call hands to each, and which of them share which pass over the pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossfold.compose.gates import shielded
from lossfold.compose.output import LossOutput
from lossfold.compose.term import Term
from lossfold.errors import naming, wrong
from lossfold.folds.collect import collect
from lossfold.folds.fold import Fold, Needs
from lossfold.losses.base import AS_IT_IS, Loss
from lossfold.losses.folded import Folded
from lossfold.losses.fused import Part, is_fusible, is_repeated, together
from lossfold.losses.reduce import Addends
from lossfold.memory import Known, recall

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
REPLACED = frozenset(
    ("forward", "evaluate", "weigh", "weight_in", "addends", "check", "needs", "formula", "reduce", "handed", "leaves", "output")
)
"""What somebody may put on a single loss or set in place of its class's."""


class Leaf(NamedTuple):
    """A single loss of a set: its full name, the weight of the sets around it, the set and the terms it stands in."""

    name: str
    loss: nn.Module
    weight: float
    owner: Any  # the LossSet
    terms: tuple[Term, ...]
    root: str  # the outermost set's class
    watched: bool  # whether somebody has changed its call, or watches it
    within: tuple[Any, ...] = ()  # the leaves of a set that is called as it is

    @property
    def who(self) -> str:
        """What errors call it."""
        return f"{self.root} term {self.name!r} ({type(self.loss).__name__})"

    @property
    def own(self) -> Loss | None:
        """The loss, if it is one of lossfold's; one whose call somebody has changed or watches is called as it is."""
        loss = self.loss
        return loss if isinstance(loss, Loss) and loss.evaluates and not self.watched else None

    @property
    def folded(self) -> Folded | None:
        """The loss, if it is a formula over a fold."""
        loss = self.loss
        return loss if isinstance(loss, Folded) and loss.as_written and not self.watched and loss.folds else None

    @property
    def in_one_part(self) -> str:
        """Why it can't be split over ranks or parts of a batch; "" if it can."""
        loss = self.loss
        if self.balance is not None:
            return "its adaptive weight is that of one call's gradients"
        if self.watched:
            return AS_IT_IS
        if not isinstance(loss, Loss):
            return "nobody knows what it adds up: LOSSES.register_module() makes a loss of a function of single elements"
        return loss.in_one_part

    @property
    def active(self) -> bool:
        """Whether this step is one that its intervals take."""
        return all(term.active for term in self.terms)

    @property
    def rarity(self) -> float:
        """What the intervals' factors have to be multiplied with, where one stands in another: both come together less often."""
        intervals = [term.every for term in self.terms]
        return math.lcm(*intervals) / math.prod(intervals)

    @property
    def condition(self) -> Term | None:
        """What says to which images it applies."""
        return self.terms[-1] if self.terms and self.terms[-1].when is not None else None

    @property
    def balance(self) -> Term | None:
        """What says that it has an adaptive weight."""
        return next((term for term in self.terms if term.balance is not None), None)

    @property
    def every_image(self) -> bool:
        """Whether its mean is over all images, those that it does not apply to with the loss 0."""
        return bool(self.owner.every_image) or (self.condition is not None and self.condition.when_mean == "all")

    def needs(self, given: Any = None) -> Needs[Any]:
        """Return what it wants collected."""
        assert isinstance(self.loss, Folded)
        needs = self.loss.needs(given)
        return needs.each_image() if self.condition is not None or self.every_image else needs


def singles(leaves: Iterable[Leaf]) -> list[Leaf]:
    """Return leaves, and in place of a set that is called as it is those of the single losses in it."""
    return [one for leaf in leaves for one in (singles(leaf.within) if leaf.within else (leaf,))]


def is_watched(loss: nn.Module) -> bool:
    """Whether somebody has put a hook, or a method of its own, on this one loss or set."""
    own = vars(loss)
    if any(callable(getattr(type(loss), name, None)) for name in REPLACED.intersection(own)):  # and no option of that name
        return True
    for hooks in HOOKS:  # noqa: SIM110 - a generator costs as much again
        if own[hooks]:
            return True
    return False


@dataclass
class Call:
    """What one call of a set hands to a single loss, and what it makes of it."""

    leaf: Leaf
    given: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    gate: Tensor | None = None
    checked: Any = None
    fold: Fold | None = None
    known: Tensor | None = None  # its value, where the pass has found it already

    @property
    def fuses(self) -> bool:
        """Whether the loss can be computed from its fold in one launch with others."""
        loss = self.leaf.loss
        if self.fold is None or self.gate is not None or not isinstance(loss, Folded) or self.leaf.balance is not None:
            return False
        here = all(term.factor.device == self.fold.sums.device for term in self.leaf.terms if term.moves)
        return here and is_fusible(loss, self.fold, self.checked)

    @property
    def part(self) -> Part:
        """The loss over its fold, to be computed with others."""
        leaf = self.leaf
        assert isinstance(leaf.loss, Folded) and self.fold is not None
        marks: tuple[object, ...] = (leaf.weight,)
        if leaf.terms:
            marks += (leaf.rarity, *(id(term.factor) for term in leaf.terms if term.moves))
        return Part(leaf.loss, self.fold, self.checked, leaf.every_image, self.weigh, marks)

    def value(self) -> Tensor:
        """Return the loss before its weights."""
        leaf, loss = self.leaf, self.leaf.loss
        if self.known is not None:
            return self.known
        if self.fold is not None:
            assert isinstance(loss, Folded)
            return loss.reduce(self.fold, self.checked, self.gate, leaf.every_image)
        if self.checked is not None:
            assert isinstance(loss, Folded)
            return loss.direct(self.checked)
        result = leaf.own.evaluate(*self.given, **self.named) if leaf.own else loss(*self.given, **self.named)
        return result.total if isinstance(result, LossOutput) else result  # of a set that is called as it is

    def addends(self) -> Addends:
        """Return what the loss adds up over ranks or parts of a batch."""
        leaf, loss = self.leaf, self.leaf.loss
        if leaf.in_one_part:
            raise wrong("loss", "one that can be split over ranks and parts of a batch", type(loss).__name__, leaf.in_one_part)
        if self.checked is None:
            assert leaf.own is not None
            return leaf.own.addends(*self.given, **self.named)
        assert isinstance(loss, Folded)
        if self.fold is not None:
            return loss.added(self.fold, self.checked, self.gate, leaf.every_image)
        if loss.folds:
            return loss.chosen(self.checked, leaf.needs(self.checked), self.added)
        return loss.added_directly(self.checked)

    def added(self, given: Any) -> Addends:
        """Return what the loss adds up of arguments that know what counts, in a pass of its own."""
        assert isinstance(self.leaf.loss, Folded)
        return self.leaf.loss.added(collect(self.leaf.needs(given), given), given, self.gate, self.leaf.every_image)

    def weigh(self, value: Tensor) -> Tensor:
        """Return its value times the weights of this step."""
        leaf = self.leaf
        for term in leaf.terms:
            if term.moves:
                value = term.factor.to(value.dtype, copy=True) * value  # advance() changes the number before the backward
        factor = leaf.weight * leaf.rarity * (leaf.own.weight_in(*self.given, **self.named) if leaf.own else 1.0)
        return value if factor == 1 else factor * value


def in_one_launch(calls: Mapping[str, Call], known: Known | None) -> tuple[dict[str, tuple[Tensor, Tensor]], list[Tensor]]:
    """Compute in one launch what can be: the values of terms before and after their weights, and these added up (or nothing)."""
    if torch.compiler.is_compiling():
        return {}, []
    names = recall(known, "fused", lambda: [name for name, call in calls.items() if call.fuses])
    folds = [fold for name in names if (fold := calls[name].fold) is not None]
    if not folds or not is_repeated(folds[0], known) or not (folds[0].launches or len(names) == len(calls)):  # in the same order
        return {}, []
    values = together([calls[name].part for name in names], known)
    if values is None:
        return {}, []
    return dict(zip(names, zip(values.terms, values.weighted, strict=True), strict=True)), [values.total]


@dataclass
class Pass:
    """A fold that some terms share: what it collects, from what, for whom."""

    needs: Needs[Any]
    given: Any
    calls: list[Call]

    def collect(self, in_parts: bool) -> None:
        """Make the pass, whose fold is wanted in any case where the batch has other parts."""
        gates = [call.gate for call in self.calls if call.gate is not None and call.leaf.condition is not None]
        if len(gates) == len(self.calls):  # what no term counts may be NaN
            any_of_them = torch.stack(gates).any(0)
            self.given = self.given.having(lambda scores: shielded(scores, any_of_them))
        with naming(self.calls[0].leaf.who):
            if not in_parts and self.at_once():
                return
            fold = collect(self.needs.adding() if in_parts else self.needs, self.given)
        for call in self.calls:
            call.fold = fold

    @property
    def alone(self) -> Folded | None:
        """The only loss of this pass, if value and gradient may come from one."""
        call, *others = self.calls
        loss = call.leaf.folded
        return None if others or loss is None or not loss.one_pass or call.gate is not None or call.leaf.every_image else loss

    @property
    def takes_one(self) -> bool:
        """Whether value and gradient come from one pass."""
        return self.alone is not None and self.alone.ready_at_once(self.given) is not None

    def at_once(self) -> bool:
        """Find value and gradient in one pass, if that will do for the only loss of this one; return whether it did."""
        if self.alone is None:
            return False
        self.calls[0].known = self.alone.at_once(self.given)
        return self.calls[0].known is not None


def passes_of(calls: Sequence[Call], in_parts: bool) -> list[Pass]:
    """Return the passes that some losses need: terms share one if they were given the same tensors, and read them alike.

    Args:
        calls: of the losses.
        in_parts: whether the batch has other parts, among which losses that select have to choose first.
    """
    passes: list[Pass] = []
    for call in calls:
        if call.leaf.folded is None or (in_parts and call.leaf.folded.selects):
            continue
        needs = call.leaf.needs(call.checked)
        for one in passes:
            if one.needs.agree(needs) and one.given.same(call.checked):
                one.needs, one.given = one.needs.merge(needs), one.given.merge(call.checked)
                one.calls.append(call)
                break
        else:
            passes.append(Pass(needs, call.checked, [call]))
    return passes
