"""Where a set keeps its terms."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


class Members(nn.Module):
    """The terms of a set by name, which may be that of a method, too."""

    @property
    def names(self) -> list[str]:
        """The names in their order."""
        return list(self._modules)

    def add(self, name: str, loss: nn.Module) -> None:
        """Add a term."""
        self._modules[name] = loss

    def __getitem__(self, which: str | int) -> nn.Module:
        return self._modules[self.names[which] if isinstance(which, int) else which]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules.values())  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._modules)
