"""Configurations from files: YAML as its version 1.2 reads it, plain values only, and JSON."""

from __future__ import annotations

import functools
import json
import math
import os
import re
from pathlib import Path as FilePath
from typing import Any, ClassVar

from lossfold.config.place import Path, Place, Source, short
from lossfold.config.tree import WHO
from lossfold.errors import LossError

SUFFIXES = (".yaml", ".yml", ".json")
MOST_BYTES = 1 << 20
MOST_VALUES = 100_000
MOST_DEPTH = 64
MOST_NODES = 20_000
PLAIN = "plain"

# The core schema of YAML 1.2: 1e-3 is a number, and yes, on, 0123 and 1:30 are what they look like.
WORDS: dict[str, bool | None] = {"null": None, "Null": None, "NULL": None, "~": None, "": None}
WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?[0-9]+")
OTHER_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class TooMuchError(Exception):
    """A file holds more than a configuration could."""


def load(path: str | os.PathLike[str]) -> tuple[Any, Source]:
    """Return what a file holds, and where in it.

    Raises:
        LossError: it can't be read, holds more than plain values, a key twice, or more than a configuration could.
    """
    file = FilePath(path)
    nowhere = Place(Source(file.name))
    if file.suffix.lower() not in SUFFIXES:
        hint = f"lossfold migrate {file.name} reads losses of Python configs" if file.suffix.lower() == ".py" else ""
        raise LossError(WHO, "cfg", f"a file of {', '.join(SUFFIXES)}", str(path), hint)
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LossError(WHO, "cfg", "a file that can be read", f"{path}: {error}") from error
    if len(data) > MOST_BYTES:
        raise nowhere.error(WHO, f"a file of at most {MOST_BYTES} bytes", "more")
    try:
        if file.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_once(nowhere)), Source(file.name)
        return _read_yaml(text, file.name)
    except (json.JSONDecodeError, RecursionError) as error:
        came = "more" if isinstance(error, RecursionError) else str(error)
        raise nowhere.error(WHO, f"JSON or YAML, at most {MOST_DEPTH} deep", came) from None
    except LossError:
        raise
    except ValueError as error:  # integers of thousands of digits
        raise nowhere.error(WHO, "numbers that a float can hold", str(error)) from None


def _once(place: Place) -> Any:
    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in given:
            if name in found:
                raise place.error(WHO, "keys that come once", f"{short(name)} twice")
            found[name] = value
        return found

    return pairs


def _read_yaml(text: str, name: str) -> tuple[Any, Source]:
    yaml = the_yaml()
    lines: dict[Path, int] = {}
    place = Place(Source(name, lines))
    try:
        node = yaml.compose(text, Loader=_loader(yaml))
    except TooMuchError as error:
        raise place.error(WHO, *error.args) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            lines[()] = mark.line + 1
        problem = getattr(error, "problem", None) or str(error)
        raise place.error(WHO, "YAML", str(problem)[:200], "one document of plain values") from None
    if node is None:
        raise place.error(WHO, "a configuration", "an empty file")
    return Reader(yaml, lines).plain(node, place), place.source


@functools.cache
def _loader(yaml: Any) -> Any:
    """Return a loader that tells words without quotes and tags from the others, by the tag PLAIN, and resolves nothing.

    It counts while it reads: PyYAML takes seconds for a megabyte, and composes nested nodes by recursion.
    """

    class Loader(yaml.BaseLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str | None, Any]] = {}
        depth = nodes = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.nodes += 1
            if self.nodes > MOST_NODES:
                raise TooMuchError(f"a file of at most {MOST_NODES} words and numbers", "more")
            self.depth += 1
            if self.depth > MOST_DEPTH:
                raise TooMuchError(f"nested at most {MOST_DEPTH} deep", "deeper")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    Loader.add_implicit_resolver(PLAIN, re.compile(""), None)
    return Loader


