"""A network that nobody trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Frozen:
    """A network in eval mode whose parameters take no gradient.

    It is no module: what keeps one neither trains it, nor counts its parameters, nor writes it to checkpoints. Copies share the
    network until one of them is moved or cast.

    Args:
        network: taken over as it is, and changed: give a copy of what others use.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)
        self.shared = False
        self._look()

    def _look(self) -> None:
        # Images meet a convolution first; networks cast in part keep float32 elsewhere.
        tensors = [x for x in (*self.network.parameters(), *self.network.buffers()) if x.is_floating_point()]
        first = next((x for x in tensors if x.dim() == 4), tensors[0] if tensors else None)
        self.dtype: torch.dtype | None = None if first is None else first.dtype
        self.device: torch.device | None = None if first is None else first.device

    def __call__(self, images: Tensor) -> Any:
        """Run the network on images, in its own dtype (autocast may lower it)."""
        return self.network(self.cast(images))

    def cast(self, images: Tensor) -> Tensor:
        """Return images in the network's dtype, if it has one."""
        return images if self.dtype is None else images.to(self.dtype)

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Move or cast the network, as ``nn.Module._apply`` does."""
        if self.shared:
            self.network, self.shared = copy.deepcopy(self.network), False
        self.network._apply(function)  # type: ignore[no-untyped-call]
        self._look()

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        self.shared = True
        memo[id(self)] = other = copy.copy(self)
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.network).__name__})"
