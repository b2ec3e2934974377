"""A configuration as it is read: a tree of what stands where, whatever dialect it is written in.

``type`` (MMEngine and MMagic, BasicSR), ``_target_`` (Hydra, MONAI bundles) with the options beside it, and ``class_path`` with
``init_args`` (LightningCLI) are one kind of node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lossfold.config.place import Place, short

WHO = "lossfold.build"
DIALECTS = ("type", "_target_", "class_path")
INDIRECT = {"$": "an expression, which nothing evaluates here", "@": "a reference", "%": "a reference to a file"}
SPECIAL = ("_args_", "_partial_", "_recursive_", "_convert_", "_disabled_", "_requires_", "_desc_", "_mode_")
MOST_DEPTH = 32
MOST_VALUES = 100_000
MOST_LOSSES = 1_000


@dataclass(eq=False, repr=False)
class Tree:
    """What stands at a place; by itself a value, of which nothing is made.

    Attributes:
        place: where.
        value: as it was given.
    """

    place: Place
    value: Any

    @property
    def plain(self) -> Any:
        """What a file would hold."""
        return self.value


@dataclass(eq=False, repr=False)
class Table(Tree):
    """A dict."""

    parts: dict[Any, Tree]

    @property
    def plain(self) -> dict[Any, Any]:
        """What a file would hold."""
        return {key: part.plain for key, part in self.parts.items()}


@dataclass(eq=False, repr=False)
class Row(Tree):
    """A list."""

    parts: list[Tree]

    @property
    def plain(self) -> list[Any]:
        """What a file would hold."""
        return [part.plain for part in self.parts]


@dataclass(eq=False, repr=False)
class Node(Tree):
    """A class by its name, and its options."""

    name: Any
    named_at: Place
    options: dict[str, Tree]

    @property
    def plain(self) -> dict[str, Any]:
        """What a file would hold."""
        return {"type": self.name, **{name: option.plain for name, option in self.options.items()}}


def is_list(value: object) -> bool:
    """Whether a value is a list, OmegaConf's included."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def may_be_loss(value: object) -> bool:
    """Whether a value is of a kind that losses are written in."""
    return isinstance(value, (Mapping, nn.Module)) or is_list(value)


class Reader:
    """From plain data to a tree; counts what it has read."""

    def __init__(self) -> None:
        self.values = self.losses = 0
        self.around: list[int] = []  # what the value at hand stands in

    def read(self, value: Any, place: Place, terms: bool = False) -> Tree:
        """Return the tree of a value.

        Args:
            value: to be read.
            place: where it stands.
            terms: whether it is the dict of a set's terms, each of which may have any name, that of a dialect's key too.

        Raises:
            LossError: for what is too much, too deep or part of itself; for a dict of two dialects, and for what a dialect knows
                and a loss has no use for.
        """
        named = isinstance(value, Mapping) and any(key in value for key in DIALECTS)
        named = named and not (terms and all(map(may_be_loss, value.values())))
        self.values += 1
        self.losses += named
        if self.values > MOST_VALUES or self.losses > MOST_LOSSES:
            raise place.error(WHO, f"the last of at most {MOST_LOSSES} losses and {MOST_VALUES} values", "more")
        if not isinstance(value, Mapping) and not is_list(value):
            return Tree(place, value)
        if id(value) in self.around:
            raise place.error(WHO, "no part of itself", type(value).__name__)
        if len(self.around) >= MOST_DEPTH:
            raise place.error(WHO, f"nested at most {MOST_DEPTH} deep", "deeper")
        self.around.append(id(value))
        tree: Tree
        if named:
            tree = self.node(value, place)
        elif isinstance(value, Mapping):
            tree = Table(place, value, {key: self.read(one, place.at(key)) for key, one in value.items()})
        else:
            tree = Row(place, value, [self.read(one, place.at(index)) for index, one in enumerate(value)])
        self.around.pop()
        return tree

    def node(self, given: Mapping[str, Any], place: Place) -> Node:
        """Return what a dict says that names a class, in whichever dialect."""
        spoken = [key for key in DIALECTS if key in given]
        if len(spoken) != 1:
            raise place.error(WHO, f"a dict with one of {', '.join(DIALECTS)}", " and ".join(spoken))
        (key,) = spoken
        options: dict[str, Tree] = {}
        if key != "class_path":
            special = SPECIAL if key == "_target_" else ()
            for name in given.keys() & {*special}:
                check_special(name, given[name], place.at(name))
            self.options({name: value for name, value in given.items() if name != key and name not in special}, place, options)
        for name in given if key == "class_path" else ():
            if name not in ("class_path", "init_args", "dict_kwargs"):
                hint = "beside class_path, options stand under init_args"
                raise place.at(name).error(WHO, "init_args or dict_kwargs", short(name), hint)
        for part in ("init_args", "dict_kwargs") if key == "class_path" else ():
            if given.get(part) is not None:
                self.options(given[part], place.at(part), options)
        return Node(place, given, given[key], place.at(key), options)

    def options(self, given: object, place: Place, found: dict[str, Tree]) -> None:
        """Read a dict of options, beside those that have been found."""
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
            raise place.error(WHO, "a dict of options", short(given))
        for name, value in given.items():
            if name in found:
                raise place.at(name).error(WHO, "given once", "an option of init_args too")
            found[name] = self.read(value, place.at(name), terms=name == "terms")


def check_special(name: str, value: object, place: Place) -> None:
    """Refuse Hydra's and MONAI's special keys, but for the values that change nothing."""
    word = value if isinstance(value, str) else ""  # arrays are not compared
    reasons = {
        "_args_": ("left out: options are given by name", value is None or (isinstance(value, (list, tuple)) and not value)),
        "_partial_": ("False or left out: what is built is the loss, not a function that builds it", value is False),
        "_recursive_": ("True or left out: configs inside of options are built too", value is True),
        "_convert_": ("'none', 'partial', 'object' or 'all'", word in ("none", "partial", "object", "all")),
        "_disabled_": ("False or left out: a loss that is not wanted is no part of the config", value is False),
        "_requires_": ("left out: nothing is run before a loss is built", value is None),
        "_desc_": ("a text", isinstance(value, str)),
        "_mode_": ("'default' or left out: what is built is the loss", word == "default"),
    }
    expected, holds = reasons[name]
    if not holds:
        raise place.error(WHO, expected, short(value))
