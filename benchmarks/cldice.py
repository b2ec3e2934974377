"""Memory and time of soft skeletons beside MONAI's, forward and backward, one thread: `python benchmarks/cldice.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.losses.cldice import soft_skel
from torch import Tensor

import lossfold as lf

SHAPES = ((4, 1, 512, 512), (2, 1, 96, 96, 96))
ITERATIONS = (3, 10, 30)


def peak(action: Callable[[], object]) -> float:
    """MiB that the resident memory grows by at most, meanwhile."""

    def resident(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(name))) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    action()
    return resident("VmHWM") - before


def step(skeleton: Callable[[Tensor, int], Tensor], image: Tensor, iterations: int) -> None:
    """One forward and backward."""
    leaf = image.clone().requires_grad_()
    skeleton(leaf, iterations).sum().backward()


def main() -> None:
    """Print a line for each."""
    torch.set_num_threads(1)
    for shape in SHAPES:
        image = torch.rand(shape)
        for name, skeleton in (("lossfold", lf.functional.soft_skeleton), ("MONAI", soft_skel)):
            step(skeleton, image[..., :32, :32], 1)
            for iterations in ITERATIONS if name == "lossfold" else ITERATIONS[:2]:
                started = time.process_time()
                grown = peak(lambda: step(skeleton, image, iterations))  # noqa: B023
                print(
                    f"{list(shape)}, {iterations} iterations, {name}: {grown:.0f} MiB, {time.process_time() - started:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
