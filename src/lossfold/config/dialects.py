"""The ways in which people write "this class, with these options", read into one form.

``type`` (MMEngine and MMagic, BasicSR), ``_target_`` (Hydra, MONAI bundles) with the options beside it, and ``class_path`` with
``init_args`` (LightningCLI).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lossfold.config.place import Place, short

WHO = "lossfold.build"
DIALECTS = ("type", "_target_", "class_path")
INDIRECT = {"$": "an expression, which nothing evaluates here", "@": "a reference", "%": "a reference to a file"}


@dataclass
class Node:
    """A class by its name, and its options, each with its place."""

    name: object
    place: Place
    named_at: Place
    options: dict[str, tuple[Any, Place]]

    def where(self, option: str) -> Place:
        """Return the place of an option, given or not."""
        return self.options[option][1] if option in self.options else self.place.at(option)


def is_node(value: object) -> bool:
    """Whether a value is a dict that names a class."""
    return isinstance(value, Mapping) and any(key in value for key in DIALECTS)


def read(cfg: Mapping[str, Any], place: Place) -> Node:
    """Return what a dict says, in whichever dialect.

    Raises:
        LossError: for dicts of two dialects, and for what a dialect knows and a loss has no use for.
    """
    spoken = [key for key in DIALECTS if key in cfg]
    if len(spoken) != 1:
        raise place.error(WHO, f"a dict with one of {', '.join(DIALECTS)}", " and ".join(spoken))
    (key,) = spoken
    node = Node(cfg[key], place, place.at(key), {})
    if key == "class_path":
        _read_class_path(cfg, node)
    else:
        own = {"_args_", "_partial_", "_recursive_", "_convert_", "_disabled_", "_requires_", "_desc_", "_mode_"}
        if key == "_target_":
            for name in own & cfg.keys():
                _check_special(name, cfg[name], place.at(name))
        else:
            own = set()
        node.options = {name: (value, place.at(name)) for name, value in cfg.items() if name != key and name not in own}
    return node


def _read_class_path(cfg: Mapping[str, Any], node: Node) -> None:
    for name in cfg:
        if name not in ("class_path", "init_args", "dict_kwargs"):
            hint = "beside class_path, options stand under init_args"
            raise node.place.at(name).error(WHO, "init_args or dict_kwargs", short(name), hint)
    for part in ("init_args", "dict_kwargs"):
        options, place = cfg.get(part), node.place.at(part)
        if options is None:
            continue
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise place.error(WHO, "a dict of options", short(options))
        for name, value in options.items():
            if name in node.options:
                raise place.at(name).error(WHO, "given once", "an option of init_args too")
            node.options[name] = value, place.at(name)


def _check_special(name: str, value: object, place: Place) -> None:
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


def check_direct(value: str, place: Place) -> None:
    """Refuse expressions and references, of MONAI and of OmegaConf."""
    if value[:1] in INDIRECT:
        hint = "OmegaConf.to_container(cfg, resolve=True) resolves ${...}" if value.startswith("${") else "write the value"
        raise place.error(WHO, "a plain value", f"{INDIRECT[value[0]]}: {short(value)}", hint)
