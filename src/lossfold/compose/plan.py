"""What a set says of its passes before it is called: arguments of the same names are taken to be the same tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lossfold.compose.passes import Leaf
from lossfold.compose.ranks import HEAD, Ranks
from lossfold.folds.fold import Needs
from lossfold.losses.folded import Folded

WORD = 8  # bytes of a sum

Planned = tuple[Needs[Any], dict[str, str], list[Leaf]]


def plan_of(leaves: Iterable[Leaf], ranks: Ranks | None) -> str:
    """Say which terms share which pass, which have none, and what goes to other ranks."""
    passes, alone = passes_among(leaves, in_parts=ranks is not None)
    lines = [line(*one) for one in passes] + [f"on its own: {text(leaf)}" for leaf in alone]
    return "\n".join(lines if ranks is None else [*lines, sent_to(ranks, passes, alone)])


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


def line(needs: Needs[Any], source: Mapping[str, str], leaves: list[Leaf]) -> str:
    """Return the line of a pass."""
    fold, how, collected = needs.describe()
    places = "".join(f", {name}={path!r}" for name, path in source.items() if path not in (name, ""))
    how = f"{how}, {needs.engine or 'fastest engine'}{places}"
    return f"{fold} fold ({how}): {', '.join(map(text, leaves))} [{', '.join(collected)}]"


def text(leaf: Leaf) -> str:
    """Return a term with its condition, interval and schedule."""
    notes = [f"when={shown(term.when)}" for term in leaf.terms if term.when is not None]
    notes += [f"every {term.every} steps" for term in leaf.terms if term.every > 1]
    notes += [f"weight {shown(term.schedule)}" for term in leaf.terms if term.schedule is not None]
    return f"{leaf.name} ({', '.join(notes)})" if notes else leaf.name


def shown(thing: object) -> str:
    """Return a function's name, and anything else as it is written."""
    return getattr(thing, "__name__", None) or repr(thing)
