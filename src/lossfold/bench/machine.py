"""The machine and the versions that a result file names."""

from __future__ import annotations

import os
import platform
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from . import gpu
from .providers import PROVIDERS

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe_machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Processor, memory, system, versions and lossfold's engines, as values fit for JSON.

    Args:
        threads: what the run sets for PyTorch.
        device: what is measured, "cpu" or "cuda".
    """
    return {
        **({} if device == "cpu" else {"gpu": gpu.describe()}),
        "cpu": cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()}",
        "huge_pages": _huge_pages(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
        "lossfold": describe_lossfold(),
        "versions": {key: provider.version for key, provider in PROVIDERS.items() if provider.installed},
    }


def describe_lossfold() -> dict[str, Any]:
    """The engines of lossfold and their SIMD level; an empty description where it can't be imported."""
    try:
        engines = import_module("lossfold.engines")
        found = {"engines": list(engines.available()), "simd": str(engines.native.simd_level())}
        return found | ({} if engines.triton.problem() else {"triton": engines.triton.version()})
    except (ImportError, AttributeError):
        return {}


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def slug(machine: dict[str, Any]) -> str:
    """A file name's worth of the machine: "intel-xeon-processor-2t"."""
    name = machine["gpu"]["name"] if "gpu" in machine else machine["cpu"]
    words = re.sub(r"\((r|tm)\)|@.*|\bcpu\b", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9]+", words)) + ("" if "gpu" in machine else f"-{machine['threads']}t")


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _huge_pages() -> str:
    try:
        chosen = re.search(r"\[(\w+)\]", HUGE_PAGES.read_text())
    except OSError:
        return ""
    return chosen.group(1) if chosen else ""
