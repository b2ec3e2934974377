"""A JSON schema of configurations, for editors: completion, kinds, words, and what each option is."""

from __future__ import annotations

import collections.abc
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from lossfold.compose.term import Term
from lossfold.config.builder import is_set, is_weighed
from lossfold.config.describe import Option, described, documentation, is_tensor
from lossfold.config.names import Allow, Names
from lossfold.config.tree import DIALECTS
from lossfold.errors import LossError
from lossfold.losses.folded import Folded
from lossfold.registry import LOSSES, PARTS
from lossfold.signatures import is_open, options_of
from lossfold.version import VERSION

Schema = dict[str, Any]
ANY_LOSS: Schema = {"$ref": "#/$defs/loss"}
A_TERM: Schema = {"$ref": "#/$defs/term"}
LOSSES_BY_NAME: Schema = {"propertyNames": {"pattern": "^[^.]+$"}, "additionalProperties": A_TERM}
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


def schema(*, allow: Allow | None = None, plugins: bool = False) -> Schema:
    """Return the JSON schema (draft 2020-12) of what :func:`build` takes, for the head of a YAML file.

    ``# yaml-language-server: $schema=lossfold.schema.json``

    Args:
        allow: as for :func:`build`.
        plugins: with the losses of installed packages, which are imported for it; those that can't be are left out with a warning.

    Example:
        >>> schema()["$defs"]["options of DiceLoss"]["properties"]["average"]["enum"]
        ['macro', 'micro']
    """
    for name in LOSSES.plugins() if plugins else ():
        try:
            LOSSES[name]
        except LossError as error:
            warnings.warn(str(error), stacklevel=2)
    names = Names(allow)
    spellings: dict[str, list[str]] = {}
    makers: dict[str, Callable[..., Any]] = {}
    for name, maker in names.table.items():
        own = names.name_of(maker) or name
        spellings.setdefault(own, []).append(name)
        makers[own] = maker
    every_name = one_of(sorted(spelling for own in spellings.values() for spelling in own))
    schedules = sorted(names.schedules())
    known = {name: described(maker) for name, maker in makers.items()}
    of_terms = {option.name: option_schema(option) for option in known["Term"] if option.name != "loss"}
    of_terms["schedule"] = {
        "anyOf": [{"$ref": "#/$defs/schedule"}, {"type": "null"}],
        "description": "a factor on its weight as a function of the step",
    }
    elsewhere = of_terms.keys() - {option.name for name in known.keys() - {"Term"} for option in known[name]}
    by_name = {"type": "object", "minProperties": 1, **LOSSES_BY_NAME}
    no_part = {"not": {"anyOf": [named(sorted({*schedules, *spellings.get("Term", ())})), *with_options(elsewhere)]}}
    no_schedule = {"not": {"anyOf": [named(schedules), *with_options(["reduction"], {"const": "none"})]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A loss of lossfold",
        "description": f"What lossfold.build takes (lossfold {VERSION}).",
        "$ref": "#/$defs/loss",
        "$defs": {
            "loss": loss_or_set({"$ref": "#/$defs/node", **no_part}, by_name),
            "term": loss_or_set({"$ref": "#/$defs/node", **no_schedule}, by_name),
            "losses": {"type": "array", "minItems": 1, "items": A_TERM},
            "schedule": {"$ref": "#/$defs/node", **named(schedules)},
            "node": {
                "type": "object",
                "oneOf": [{"required": [key]} for key in DIALECTS],
                "properties": dict.fromkeys(DIALECTS, every_name),
                "allOf": [rule for name in makers for rule in rules(name, spellings[name], makers[name], known[name])],
            },
            **{f"options of {name}": options_schema(maker, known[name], of_terms) for name, maker in makers.items()},
        },
    }


def loss_or_set(node: Schema, by_name: Schema) -> Schema:
    """Return the schema of a dict with the name of a class, of one with losses by name, or of a list."""
    spoken = {"anyOf": [{"required": [key]} for key in DIALECTS]}
    either = {"if": spoken, "then": node, "else": by_name}
    return {"type": ["object", "array"], "if": {"type": "object"}, "then": either, "else": {"$ref": "#/$defs/losses"}}


def named(spellings: list[str]) -> Schema:
    """Return the schema of a dict that names one of these."""
    return {"anyOf": [{"properties": {key: one_of(spellings)}, "required": [key]} for key in DIALECTS]}


def one_of(spellings: list[str]) -> Schema:
    """Return the schema of a name: one of these, or a path of lossfold's that ends as they do."""
    own = sorted(name.removeprefix("lossfold.") for name in spellings if name.startswith("lossfold."))
    names: Schema = {"enum": spellings}
    return {"anyOf": [names, {"pattern": rf"^lossfold(\.[a-z_]+)*\.({'|'.join(own)})$"}]} if own else names


def with_options(names: Iterable[str], value: Any = True) -> list[Schema]:
    """Return the schemas of dicts that give one of these options, in each dialect."""
    plain: list[Schema] = [{"properties": {name: value}, "required": [name]} for name in sorted(names)]
    parts = ("init_args", "dict_kwargs")
    return plain + [{"properties": {part: {"type": "object", **one}}, "required": [part]} for part in parts for one in plain]


def rules(name: str, spellings: list[str], maker: Callable[..., Any], options: list[Option]) -> list[Schema]:
    """Return what follows from a name in each dialect."""
    given: Schema = needed(maker, options)
    closed = A_TERM if is_set(maker) else is_open(maker)
    own: Schema = {"$ref": f"#/$defs/options of {name}"}
    loss_name: Schema = {"type": ["string", "null"], "minLength": 1}
    found: list[Schema] = []
    for key in ("type", "_target_"):
        beside: Schema = {key: True, "loss_name": loss_name, **(SPECIAL if key == "_target_" else {})}
        then = {**own, **given, "properties": beside, "unevaluatedProperties": closed}
        found.append({"if": {"properties": {key: one_of(spellings)}, "required": [key]}, "then": then})
    inside: Schema = {"type": ["object", "null"], **own, "properties": {"loss_name": loss_name}, "unevaluatedProperties": closed}
    then = {"properties": {"class_path": True, "init_args": inside, "dict_kwargs": inside}, "additionalProperties": False}
    if given:
        then |= {"if": {"not": {"required": ["dict_kwargs"]}}}
        then |= {"then": {"required": ["init_args"], "properties": {"init_args": {"type": "object", **given}}}}
    found.append({"if": {"properties": {"class_path": one_of(spellings)}, "required": ["class_path"]}, "then": then})
    return found


def needed(maker: Callable[..., Any], options: list[Option]) -> Schema:
    """Return the schema of options among which nothing is missing."""
    found: Schema = {}
    if is_set(maker):
        settings = {option.name for option in options} | (options_of(Term).keys() - {"loss"})
        found["not"] = {"propertyNames": {"enum": sorted({*DIALECTS, *SPECIAL, "loss_name", *settings} - {"terms"})}}
        found["propertyNames"] = LOSSES_BY_NAME["propertyNames"]
        return found
    required = [option.name for option in options if option.required]
    alternatives = getattr(maker, "one_needed", ())
    if required:
        found["required"] = required
    if alternatives:
        found["anyOf"] = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in alternatives]
    return found


