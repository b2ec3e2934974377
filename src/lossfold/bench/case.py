"""What is measured: a case, its inputs, and how one provider serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

LossFunction = Callable[..., Tensor]
"""Takes the leaf that needs a gradient and the rest of the inputs; returns a scalar."""

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
LABEL_DTYPES = {"int64": torch.int64, "int32": torch.int32, "uint8": torch.uint8}


@dataclass(frozen=True)
class Setting:
    """The inputs of a run, before they are tensors.

    Args:
        size: `[B, C, *S]`, with S the labels' resolution; a case may take smaller logits.
        dtype: a name of `DTYPES`.
        labels: a name of `LABEL_DTYPES`; cases without integer labels leave it alone.
        logits: what the network gives, logits, alphas or images: "random" (noise) or "trained" (smooth and confident).
        seed: of the generator that makes them.
        device: where they are made, "cpu" or "cuda".
    """

    size: tuple[int, ...] = (2, 19, 512, 1024)
    dtype: str = "float32"
    labels: str = "int64"
    logits: str = "random"
    seed: int = 0
    device: str = "cpu"

    @property
    def pixels(self) -> int:
        """Pixels of the batch."""
        count = self.size[0]
        for length in self.size[2:]:
            count *= length
        return count


@dataclass(frozen=True)
class Sizes:
    """The `[B, C, *S]` that a case is measured at where none is given.

    Args:
        full: of a whole run.
        quick: of a run with `--quick`.
        fewest_channels: the smallest C that the case is about.
    """

    full: tuple[int, ...] = (2, 19, 512, 1024)
    quick: tuple[int, ...] = (2, 19, 128, 256)
    fewest_channels: int = 2


@dataclass(frozen=True)
class Sample:
    """Tensors of a run: `leaf` gets the gradient, `rest` are the other arguments."""

    leaf: Tensor
    rest: tuple[Tensor, ...]

    @property
    def leaf_bytes(self) -> int:
        """One unit: the bytes of the tensor that gets the gradient."""
        return self.leaf.numel() * self.leaf.element_size()

    @property
    def rest_bytes(self) -> int:
        """Bytes of the other arguments."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.rest)


@dataclass(frozen=True)
class Tolerance:
    """By how much a right entry may miss the truth where rounding alone is not the reason; see `agreement`."""

    value: float = 0.0
    gradient: float = 0.0


@dataclass(frozen=True)
class Entry:
    """How one provider serves one case.

    Args:
        build: makes the loss function; imports happen here, so that an absent package costs only this entry.
        inputs: what the provider needs otherwise in the inputs: keywords of the case's `sample`.
        options: where its formula differs by an option of the truth ({"smooth": 0.0}).
        note: the reason for either, shown in the row.
    """

    build: Callable[[], LossFunction]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Case:
    """A piece of work that several providers can do.

    Args:
        name: how it is chosen, `--case name`.
        title: how tables and plots call it.
        truth: the definition in plain PyTorch; called with float64 leaves, it judges every entry.
        sample: makes the inputs from a setting.
        entries: by provider key.
        passes: the fewest passes over the leaf, forward and backward together, the written gradient included.
        lacking: provider key -> why it has no entry.
        tolerance: wider than the dtype's where the work itself has no sharper result; the entries' notes say why.
        parts: of a sum, the cases that are its terms; lossfold's set is also timed beside each of them alone.
        sizes: of its inputs.
        leaf: what the tensor that gets the gradient is, "logits" (scored against labels), "alphas" or "images".
        exponentials: the fewest for each class and label pixel.
        most_repeats: where a round takes long, how many count at most, with one before them.
    """

    name: str
    title: str
    truth: LossFunction
    sample: Callable[..., Sample]
    entries: Mapping[str, Entry]
    passes: int
    lacking: Mapping[str, str] = field(default_factory=dict)
    tolerance: Tolerance = Tolerance()
    parts: tuple[str, ...] = ()
    sizes: Sizes = Sizes()
    leaf: str = "logits"
    exponentials: int = 1
    most_repeats: int | None = None

    def minimal_bytes(self, sample: Sample, part: str) -> int:
        """The bytes that any implementation must move: `part` is forward, backward or both.

        A forward reads everything once; a backward reads it again and writes the gradient; both together may
        share reads down to `passes`, and the other arguments are read once for every reading of the leaf.
        """
        units = {"forward": 1, "backward": 2, "both": self.passes}[part]
        readings = units if part == "forward" else units - 1
        return units * sample.leaf_bytes + readings * sample.rest_bytes

    def rounds(self, repeats: int, warmup: int) -> tuple[int, int]:
        """Of the rounds that a run asks for, those that count and those before them that this case takes."""
        return (repeats, warmup) if self.most_repeats is None else (min(repeats, self.most_repeats), min(warmup, 1))
