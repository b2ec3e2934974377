"""From the tree of a configuration to the objects it names: one walk."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lossfold.compose.loss_set import LossSet
from lossfold.compose.term import Term
from lossfold.config.describe import annotations_of
from lossfold.config.hints import unfit_text, unknown_option
from lossfold.config.names import Maker, Names
from lossfold.config.place import Place, short
from lossfold.config.tree import INDIRECT, WHO, Node, Row, Table, Tree, may_be_loss
from lossfold.errors import LossError, is_number, nearest_name, python_scalar
from lossfold.losses.base import Loss, Summable
from lossfold.registry import LOSSES, PARTS, PRESETS, snake_case
from lossfold.signatures import is_open, options_of

A_SCHEDULE = "a schedule, as {'type': 'linear', 'start': 0.0, 'end': 1.0, 'steps': 1000}"


def is_set(maker: Maker) -> bool:
    """Whether a class takes losses by names of the user's choice."""
    return isinstance(maker, type) and issubclass(maker, LossSet) and is_open(maker)


def is_weighed(maker: Maker) -> bool:
    """Whether what a class or a function makes has a weight that it can't be told: ``loss_weight`` then multiplies it."""
    ours = maker in PRESETS.values() or (isinstance(maker, type) and issubclass(maker, Summable))
    return ours and maker not in PARTS.values() and "loss_weight" not in options_of(maker)


def term_options(maker: Maker) -> list[str]:
    """Return the options that a set has for each of its terms, and that a loss has not for itself."""
    if maker in PARTS.values():
        return []
    own = options_of(maker)
    return [name for name in options_of(Term) if name != "loss" and name not in own]


def named(maker: Maker) -> str:
    """Return what errors call a class."""
    return getattr(maker, "__name__", short(maker))


class Builder:
    """What makes losses of trees, with the names of one call of :func:`build`."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def loss(self, tree: Tree, term: str | None = None) -> nn.Module:
        """Return the loss of a configuration; ``term`` is its name in a dict of terms, "" in a list, None outside of sets."""
        if isinstance(tree, Node):
            built = self.made(tree, term)
            if not isinstance(built, nn.Module):
                raise tree.place.error(WHO, "a loss (an nn.Module)", short(built))
            return built
        if isinstance(tree, Row) or (isinstance(tree, Table) and tree.parts and all(map(may_be_loss, tree.value.values()))):
            return called(LossSet, tree, {}, self.terms(tree))  # type: ignore[no-any-return]
        if isinstance(tree, Table) and all(isinstance(key, str) for key in tree.parts):
            hint = f"there are {short([*tree.parts])}" if tree.parts else ""
            if any(str(name).startswith(("r1_", "g_reg_", "pl_")) or name == "loss_config" for name in tree.parts):
                hint = "StyleGAN2's objectives are the presets stylegan2_discriminator and stylegan2_generator: {'type': ...}"
            raise tree.place.at("type").error(WHO, "the name of a loss", "none", hint)
        if isinstance(tree.value, nn.Module):
            return tree.value
        raise self.no_loss(tree)

    def no_loss(self, tree: Tree, hint: str = "") -> LossError:
        """Return the error about what is no loss."""
        if isinstance(tree.value, str) and tree.value in self.names.table:
            hint = f"{{'type': {tree.value!r}}}"
        came = f"{type(tree.value).__name__} {short(tree.value)}"
        return tree.place.error(WHO, "a dict with the name of a loss under 'type'", came, hint)

    def terms(self, tree: Tree) -> dict[str, nn.Module]:
        """Return the losses of a dict by name, or of a list."""
        if isinstance(tree, Table) and all(isinstance(name, str) for name in tree.parts):
            return {name: self.loss(part, name) for name, part in tree.parts.items()}
        if isinstance(tree, Node):
            raise self.no_loss(Tree(tree.named_at, tree.name))
        if not isinstance(tree, Row):
            came = f"{type(tree.value).__name__} {short(tree.value)}"
            raise tree.place.error(WHO, "a dict of losses by name, or a list of losses", came)
        losses = [self.loss(part, "") for part in tree.parts]
        names = [name_of(part, loss) for part, loss in zip(tree.parts, losses, strict=True)]
        return dict(zip(numbered(names), losses, strict=True))

    def value(self, tree: Tree) -> Any:
        """Return the value of an option, with what it names built."""
        if isinstance(tree, Node):
            return self.made(tree, None)
        if isinstance(tree, Table):
            for key in tree.parts:
                if not isinstance(key, (str, int, float, type(None))) or (isinstance(key, int) and key.bit_length() > 1024):
                    raise tree.place.error(WHO, "a dict whose keys are texts or numbers", short(key))
            return {key: self.value(part) for key, part in tree.parts.items()}
        if isinstance(tree, Row):
            items = [self.value(part) for part in tree.parts]
            return tuple(items) if isinstance(tree.value, tuple) else items
        value = tree.value
        if isinstance(value, str) and value[:1] in INDIRECT:
            hint = "OmegaConf.to_container(cfg, resolve=True) resolves ${...}" if value.startswith("${") else "write the value"
            raise tree.place.error(WHO, "a plain value", f"{INDIRECT[value[0]]}: {short(value)}", hint)
        if isinstance(value, int) and value.bit_length() > 1024:
            raise tree.place.error(WHO, "a number that a float can hold", short(value))
        return value

    def made(self, node: Node, term: str | None) -> Any:
        """Return what a node stands for, with the options that a set has for it around it."""
        maker = self.names.find(node.name, node.named_at)
        options = dict(node.options)
        if "loss_name" in options and term is not None:
            check_name(maker, options, term)
        beside = {name: options.pop(name) for name in term_options(maker) if name in options and term is not None}
        if is_set(maker):
            losses, settings = self.split(maker, options, term is not None)
            built = called(maker, node, self.options(maker, settings), losses)
        else:
            weight = options.pop("loss_weight", None) if is_weighed(maker) else None
            check_options(maker, node, options, term is not None)
            built = called(maker, node, self.options(maker, options))
            built = built if weight is None else scaled(built, maker, weight)
        if beside:
            return called(Term, node, self.options(Term, beside), built)
        if term is None and maker is PARTS.get("Term"):
            raise node.place.error(WHO, "a loss, or a set with this term in it", "a term", "{'name': {...}} or [{...}]")
        return built

    def options(self, maker: Maker, given: Mapping[str, Tree]) -> dict[str, Any]:
        """Return the values of options, with what they name built."""
        found: dict[str, Any] = {}
        for name, tree in given.items():
            if maker is PARTS.get("Term") and name == "schedule":
                self.check_schedule(tree)
            found[name] = self.value(tree)
            if isinstance(found[name], dict) and has_integer_keys(maker, name):
                found[name] = with_integer_keys(found[name], tree.place, named(maker))
        return found

    def check_schedule(self, tree: Tree) -> None:
        """Refuse what is no schedule, a loss above all, which could be called as one."""
        if isinstance(tree, Node):
            self.names.find(tree.name, tree.named_at, self.names.schedules(), "the name of a schedule")
        elif isinstance(tree.value, (str, Mapping, nn.Module)):
            raise tree.place.error("Term", A_SCHEDULE, f"{type(tree.value).__name__} {short(tree.value)}")

    def split(self, maker: Maker, given: Mapping[str, Tree], in_set: bool) -> tuple[dict[str, nn.Module], dict[str, Tree]]:
        """Return the terms and the settings of a set."""
        valid, of_terms = options_of(maker).keys() - {"terms"}, term_options(maker)
        losses = self.terms(given["terms"]) if "terms" in given else {}
        for name, tree in given.items():
            if name in valid or name == "terms":
                continue
            if name in losses:
                raise tree.place.error(WHO, "given once", "the name of two terms")
            if not may_be_loss(tree.value):
                near = nearest_name(name, [*valid, *(of_terms if in_set else ()), "terms"])
                hint = f"did you mean {near!r}?" if near is not None else ""
                raise self.no_loss(tree, unknown_option(name, (), of_terms, False) if name in of_terms else hint)
            losses[name] = self.loss(tree, name)
        return losses, {name: tree for name, tree in given.items() if name in valid}


def check_name(maker: Maker, options: dict[str, Tree], term: str) -> None:
    """Take away a ``loss_name``, and refuse it beside another key; classes of somebody else's may mean something else by it."""
    if "loss_name" in options_of(maker) and not (isinstance(maker, type) and issubclass(maker, Loss)):
        return
    name = options.pop("loss_name")
    if term and name.value is not None and not (isinstance(name.value, str) and name.value == term):
        raise name.place.error(named(maker), f"{term!r} or left out: the key names the term", short(name.value))


