"""Peak extra memory of one forward and backward: how far the resident set of a fresh process grows."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
from pathlib import Path

import torch

from .case import LossFunction, Sample
from .clocks import HostClock

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"

PROMPT_RELEASE = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
"""Environment of a process to be measured: glibc then gives freed blocks back to the system at once.

Otherwise it keeps those up to some 32 MB, and the peak depends on which of them happened to fit again.
"""


def measurable(device: str = "cpu") -> bool:
    """Whether this system can tell and reset a process's peak (Linux); allocators of GPUs always do."""
    if device != "cpu":
        return True
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return "VmHWM" in STATUS.read_text()


def peak_growth(function: LossFunction, sample: Sample, warmup: int = 1) -> int:
    """Bytes that a forward and backward add to what is resident, the gradient included.

    The warm-up loads libraries, starts threads and compiles; what it left behind in the allocator is handed
    back first, because a reused block would not show. Exact to about 0.3 MB: the kernel counts pages in batches.
    """
    run_once = HostClock().run_once
    for _ in range(warmup):
        run_once(function, sample)
    gc.collect()
    _return_free_memory()
    CLEAR_REFS.write_text(RESET_PEAK)
    before = _status_bytes("VmRSS")
    run_once(function, sample)
    return max(0, _status_bytes("VmHWM") - before)


def peak_allocated(function: LossFunction, sample: Sample, warmup: int = 2) -> int:
    """Bytes that the allocator of the sample's GPU hands out beyond the inputs, the gradient included."""
    run_once = HostClock().run_once
    for _ in range(warmup):
        run_once(function, sample)
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run_once(function, sample)
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before


def _status_bytes(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise LookupError(f"no {field} in the status of this process")


def _return_free_memory() -> None:
    library = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(library), "malloc_trim", None) if library else None
    if trim is not None:
        trim(0)
