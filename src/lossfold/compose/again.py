"""A set's call like an earlier one: whose arguments are which, and who shares a pass, does not have to be found out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lossfold.compose.passes import Call, Leaf, Pass, is_watched
from lossfold.folds.checks import signature
from lossfold.folds.fold import Needs
from lossfold.folds.scores import Given
from lossfold.losses.scores import LABELS, ScoreLoss
from lossfold.memory import Known


class Plan(NamedTuple):
    """The passes of a call whose losses all read scores, targets and weight as they stand: each with what it is of."""

    leaves: tuple[Leaf, ...]
    passes: tuple[tuple[Needs[Any], str, bool, tuple[Leaf, ...], Known], ...]

    def calls(self, inputs: tuple[Any, ...]) -> list[Call]:
        """Make the passes of another call."""
        scores, targets, weight = inputs if len(inputs) == 3 else (*inputs, None)
        calls: list[Call] = []
        for needs, kind, as_masks, leaves, known in self.passes:
            given = Given(scores, targets, weight, kind, None, as_masks, known=known)
            one = Pass(needs, given, [Call(leaf, inputs, checked=given) for leaf in leaves])
            one.collect(in_parts=False)
            calls += one.calls
        return calls


def likeness(criterion: Any, sets: type[Any], inputs: tuple[Any, ...]) -> Any:
    """Return what calls have in common that need the same; None where looks at values, or anything else, may tell them apart.

    Args:
        criterion: the set that is called.
        sets: the class of sets.
        inputs: what it is given, by position.
    """
    like = signature(*inputs) if 2 <= len(inputs) <= 3 else None
    marks = None if like is None else marks_of(criterion, sets)
    return None if marks is None else (marks, like)


OWN = ("handed", "gate_for", "leaves")
"""What a set may be subclassed by to give its terms something else."""


def marks_of(criterion: Any, sets: type[Any]) -> tuple[Any, ...] | None:
    """Return by what losses, options and weights are known again; None where more than tensors decides what they are given."""
    changed = any(name in vars(criterion) or getattr(type(criterion), name) is not getattr(sets, name) for name in OWN)
    if criterion.every_image or changed:
        return None
    marks: list[Any] = [criterion.members, criterion.loss_weight, *criterion.names]
    for loss in criterion.members:
        if isinstance(loss, sets):
            inner = marks_of(loss, sets) if loss.ranks is None and not loss.as_it_is else None
            if inner is None:
                return None
            marks.append(inner)
        elif not isinstance(loss, ScoreLoss) or not loss.own_class or loss.inputs is not None or is_watched(loss):
            return None
        else:
            marks.append(loss.memory)
    return tuple(marks)


def plan_for(leaves: Sequence[Leaf], passes: Sequence[Pass], inputs: tuple[Any, ...]) -> Plan | None:
    """Return how a call has gone, if others like it may go the same way."""
    found: list[tuple[Needs[Any], str, bool, tuple[Leaf, ...], Known]] = []
    for one in passes:
        for call in one.calls:
            checked = call.checked
            if not isinstance(checked, Given) or checked.partial is not None or checked.maps is not None or call.gate is not None:
                return None
            if not all(mine is his for mine, his in zip(checked, inputs, strict=False)):
                return None
            if checked.kind != LABELS and checked.scores.dim() == 3:  # whose values are looked at
                return None
        found.append((one.needs, one.given.kind, one.given.as_masks, tuple(call.leaf for call in one.calls), {}))
    served = sum(len(one.calls) for one in passes)
    return Plan(tuple(leaves), tuple(found)) if served == len(leaves) else None
