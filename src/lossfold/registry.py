"""Names for losses: what configs, the functional form, the tests and the benchmarks enumerate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from torch import nn

from lossfold.errors import LossError, nearest


def snake_case(name: str) -> str:
    """Return ``CrossEntropyLoss`` as ``cross_entropy_loss``, ``CEDiceLoss`` as ``ce_dice_loss``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


L = TypeVar("L", bound=type[nn.Module])


class Registry(Mapping[str, type[nn.Module]]):
    """A mapping from names to loss classes; a name is taken once."""

    def __init__(self) -> None:
        self._classes: dict[str, type[nn.Module]] = {}

    def register(self, cls: L) -> L:
        """Enter a class under its own name (use as a decorator)."""
        return self.register_as(cls.__name__)(cls)

    def register_as(self, name: str) -> Callable[[L], L]:
        """Enter a class under another name: ``@LOSSES.register_as("MyDice")``."""

        def enter(cls: L) -> L:
            if name in self._classes:
                raise LossError("LOSSES", "name", "a name that is not taken", repr(name))
            self._classes[name] = cls
            return cls

        return enter

    def __getitem__(self, name: str) -> type[nn.Module]:
        if name not in self._classes:
            raise LossError("LOSSES", "type", "the name of a registered loss", repr(name), nearest(name, self._classes))
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


LOSSES = Registry()
