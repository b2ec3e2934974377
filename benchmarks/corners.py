"""Corners on CPUs beside plain PyTorch: few classes, tiny images, many classes, a busy core.

    python benchmarks/corners.py            # one thread
    python benchmarks/corners.py --busy     # two threads beside a process that keeps one core busy

Forward and backward, interleaved in one process; medians in milliseconds and their ratio (plain / lossfold).
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

import lossfold as lf

Run = Callable[[], object]
Case = tuple[str, Run, Run]


def both_ways(loss: Callable[..., torch.Tensor], x: torch.Tensor, *targets: torch.Tensor) -> Run:
    """A call and the gradient of its first argument."""
    return lambda: torch.autograd.grad(loss(x, *targets), x)


def timed(ours: Run, plain: Run, seconds: float) -> tuple[float, float]:
    """Medians of both, taken in turn for so many seconds."""
    rows: dict[int, list[float]] = {0: [], 1: []}
    for run in (ours, plain, ours, plain):
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rows[0]) < 5:
        for k, run in enumerate((ours, plain)):
            start = time.perf_counter()
            run()
            rows[k].append(time.perf_counter() - start)
    return statistics.median(rows[0]), statistics.median(rows[1])


def cross_entropy(*shape: int) -> Case:
    """Mean cross entropy."""
    x = torch.randn(shape, requires_grad=True)
    y = torch.randint(shape[1], (shape[0], *shape[2:]))
    loss = lf.CrossEntropyLoss()
    return f"CE {list(shape)}", both_ways(loss, x, y), both_ways(functional.cross_entropy, x, y)


def l1(*shape: int) -> Case:
    """Mean absolute error."""
    x, y = torch.rand(shape, requires_grad=True), torch.rand(shape)
    loss = lf.L1Loss()
    return f"L1 {list(shape)}", both_ways(loss, x, y), both_ways(functional.l1_loss, x, y)


def lovasz(*shape: int) -> Case:
    """Beside the same loss of a tenth of the classes: what a value costs may not depend on how many there are."""
    x = torch.randn(shape, requires_grad=True)
    y = torch.randint(shape[1], (shape[0], *shape[2:]))
    few = torch.randn(shape[0], 150, *shape[2:], requires_grad=True)
    z = torch.randint(150, (shape[0], *shape[2:]))
    loss = lf.LovaszLoss()
    return f"Lovasz {list(shape)} (plain: 150 classes)", both_ways(loss, x, y), both_ways(loss, few, z)


@contextlib.contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that keeps one core busy."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="two threads beside a busy core")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2 if options.busy else 1)
    shapes = [(4, 2, 724, 724), (4, 4, 512, 512), (65536, 10, 1, 1), (1, 2, 8, 8), (512, 5, 16, 16), (1, 8, 40, 40),
              (1, 19, 16, 16), (4096, 100), (64, 1000), (2, 19, 256, 512)]  # fmt: skip
    cases = [lambda s=s: cross_entropy(*s) for s in shapes] + [lambda s=s: l1(*s) for s in ((4, 1, 512, 512), (1, 3, 16, 16))]
    cases += [lambda s=s: lovasz(*s) for s in ((1, 1000, 128, 128), (1, 300, 256, 256))]
    with neighbour(options.busy):
        for make in cases:
            name, ours, plain = make()
            if options.only in name:
                mine, theirs = timed(ours, plain, options.seconds)
                print(f"{name:46} {mine * 1e3:9.3f} {theirs * 1e3:9.3f} {theirs / mine:7.2f}", flush=True)


if __name__ == "__main__":
    main()
