"""Configurations from losses: what :func:`lossfold.build` makes the same losses of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

from torch import nn
from torch.nn.modules.loss import _Loss

from lossfold.compose.loss_set import LossSet
from lossfold.compose.term import Term
from lossfold.config.builder import is_set
from lossfold.config.files import WORDS, scalar, the_yaml
from lossfold.config.names import Allow, Names
from lossfold.config.place import Place, short
from lossfold.config.tree import DIALECTS, INDIRECT, Node, Row, Table, Tree
from lossfold.errors import LossError
from lossfold.losses.base import Loss
from lossfold.losses.configured import Configured
from lossfold.registry import PRESETS
from lossfold.signatures import is_open, is_same, options_of

WHO = "lossfold.to_config"
FOLDED_AWAY = ("size_average", "reduce")  # of torch's losses, whose reduction says it


def to_config(loss: nn.Module, *, allow: Allow | None = None) -> dict[str, Any]:
    """Return the configuration of a loss: plain values, from which :func:`build` makes the same loss.

    Options at their defaults are left out. A class of somebody else's is asked for its ``to_config()``, if it has one, or for the
    attributes named as its options.

    Args:
        loss: a loss or a set.
        allow: as for :func:`build`; the classes that are not lossfold's.

    Raises:
        LossError: for a class without a name, and for options that are no plain values, such as functions.

    Example:
        >>> to_config(LossSet(l1=L1Loss(sample_wise=True), ssim=0.5 * SSIMLoss()))
        {'type': 'LossSet', 'l1': {'type': 'L1Loss', 'sample_wise': True}, 'ssim': {'type': 'SSIMLoss', 'loss_weight': 0.5}}
    """
    if not isinstance(loss, nn.Module):
        raise LossError(WHO, "loss", "a loss (an nn.Module)", short(loss))
    return cast(dict[str, Any], tree_of(loss, Names(allow), Place()).plain)


def to_yaml(loss: nn.Module, *, allow: Allow | None = None) -> str:
    """Return the configuration of a loss as YAML, for a file that :func:`build` reads.

    Args:
        loss: a loss or a set.
        allow: as for :func:`to_config`.

    Raises:
        LossError: as for :func:`to_config`; PyYAML is not installed.

    Example:
        >>> print(to_yaml(LossSet(l1=L1Loss(), charbonnier=CharbonnierLoss(eps=1e-6))))
        type: LossSet
        l1:
          type: L1Loss
        charbonnier:
          type: CharbonnierLoss
          eps: 1.0e-06
        <BLANKLINE>
    """
    config, yaml = to_config(loss, allow=allow), the_yaml()
    text: str = yaml.dump(config, Dumper=_dumper(yaml), sort_keys=False, allow_unicode=True)
    return text


@functools.cache
def _dumper(yaml: Any) -> Any:
    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        other = value in WORDS or not isinstance(scalar(value), str) or value == "<<"  # a word that build would not take as a text
        style = ("'" if other else None) if value.isprintable() else '"'  # in which line breaks, U+0085 among them, are escaped
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def tree_of(value: Any, names: Names, place: Place) -> Tree:
    """Return the tree of a value: of a loss, or of what stands in its options."""
    if isinstance(value, str) and value[:1] in INDIRECT:
        raise place.error(WHO, "a text that build takes as one", short(value), f"it would be {INDIRECT[value[0]]}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return Tree(place, next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), None))
    if isinstance(value, Mapping):
        keys = {key: key if isinstance(key, str) else tree_of(key, names, place).value for key in value}
        return Table(place, value, {keys[key]: tree_of(one, names, place.at(str(key))) for key, one in value.items()})
    if isinstance(value, (list, tuple)):
        return Row(place, value, [tree_of(one, names, place.at(index)) for index, one in enumerate(value)])
    known = names.name_of(type(value)) is not None
    if place.path[-1:] == ("network",) and not known:
        hint = "a network has no place in a config: give pretrained=, or build this loss in code"
        raise place.error(WHO, "a plain value", type(value).__name__, hint)
    if isinstance(value, nn.Module) or known or hasattr(value, "to_config"):
        return _node(value, names, place)
    if hasattr(value, "tolist"):
        return Tree(place, value.tolist())
    raise place.error(WHO, "a plain value", short(value), _instead(value, place))


def _node(thing: Any, names: Names, place: Place) -> Tree:
    """Return the tree of a loss, a term or a schedule."""
    name, options = _of_preset(thing) or (names.name_of(type(thing)), None)
    if options is None:
        options = _options(thing, name, place)
        if any(key in options for key in DIALECTS):
            return tree_of(options, names, place)  # a class that says its name itself
    node = Node(place, thing, name, place, {key: tree_of(one, names, place.at(str(key))) for key, one in options.items()})
    if type(thing) is LossSet:
        terms = node.options.get("terms", node)
        for tree in (terms.parts if isinstance(terms, Table) else node.options).values():
            inner = tree.options["loss"] if isinstance(tree, Node) and isinstance(tree.value, Term) else tree
            if isinstance(inner, Node) and isinstance(inner.value, Loss):
                inner.options.pop("loss_name", None)  # the key names it
    return node


def _options(thing: Any, name: str | None, place: Place) -> dict[str, Any]:
    """Return what a loss, a term or a schedule is made of."""
    cls = type(thing)
    if name is None:
        hint = f"to_config(..., allow=[{cls.__name__}]), or LOSSES.register_module()"
        raise place.error(WHO, "of a class that a config can name", f"{cls.__module__}.{cls.__qualname__}", hint)
    if getattr(thing, "without_channels", False):
        hint = "put what lossfold.presets.mask_losses returned into a set as a whole, and change its options in its call"
        raise place.error(WHO, "a loss with its own options only", f"a part of a preset: {short(thing)}", hint)
    if callable(getattr(thing, "to_config", None)):
        options = thing.to_config()
        if not isinstance(options, Mapping):
            raise place.error(WHO, f"a dict from {cls.__name__}.to_config()", short(options))
        return dict(options)
    if is_set(cls) and not isinstance(thing, Configured):
        return _of_set(thing, place)
    return _of_object(thing, place)


def _of_preset(thing: Any) -> tuple[str, dict[str, Any]] | None:
    """Return how a preset was made, None if it has been changed since, and for all others."""
    if not hasattr(thing, "made_by"):
        return None
    name, options = thing.made_by
    again: Any = PRESETS[name](**options)
    again.loss_weight = thing.loss_weight
    weight = {"loss_weight": thing.loss_weight} if thing.loss_weight != 1 else {}
    return (name, {**options, **weight}) if repr(again) == repr(thing) else None


def _of_set(thing: Any, place: Place) -> dict[str, Any]:
    cls: type = type(thing)
    if cls is not LossSet:
        raise place.error(WHO, "a LossSet, or a set with a to_config() of its own", cls.__name__)
    losses: dict[str, Any] = dict(zip(thing.names, thing.members, strict=True))
    weight: dict[str, Any] = {"loss_weight": thing.loss_weight} if thing.loss_weight != 1 else {}
    if thing.ranks is not None:
        if thing.ranks.group is not None:
            raise place.error(WHO, "a set without a process group of its own, which no config can name", "process_group=")
        weight |= {"sync": True} | ({"gradients": thing.ranks.gradients} if thing.ranks.gradients != "mean" else {})
    taken = {"terms", "loss_name", *DIALECTS, *options_of(cls), *options_of(Term)}
    return {**({"terms": losses} if taken & losses.keys() else losses), **weight}


def _of_object(thing: Any, place: Place) -> dict[str, Any]:
    """Return the options that are not at their defaults."""
    cls, found = type(thing), {}
    hint = f"give {cls.__name__} a method to_config() that returns its options"
    for name, option in options_of(cls).items():
        if isinstance(thing, _Loss) and name in FOLDED_AWAY:
            continue
        if not hasattr(thing, name):
            raise place.error(WHO, f"of a class with an attribute {name!r} for its option", cls.__name__, hint)
        value = getattr(thing, name)
        if option.default is option.empty or not is_same(value, option.default):
            found[name] = value
    if is_open(cls):
        raise place.error(WHO, "of a class whose options have names", cls.__name__, "give it a method to_config()")
    if isinstance(thing, Configured) and cls.__init__ is cls.written:
        again: Any = cls(**found)
        for field in dataclasses.fields(thing):
            value = getattr(thing, field.name)
            if is_same(value, getattr(again, field.name)):
                continue
            if field.name in options_of(cls) or field.name != "loss_weight" or again.loss_weight != 1:
                made = f"{field.name}={getattr(again, field.name)!r}"
                raise place.error(WHO, f"as its constructor makes it, {made}", f"{field.name}={value!r}"[:80], hint)
            found["loss_weight"] = value  # with which build multiplies what the constructor makes
    return found


def _instead(value: object, place: Place) -> str:
    """Return what to write for what a config does not hold."""
    if place.path[-1:] == ("when",):
        return "a function has no place in a config: name a boolean tensor [B], which the set's call is given"
    if hasattr(value, "__name__"):
        return "a function has no place in a config: write a class with a method __call__, and allow=[TheClass]"
    return f"allow=[{type(value).__name__}] lets a config name its class" if callable(value) else ""
