"""MMEngine's Python configs, read without being run: literals, ``dict(...)``, names, sums of lists, and ``_base_`` files.

What would have to be run (a call, a loop, a comprehension) stands as :class:`Unread` in what is returned.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from lossfold.errors import LossError

WHO = "lossfold migrate"
MOST_BYTES = 1 << 20
MOST_FILES = 50
MOST_ITEMS = 10_000
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class Unread(NamedTuple):
    """An expression that would have to be run."""

    text: str
    line: int

    def __repr__(self) -> str:
        return f"<{self.text}, line {self.line}>"


def read(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a config holds, its bases merged into it, and what of it was not followed, in a line each.

    Raises:
        LossError: a file can't be read, is no Python, or is too large; or a base is part of itself.
    """
    reader = Reader()
    values = reader.file(Path(path), ())
    return {name: value for name, value in values.items() if name not in ("_base_", "__builtins__")}, reader.notes


class Reader:
    """Reads one config and its bases."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.files = 0

    def file(self, path: Path, around: tuple[Path, ...]) -> dict[str, Any]:
        """Return the names that a file assigns, over those of its bases."""
        self.files += 1
        if path.resolve() in around or self.files > MOST_FILES:
            raise LossError(WHO, "_base_", f"no part of itself, and at most {MOST_FILES} files", str(path))
        try:
            with path.open("rb") as opened:
                data = opened.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise LossError(WHO, "file", f"a file of at most {MOST_BYTES} bytes", path.name)
            tree = ast.parse(data)
            return File(self, path, (*around, path.resolve())).run(tree)
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, LossError):
                raise
            raise LossError(
                WHO, "file", "a Python config that can be read", f"{path}: {type(error).__name__}: {error}"[:200]
            ) from None


class File:
    """The names of one file, as far as they can be followed."""

    def __init__(self, reader: Reader, path: Path, around: tuple[Path, ...]) -> None:
        self.reader, self.path, self.around = reader, path, around
        self.names: dict[str, Any] = {}
        self.base: dict[str, Any] = {}
        self.hidden: set[str] = set()  # imported names, which are no part of the config

    def run(self, tree: ast.Module) -> dict[str, Any]:
        """Follow the statements."""
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and any(is_name(target, "_base_") for target in statement.targets):
                self.bases(self.value(statement.value))
        for statement in tree.body:
            self.statement(statement)
        own = {name: value for name, value in self.names.items() if name not in self.hidden and name != "_base_"}
        return {**self.base, **{name: merged(value, self.base.get(name)) for name, value in own.items()}}

    def bases(self, names: Any) -> None:
        """Read the files that this one is based on."""
        for name in names if isinstance(names, (list, tuple)) else [names]:
            if not isinstance(name, str) or "::" in name or not name.endswith(".py"):
                self.note(f"the base {name!r} is not read")
                continue
            try:
                self.base = {**self.base, **self.reader.file(self.path.parent / name, self.around)}
            except LossError as error:
                self.note(f"the base {name!r} is not read: {error.got}")

    def note(self, text: str, node: ast.AST | None = None) -> None:
        """Remember what was not followed."""
        line = f":{node.lineno}" if isinstance(node, (ast.stmt, ast.expr)) else ""
        self.reader.notes.append(f"{self.path.name}{line}: {text}")

    def statement(self, node: ast.stmt) -> None:
        """Follow one statement."""
        if isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self.assign(target, value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            self.assign(node.target, self.value(node.value))
        elif isinstance(node, ast.AugAssign):
            before = self.value(node.target)
            self.assign(node.target, self.binary(node, type(node.op), before, self.value(node.value)))
        elif isinstance(node, ast.ImportFrom):
            self.imported(node)
        elif isinstance(node, ast.With) and all(
            isinstance(one.context_expr, ast.Call) and is_name(one.context_expr.func, "read_base") for one in node.items
        ):
            for inner in node.body:
                if isinstance(inner, ast.ImportFrom) and inner.level:
                    self.base_module(inner)
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
            and node.value.func.attr == "update"
        ):
            self.update(node.value)
        elif not isinstance(node, (ast.Import, ast.Pass)) and not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            self.note(f"{type(node).__name__.lower()} is not followed", node)

    def imported(self, node: ast.ImportFrom) -> None:
        """Let a class that is imported stand for its name, with the library's before it."""
        for one in node.names:
            name = one.asname or one.name
            self.names[name] = f"{(node.module or '').partition('.')[0]}.{one.name}"
            self.hidden.add(name)

    def base_module(self, node: ast.ImportFrom) -> None:
        """Read what ``with read_base(): from .models import *`` names."""
        folder = self.path.parent
        for _ in range(node.level - 1):
            folder = folder.parent
        found = self.reader.file(folder.joinpath(*(node.module or "").split(".")).with_suffix(".py"), self.around)
        for one in node.names:
            self.names.update(found if one.name == "*" else {one.asname or one.name: found[one.name]} if one.name in found else {})

    def update(self, call: ast.Call) -> None:
        """Follow ``model.update(dict(...))``."""
        target = self.value(call.func.value) if isinstance(call.func, ast.Attribute) else None
        given = [self.value(one) for one in call.args]
        if isinstance(target, dict) and all(isinstance(one, dict) for one in given) and all(one.arg for one in call.keywords):
            for one in given:
                target.update(one)
            target.update({one.arg: self.value(one.value) for one in call.keywords})
        else:
            self.note("update is not followed", call)

    def assign(self, target: ast.expr, value: Any) -> None:
        """Give a name, a key or an attribute a value."""
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            self.hidden.discard(target.id)
        elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (list, tuple)) and len(value) == len(target.elts):
            for one, part in zip(target.elts, value, strict=True):
                self.assign(one, part)
        elif isinstance(target, (ast.Subscript, ast.Attribute)):
            self.place(
                self.value(target.value),
                self.value(target.slice) if isinstance(target, ast.Subscript) else target.attr,
                value,
                target,
            )

    def place(self, holder: Any, key: Any, value: Any, node: ast.expr) -> None:
        """Give a key of a dict or a place in a list a value."""
        known = isinstance(key, (str, int)) if isinstance(holder, dict) else isinstance(holder, list) and is_place(key, holder)
        if known:
            holder[key] = value
        else:
            self.note("this assignment is not followed", node)

    def value(self, node: ast.expr) -> Any:
        """Return what an expression stands for."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            if node.id == "_base_":
                return self.base
            return self.names[node.id] if node.id in self.names else self.base.get(node.id, self.unread(node))
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [self.value(one) for one in node.elts]
            return tuple(items) if isinstance(node, ast.Tuple) else items
        if isinstance(node, ast.Set):  # {{_base_.model}} is a set of a set
            inner = node.elts[0] if len(node.elts) == 1 else None
            return self.value(inner.elts[0]) if isinstance(inner, ast.Set) and len(inner.elts) == 1 else self.unread(node)
        if isinstance(node, ast.Dict):
            return self.pairs(
                [(None if key is None else self.value(key), one) for key, one in zip(node.keys, node.values, strict=True)]
            )
        if isinstance(node, ast.Call) and is_name(node.func, "dict") and len(node.args) <= 1:
            first = self.value(node.args[0]) if node.args else {}
            own = self.pairs([(one.arg, one.value) for one in node.keywords])
            return {**first, **own} if isinstance(first, dict) and isinstance(own, dict) else self.unread(node)
        if isinstance(node, ast.BinOp):
            return self.binary(node, type(node.op), self.value(node.left), self.value(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.value(node.operand)
            return (-value if isinstance(node.op, ast.USub) else value) if isinstance(value, (int, float)) else self.unread(node)
        if isinstance(node, (ast.Subscript, ast.Attribute)):
            return self.part(node)
        if isinstance(node, ast.JoinedStr):
            parts = [self.value(one.value if isinstance(one, ast.FormattedValue) else one) for one in node.values]
            return "".join(map(str, parts)) if all(isinstance(one, (str, int)) for one in parts) else self.unread(node)
        return self.unread(node)

    def pairs(self, given: list[tuple[Any, ast.expr]]) -> Any:
        """Return a dict of keys and values; None stands for ``**``."""
        found: dict[Any, Any] = {}
        for key, node in given:
            value = self.value(node)
            if key is not None and isinstance(key, (str, int, float)):
                found[key] = value
            elif key is None and isinstance(value, dict):
                found.update(value)
            else:
                return self.unread(node)
        return found

    def part(self, node: ast.Subscript | ast.Attribute) -> Any:
        """Return what stands under a key or an attribute."""
        holder = self.value(node.value)
        key = self.value(node.slice) if isinstance(node, ast.Subscript) else node.attr
        if isinstance(holder, Mapping) and isinstance(key, (str, int)) and key in holder:
            return holder[key]
        if isinstance(holder, (list, tuple)) and is_place(key, holder):
            return holder[key]
        return self.unread(node)

    def binary(self, node: ast.AST, kind: type[ast.operator], left: Any, right: Any) -> Any:
        """Return a sum, a product, ... of numbers; a sum of texts or lists, or a list several times."""
        numbers = all(isinstance(one, (int, float)) and abs(one) < 1e100 for one in (left, right))
        lists = (isinstance(left, (list, tuple, str)) and type(left) is type(right) and kind is ast.Add) and len(left) + len(
            right
        ) < MOST_ITEMS
        times = kind is ast.Mult and isinstance(left, (list, tuple)) and isinstance(right, int) and len(left) * right < MOST_ITEMS
        if kind in OPERATORS and (numbers or lists or times) and not (kind in (ast.Div, ast.FloorDiv) and right == 0):
            return OPERATORS[kind](left, right)
        return self.unread(node)

    def unread(self, node: ast.AST) -> Unread:
        """Return what stands for an expression that would have to be run."""
        return Unread(ast.unparse(node)[:80], getattr(node, "lineno", 0))


def is_name(node: ast.expr, name: str) -> bool:
    """Whether an expression is a name."""
    return isinstance(node, ast.Name) and node.id == name


def is_place(key: Any, items: Sequence[Any]) -> TypeGuard[int]:
    """Whether a list has such an index."""
    return isinstance(key, int) and -len(items) <= key < len(items)


def merged(own: Any, base: Any) -> Any:
    """Return a config over its base: dicts are merged, unless ``_delete_`` says otherwise."""
    if not isinstance(own, dict):
        return own
    found = dict(base) if isinstance(base, dict) else {}
    if own.get("_delete_"):
        found = {}
    for name, value in own.items():
        if name != "_delete_":
            found[name] = merged(value, found.get(name))
    return found
