"""The GPU that is measured: its name, driver, clocks and limits, and what a run of `--device cuda` needs."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import torch

CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "temperature.gpu", "power.draw", "power.limit")


def missing() -> str:
    """Say why nothing can be measured on a GPU; nothing if it can."""
    if torch.cuda.is_available():
        return ""
    built = torch.version.cuda or torch.version.hip
    return "there is no GPU that this PyTorch sees" if built else f"this PyTorch ({torch.__version__}) is not built for GPUs"


def describe() -> dict[str, Any]:
    """The GPU as values fit for JSON."""
    properties = torch.cuda.get_device_properties()
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "processors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_bytes": cache_bytes(),
        "runtime": f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}",
        "driver": asked("driver_version").get("driver_version"),
        "clocks": clocks(),
    }


def clocks() -> dict[str, float]:
    """Clocks in MHz, temperature and power, now and at most; nothing where no tool tells them."""
    return {name: float(value) for name, value in asked(*CLOCKS).items() if value.replace(".", "", 1).isdigit()}


def asked(*fields: str) -> dict[str, str]:
    """What nvidia-smi says of the current device."""
    tool = shutil.which("nvidia-smi")
    uuid = getattr(torch.cuda.get_device_properties(), "uuid", None)
    if tool is None or uuid is None:
        return {}
    command = [tool, "-i", f"GPU-{uuid}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, (value.strip() for value in told.split(",")), strict=False))


def cache_bytes() -> int:
    """The size of the cache between the processors and the memory; 64 MiB where it is not told."""
    return int(getattr(torch.cuda.get_device_properties(), "L2_cache_size", 0)) or 1 << 26