def check_options(maker: Maker, node: Node, options: Mapping[str, Tree], in_set: bool) -> None:
    """Refuse options that a class does not have, and ask for those that it needs."""
    valid, of_terms = options_of(maker), term_options(maker)
    for name, tree in options.items():
        if name not in valid and (not is_open(maker) or (name in of_terms and maker in PRESETS.values())):
            hint = unknown_option(name, valid, of_terms, in_set, tree.value, named(maker))
            raise tree.place.error(named(maker), "an option of this loss", short(tree.value), hint)
    for name, parameter in valid.items():
        if parameter.default is parameter.empty and name not in options:
            raise node.place.at(name).error(named(maker), "given", "nothing")


def called(maker: Maker, tree: Tree, options: dict[str, Any], *given: Any) -> Any:
    """Call a class; errors about its options say where these stand."""
    try:
        return maker(*given, **options)
    except LossError as error:
        argument = error.argument.removeprefix("cfg.")
        option = tree.options.get(argument) if isinstance(tree, Node) else None
        place, value = (tree.place.at(argument), None) if option is None else (option.place, option.value)
        hint = "; ".join(filter(None, [error.hint, unfit_text(value, error.kind)]))
        raise place.error(error.loss, error.expected, error.got, hint) from error.__cause__
    except Exception as error:
        modules = [name for name, value in options.items() if isinstance(value, nn.Module)]
        if maker in LOSSES.values() and maker.__module__.startswith("lossfold.") and not modules:
            raise  # of ours: a defect
        wrong = f"not {', '.join(modules)}=a loss" if modules else f"not {short(options)}"
        came = f"{type(error).__name__}: {error}"[:200]
        raise tree.place.error(named(maker), f"options that it takes, {wrong}", came) from error


def scaled(loss: Any, maker: Maker, weight: Tree) -> Any:
    """Return a loss with a weight that its class could not be told."""
    factor = python_scalar(weight.value)
    if not is_number(factor):
        raise weight.place.error(named(maker), "a number", short(weight.value))
    return factor * loss


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


def name_of(tree: Tree, loss: nn.Module) -> str:
    """Return the name of a term in a list."""
    given = tree.options.get("loss_name") if isinstance(tree, Node) else None
    if given is None or given.value is None:
        return getattr(loss, "loss_name", None) or snake_case(type(getattr(loss, "loss", loss)).__name__)
    if not isinstance(given.value, str) or not given.value or "." in given.value:
        raise given.place.error(WHO, "a name without dots", short(given.value))
    return given.value


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
