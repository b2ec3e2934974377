"""Watches which of lossfold's compiled operators run, and with what."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from lossfold.engines.native import NAMESPACE as NAMESPACE


class Watch(TorchDispatchMode):
    """Records every call of an operator of lossfold's namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == NAMESPACE:
            self.calls.append((func, args, kwargs))
        return func(*args, **kwargs)

    def count(self, name: str) -> int:
        return sum(func._schema.name.split("::")[1] == name for func, _, _ in self.calls)

    @property
    def names(self) -> list[str]:
        return [func._schema.name.split("::")[1] for func, _, _ in self.calls]
