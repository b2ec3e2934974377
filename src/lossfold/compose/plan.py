"""What a set says of its passes: of a call's, or before there is one, when arguments of the same names are the same tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lossfold import engines
from lossfold.compose.calls import checked_calls
from lossfold.compose.passes import Leaf, passes_of
from lossfold.compose.ranks import HEAD, Ranks
from lossfold.engines import Engine
from lossfold.errors import naming
from lossfold.folds.fold import Needs
from lossfold.losses.folded import Folded

WORD = 8  # bytes of a sum

Planned = tuple[Needs[Any], dict[str, str], list[Leaf]]


def plan_of(leaves: Iterable[Leaf], ranks: Ranks | None) -> str:
    """Say which terms share which pass, which have none, and what goes to other ranks."""
    passes, alone = passes_among(leaves, in_parts=ranks is not None)
    lines = [line(*one, in_parts=ranks is not None) for one in passes] + [f"on its own: {text(leaf)}" for leaf in alone]
    return "\n".join(lines if ranks is None else [*lines, sent_to(ranks, passes, alone)])


def plan_of_call(leaves: Sequence[Leaf], inputs: tuple[Any, ...], named: dict[str, Any], ranks: Ranks | None) -> str:
    """Say the same of a call: which engine serves each of its passes, how many there are, and who is left out this time."""
    in_parts = ranks is not None
    with naming(leaves[0].root):
        calls = checked_calls(leaves, inputs, named)
    passes = passes_of(calls, in_parts)
    lines, forward, backward = [], 0, 0
    for one in passes:
        with naming(one.calls[0].leaf.who):
            engine = one.needs.engine_for(one.given)
            once = engine is not None and engine.once and not in_parts and one.takes_one
        lines.append(line(one.needs, {}, [call.leaf for call in one.calls], engine, once, in_parts))
        forward, backward = forward + 1, backward + (not once)
    served = {call.leaf.name for one in passes for call in one.calls}
    called = {call.leaf.name for call in calls}
    lines += [f"on its own: {text(leaf)}" for leaf in leaves if leaf.name in called - served]
    lines += [f"left out: {text(leaf)}" for leaf in leaves if leaf.name not in called]
    return "\n".join([*lines, f"passes over the pixels: {forward} forward, {backward} backward"])


def passes_among(leaves: Iterable[Leaf], in_parts: bool) -> tuple[list[Planned], list[Leaf]]:
    """Return which terms share which pass, and those that have none; in parts, losses that select share none."""
    passes: list[Planned] = []
    alone: list[Leaf] = []
    for leaf in leaves:
        if leaf.folded is None:
            alone.append(leaf)
            continue
        needs, source = leaf.needs(), source_of(leaf, leaf.folded)
        for index, (others, there, served) in enumerate(passes):
            selects = in_parts and any(one.loss.selects for one in (leaf, *served))
            if others.agree(needs) and in_one_pass(there, source) and not selects:
                passes[index] = others.merge(needs), {**source, **there}, [*served, leaf]
                break
        else:
            passes.append((needs, source, [leaf]))
    return passes, alone


def sent_to(ranks: Ranks, passes: list[Planned], alone: list[Leaf]) -> str:
    """Say how many all_reduces a call has, and of how many bytes, where all terms are computed."""
    fixed, each_class, rounds = WORD * HEAD, 0, set()
    for needs, _, leaves in passes:
        folds, tables = set(), set()  # of the whole batch, or of the images of a condition
        for leaf in leaves:
            loss = leaf.folded
            assert loss is not None
            if loss.sends_fold(leaf.every_image):
                folds.add(leaf.condition)
                if getattr(leaf.needs().spec, "bins", None) is not None:
                    tables.add(leaf.condition)
            else:
                fixed += WORD * loss.lasts
            rounds |= {loss.rounds}
        bins = getattr(needs.spec, "bins", None)
        each_class += WORD * (len(folds) * len(getattr(needs.spec, "sums", ())) + len(tables) * 4 * (bins.count if bins else 0))
    fixed += 2 * WORD * len(alone)
    rounds |= {leaf.own.rounds for leaf in alone if leaf.own is not None}
    size = f"{fixed} B" + f" + {each_class} B a class" * bool(each_class) + " (and 16 B a further mean)" * bool(alone)
    more = [f"{max(rounds) - 1} before it, for what a term has to know first"] if max(rounds) > 1 else []
    before = [f"the last call: {' + '.join(map(str, ranks.sent))} B"] if ranks.sent else []
    return "; ".join([f"over ranks: one all_reduce of {size}", *more, *before])


def source_of(leaf: Leaf, loss: Folded) -> dict[str, str]:
    """Return where the arguments stand that losses of one pass have in common, and what else makes its tensors others."""
    around, own = leaf.owner.inputs or {}, loss.inputs or {}
    source = {name: own.get(name, name) for name in loss.arguments if name not in loss.beside}
    source = {name: around.get(path, path) for name, path in source.items()}
    words = (*loss.reading, *(["masks"] if getattr(loss, "without_channels", False) else []))
    if leaf.condition is not None and loss.selects:
        words += (repr(leaf.condition.when),)
    return {**source, "as": " ".join(words)}


def in_one_pass(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two losses get the same tensors; an argument that one of them does not read is the other's."""
    same_first = next(iter(one.items())) == next(iter(other.items()))
    return same_first and all(one[name] == other[name] for name in one.keys() & other.keys())


def line(
    needs: Needs[Any],
    source: Mapping[str, str],
    leaves: list[Leaf],
    engine: Engine | None = None,
    once: bool | None = None,
    in_parts: bool = False,
) -> str:
    """Return the line of a pass.

    Args:
        needs: what it collects.
        source: where its arguments stand.
        leaves: the losses that it serves.
        engine: what serves it, where that is known.
        once: whether it gives the gradient as well, where that is known.
        in_parts: whether the batch has other parts, so that sums have to be known before the gradient.
    """
    fold, how, collected = needs.describe()
    places = "".join(f", {name}={path!r}" for name, path in source.items() if path not in (name, ""))
    serving = engine.name if engine is not None else needs.serving()
    told = f"{fold} fold ({how}, {serving}{places}): {', '.join(map(text, leaves))} [{', '.join(collected)}]"
    if once is None:  # dtypes and devices decide
        leaf, *others = leaves
        loss = None if others or in_parts or leaf.condition is not None or leaf.every_image else leaf.folded
        having = engines.with_one_pass(needs.engine)
        return f"{told}, value and gradient in one pass ({having})" if loss is not None and loss.in_one_pass and having else told
    return f"{told}, value and gradient in one pass" if once else told


def text(leaf: Leaf) -> str:
    """Return a term with its condition, interval and schedule."""
    notes = [f"when={shown(term.when)}" for term in leaf.terms if term.when is not None]
    notes += [f"every {term.every} steps" for term in leaf.terms if term.every > 1]
    notes += [f"weight {shown(term.schedule)}" for term in leaf.terms if term.schedule is not None]
    return f"{leaf.name} ({', '.join(notes)})" if notes else leaf.name


def shown(thing: object) -> str:
    """Return a function's name, and anything else as it is written."""
    return getattr(thing, "__name__", None) or repr(thing)