def options_schema(maker: Callable[..., Any], options: list[Option], of_terms: Mapping[str, Schema]) -> Schema:
    """Return the schema of a loss's options, and of those that a set has for it."""
    properties = {option.name: option_schema(option) for option in options}
    if maker is Term:
        properties["schedule"] = of_terms["schedule"]
    else:
        gated = isinstance(maker, type) and issubclass(maker, Folded)
        beside = {name: found if gated or name != "when" else {"not": {}} for name, found in of_terms.items()}
        properties = {**({} if maker in PARTS.values() else beside), **properties}
    if is_set(maker):
        losses = {"if": {"type": "array"}, "then": {"$ref": "#/$defs/losses"}}
        terms: Schema = {"type": ["object", "array"], **losses, "else": {"minProperties": 1, **LOSSES_BY_NAME}}
        properties["terms"] = {**terms, "description": "the losses, by name or in a list"}
    if is_weighed(maker):
        properties["loss_weight"] = {"type": "number"}
    return {"description": documentation(maker).partition("\n")[0], "properties": properties}


def option_schema(option: Option) -> Schema:
    """Return the schema of one option."""
    kinds, text, null = schemas_of(option.kind), {"type": "string"}, {"type": "null"}
    if option.words:
        words = {"enum": [*option.words, *([None] if null in kinds else [])]}
        kinds = [words, *(kind for kind in kinds if kind not in (text, null))]
    if option.limits:
        kinds = [within(option.limits, kind) for kind in kinds]
    if option.fixed:
        kinds = [{"const": option.default}]
    found: Schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    if option.meaning:
        found = {**found, "description": option.meaning}
    plain = option.default is None or isinstance(option.default, (bool, int, float, str))
    return found if option.required or not plain else {**found, "default": option.default}


def within(limits: Schema, kind: Schema) -> Schema:
    """Return the schema of numbers, or of lists of them, in a range; others as they are."""
    of_lists = {word: limits[word] for word in limits if word in ("minItems", "maxItems", "uniqueItems")}
    if kind.get("type") == "array" and "items" in kind:
        return {**kind, **of_lists, "items": within(limits, kind["items"])}
    of_numbers = {word: limits[word] for word in limits if word not in of_lists}
    return {**kind, **of_numbers} if kind.get("type") in ("number", "integer") else kind


def schemas_of(kind: Any) -> list[Schema]:
    """Return the schemas of an annotation's alternatives, [] for anything."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        each = [schemas_of(one) for one in typing.get_args(kind) if not is_tensor(one)]
        return [] if [] in each else [schema for one in each for schema in one]
    known = {float: "number", int: "integer", bool: "boolean", str: "string", type(None): "null"}
    if kind in known:
        return [{"type": known[kind]}]
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, nn.Module):
        return [ANY_LOSS]
    if origin in (list, tuple, collections.abc.Sequence):
        items = [one for one in arguments if one is not ...]
        inner = schemas_of(items[0]) if len(set(items)) == 1 else []
        return [{"type": "array", **({"items": inner[0] if len(inner) == 1 else {"anyOf": inner}} if inner else {})}]
    if origin in (dict, collections.abc.Mapping, Mapping):
        inner = schemas_of(arguments[1]) if len(arguments) == 2 else []
        steps = {"propertyNames": {"pattern": "^[0-9]+$"}} if arguments[:1] == (int,) else {}
        return [{"type": "object", **steps, **({"additionalProperties": {"anyOf": inner}} if inner else {})}]
    return []
