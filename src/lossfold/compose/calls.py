"""What a call of a set hands to its losses, what their passes collect, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lossfold.compose.arguments import Handed, arguments_for, arguments_for_set, conditions_of, names_of
from lossfold.compose.balance import balanced
from lossfold.compose.gates import gate_of
from lossfold.compose.output import LossOutput
from lossfold.compose.passes import Call, Leaf, Pass, in_one_launch, passes_of
from lossfold.compose.ranks import Exchange, in_rounds
from lossfold.errors import naming, wrong
from lossfold.folds.fold import describe
from lossfold.losses.base import left_out
from lossfold.losses.folded import Folded
from lossfold.memory import Known
from lossfold.routing import is_one_dict, one_dict


def calls_of(
    leaves: Sequence[Leaf], inputs: tuple[Any, ...], named: dict[str, Any], in_parts: bool
) -> tuple[list[Call], list[Pass]]:
    """Return what each active loss is handed, checked, and its fold; and the passes that have been made.

    Args:
        leaves: the losses of a set.
        inputs, named: what the set is called with.
        in_parts: whether the batch has other parts, on other ranks or in other calls.
    """
    with naming(leaves[0].root):
        calls = checked_calls(leaves, inputs, named)
    passes = passes_of(calls, in_parts)
    for one in passes:
        one.collect(in_parts)
    return calls, passes


def checked_calls(leaves: Sequence[Leaf], inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Call]:
    """Return what each active loss is handed, checked."""
    keywords = named
    outputs: Any = one_dict(inputs, named) if is_one_dict(inputs, named) else named
    if outputs is keywords:
        conditions = conditions_of(leaves)
        named = {name: value for name, value in named.items() if name not in conditions}
    handed: dict[int, Handed] = {}
    names = names_of(leaves)
    calls = []
    for leaf in leaves:
        if not leaf.active:
            continue
        owner = leaf.owner
        if id(owner) not in handed:
            with naming(type(owner).__name__):
                handed[id(owner)] = owner.handed(inputs, named)
        with naming(leaf.who):
            arguments: Handed | None
            if leaf.within:
                arguments = arguments_for_set(leaf, handed[id(owner)], names, keywords if outputs is keywords else {})
            else:
                arguments = arguments_for(leaf, handed[id(owner)], names)
            if arguments is None:
                continue
            call = Call(leaf, *arguments, gate=owner.gate_for(leaf.name.rpartition(".")[2], handed[id(owner)]))
            if leaf.condition is not None:
                call.gate = gate_of(leaf.condition, outputs, outputs is keywords, *arguments)
                if leaf.folded is None:
                    raise wrong("when", "left out: this loss has no value for each image", repr(leaf.condition.when))
            own = leaf.own
            if isinstance(own, Folded) and own.as_written:
                call.checked = own.check(*call.given, **call.named)
                if call.gate is not None and own.selects:
                    call.checked = own.gated(call.checked, call.gate)
            calls.append(call)
    return calls


def added_up(leaves: Sequence[Leaf], calls: Mapping[str, Call], exchange: Exchange) -> dict[str, Tensor]:
    """Return the values of the losses of all ranks' calls."""
    pending: dict[str, Any] = {}
    for place, leaf in enumerate(leaves):
        if leaf.name in calls:
            exchange.takes(place)
            with naming(leaf.who):
                pending[leaf.name] = calls[leaf.name].addends()
    with naming(leaves[0].root):
        values = in_rounds(pending, exchange.add, leaves)
    exchange.over = True  # whatever fails from here on, no rank waits for
    return {name: exchange.ranks.share(value) for name, value in values.items()}


def output_of(
    leaves: Sequence[Leaf],
    calls: Mapping[str, Call],
    values: Mapping[str, Tensor] | None,
    given: Any,
    known: Known | None = None,
) -> LossOutput:
    """Return the losses by name, from the values of the active ones, or of their calls.

    Args:
        leaves: the losses of a set.
        calls: of those that are active.
        values: theirs, if these are known.
        given: what the set is given, by position and by name.
        known: what is remembered of calls on tensors like these.
    """
    terms: dict[str, Tensor] = {}
    weighted: dict[str, Tensor] = {}
    raw: dict[str, Tensor] = {}  # of those with an adaptive weight
    fused, summed = in_one_launch(calls, known) if values is None else ({}, [])
    for leaf in leaves:
        call = calls.get(leaf.name)
        if call is not None and leaf.name in fused:
            terms[leaf.name], weighted[leaf.name] = fused[leaf.name]
            continue
        with naming(leaf.who):
            value = left_out(given) if call is None else call.value() if values is None else values[leaf.name]
            if not isinstance(value, Tensor) or value.dim() != 0:
                raise wrong("result", "a scalar tensor", describe(value))
            terms[leaf.name], weighted[leaf.name] = value.detach(), value if call is None else call.weigh(value)
        if leaf.balance is not None and call is not None:
            raw[leaf.name] = value
    for leaf in leaves if raw else ():
        if leaf.name in raw:
            assert leaf.balance is not None
            other = leaf.name.rpartition(".")[0] + "." * ("." in leaf.name) + str(leaf.balance.balance)
            measure = [value for name, value in weighted.items() if name == other or name.startswith(f"{other}.")]
            weight = balanced(leaf.who, leaf.balance, raw[leaf.name], sum(measure[1:], measure[0]), given)
            weighted[leaf.name] = weight * weighted[leaf.name]
    first, *others = [*summed, *(value for name, value in weighted.items() if name not in fused)]
    total = sum(others, first) if others or len(weighted) > 1 else first.clone()  # total /= 4 leaves the terms alone
    return LossOutput(total, terms, weighted)
