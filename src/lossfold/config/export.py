"""Configurations from losses: what :func:`lossfold.build` makes the same losses of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.loss import _Loss

from lossfold.config.builder import is_set
from lossfold.config.dialects import DIALECTS, INDIRECT
from lossfold.config.files import WORDS, scalar, the_yaml
from lossfold.config.names import Allow, Names
from lossfold.config.place import Place, short
from lossfold.errors import LossError
from lossfold.losses.base import Loss
from lossfold.registry import LOSSES, PARTS, PRESETS
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
    return _config(loss, Names(allow), Place())


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


def _config(thing: Any, names: Names, place: Place) -> dict[str, Any]:
    """Return the configuration of a loss, a term or a schedule."""
    cls = type(thing)
    if hasattr(thing, "made_by"):
        preset = _of_preset(thing, names, place)
        if preset is not None:
            return preset
    name = names.name_of(cls)
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
        options = dict(options)
        spoken = any(key in options for key in DIALECTS)
    elif is_set(cls) and not dataclasses.is_dataclass(cls):
        options, spoken = _of_set(thing, place), False
    else:
        options, spoken = _of_object(thing, place), False
    plain = {key: _plain(value, names, place.at(str(key))) for key, value in options.items()}
    for key, loss in zip(thing.names, thing.members, strict=True) if cls is LOSSES["LossSet"] else ():
        term = plain.get("terms", plain)[key]
        loss, term = (loss.loss, term["loss"]) if isinstance(loss, PARTS["Term"]) else (loss, term)  # type: ignore[arg-type]
        if isinstance(loss, Loss):
            term.pop("loss_name", None)  # the key names it
    return plain if spoken else {"type": name, **plain}


def _of_preset(thing: Any, names: Names, place: Place) -> dict[str, Any] | None:
    """Return how a preset was made, None if it has been changed since."""
    name, options = thing.made_by
    again = PRESETS[name](**options)
    again.loss_weight = thing.loss_weight
    if repr(again) != repr(thing):
        return None
    weight = {"loss_weight": thing.loss_weight} if thing.loss_weight != 1 else {}
    return {"type": name, **{key: _plain(value, names, place.at(key)) for key, value in options.items()}, **weight}


def _of_set(thing: Any, place: Place) -> dict[str, Any]:
    cls: type = type(thing)
    if cls is not LOSSES["LossSet"]:
        raise place.error(WHO, "a LossSet, or a set with a to_config() of its own", cls.__name__)
    losses: dict[str, Any] = dict(zip(thing.names, thing.members, strict=True))
    weight = {"loss_weight": thing.loss_weight} if thing.loss_weight != 1 else {}
    taken = {"terms", "loss_name", *DIALECTS, *options_of(type(thing)), *options_of(PARTS["Term"])}
    return {**({"terms": losses} if taken & losses.keys() else losses), **weight}


def _of_object(thing: Any, place: Place) -> dict[str, Any]:
    """Return the options that are not at their defaults."""
    cls, found = type(thing), {}
    for name, option in options_of(cls).items():
        if isinstance(thing, _Loss) and name in FOLDED_AWAY:
            continue
        if not hasattr(thing, name):
            hint = f"give {cls.__name__} a method to_config() that returns its options"
            raise place.error(WHO, f"of a class with an attribute {name!r} for its option", cls.__name__, hint)
        value = getattr(thing, name)
        if option.default is option.empty or not is_same(value, option.default):
            found[name] = value
    if is_open(cls):
        raise place.error(WHO, "of a class whose options have names", cls.__name__, "give it a method to_config()")
    return found


def _plain(value: Any, names: Names, place: Place) -> Any:
    if isinstance(value, str) and value[:1] in INDIRECT:
        raise place.error(WHO, "a text that build takes as one", short(value), f"it would be {INDIRECT[value[0]]}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), None)
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else _plain(key, names, place): _plain(one, names, place.at(str(key)))
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(one, names, place.at(index)) for index, one in enumerate(value)]
    named = names.name_of(type(value)) is not None
    if place.path[-1:] == ("network",) and not named:
        hint = "a network has no place in a config: give pretrained=, or build this loss in code"
        raise place.error(WHO, "a plain value", type(value).__name__, hint)
    if isinstance(value, nn.Module) or named or hasattr(value, "to_config"):
        return _config(value, names, place)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise place.error(WHO, "a plain value", short(value), _instead(value, place))


def _instead(value: object, place: Place) -> str:
    """Return what to write for what a config does not hold."""
    if place.path[-1:] == ("when",):
        return "a function has no place in a config: name a boolean tensor [B], which the set's call is given"
    if hasattr(value, "__name__"):
        return "a function has no place in a config: write a class with a method __call__, and allow=[TheClass]"
    return f"allow=[{type(value).__name__}] lets a config name its class" if callable(value) else ""
