"""What a set says of its passes before it is called: arguments of the same names are taken to be the same tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lossfold.compose.passes import Leaf
from lossfold.folds.fold import Needs
from lossfold.losses.folded import Folded


def plan_of(leaves: Iterable[Leaf]) -> str:
    """Say which terms share which pass, and which have none."""
    passes: list[tuple[Needs[Any], dict[str, str], list[Leaf]]] = []
    alone: list[Leaf] = []
    for leaf in leaves:
        if leaf.folded is None:
            alone.append(leaf)
            continue
        needs, source = leaf.needs(), source_of(leaf, leaf.folded)
        for index, (others, there, served) in enumerate(passes):
            if others.agree(needs) and in_one_pass(there, source):
                passes[index] = others.merge(needs), {**source, **there}, [*served, leaf]
                break
        else:
            passes.append((needs, source, [leaf]))
    return "\n".join([line(*one) for one in passes] + [f"on its own: {text(leaf)}" for leaf in alone])


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
