"""The triton engine: operators for NVIDIA, AMD and Intel GPUs, from kernels in Triton.

Kernels stand beside the definitions that they have to equal, in ``folds/NAME/triton/``; importing lossfold does not import Triton.

Without a GPU, Triton's interpreter runs the kernels on CPU tensors, slowly: for tests, in a process of its own that has been
started with ``TRITON_INTERPRET=1`` and ``LOSSFOLD_ENGINE=triton``.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch

from lossfold.engines.native import LIBRARY

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on", "y", "yes")
SERVES_CPUS = INTERPRETED and os.environ.get("LOSSFOLD_ENGINE") == "triton"
DEVICES = (
    "CPUs in Triton's interpreter" if SERVES_CPUS else "CUDA, ROCm and XPU devices",
    ("cuda", "xpu", *(["cpu"] if SERVES_CPUS else [])),
)


PROBLEM = "" if importlib.util.find_spec("triton") else "the triton engine is not in this installation: pip install triton"


def problem() -> str:
    """Say why the engine is not in this installation; nothing if it is."""
    return PROBLEM


def here() -> bool:
    """Whether there is a device that it serves."""
    return SERVES_CPUS or torch.cuda.is_available() or torch.xpu.is_available()


def where() -> str:
    """Say on what it runs here: "NVIDIA H100 (sm_90)"."""
    if SERVES_CPUS:
        return "on CPUs in its interpreter"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties()
        kind = getattr(properties, "gcnArchName", "") if torch.version.hip else f"sm_{properties.major}{properties.minor}"
        count = torch.cuda.device_count()
        return f"on {f'{count} x ' * (count > 1)}{properties.name} ({kind})"
    if torch.xpu.is_available():
        return f"on {torch.xpu.get_device_name()}"
    return "and no GPU here"


def version() -> str:
    """Return Triton's version."""
    import triton

    return str(triton.__version__)


def serve(operator: str, host: Callable[[], Any], what: str) -> None:
    """Implement an operator for the engine's devices.

    Args:
        operator: its name.
        host: imports the module that launches kernels.
        what: the name of the function there.
    """

    def run(*arguments: Any) -> Any:
        return getattr(host(), what)(*arguments)

    for device in DEVICES[1]:
        LIBRARY.impl(operator, run, device.upper())
