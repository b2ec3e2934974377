"""Where something stands in a configuration, for errors that say so."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from lossfold.errors import LossError

Path = tuple[str | int, ...]


class _Short(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        return f"an integer of {x.bit_length()} bits" if x.bit_length() > 1024 else super().repr_int(x, level)


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def short(value: object) -> str:
    """Return the representation of anything, however large or deep, in at most about a line."""
    return _SHORT.repr(value)[:160]


@dataclass(frozen=True)
class Source:
    """What a configuration was read from.

    Args:
        file: its name; "" for a dict.
        lines: where each value begins.
    """

    file: str = ""
    lines: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """A path in a configuration."""

    source: Source = field(default_factory=Source)
    path: Path = ()

    def at(self, *keys: object) -> Place:
        """Return the place of something in here."""
        return Place(self.source, self.path + tuple(key if isinstance(key, (str, int)) else short(key) for key in keys))

    def __str__(self) -> str:
        parts = [part if isinstance(part, str) else short(part) for part in self.path]
        return ".".join(parts if self.source.file and parts else ["cfg", *parts])

    def error(self, who: str, expected: str, got: str, hint: str = "") -> LossError:
        """Return the error about what stands here; ``who`` is the loss, or what reads the configuration."""
        if not self.source.file:
            return LossError(who, str(self), expected, got, hint)
        known = [self.path[:end] for end in range(len(self.path), -1, -1) if self.path[:end] in self.source.lines]
        line = f":{self.source.lines[known[0]]}" if known else ""
        return LossError(f"{self.source.file}{line}", str(self), expected.replace("this loss", who), got, hint)
