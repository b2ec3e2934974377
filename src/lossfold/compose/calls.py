"""What a call of a set hands to its losses, and what their passes collect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lossfold.compose.arguments import Handed, arguments_for, conditions_of, names_of
from lossfold.compose.gates import gate_of
from lossfold.compose.passes import Call, Leaf, passes_of
from lossfold.errors import naming, wrong
from lossfold.losses.folded import Folded
from lossfold.routing import is_one_dict, one_dict


def calls_of(leaves: Sequence[Leaf], inputs: tuple[Any, ...], named: dict[str, Any], in_parts: bool) -> list[Call]:
    """Return what each active loss is handed, checked, and its fold.

    Args:
        leaves: the losses of a set.
        inputs, named: what the set is called with.
        in_parts: whether the batch has other parts, on other ranks or in other calls.
    """
    with naming(leaves[0].root):
        calls = checked_calls(leaves, inputs, named)
    for one in passes_of(calls, in_parts):
        one.collect(in_parts)
    return calls


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
