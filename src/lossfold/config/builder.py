"""From a configuration to the objects it names."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lossfold.config.describe import annotations_of
from lossfold.config.dialects import WHO, Node, check_direct, is_node, read
from lossfold.config.hints import unfit_text, unknown_option
from lossfold.config.names import Maker, Names
from lossfold.config.place import Place, short
from lossfold.errors import LossError, is_number, nearest_name
from lossfold.losses.base import Loss
from lossfold.registry import LOSSES, PARTS, PRESETS, snake_case
from lossfold.signatures import is_open, options_of

A_SCHEDULE = "a schedule, as {'type': 'linear', 'start': 0.0, 'end': 1.0, 'steps': 1000}"
MOST_DEPTH = 32
MOST_VALUES = 100_000
MOST_LOSSES = 1_000


def is_list(value: object) -> bool:
    """Whether a value is a list, OmegaConf's included."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def is_set(maker: Maker) -> bool:
    """Whether a class takes losses by names of the user's choice."""
    return isinstance(maker, type) and issubclass(maker, LOSSES["LossSet"]) and is_open(maker)


def term_options(maker: Maker) -> list[str]:
    """Return the options that a set has for each of its terms, and that a loss has not for itself."""
    term = PARTS.get("Term")
    if term is None or maker in PARTS.values():
        return []
    own = options_of(maker)
    return [name for name in options_of(term) if name != "loss" and name not in own]


