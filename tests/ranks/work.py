"""What processes do for `test_ranks`, started once: every split on its ranks, against one process, and some trainings."""

from __future__ import annotations

import datetime
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed

import lossfold as lf
from tests.ranks.splits import ALL, SPLITS, Split, rows_of

WORLD = 3
GROUPS: dict[int, Any] = {}


def start(rank: int, folder: str, world: int = WORLD, seconds: int = 60) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=datetime.timedelta(seconds=seconds)
    )
    GROUPS.update({2: distributed.new_group([0, 1]), 3: None} if world == 3 else {2: None})


def close(found: Tensor, truth: Tensor, relative: float, what: str) -> None:
    largest = max(truth.abs().max().item(), 1e-30)
    off = (found.double() - truth.double()).abs().max().item()
    assert off <= relative * largest + 1e-12, f"{what}: off by {off:.2e} of {largest:.2e}"


@contextmanager
def counting() -> Iterator[list[int]]:
    """The bytes of every all_reduce."""
    found: list[int] = []
    real = distributed.all_reduce

    def counted(tensor: Tensor, *others: Any, **named: Any) -> Any:
        found.append(tensor.nbytes)
        return real(tensor, *others, **named)

    with mock.patch.object(distributed, "all_reduce", counted):
        yield found


def against_one_process(split: Split, counts: tuple[int, ...], change: Callable[[Any], Any] = lambda criterion: criterion) -> None:
    """Value and gradient on these ranks are those of the whole batch in one process."""
    rank, count = distributed.get_rank(), len(counts)
    if rank >= count or (0 in counts and not split.empty):
        return
    truths = []
    for place, options in enumerate(({}, {"sync": True, "process_group": GROUPS[count]})):
        torch.manual_seed(0)
        criterion: Any = lf.LossSet({"term": split.build()}, **options).eval()  # a moving mean has ranks of its own in training
        leaf, call = split.make()
        torch.manual_seed(0)
        rows = slice(None) if place == 0 else rows_of(counts, rank)
        total = call(change(criterion) if place else criterion, rows).total
        (slope,) = torch.autograd.grad(total, leaf)
        if place:
            distributed.all_reduce(slope, group=GROUPS[count])
            slope /= count
        truths.append((total.detach(), slope))
    double = truths[0][0].dtype == torch.float64
    close(truths[1][0], truths[0][0], 1e-10 if double else 1e-6, "value")
    close(truths[1][1], truths[0][1], 1e-9 if double else 1e-5, "gradient")


def work(rank: int, folder: str, names: list[str], scripts: list[str]) -> None:
    """Run everything, and write what went wrong where."""
    from tests.ranks import scripts as module

    start(rank, folder, seconds=1200 if "compiled_losses" in scripts else 60)  # where two ranks compile, the third waits
    wrong: dict[str, Any] = {}
    begin = time.perf_counter()
    for name in names:
        for counts in SPLITS:
            key = f"{name} {counts}"
            try:
                against_one_process(ALL[name], counts)
            except Exception:
                wrong[key] = traceback.format_exc(limit=-4)
    for script in scripts:
        try:
            result = getattr(module, script)()
            if result is not None:
                wrong[f"{script} found"] = result
        except Exception:
            wrong[script] = traceback.format_exc(limit=-6)
    wrong["seconds"] = time.perf_counter() - begin
    torch.save(wrong, Path(folder) / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
