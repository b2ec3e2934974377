"""What the machine can do at best: copy memory and take exponentials, measured beside the losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .clocks import DeviceClock, HostClock
from .timing import HOST

COPY_BYTES = 1 << 28
"""Big enough to be out of any cache."""

EXP_NUMBERS = 1 << 16
"""Small enough for a core's own cache."""

DEVICE_EXP_NUMBERS = 1 << 22
"""On a GPU: PyTorch's own kernel, which the memory limits as well; a share above 1 is no surprise there."""


@dataclass(frozen=True)
class Calibration:
    """Limits of the machine with the threads of this run.

    Args:
        copy_bytes_per_second: read plus written, into memory that is already there.
        exp_per_second: float32 exponentials by PyTorch, in cache: one thread's, times the threads.
    """

    copy_bytes_per_second: float
    exp_per_second: float

    def best(self, other: Calibration) -> Calibration:
        """The larger of both figures: a busy moment lowers a limit, nothing raises it."""
        return Calibration(
            max(self.copy_bytes_per_second, other.copy_bytes_per_second),
            max(self.exp_per_second, other.exp_per_second),
        )


def calibrate(quick: bool = False, device: str = "cpu", clock: HostClock | DeviceClock = HOST) -> Calibration:
    """Measure both limits; the fastest of several tries counts."""
    numbers = (COPY_BYTES >> (3 if quick else 0)) // 4
    source = torch.ones(numbers, device=device)
    target = torch.zeros(numbers, device=device)
    copying = clock.fastest(lambda: target.copy_(source), tries=5 if quick else 9)
    if device == "cpu":
        exponentials = torch.get_num_threads() * _exp_rate_of_one_thread()
    else:
        exponentials = DEVICE_EXP_NUMBERS / clock.fastest(
            lambda: torch.exp(source[:DEVICE_EXP_NUMBERS], out=target[:DEVICE_EXP_NUMBERS]), 9
        )
    return Calibration(2 * source.numel() * 4 / copying, exponentials)


def _exp_rate_of_one_thread() -> float:
    """Alone, because short parallel loops would measure how fast threads start and meet."""
    threads = torch.get_num_threads()
    values = torch.linspace(-10, 0, EXP_NUMBERS)
    powers = torch.empty_like(values)
    rounds = 20

    def exponentials() -> None:
        for _ in range(rounds):
            torch.exp(values, out=powers)

    torch.set_num_threads(1)
    try:
        return rounds * EXP_NUMBERS / HOST.fastest(exponentials, tries=9)
    finally:
        torch.set_num_threads(threads)
