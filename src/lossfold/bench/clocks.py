"""Who takes the time: the host's clock, or events on a device."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor

from . import gpu
from .case import LossFunction, Sample


class Clock(Protocol):
    """Takes the time of one forward and one backward."""

    def run_once(self, function: LossFunction, sample: Sample) -> tuple[float, float]:
        """Seconds of one forward and one backward into a fresh gradient, freed again outside the clock."""
        ...

    def fastest(self, work: Callable[[], object], tries: int) -> float:
        """Seconds of the fastest of several tries, after one that does not count."""
        ...


class HostClock:
    """The host's clock, for work that is done when the call returns."""

    def run_once(self, function: LossFunction, sample: Sample) -> tuple[float, float]:
        """Seconds of one forward and one backward into a fresh gradient, freed again outside the clock."""
        leaf = sample.leaf
        leaf.grad = None
        start = perf_counter()
        loss: Tensor = function(leaf, *sample.rest)
        middle = perf_counter()
        loss.backward()  # type: ignore[no-untyped-call]
        end = perf_counter()
        leaf.grad = None
        return middle - start, end - middle

    def fastest(self, work: Callable[[], object], tries: int) -> float:
        """Seconds of the fastest of several tries, after one that does not count."""
        work()
        best = float("inf")
        for _ in range(tries):
            start = perf_counter()
            work()
            best = min(best, perf_counter() - start)
        return best


class DeviceClock:
    """Events on a device, before which its cache is written over, so that every round finds the inputs in memory.

    Writing takes the device some time, in which the host hands over the work: what is timed is the device's, unless the host
    takes longer than that, and then also what is waited for it.

    Args:
        device: `torch.cuda`, or what has its `Event` and `synchronize`.
        cache: what is written over.
    """

    def __init__(self, device: Any, cache: Tensor) -> None:
        self.device, self.cache = device, cache

    def run_once(self, function: LossFunction, sample: Sample) -> tuple[float, float]:
        """Seconds of one forward and one backward into a fresh gradient, freed again outside the clock."""
        leaf = sample.leaf
        leaf.grad = None
        start, middle, end = (self.device.Event(enable_timing=True) for _ in range(3))
        self.cache.zero_()
        start.record()
        loss: Tensor = function(leaf, *sample.rest)
        middle.record()
        loss.backward()  # type: ignore[no-untyped-call]
        end.record()
        self.device.synchronize()
        leaf.grad = None
        return start.elapsed_time(middle) / 1000, middle.elapsed_time(end) / 1000

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of some work."""
        start, end = (self.device.Event(enable_timing=True) for _ in range(2))
        self.cache.zero_()
        start.record()
        work()
        end.record()
        self.device.synchronize()
        return float(start.elapsed_time(end)) / 1000

    def fastest(self, work: Callable[[], object], tries: int) -> float:
        """Seconds of the fastest of several tries, after one that does not count."""
        self.once(work)
        return min(self.once(work) for _ in range(tries))


def clock_of(device: str) -> HostClock | DeviceClock:
    """The clock of a device's work."""
    if device == "cpu":
        return HostClock()
    return DeviceClock(torch.cuda, torch.empty(4 * gpu.cache_bytes(), dtype=torch.uint8, device=device))
