"""A forward and backward as a CUDA graph: what the device takes when the host hands over nothing but one call."""

from __future__ import annotations

from typing import Any

from .case import LossFunction, Sample
from .clocks import DeviceClock

WARM = 3
"""Runs before a capture: libraries load, kernels compile, and lossfold writes its formulas."""


def capture(device: Any, function: LossFunction, sample: Sample) -> Any:
    """Capture a forward and backward; `.replay()` runs them again on the sample's tensors, into the same gradient.

    Args:
        device: `torch.cuda`, or what has its streams and graphs.
        function, sample: the work.
    """

    def step() -> None:
        sample.leaf.grad = None
        function(sample.leaf, *sample.rest).backward()  # type: ignore[no-untyped-call]

    side = device.Stream()
    side.wait_stream(device.current_stream())
    with device.stream(side):
        for _ in range(WARM):
            step()
    device.current_stream().wait_stream(side)
    sample.leaf.grad = None
    graph = device.CUDAGraph()
    with device.graph(graph):
        step()
    return graph


def replay_times(clock: DeviceClock, function: LossFunction, sample: Sample, repeats: int, warmup: int) -> list[float]:
    """Seconds of replays, after some that do not count; the graph's memory is given back."""
    graph = capture(clock.device, function, sample)
    try:
        seconds = [clock.once(graph.replay) for _ in range(warmup + repeats)][warmup:]
    finally:
        sample.leaf.grad = None
        del graph
    return seconds
