"""What a set's call hands to its terms: whose arguments are which."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lossfold.compose.passes import Leaf, singles
from lossfold.errors import LossError, wrong
from lossfold.losses.base import Loss
from lossfold.routing import arguments_of, check_arguments, is_one_dict, one_dict

Handed = tuple[tuple[Any, ...], dict[str, Any]]  # arguments by position and by name
ONE_DICT = "where terms take different arguments, call the set with one dict: each takes what it names"


def check_call(module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Refuse arguments that a module of somebody else's does not take."""
    try:
        inspect.signature(module.forward).bind(*given, **named)
    except TypeError as error:
        hint = "one dict is for losses of lossfold, and modules that take it as a whole" if is_one_dict(given, named) else ONE_DICT
        came = f"{len(given)} by position" + "".join(f", {name}=" for name in named)
        raise wrong("arguments", f"those of its forward ({error})", came, hint) from error


def conditions_of(leaves: Sequence[Leaf]) -> set[str]:
    """Return the keywords that conditions are named after, none of which is an argument of a loss."""
    leaves = singles(leaves)
    conditions = {leaf.condition.when: leaf for leaf in leaves if leaf.condition and isinstance(leaf.condition.when, str)}
    for leaf in leaves if conditions else ():
        for name in conditions.keys() & getattr(leaf.loss, "arguments", {}).keys():
            raise LossError(conditions[name].who, "when", f"another name: {leaf.name!r} has an argument of that name", repr(name))
    return set(conditions)


def takes_target(loss: nn.Module) -> bool:
    """Whether a loss is called with a target."""
    return bool(getattr(loss, "has_target", True))


def names_of(leaves: Sequence[Leaf]) -> tuple[str, ...] | None:
    """Return what the first term that has a target calls its arguments; None if all have one, or none has."""
    losses = [leaf.loss for leaf in singles(leaves)]
    with_target = [loss for loss in losses if takes_target(loss)]
    if not with_target or len(with_target) == len(losses):
        return None
    first = with_target[0]
    return tuple(first.arguments if isinstance(first, Loss) else arguments_of(type(first).forward))


def arguments_for(leaf: Leaf, handed: Handed, names: tuple[str, ...] | None) -> Handed | None:
    """Return what a single loss is called with; None where it is not due.

    Args:
        leaf: the loss.
        handed: what its set is given.
        names: what the first term that has a target calls its arguments; see :func:`names_of`.
    """
    given, named = handed
    loss = leaf.loss
    if not isinstance(loss, Loss):
        if not torch.compiler.is_compiling():
            check_call(loss, given, named)
        return given, named
    if loss.inputs is not None or is_one_dict(given, named):
        if not loss.due(one_dict(given, named)):
            return None
        if leaf.own is None:  # its own call finds them
            return given, named
        given, named = (), loss.routed(given, named)
    elif names is not None:
        given, named = loss.taken(given, named, names)
    if not loss.open_call:
        check_arguments(loss.arguments, given, named, ONE_DICT)
    return given, named


def arguments_for_set(leaf: Leaf, handed: Handed, names: tuple[str, ...] | None, keywords: Mapping[str, Any]) -> Handed:
    """Return what a set that is called as it is gets, which hands it on itself.

    Args:
        leaf, handed, names: as for :func:`arguments_for`.
        keywords: what the set around it is called with by name, among it what this one's conditions are named after.
    """
    inner = singles(leaf.within)
    if any(term.every > 1 for term in leaf.terms) and any(term.every > 1 for one in inner for term in one.terms):
        expected = "left out around a set that is called as it is and has intervals itself"
        raise wrong("every", expected, "a hook, or a call of its own")
    (given, named), first = handed, inner[0].loss
    if names is not None and isinstance(first, Loss) and not any(takes_target(one.loss) for one in inner):
        given, named = first.taken(given, named, names)
    return given, {**named, **{name: keywords[name] for name in conditions_of(inner) & keywords.keys()}}
