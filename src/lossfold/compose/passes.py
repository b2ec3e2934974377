"""The single losses of a set, what a call hands to each, and which of them share which pass over the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossfold.compose.gates import shielded, value_where
from lossfold.compose.term import Term
from lossfold.engines.spec import LabelSpec, PairSpec, WindowSpec
from lossfold.losses.base import UNREAD, Folded, Loss

Source = tuple[tuple[str, str], ...]  # of a pass: arguments and where they stand
Handed = tuple[tuple[Any, ...], dict[str, Any]]  # arguments by position and by name


class Leaf(NamedTuple):
    """A single loss of a set: its full name, the weight of the sets around it, the set and the terms it stands in."""

    name: str
    loss: nn.Module
    weight: float
    owner: Any  # the LossSet
    terms: tuple[Term, ...]
    root: str  # the outermost set's class

    @property
    def who(self) -> str:
        """What errors call it."""
        return f"{self.root} term {self.name!r} ({type(self.loss).__name__})"

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

    def __str__(self) -> str:
        notes = [f"when={shown(term.when)}" for term in self.terms if term.when is not None]
        notes += [f"every {term.every} steps" for term in self.terms if term.every > 1]
        notes += [f"weight {shown(term.schedule)}" for term in self.terms if term.schedule is not None]
        return f"{self.name} ({', '.join(notes)})" if notes else self.name


@dataclass
class Call:
    """What one call of a set hands to a single loss, and what it makes of it."""

    leaf: Leaf
    given: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    handed: Handed = ((), {})
    gate: Tensor | None = None
    checked: Any = None
    fold: Any = None

    def value(self) -> Tensor:
        """Return the loss before its weights."""
        leaf, loss = self.leaf, self.leaf.loss
        if not isinstance(loss, Folded):
            result: Tensor = loss.raw(*self.given, **self.named) if isinstance(loss, Loss) else loss(*self.given, **self.named)
            return result
        if self.fold is None:
            return loss.of(leaf.who, self.checked)
        if self.gate is not None and leaf.condition is not None:
            return value_where(leaf.who, leaf.condition, loss, self.fold, self.checked, self.gate)
        value: Tensor = leaf.owner.value_of(leaf, self.fold, leaf.who, self.checked, self.handed)
        return value

    def weigh(self, value: Tensor) -> Tensor:
        """Return its value times the weights of this step."""
        leaf, loss = self.leaf, self.leaf.loss
        for term in leaf.terms:
            value = term.factor.to(value.dtype, copy=True) * value  # advance() changes the number before the backward
        own = loss.weight_in(*self.given, **self.named) if isinstance(loss, Loss) else 1.0
        return leaf.weight * leaf.rarity * own * value


@dataclass
class Pass:
    """A fold that some terms share: what it collects, from what, for whom; the first of them makes it."""

    source: Source
    needs: Any
    given: Any
    calls: list[Call]

    def collect(self) -> None:
        """Make the pass."""
        first = self.calls[0].leaf
        assert isinstance(first.loss, Folded)
        gates = [call.gate for call in self.calls if call.gate is not None]
        if len(gates) == len(self.calls):  # what no term counts may be NaN
            any_of_them = torch.stack(gates).any(0)
            self.given = self.given.having(lambda scores: shielded(scores, any_of_them))
        fold = first.loss.collect(self.needs, first.who, self.given)
        for call in self.calls:
            call.fold = fold

    def __str__(self) -> str:
        source = "".join(f", {argument}={path!r}" for argument, path in self.source if path not in (argument, UNREAD))
        fold, how, collected = described(self.needs.spec)
        how = f"{how}, {self.needs.engine or 'fastest engine'}{source}"
        return f"{fold} fold ({how}): {', '.join(str(call.leaf) for call in self.calls)} [{', '.join(collected)}]"


def shown(thing: object) -> str:
    """Return a function's name, and anything else as it is written."""
    return getattr(thing, "__name__", None) or repr(thing)


def passes_of(calls: Sequence[Call]) -> list[Pass]:
    """Return the passes that some losses need, each shared by all that can."""
    passes: list[Pass] = []
    for call in calls:
        loss, condition = call.leaf.loss, call.leaf.condition
        if not isinstance(loss, Folded) or not loss.folds:
            continue
        needs, source = loss.asks(call.checked), call.leaf.owner.source + loss.source
        if condition is not None:
            needs = needs.each_image()
            source += (("when", repr(condition.when)),) if loss.selects else ()
        for one in passes:
            both = in_one_pass(one.source, source)
            if both is not None and one.needs.agree(needs):
                one.source = both
                one.needs = one.needs.merge(needs)
                one.given = one.given.merge(call.checked) if call.checked is not None else None
                one.calls.append(call)
                break
        else:
            passes.append(Pass(source, needs, call.checked, [call]))
    return passes


def in_one_pass(one: Source, other: Source) -> Source | None:
    """Return what a pass for both reads, if one can serve both; an argument that one of them does not read is the other's."""
    if [name for name, _ in one] != [name for name, _ in other]:
        return None
    pairs = [(mine[1], yours[1]) for mine, yours in zip(one, other, strict=True)]
    if any(mine != yours and UNREAD not in (mine, yours) for mine, yours in pairs):
        return None
    return tuple((name, mine or yours) for (name, _), (mine, yours) in zip(one, pairs, strict=True))


def described(spec: Any) -> tuple[str, str, list[str]]:
    """Return a fold's name, how it reads what it is given, and what it collects."""
    if isinstance(spec, WindowSpec):
        window = f"{spec.window_size}x{spec.window_size} window, padding={spec.padding}"
        return "window", window, [f"SSIM at {spec.scales} scale{'s' if spec.scales > 1 else ''}"]
    if isinstance(spec, PairSpec):
        texts = [f"{kind}({number:g})" if number else kind for kind, number, _ in spec.sums]
        texts = [f"{text} in {one.where}" if one.where else text for text, one in zip(texts, spec.sums, strict=True)]
        return "pair", f"link={spec.link}", texts
    texts = [kind if not gamma else f"{kind}({gamma:g})" for kind, gamma in spec.sums]
    texts += [f"bins({spec.bins.count})"] if spec.bins else []
    fold = "label" if isinstance(spec, LabelSpec) else "dense"
    return fold, f"link={spec.link}, ignore_index={spec.ignore_index}", texts
