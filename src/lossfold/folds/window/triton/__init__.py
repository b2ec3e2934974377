"""The window fold on GPUs: the operators' kernels, and what they do not have."""

from __future__ import annotations

from lossfold.engines import Lacks
from lossfold.folds.window.spec import WindowSpec

MOST_TAPS = 13  # a lane holds seven numbers for each


def lacks(spec: WindowSpec, volumes: bool = False) -> Lacks:
    """Return what says of each engine whether it lacks what a call needs: only eager has windows in three dimensions."""

    def of(engine: str) -> str:
        if volumes and engine != "eager":
            return "windows in volumes [B, C, D, H, W]"
        return f"windows of more than {MOST_TAPS} pixels" if engine == "triton" and spec.window_size > MOST_TAPS else ""

    return of