class Builder:
    """One call of :func:`build`: the names that it knows, and how much it has built."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.values = self.losses = 0
        self.around: list[int] = []  # what the value at hand stands in

    def loss(self, cfg: object, place: Place, term: str | None = None) -> nn.Module:
        """Return the loss of a configuration; ``term`` is its name in a dict of terms, "" in a list, None outside of sets."""
        self._enter(cfg, place)
        if isinstance(cfg, Mapping) and all(isinstance(key, str) for key in cfg):
            built = self._from_dict(cfg, place, term)
        elif is_list(cfg):
            built = self._set(LOSSES["LossSet"], self._terms(cfg, place), {}, Node("LossSet", place, place, {}))
        elif isinstance(cfg, nn.Module):
            built = cfg
        else:
            raise self._no_loss(cfg, place)
        self.around.pop()
        return built

    def _no_loss(self, cfg: object, place: Place, hint: str = "") -> LossError:
        if isinstance(cfg, str) and cfg in self.names.table:
            hint = f"{{'type': {cfg!r}}}"
        return place.error(WHO, "a dict with the name of a loss under 'type'", f"{type(cfg).__name__} {short(cfg)}", hint)

    def _from_dict(self, cfg: Mapping[str, Any], place: Place, term: str | None) -> nn.Module:
        if is_node(cfg):
            built = self._made(read(cfg, place), term)
            if not isinstance(built, nn.Module):
                raise place.error(WHO, "a loss (an nn.Module)", short(built))
            return built
        if cfg and all(isinstance(value, (Mapping, nn.Module)) or is_list(value) for value in cfg.values()):
            return self._set(LOSSES["LossSet"], self._terms(cfg, place), {}, Node("LossSet", place, place, {}))
        raise place.at("type").error(WHO, "the name of a loss", "none", f"there are {short([*cfg])}" if cfg else "")

    def _enter(self, cfg: object, place: Place) -> None:
        """Refuse what is too much, too deep, or part of itself."""
        self.values += 1
        self.losses += is_node(cfg)
        if self.values > MOST_VALUES or self.losses > MOST_LOSSES:
            raise place.error(WHO, f"the last of at most {MOST_LOSSES} losses and {MOST_VALUES} values", "more")
        if isinstance(cfg, (Mapping, list)) and id(cfg) in self.around:
            raise place.error(WHO, "no part of itself", type(cfg).__name__)
        if len(self.around) >= MOST_DEPTH:
            raise place.error(WHO, f"nested at most {MOST_DEPTH} deep", "deeper")
        self.around.append(id(cfg))

    def _terms(self, cfg: Any, place: Place) -> dict[str, nn.Module]:
        """Return the losses of a dict by name, or of a list."""
        if isinstance(cfg, Mapping) and all(isinstance(name, str) for name in cfg):
            return {name: self.loss(value, place.at(name), name) for name, value in cfg.items()}
        if not is_list(cfg):
            raise place.error(WHO, "a dict of losses by name, or a list of losses", f"{type(cfg).__name__} {short(cfg)}")
        losses = [self.loss(value, place.at(index), "") for index, value in enumerate(cfg)]
        wanted = [self._name(value, loss, place.at(index)) for index, (value, loss) in enumerate(zip(cfg, losses, strict=True))]
        return dict(zip(numbered(wanted), losses, strict=True))

    @staticmethod
    def _name(cfg: object, loss: nn.Module, place: Place) -> str:
        """Return the name of a term in a list."""
        name, at = read(cfg, place).options.get("loss_name", (None, place)) if is_node(cfg) else (None, place)  # type: ignore[arg-type]
        if name is None:
            return snake_case(type(getattr(loss, "loss", loss)).__name__)
        if not isinstance(name, str) or not name or "." in name:
            raise at.error(WHO, "a name without dots", short(name))
        return name

    def value(self, value: Any, place: Place) -> Any:
        """Return the value of an option, with what it names built."""
        self._enter(value, place)
        if is_node(value):
            value = self._made(read(value, place), None)
        elif isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, (str, int, float, type(None))) or (isinstance(key, int) and key.bit_length() > 1024):
                    raise place.error(WHO, "a dict whose keys are texts or numbers", short(key))
            value = {key: self.value(one, place.at(str(key))) for key, one in value.items()}
        elif is_list(value):
            items = [self.value(one, place.at(index)) for index, one in enumerate(value)]
            value = tuple(items) if isinstance(value, tuple) else items
        elif isinstance(value, str):
            check_direct(value, place)
        elif isinstance(value, int) and value.bit_length() > 1024:
            raise place.error(WHO, "a number that a float can hold", short(value))
        self.around.pop()
        return value

    def _made(self, node: Node, term: str | None) -> Any:
        maker = self.names.find(node.name, node.named_at)
        who, valid = getattr(maker, "__name__", short(maker)), options_of(maker)
        if "loss_name" in node.options and term is not None:
            self._check_name(who, maker, node, term)
        beside = {name: node.options.pop(name) for name in term_options(maker) if name in node.options and term is not None}
        if is_set(maker):
            built = self._set(maker, *self._split(maker, node, term is not None), node)
        else:
            weight = node.options.pop("loss_weight", None) if maker in PRESETS.values() and "loss_weight" not in valid else None
            self._check(who, maker, node, term is not None)
            built = called(maker, node, (), self._options(maker, node.options))
            if weight is not None:
                built = scaled(built, who, *weight)
        if beside:
            of_term = Node("Term", node.place, node.named_at, beside)
            built = called(PARTS["Term"], of_term, (built,), self._options(PARTS["Term"], beside))
        elif term is None and maker is PARTS.get("Term"):
            raise node.place.error(WHO, "a loss, or a set with this term in it", "a term", "{'name': {...}} or [{...}]")
        return built

    @staticmethod
    def _check_name(who: str, maker: Maker, node: Node, term: str) -> None:
        """Refuse a ``loss_name`` beside another key; classes of somebody else's may mean something else by it."""
        name, place = node.options["loss_name"]
        own = "loss_name" in options_of(maker)
        if own and not (isinstance(maker, type) and issubclass(maker, Loss)):
            return
        if term and name is not None and not (isinstance(name, str) and name == term):
            raise place.error(who, f"{term!r} or left out: the key names the term", short(name))
        del node.options["loss_name"]

    def _options(self, maker: Maker, given: Mapping[str, tuple[Any, Place]]) -> dict[str, Any]:
        """Return the values of options, with what they name built."""
        found: dict[str, Any] = {}
        for name, (value, place) in given.items():
            if maker is PARTS.get("Term") and name == "schedule":
                self._check_schedule(value, place)
            found[name] = self.value(value, place)
            if isinstance(found[name], dict) and has_integer_keys(maker, name):
                found[name] = with_integer_keys(found[name], place, getattr(maker, "__name__", short(maker)))
        return found

    def _check_schedule(self, value: object, place: Place) -> None:
        """Refuse what is no schedule, a loss above all, which could be called as one."""
        if is_node(value):
            node = read(value, place)  # type: ignore[arg-type]
            self.names.find(node.name, node.named_at, self.names.schedules(), "the name of a schedule")
        elif isinstance(value, (str, Mapping, nn.Module)):
            raise place.error("Term", A_SCHEDULE, f"{type(value).__name__} {short(value)}")

    def _split(self, maker: Maker, node: Node, in_set: bool) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        """Return the terms and the settings of a set."""
        valid, of_terms = options_of(maker).keys() - {"terms"}, term_options(maker)
        settings = {name: self.value(*given) for name, given in node.options.items() if name in valid}
        losses = self._terms(*node.options["terms"]) if "terms" in node.options else {}
        for name, (value, place) in node.options.items():
            if name in valid or name == "terms":
                continue
            if name in losses:
                raise place.error(WHO, "given once", "the name of two terms")
            if not isinstance(value, (Mapping, nn.Module)) and not is_list(value):
                near = nearest_name(name, [*valid, *(of_terms if in_set else ()), "terms"])
                hint = f"did you mean {near!r}?" if near is not None else ""
                raise self._no_loss(value, place, unknown_option(name, (), of_terms, False) if name in of_terms else hint)
            losses[name] = self.loss(value, place, name)
        return losses, settings

    @staticmethod
    def _set(maker: Maker, losses: dict[str, nn.Module], settings: dict[str, Any], node: Node) -> nn.Module:
        built: nn.Module = called(maker, node, (losses,), settings)
        return built

    @staticmethod
    def _check(who: str, maker: Maker, node: Node, in_set: bool) -> None:
        """Refuse options that a class does not have, and ask for those that it needs."""
        valid, of_terms = options_of(maker), term_options(maker)
        for name, (value, place) in node.options.items():
            if name not in valid and (not is_open(maker) or (name in of_terms and maker in PRESETS.values())):
                hint = unknown_option(name, valid, of_terms, in_set)
                raise place.error(who, "an option of this loss", short(value), hint)
        for name, parameter in valid.items():
            if parameter.default is parameter.empty and name not in node.options:
                raise node.place.at(name).error(who, "given", "nothing")


