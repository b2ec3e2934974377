"""What the names in a configuration may stand for: tables, and nothing else. A name is looked up, never followed or imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from lossfold.config.place import Place, short
from lossfold.errors import LossError, nearest
from lossfold.foreign import loss_meant
from lossfold.registry import LISTED, LOSSES, PARTS, PRESETS

OURS = re.compile(r"lossfold(\.[a-z_]+)*\.[A-Za-z]\w*", re.ASCII)
"""Paths of lossfold's classes, wherever they stand now or have stood: the last part is the name."""
Maker = Callable[..., Any]
Allow = Mapping[str, Maker] | Iterable[Maker]


class Names:
    """The names that one call of :func:`build` knows.

    Args:
        allow: classes (or functions) that the caller lets configurations name, by name, or in a list under their own names. A
            class of a list whose name is that of a loss of lossfold goes by its full path, ``torch.nn.L1Loss``.
    """

    def __init__(self, allow: Allow | None = None) -> None:
        self.table: dict[str, Maker] = {**PARTS, **PRESETS, **LOSSES}
        self.ambiguous: dict[str, list[str]] = {}
        for name, maker in list(self.table.items()):
            ours = (getattr(maker, "__module__", None) or "").startswith("lossfold.")
            self.table.update(dict.fromkeys([f"lossfold.{name}"] if ours else paths(maker), maker))
        self.allowed: dict[str, Maker] = {}
        for key, maker in self._pairs(allow):
            if not callable(maker) or not hasattr(maker, "__name__"):
                raise LossError("lossfold.build", "allow", "classes or functions", short(maker))
            name = maker.__name__ if key is None else key
            if key is None and self.table.get(name, maker) is not maker:
                self.ambiguous[name] = sorted({*paths(self.table.pop(name))} | {*paths(maker)}, key=len)
            elif name not in self.ambiguous:
                self.table[name] = maker
            self.allowed[name] = maker
            self.table.update(dict.fromkeys(paths(maker), maker))

    @staticmethod
    def _pairs(allow: Allow | None) -> list[tuple[str | None, Maker]]:
        if allow is None:
            return []
        if isinstance(allow, Mapping):
            for name in allow:
                if not isinstance(name, str) or not name:
                    raise LossError("lossfold.build", "allow", "a dict with names for keys", short(name))
            return list(allow.items())
        if isinstance(allow, str) or not isinstance(allow, Iterable):
            raise LossError("lossfold.build", "allow", "a list of classes, or a dict of them by name", short(allow))
        return [(None, maker) for maker in allow]

    def schedules(self) -> dict[str, Maker]:
        """Return what a schedule may be: lossfold's, and what is allowed that is no module."""
        makers = [maker for maker in (*PARTS.values(), *self.allowed.values()) if not is_module(maker)]
        return {name: maker for name, maker in self.table.items() if any(maker is one for one in makers)}

    def find(
        self, name: object, place: Place, among: Mapping[str, Maker] | None = None, what: str = "the name of a registered loss"
    ) -> Maker:
        """Return what a name stands for.

        Args:
            name: what stands there.
            place: where.
            among: the part of the table that it may come from; None for all.
            what: it should be.

        Raises:
            LossError: it is in no table.
        """
        if isinstance(name, str) and OURS.fullmatch(name):
            own = f"lossfold.{last_part(name)}"
            name = own if own in self.table else name
        if among is not None:
            makers = list(among.values())
            if (isinstance(name, str) and name in among) or any(name is maker for maker in makers):
                return among[name] if isinstance(name, str) else name  # type: ignore[return-value]
            raise place.error("lossfold.build", what, short(name), nearest(name, [one for one in among if "." not in one]))
        if isinstance(name, str) and name in self.table:
            return self.table[name]
        if callable(name):  # MMEngine's lazy configs hold the class itself
            if any(name is maker for maker in self.table.values()):
                return name
            raise place.error("lossfold.build", "a loss, or one that is allowed", short(name), "lossfold.build(..., allow=[...])")
        if isinstance(name, str) and name in self.ambiguous:
            hint = f"write one of {', '.join(self.ambiguous[name])}"
            raise place.error("lossfold.build", "the name of one loss", f"{name!r}, which two have", hint)
        if isinstance(name, str):
            for entry, where in LOSSES.plugins().items():
                if name in (entry, where.replace(":", ".")):
                    return LOSSES[entry]
        known = [*(known for known in self.table if "." not in known), *LOSSES.plugins()]
        listed = LISTED + f"; allowed: {', '.join(sorted(self.allowed))[:200]}" * bool(self.allowed)
        hint = loss_meant(name) or (nearest(last_part(name), known, listed) if isinstance(name, str) else "")
        if isinstance(name, str) and "." in name:
            hint = f"nothing is imported for a config; lossfold.build(..., allow=[...]) lets it name classes of your own; {hint}"
        raise place.error("lossfold.build", what, short(name), hint)

    def name_of(self, maker: Maker) -> str | None:
        """Return the name that a class has here, the shortest of its own; None if it has none."""
        own = getattr(maker, "__name__", "")
        if self.table.get(own) is maker:
            return own
        names = [name for name, known in self.table.items() if known is maker]
        return min(names, key=lambda name: ("." in name, len(name)), default=None)


def is_module(maker: Maker) -> bool:
    """Whether a class makes modules."""
    return isinstance(maker, type) and issubclass(maker, nn.Module)


def last_part(name: str) -> str:
    """Return what stands after the last dot."""
    return name.rpartition(".")[2]


def paths(maker: Maker) -> list[str]:
    """Return the full paths of a class: where it is defined, and the packages around that which offer it by its name."""
    module, name = getattr(maker, "__module__", None), getattr(maker, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return []
    found, parts = [f"{module}.{name}"], module.split(".")
    for end in range(len(parts) - 1, 0, -1):
        around = sys.modules.get(".".join(parts[:end]))
        if vars(around).get(name) is maker if around is not None else False:
            found.append(f"{'.'.join(parts[:end])}.{name}")
    return found
