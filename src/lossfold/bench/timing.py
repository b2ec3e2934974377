"""Interleaved timings: a round runs every provider once, so that a slow moment meets all of them."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from .case import LossFunction, Sample
from .clocks import Clock, HostClock

PARTS = ("forward", "backward", "both")

Job = tuple[LossFunction, Sample]
Name = TypeVar("Name", bound=Hashable)
HOST = HostClock()


@dataclass(frozen=True)
class Spread:
    """Milliseconds over the rounds: the median, and a fifth of the rounds below p20 and above p80."""

    median: float
    p20: float
    p80: float

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """The spread of timings given in seconds."""
        ordered = sorted(1000 * value for value in seconds)
        if len(ordered) == 1:
            return cls(ordered[0], ordered[0], ordered[0])
        fifths = statistics.quantiles(ordered, n=5, method="inclusive")
        return cls(statistics.median(ordered), fifths[0], fifths[-1])


def measure(jobs: Mapping[Name, Job], repeats: int, warmup: int, clock: Clock = HOST) -> dict[Name, dict[str, Spread]]:
    """Time forward, backward and both of every job, the gradient allocated anew each time.

    Args:
        jobs: by name, a function and its inputs.
        repeats: rounds that count.
        warmup: rounds before them that don't.
        clock: takes the time.

    Returns:
        By name and part, the spread.
    """
    names = list(jobs)
    seconds: dict[Name, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(warmup + repeats):
            first = turn % len(names) if names else 0
            for name in names[first:] + names[:first]:
                forward, backward = clock.run_once(*jobs[name])
                if turn >= warmup:
                    record = seconds[name]
                    record["forward"].append(forward)
                    record["backward"].append(backward)
                    record["both"].append(forward + backward)
            gc.collect()
    finally:
        gc.enable()
    return {name: {part: Spread.of(values) for part, values in parts.items()} for name, parts in seconds.items()}
