"""Sums of pixels by their labels, in few steps, and the same bits whatever the order in which a device adds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.folds import arithmetic
from lossfold.folds.arithmetic import total, total_dtype

MOST_COLUMNS, LEAST_ROWS = 256, 1024


@dataclass(frozen=True)
class Slots:
    """Where pixels are summed: those of class c in slot ``c - low``, those that do not count in one that is none of a class's.

    Attributes:
        y: ``[B, P]`` int64, each pixel's class, or ``ignored``.
        ignored: what stands for no class; where it is one, nobody reads that class's slot.
        low: what the first slot stands for.
        count: of the slots.
        classes: their number.
    """

    y: Tensor
    ignored: int
    low: int
    count: int
    classes: int

    @property
    def index(self) -> Tensor:
        """The slots of the pixels, ``[B, P]``."""
        return self.y if self.low == 0 else self.y - self.low

    @property
    def within(self) -> Tensor:
        """The classes of the pixels; of those without one, any."""
        return self.y.clamp(0, self.classes - 1)

    @property
    def out(self) -> Tensor:
        """Which pixels do not count, ``[B, P]``."""
        return self.y == self.ignored

    def minus_at(self, values: Tensor) -> Tensor:
        """Return minus what each pixel has for its class, 0 if it has none: ``[B, P]`` of ``[B, C, P]``."""
        return functional.nll_loss(values, self.y, ignore_index=self.ignored, reduction="none")

    def of_classes(self, by_slot: Tensor) -> Tensor:
        """Return the part ``[..., C]`` of what was summed by slot that belongs to classes."""
        found = by_slot[..., -self.low : self.classes - self.low]
        if 0 <= self.ignored < self.classes:
            found[..., self.ignored] = 0
        return found

    def by_class(self, values: Tensor) -> Tensor:
        """Return ``[..., C]`` as a table by slot, 0 where there is no class."""
        table = functional.pad(values, (-self.low, self.count - self.classes + self.low))
        if 0 <= self.ignored < self.classes:
            table[..., self.ignored - self.low] = 0
        return table


def frame(y: Tensor, ignore_index: int, classes: int) -> Slots:
    """Return the slots: an ``ignore_index`` near the classes has one of its own, so that labels serve as they are."""
    low = min(0, ignore_index)
    count = max(classes, ignore_index + 1) - low
    if count > classes + min(y.shape[1], MOST_COLUMNS):
        return Slots(y, classes, 0, classes + 1, classes)
    return Slots(y, ignore_index, low, count, classes)


def slots_of(labels: Tensor, weight: Tensor | None, ignore_index: int, classes: int) -> tuple[Slots, Tensor]:
    """Return the pixels' slots, and how many pixels each class has, ``[B, C]`` in the dtype of totals, whatever the weights."""
    slots = frame((labels.flatten(1) if labels.dim() > 1 else labels[:, None]).long(), ignore_index, classes)
    message = f"lossfold: a label is out of range [0, {classes}) and is not ignore_index={ignore_index}"
    if slots.ignored != ignore_index:
        out = slots.y == ignore_index
        _assert_between(torch.where(out, 0, slots.y), classes, message)
        slots = replace(slots, y=torch.where(out, slots.ignored, slots.y))
    y, ignored, low, count = slots.y, slots.ignored, slots.low, slots.count
    index = slots.index
    if slots.ignored == ignore_index:
        _assert_between(index, count, message)
    found = by_slot(torch.ones((), dtype=total_dtype(labels), device=y.device).expand(len(y), 1, y.shape[1]), index, count)[:, 0]
    between = found[:, classes:ignored] if ignored > classes else found[:, 1:-low]
    if between.shape[1]:
        torch._assert_async(between.sum() == 0, message)
    counts = slots.of_classes(found)
    if weight is not None:
        slots = replace(slots, y=torch.where(weight.reshape(y.shape) != 0, y, ignored))
    return slots, counts


def _assert_between(values: Tensor, end: int, message: str) -> None:
    """Stop, without waiting for the device, unless all are from 0 to below an end."""
    least, most = values.aminmax()
    torch._assert_async((least >= 0) & (most < end), message)


def sums_by_class(shares: list[Tensor], slots: Slots) -> Tensor:
    """Sum ``[B, P]`` within the pixels of each class: ``[B, K, C]``, always the same bits.

    CPUs add in order. Elsewhere additions come in any order, which changes nothing where each is exact: values are cut to
    multiples of a grain, 2^-52 of what the largest of their image may add up to in a slot, and float64 holds all their sums.
    """
    values = torch.stack(shares, 1) if len(shares) > 1 else shares[0][:, None]
    dtype = total_dtype(values)
    if arithmetic.on_cpu(values):
        return slots.of_classes(by_slot(values.to(dtype), slots.index, slots.count))
    if values.dtype == dtype:
        return masked_sums(values, slots)
    return slots.of_classes(exact_by_slot(values, slots))


def exact_by_slot(values: Tensor, slots: Slots) -> Tensor:
    """Sum float32 values ``[B, K, P]`` by slot in any order: ``[B, K, slots]`` in float64."""
    largest = torch.linalg.vector_norm(values.nan_to_num(0.0, 0.0, 0.0), torch.inf, dim=2, keepdim=True)
    pixels = values.shape[2]
    grain = (largest.double() * (-(-pixels // columns_for(pixels)) * 2.0**-52)).clamp_min_(torch.finfo(torch.float32).tiny)
    cut = torch.div(values, grain, rounding_mode="trunc")  # infinities and NaN stay what they are
    return by_slot(cut, slots.index, slots.count).mul_(grain)


def masked_sums(values: Tensor, slots: Slots) -> Tensor:
    """Sum values ``[B, K, P]`` by class, where float64 can't make additions exact."""
    here = slots.y[:, None] == torch.arange(slots.classes, device=values.device)[:, None]
    if 0 <= slots.ignored < slots.classes:
        here &= (slots.y != slots.ignored)[:, None]
    return torch.stack([total(torch.where(here, value[:, None], 0.0)) for value in values.unbind(1)], 1)


def by_slot(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Add values ``[B, K, P]`` up by slot ``[B, P]``: ``[B, K, slots]``. Neighbours add to different columns of a slot."""
    images, kinds, pixels = values.shape
    index = index[:, None].expand(values.shape)
    columns = 1 if arithmetic.on_cpu(values) else columns_for(pixels)
    if columns == 1:
        return values.new_zeros((images, kinds, count)).scatter_add_(2, index, values)
    found = values.new_zeros((images, kinds, count, columns))
    whole = pixels // columns * columns
    for part in (slice(0, whole), slice(whole, pixels)):
        if part.start < part.stop:
            shape = (images, kinds, -1, min(columns, part.stop - part.start))
            found.scatter_add_(2, index[..., part].unflatten(2, shape[2:]), values[..., part].unflatten(2, shape[2:]))  # type: ignore[no-untyped-call]
    return found.sum(3)


def columns_for(pixels: int) -> int:
    """Return over how many columns the pixels of a slot are spread."""
    return max(1, min(MOST_COLUMNS, pixels // LEAST_ROWS))