def the_yaml() -> Any:
    """Return PyYAML, or say how to get it."""
    try:
        import yaml
    except ImportError:
        raise LossError(WHO, "cfg", "a dict, or a JSON file", "YAML without PyYAML", "pip install 'lossfold[yaml]'") from None
    return yaml


def scalar(text: str) -> Any:
    """Return what a plain word stands for in YAML 1.2."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if OTHER_INTEGER.fullmatch(text):
        return int(text, 0)
    if NUMBER.fullmatch(text):
        return float(text)
    if SPECIAL.fullmatch(text):
        return math.nan if "n" in text[1:2].lower() and text[0] == "." else float(text.replace(".", ""))
    return text


class Reader:
    """From YAML's nodes to plain values; anchors stand for what they name, ``<<`` takes the keys of others."""

    def __init__(self, yaml: Any, lines: dict[Path, int]) -> None:
        self.yaml, self.lines = yaml, lines
        self.values = 0
        self.around: list[Any] = []

    def plain(self, node: Any, place: Place) -> Any:
        """Return a node's value."""
        self.lines.setdefault(place.path, node.start_mark.line + 1)
        self.values += 1
        if self.values > MOST_VALUES:
            raise place.error(WHO, f"at most {MOST_VALUES} values in a file", "more", "aliases count as what they stand for")
        if node in self.around:
            raise place.error(WHO, "no part of itself", f"an alias of line {node.start_mark.line + 1}")
        self.around.append(node)
        if isinstance(node, self.yaml.ScalarNode):
            value = self.word(node, place)
        elif isinstance(node, self.yaml.SequenceNode):
            self.check_tag(node, "seq", place)
            value = [self.plain(one, place.at(index)) for index, one in enumerate(node.value)]
        else:
            self.check_tag(node, "map", place)
            value = self.mapping(node, place)
        self.around.pop()
        return value

    def check_tag(self, node: Any, own: str, place: Place) -> None:
        """Refuse tags: nothing but plain values is made of a file."""
        if node.tag != f"tag:yaml.org,2002:{own}":
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise place.error(WHO, "a plain value", f"the tag {short(tag)}", "no object is made of a file")

    def word(self, node: Any, place: Place) -> Any:
        """Return a scalar's value: in quotes it is a text, and a tag is heeded if it fits."""
        if node.tag == PLAIN:
            return scalar(node.value)
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if tag in ("int", "float", "bool", "null"):
            value = scalar(node.value)
            kinds = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}
            if isinstance(value, kinds[tag]) and (tag == "bool" or not isinstance(value, bool)):  # type: ignore[arg-type]
                return float(value) if tag == "float" else value
        self.check_tag(node, "str", place)
        return node.value

    def mapping(self, node: Any, place: Place) -> dict[Any, Any]:
        """Return a mapping; its own keys come before those that it merges."""
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, self.yaml.ScalarNode):
                raise place.error(WHO, "keys that are words or numbers", "a list or a dict for a key")
            if key_node.value == "<<" and key_node.tag == PLAIN:
                merged = {**self.merged(value_node, place.at("<<")), **merged}
                continue
            key = self.word(key_node, place)
            if key in own:
                line = key_node.start_mark.line + 1
                self.lines[place.at(str(key)).path] = line
                raise place.at(str(key)).error(WHO, "a key that comes once", f"it twice, again in line {line}")
            own[key] = self.plain(value_node, place.at(key if isinstance(key, (str, int)) else str(key)))
        return {**merged, **own}

    def merged(self, node: Any, place: Place) -> dict[Any, Any]:
        """Return the keys of what ``<<`` names: a mapping, or several, the first first."""
        found = self.plain(node, place)
        parts = found if isinstance(found, list) else [found]
        if not all(isinstance(part, dict) for part in parts):
            raise place.error(WHO, "a dict, or a list of dicts", short(found))
        result: dict[Any, Any] = {}
        for part in parts:
            result = {**part, **result}
        return result
