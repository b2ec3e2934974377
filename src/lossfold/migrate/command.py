"""``lossfold migrate FILE``: the losses of another library's config in our words, and what somebody has to decide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lossfold.config.dialects import DIALECTS, Converted, Dialect, converted, dialect_named
from lossfold.config.files import load
from lossfold.config.place import Place, Source
from lossfold.config.tree import Node, Reader
from lossfold.errors import LossError
from lossfold.migrate.python_config import Unread, read

A_LOSS = re.compile(r"Loss|CrossEntropy|PixelSampler|Penalt|Regulariz")
SCOPES = {"mmseg": "mmseg", "mmdet": "mmdet", "mmagic": "mmagic", "mmedit": "mmagic", "mmgen": "mmgen"}


class Found(NamedTuple):
    """A loss in a file: where, what it says, and what becomes of it, or why nothing does."""

    path: str
    entry: Mapping[str, Any]
    result: Converted | LossError


def migrate(file: str, name: str = "") -> tuple[str, list[Found], list[str]]:
    """Return the dialect of a file, the losses in it, and what of it was not followed.

    Args:
        file: a Python config of MMEngine, which is not run; or a YAML or JSON file.
        name: of the dialect; "" to tell it by the file.

    Raises:
        LossError: the file can't be read, or its dialect not be told.
    """
    if file.lower().endswith(".py"):
        values, notes = read(file)
        source = Source(Path(file).name)
    else:
        values, source = load(file)
        notes = []
    dialect = dialect_named(name or guessed(file, values, notes))
    found = [Found(path, entry, result_of(dialect, entry, Place(source, tuple(path.split("."))))) for path, entry in losses(values)]
    return dialect.name, found, notes


def guessed(file: str, values: Any, notes: list[str]) -> str:
    """Return the dialect that a file is written in."""
    scope = values.get("default_scope") if isinstance(values, Mapping) else None
    if scope in SCOPES:
        return SCOPES[scope]
    if not file.lower().endswith(".py") and isinstance(values, Mapping) and "network_g" in values:
        return "basicsr"
    expected = f"one of {', '.join(DIALECTS)}"
    raise LossError("lossfold migrate", "--from", expected, "a file that does not say whose words it is in", "; ".join(notes))


def losses(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dicts that name a loss, with the dotted path to each."""
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str) and A_LOSS.search(value["type"]):
            yield ".".join(path), value
            return
        value = {str(key): one for key, one in value.items()}
    elif isinstance(value, (list, tuple)) and not isinstance(value, Unread):
        value = {str(index): one for index, one in enumerate(value)}
    else:
        return
    for key, one in value.items():
        yield from losses(one, (*path, key))


def result_of(dialect: Dialect, entry: Mapping[str, Any], place: Place) -> Converted | LossError:
    """Return an entry in our words, or why there is none."""
    for name, value in entry.items():
        if unread(value):
            return place.at(name).error(
                "lossfold migrate", "a plain value", repr(value), "nothing of a config is run: write the value"
            )
    try:
        node = Reader().read(entry, place)
        assert isinstance(node, Node)
        return converted(dialect, node)
    except LossError as error:
        return error


def unread(value: Any) -> bool:
    """Whether something of a value would have to be run."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return isinstance(value, Unread) or any(map(unread, parts))


def main(file: str, name: str = "") -> int:
    """Print the losses of a file as YAML, with what is to be decided beside each; return 1 if one has no counterpart."""
    dialect, found, notes = migrate(file, name)
    if not found:
        hint = "; ".join([*notes, "losses that are made in code: lossfold show --from monai.DiceCELoss"])
        raise LossError(
            "lossfold migrate", "FILE", f"a config in the words of {dialect} that names losses", f"none in {file}", hint
        )
    print(f"# {Path(file).name}, in the words of {dialect}: {len(found)} losses")
    print(f"# with their own meaning: lossfold.build(entry, dialect={dialect!r}); with lossfold's:")
    for path, _, result in found:
        if isinstance(result, LossError):
            print(f"# {path}: {result}")
            continue
        print(f"{path}: {json.dumps(result.config, ensure_ascii=False)}")
        for word, lines in (("changes", result.changes), ("decide", result.missing)):
            print("".join(f"#   {word}: {line}\n" for line in lines), end="")
    print("".join(f"# not followed: {note}\n" for note in notes), end="")
    return int(any(isinstance(one.result, LossError) for one in found))
