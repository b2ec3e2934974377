"""Other libraries' dicts with their own meaning: a module for each, with a small function for each of its losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossfold.config.builder import Builder
from lossfold.config.dialects.basicsr import BASICSR
from lossfold.config.dialects.converted import Converted as Converted
from lossfold.config.dialects.converted import Dialect as Dialect
from lossfold.config.dialects.mmagic import MMAGIC, MMGEN
from lossfold.config.dialects.mmdet import MMDET, MMSEG
from lossfold.config.names import Names
from lossfold.config.place import short
from lossfold.config.tree import WHO, Node, Reader
from lossfold.errors import LossError, nearest

DIALECTS: Mapping[str, Dialect] = {one.name: one for one in (MMSEG, MMDET, MMAGIC, MMGEN, BASICSR)}


def dialect_named(name: object) -> Dialect:
    """Return a dialect by its name."""
    if not isinstance(name, str) or name not in DIALECTS:
        raise LossError(WHO, "dialect", f"None, or one of {', '.join(DIALECTS)}", short(name), nearest(name, DIALECTS))
    return DIALECTS[name]


def converted(dialect: Dialect, node: Node) -> Converted:
    """Return an entry of another library in our words; errors say where it stands."""
    try:
        return dialect.convert(node.name, {name: tree.plain for name, tree in node.options.items()})
    except LossError as error:
        place = node.named_at if error.argument == "type" else node.place.at(error.argument)
        raise place.error(f"{dialect.name}'s {dialect.plain(node.name)}", error.expected, error.got, error.hint) from None


class DialectBuilder(Builder):
    """What makes losses of trees in another library's words; lossfold's own go by ``lossfold.DiceLoss`` there."""

    def __init__(self, names: Names, dialect: Dialect) -> None:
        super().__init__(names)
        self.dialect = dialect

    def made(self, node: Node, term: str | None) -> Any:
        """Return what a node stands for."""
        if not self.dialect.knows(node.name) or node.name in self.names.allowed:
            if isinstance(node.name, str) and (node.name.startswith("lossfold.") or node.name in self.names.allowed):
                return super().made(node, term)
            hint = nearest(self.dialect.plain(node.name), [*self.dialect.losses], "lossfold's own are lossfold.DiceLoss, ...")
            raise node.named_at.error(WHO, f"the name of a loss of {self.dialect.name}", short(node.name), hint)
        found = converted(self.dialect, node)
        if found.changes and found.make is None:
            hint = f"as {found.config} it would have lossfold's meaning"
            raise node.place.error(f"{self.dialect.name}'s {node.name}", "of the same meaning here", "; ".join(found.changes), hint)
        ours = Reader().read(found.config, node.place)
        assert isinstance(ours, Node)
        built = super().made(ours, term)  # which refuses what is out of range
        return built if found.make is None else found.make()
