"""What a call costs the host: small inputs on a CPU beside plain PyTorch; and what a GPU is handed, without the kernels.

    python benchmarks/host_time.py                                       # small inputs, one thread
    TRITON_INTERPRET=1 LOSSFOLD_ENGINE=triton python benchmarks/host_time.py   # the triton engine, its launches left out
    ... --stub operators                                                  # and the operators of the folds, too

Medians in microseconds over interleaved rounds: forward; forward and backward; the same of plain PyTorch; plain / lossfold.
Without a GPU the triton engine's host side runs on CPU tensors in Triton's interpreter, whose launches do nothing here: what is
left is Python, small tensors and autograd. A launch itself costs a GPU's driver and Triton some microseconds more.
"""

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.engines.triton import SERVES_CPUS

Loss = Callable[..., Any]


class Case(NamedTuple):
    """A loss, the same in plain PyTorch, what it is given."""

    name: str
    ours: Loss
    plain: Loss
    inputs: tuple[Tensor, ...]


def three(z: Tensor, y: Tensor) -> Tensor:
    """Cross entropy, Dice of the classes that are there, and focal loss, as people write them."""
    p = z.softmax(1)
    t = functional.one_hot(y, z.shape[1]).movedim(-1, 1)
    dims = (0, *range(2, z.dim()))
    both, mine, true = (p * t).sum(dims), p.sum(dims), t.sum(dims)
    there = true > 0
    dice = ((1 - (2 * both + 1) / (mine + true + 1)) * there).sum() / there.sum().clamp_min(1)
    nll = functional.cross_entropy(z, y, reduction="none")
    return nll.mean() + dice + ((1 - torch.exp(-nll)) ** 2 * nll).mean()


def cases() -> list[Case]:
    """Cross entropies of several sizes, and the set of three."""
    found = []
    for shape in ((1, 2, 8, 8), (2, 4, 8, 8), (2, 4, 32, 40), (2, 8, 32, 40), (2, 19, 64, 64)):
        x, y = torch.randn(shape, requires_grad=True), torch.randint(shape[1], (shape[0], *shape[2:]))
        found.append(Case(f"CE {list(shape)}", lf.CrossEntropyLoss(), functional.cross_entropy, (x, y)))
        if shape[2] in (8, 64):
            criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss(), focal=lf.FocalLoss())
            found.append(Case(f"CE + Dice + focal {list(shape)}", criterion, three, (x, y)))
    x, y = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16)
    found.append(Case("L1 [1, 3, 16, 16]", lf.L1Loss(), functional.l1_loss, (x, y)))
    z, t = torch.randn(2, 1, 16, 16, requires_grad=True), torch.rand(2, 1, 16, 16).round()
    found.append(Case("BCE [2, 1, 16, 16]", lf.BinaryCrossEntropyLoss(), functional.binary_cross_entropy_with_logits, (z, t)))
    return found


def without_launches() -> None:
    """Let every launch of a kernel do nothing."""
    from triton.runtime.interpreter import InterpretedFunction

    def nothing(kernel: Any, grid: tuple[int, ...]) -> Callable[..., None]:
        if kernel.fn.__name__ == "collect":  # the host asks, without waiting, whether labels were good
            return lambda *arguments, **named: arguments[3].fill_(True)
        return lambda *arguments, **named: None

    InterpretedFunction.__getitem__ = nothing
    torch._assert_async = lambda *given: None  # of labels that nobody has looked at


MADE: dict[str, Any] = {}
"""What operators have returned in the case that is measured."""


def without_operators() -> None:
    """Let every operator of a fold return what it did the first time."""
    from lossfold.folds.dense import operators as dense
    from lossfold.folds.label import operators as label

    for operators in (dense.OPERATORS, label.OPERATORS):

        def run(what: str, first: Tensor, *given: Any, plain: Callable[..., Any] = operators.run) -> Any:
            if what not in MADE:
                MADE[what] = plain(what, first, *given)
            found = MADE[what]
            return tuple([one.detach() for one in found]) if isinstance(found, tuple) else found

        operators.run = run  # type: ignore[method-assign]


def scalar(result: Any) -> Tensor:
    """Return what a set or a loss gives, as a scalar."""
    return result if isinstance(result, Tensor) else result.total


def forward(loss: Loss, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """A call that a backward may follow."""
    return lambda: loss(*inputs)


def both(loss: Loss, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """A call and the gradient of its first argument."""
    return lambda: torch.autograd.grad(scalar(loss(*inputs)), inputs[0])


def medians(runs: list[Callable[[], object]], seconds: float) -> list[float]:
    """Medians in microseconds of runs taken in turn, each time a few in a row."""
    rows: list[list[float]] = [[] for _ in runs]
    for run in runs:
        for _ in range(50):
            run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for row, run in zip(rows, runs, strict=True):
            start = time.perf_counter()
            for _ in range(10):
                run()
            row.append((time.perf_counter() - start) / 10)
    return [1e6 * statistics.median(row) for row in rows]


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each case")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--profile", action="store_true", help="say where the time goes, in place of how much it is")
    parser.add_argument("--stub", choices=("launches", "operators"), default="launches", help="what a GPU would do")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if SERVES_CPUS:
        without_launches()
        if options.stub == "operators":
            without_operators()
    print(f"{'':34} {'forward':>8} {'both':>8} {'plain':>8} {'plain':>8} {'ratio':>7}")
    for name, ours, plain, inputs in cases():
        if options.only not in name or (SERVES_CPUS and name.startswith("L1")):
            continue
        MADE.clear()
        if options.profile:
            run = both(ours, inputs)
            run()
            with cProfile.Profile() as profile:
                for _ in range(2000):
                    run()
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
            continue
        mine, mine_both, theirs, theirs_both = medians(
            [forward(ours, inputs), both(ours, inputs), forward(plain, inputs), both(plain, inputs)], options.seconds
        )
        print(f"{name:34} {mine:8.0f} {mine_both:8.0f} {theirs:8.0f} {theirs_both:8.0f} {theirs_both / mine_both:7.2f}", flush=True)


if __name__ == "__main__":
    main()
