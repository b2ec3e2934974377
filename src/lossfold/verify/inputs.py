"""Small data to call a loss with, from the smallest on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

KINDS = {
    "classes": "logits [B, C, H, W] and class indices [B, H, W]",
    "masks": "logits [B, C, H, W] and targets of the same shape in [0, 1]",
    "images": "two tensors [B, C, H, W] in [0, 1]",
}
SIZES = ((1, 1, 2), (1, 2, 2), (2, 2, 3), (3, 4, 5))
"""Images, rows and columns."""
LARGE = (2, 16, 16)
"""Where a filter or a window wants some room."""


@dataclass(frozen=True)
class Inputs:
    """One call's arguments."""

    pred: Tensor
    target: Tensor
    weight: Tensor | None = None

    def code(self) -> str:
        """Return lines that make it again."""
        named = {"pred": self.pred, "target": self.target} | ({} if self.weight is None else {"weight": self.weight})
        return "\n".join(f"{name} = {shown(tensor)}" for name, tensor in named.items())

    def leaf(self) -> Inputs:
        """Return the same with a prediction that asks for its gradient."""
        return replace(self, pred=self.pred.detach().clone().requires_grad_())

    def to(self, dtype: torch.dtype) -> Inputs:
        """Return the same in another dtype, where it is floating."""
        target, weight = (x.to(dtype) if x is not None and x.is_floating_point() else x for x in (self.target, self.weight))
        assert target is not None
        return Inputs(self.pred.to(dtype), target, weight)

    def each(self, change: object) -> Inputs:
        """Return it with every tensor changed by a function of it."""
        assert callable(change)
        return Inputs(change(self.pred), change(self.target), None if self.weight is None else change(self.weight))


def shown(tensor: Tensor) -> str:
    """Return a tensor as code: its numbers where they are few, else what makes one like it."""
    if tensor.numel() > 24:
        return f"a {str(tensor.dtype).removeprefix('torch.')} tensor {list(tensor.shape)}"
    kind = "" if tensor.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={tensor.dtype}"
    values = tensor.detach().tolist() if not tensor.is_floating_point() else rounded(tensor.detach().double().tolist())
    return f"torch.tensor({values}{kind})".replace("inf", "float('inf')").replace("nan", "float('nan')")


def rounded(values: object) -> object:
    """Return nested lists with four digits."""
    return [rounded(one) for one in values] if isinstance(values, list) else float(f"{values:.4g}")


def make(kind: str, size: tuple[int, int, int], classes: int, seed: int = 0) -> Inputs:
    """Return random data in float64: logits of standard deviation 2; every class occurs where there is room."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = size
    shape = (batch, classes, height, width)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "images":
        other = torch.rand(shape, generator=generator, dtype=torch.float64)
        return Inputs((0.7 * other + 0.3 * noise.sigmoid()), other)
    if kind == "masks":
        return Inputs(2 * noise, (torch.rand(shape, generator=generator) > 0.5).double())
    labels = torch.randperm(batch * height * width, generator=generator).reshape(batch, height, width) % classes
    return Inputs(2 * noise, labels)


def ladder(kind: str, classes: int, sizes: tuple[tuple[int, int, int], ...]) -> Iterator[Inputs]:
    """Yield data from the smallest size on, three of each."""
    for size in sizes:
        for seed in range(3):
            yield make(kind, size, classes, seed)
