"""What a map of the target's side costs: CE + Dice + Boundary beside CE + Dice, forward and backward.

`python benchmarks/boundary.py [THREADS] [ROUNDS]`: medians over interleaved rounds, with the distances given in each dtype, by the
clock and in CPU time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # huge pages, so that page faults are not what is measured

import torch
from torch import Tensor

import lossfold as lf

SHAPE = (4, 19, 512, 512)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def step(criterion: lf.LossSet, logits: Tensor, labels: Tensor, **given: Tensor) -> tuple[float, float]:
    """Return the seconds of one forward and backward: by the clock, and of CPUs."""
    logits.grad = None
    clock, work = time.perf_counter(), time.process_time()
    criterion({"logits": logits, "labels": labels, **given}).total.backward()
    return time.perf_counter() - clock, time.process_time() - work


def main(threads: int, rounds: int) -> None:
    """Print a line for each."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logits = (4 * torch.randn(SHAPE)).requires_grad_()
    labels = torch.randint(0, SHAPE[1], (SHAPE[0], 8, 8)).repeat_interleave(64, 1).repeat_interleave(64, 2)
    distance = lf.functional.signed_distance(labels, SHAPE[1], boundary="inner")
    pair = {"ce": lf.CrossEntropyLoss(engine="cpp"), "dice": lf.DiceLoss(engine="cpp")}
    triple = lf.LossSet({**pair, "boundary": 0.01 * lf.BoundaryLoss(engine="cpp")})
    runs: dict[str, tuple[lf.LossSet, dict[str, Tensor]]] = {"CE + Dice": (lf.LossSet(pair), {})}
    for dtype in DTYPES:
        runs[f"with Boundary, distances {str(dtype).removeprefix('torch.')}"] = triple, {"distance": distance.to(dtype)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        for name, (criterion, given) in runs.items():
            seconds = step(criterion, logits, labels, **given)
            if turn > 1:
                found[name].append(seconds)
    middle = {name: [statistics.median(one) for one in zip(*each, strict=True)] for name, each in found.items()}
    for name, (clock, work) in middle.items():
        by_clock, by_work = (one / whole for one, whole in zip((clock, work), middle["CE + Dice"], strict=True))
        print(f"{name:34} {1000 * clock:6.1f} ms: {by_clock:.2f} times, {by_work:.2f} in CPU time")


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["2", "25"][len(sys.argv) - 1 :])))