def called(maker: Maker, node: Node, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call a class; errors about its options say where these stand."""
    who = getattr(maker, "__name__", short(maker))
    try:
        return maker(*given, **options)
    except LossError as error:
        argument = error.argument.removeprefix("cfg.")
        value, place = node.options.get(argument, (None, node.place.at(argument)))
        hint = "; ".join(filter(None, [error.hint, unfit_text(value, error.expected)]))
        raise place.error(error.loss, error.expected, error.got, hint) from error.__cause__
    except Exception as error:
        modules = [name for name, value in options.items() if isinstance(value, nn.Module)]
        if maker in LOSSES.values() and maker.__module__.startswith("lossfold.") and not modules:
            raise  # of ours: a defect
        wrong = f"not {', '.join(modules)}=a loss" if modules else f"not {short(options)}"
        raise node.place.error(who, f"options that it takes, {wrong}", f"{type(error).__name__}: {error}"[:200]) from error


def scaled(loss: Any, who: str, weight: object, place: Place) -> Any:
    """Return a preset's set with a weight of its own."""
    if not is_number(weight):
        raise place.error(who, "a number", short(weight))
    return weight * loss


def has_integer_keys(maker: Maker, name: str) -> bool:
    """Whether an option of a schedule is a dict from steps."""
    if maker not in PARTS.values():
        return False
    kind = annotations_of(maker).get(name)
    return typing.get_origin(kind) in (dict, Mapping) and typing.get_args(kind)[0] is int


def with_integer_keys(given: Mapping[Any, Any], place: Place, who: str) -> dict[Any, Any]:
    """Return a dict whose keys are integers, which are texts in JSON."""
    found: dict[Any, Any] = {}
    for key, value in given.items():
        text = isinstance(key, str) and re.fullmatch("[0-9]{1,18}", key) is not None
        if not text and (not isinstance(key, int) or isinstance(key, bool) or key < 0):
            raise place.at(key).error(who, "under a key that is an integer >= 0", f"the key {short(key)}")
        if int(key) in found:
            raise place.at(key).error(who, "under a key that comes once", f"the key {int(key)} twice")
        found[int(key)] = value
    return found


def numbered(names: Sequence[str]) -> list[str]:
    """Return names that differ: those that come twice get numbers, ``dice_loss_1`` and ``dice_loss_2``."""
    found: list[str] = []
    for index, name in enumerate(names):
        number, one = names[: index + 1].count(name), name
        if names.count(name) > 1:
            one = f"{name}_{number}"
            while one in names or one in found:
                number += 1
                one = f"{name}_{number}"
        found.append(one)
    return found
