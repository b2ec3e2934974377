"""A JSON schema of configurations, for editors: completion, kinds, words, and what each option is."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from lossfold.config.builder import is_set
from lossfold.config.describe import Option, described, is_tensor
from lossfold.config.dialects import DIALECTS
from lossfold.config.names import Allow, Names
from lossfold.config.options import is_open
from lossfold.registry import PARTS
from lossfold.version import VERSION

Schema = dict[str, Any]
ANY_LOSS: Schema = {"$ref": "#/$defs/loss"}
SPECIAL: dict[str, Schema] = {
    "_partial_": {"const": False},
    "_recursive_": {"const": True},
    "_convert_": {"enum": ["none", "partial", "object", "all"]},
    "_disabled_": {"const": False},
    "_desc_": {"type": "string"},
    "_mode_": {"const": "default"},
    "_args_": {"type": ["array", "null"], "maxItems": 0},
    "_requires_": {"type": "null"},
}


def schema(*, allow: Allow | None = None) -> Schema:
    """Return the JSON schema (draft 2020-12) of what :func:`build` takes, for the head of a YAML file.

    ``# yaml-language-server: $schema=lossfold.schema.json``

    Args:
        allow: as for :func:`build`.

    Example:
        >>> schema()["$defs"]["options of DiceLoss"]["properties"]["average"]["enum"]
        ['macro', 'micro']
    """
    names = Names(allow)
    spellings: dict[str, list[str]] = {}
    makers: dict[str, Callable[..., Any]] = {}
    for name, maker in names.table.items():
        own = names.name_of(maker) or name
        spellings.setdefault(own, []).append(name)
        makers[own] = maker
    definitions = {f"options of {name}": options_schema(maker) for name, maker in makers.items()}
    parts = {name for name, maker in makers.items() if maker in PARTS.values()}
    node = {
        "type": "object",
        "oneOf": [{"required": [key]} for key in DIALECTS],
        "properties": {key: {"enum": sorted(spelling for own in spellings.values() for spelling in own)} for key in DIALECTS},
        "allOf": [rule for name in makers for rule in rules(name, spellings[name], is_set(makers[name]))],
    }
    by_name = {
        "type": "object",
        "not": {"anyOf": [{"required": [key]} for key in DIALECTS]},
        "minProperties": 1,
        "additionalProperties": ANY_LOSS,
    }
    node_or_set = {"if": {"anyOf": [{"required": [key]} for key in DIALECTS]}, "then": {"$ref": "#/$defs/node"}, "else": by_name}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A loss of lossfold",
        "description": f"What lossfold.build takes (lossfold {VERSION}).",
        "$ref": "#/$defs/loss",
        "$defs": {
            "loss": {
                "type": ["object", "array"],
                "if": {"type": "object"},
                "then": node_or_set,
                "else": {"$ref": "#/$defs/losses"},
            },
            "losses": {"type": "array", "minItems": 1, "items": ANY_LOSS},
            "node": node,
            "parts": {"enum": sorted(parts)},
            **definitions,
        },
    }


def rules(name: str, spellings: list[str], open_ended: bool) -> list[Schema]:
    """Return what follows from a name in each dialect."""
    options = f"#/$defs/options of {name}"
    found: list[Schema] = []
    for key in ("type", "_target_"):
        beside = {key: {}, "loss_name": {"type": ["string", "null"]}, **(SPECIAL if key == "_target_" else {})}
        condition = {"properties": {key: {"enum": spellings}}, "required": [key]}
        then: Schema = {"$ref": options, "properties": beside, "unevaluatedProperties": ANY_LOSS if open_ended else False}
        found.append({"if": condition, "then": then})
    inside: Schema = {"type": ["object", "null"], "$ref": options, "properties": {"loss_name": {"type": ["string", "null"]}}}
    inside["unevaluatedProperties"] = ANY_LOSS if open_ended else False
    loose = {key: value for key, value in inside.items() if key != "unevaluatedProperties"}
    arguments = {"class_path": {}, "init_args": inside, "dict_kwargs": {"type": ["object", "null"]} if open_ended else loose}
    condition = {"properties": {"class_path": {"enum": spellings}}, "required": ["class_path"]}
    found.append({"if": condition, "then": {"properties": arguments, "additionalProperties": False}})
    return found


def options_schema(maker: Callable[..., Any]) -> Schema:
    """Return the schema of a loss's options."""
    first = (inspect.getdoc(maker) or "").splitlines()[:1]
    properties = {option.name: option_schema(option) for option in described(maker)}
    if is_set(maker):
        terms = {"if": {"type": "array"}, "then": {"$ref": "#/$defs/losses"}, "else": {"additionalProperties": ANY_LOSS}}
        properties["terms"] = {"type": ["object", "array"], **terms, "description": "the losses, by name or in a list"}
    beside = set_options() if isinstance(maker, type) and issubclass(maker, nn.Module) else {}
    found: Schema = {"description": first[0] if first else "", "properties": {**beside, **properties}}
    if is_open(maker) and not is_set(maker):
        found["additionalProperties"] = True
    if "loss_weight" not in properties and not isinstance(maker, type):
        found["properties"]["loss_weight"] = {"type": "number"}  # of a preset
    return found


def set_options() -> dict[str, Schema]:
    """Return the options that a set has for each of its terms."""
    term = PARTS.get("Term")
    return {option.name: option_schema(option) for option in described(term) if option.name != "loss"} if term else {}


def option_schema(option: Option) -> Schema:
    """Return the schema of one option."""
    kinds, text, null = kinds_of(option.kind), {"type": "string"}, {"type": "null"}
    if option.words:
        words = {"enum": [*option.words, *([None] if null in kinds else [])]}
        kinds = [words, *(kind for kind in kinds if kind not in (text, null))]
    found: Schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    if option.meaning:
        found = {**found, "description": option.meaning}
    plain = option.default is None or isinstance(option.default, (bool, int, float, str))
    return found if option.required or not plain else {**found, "default": option.default}


def kinds_of(kind: Any) -> list[Schema]:
    """Return the schemas of an annotation's alternatives, [] for anything."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        each = [kinds_of(one) for one in typing.get_args(kind) if not is_tensor(one)]
        return [] if [] in each else [schema for one in each for schema in one]
    known = {float: "number", int: "integer", bool: "boolean", str: "string", type(None): "null"}
    if kind in known:
        return [{"type": known[kind]}]
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, nn.Module):
        return [ANY_LOSS]
    if origin in (list, tuple, collections.abc.Sequence):
        items = [one for one in arguments if one is not ...]
        inner = kinds_of(items[0]) if len(set(items)) == 1 else []
        return [{"type": "array", **({"items": inner[0] if len(inner) == 1 else {"anyOf": inner}} if inner else {})}]
    if origin in (dict, collections.abc.Mapping, Mapping):
        inner = kinds_of(arguments[1]) if len(arguments) == 2 else []
        return [{"type": "object", **({"additionalProperties": {"anyOf": inner}} if inner else {})}]
    return []
