"""Sums over ranks: on two and three gloo processes, uneven batches, none and ignored ones, against one process."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import lossfold as lf
from lossfold.compose.ranks import Exchange, Ranks, device_of
from tests.contract.cases import first_of
from tests.contract.refusals import refused
from tests.ranks.splits import ALL, FOLDLESS, SPLITS, of_case
from tests.ranks.test_parts import chosen
from tests.ranks.work import WORLD, start, work

SLOW = ("fsdp", "step_time", "compiled", "compiled_losses")
SCRIPTS = ("alone", "ddp", "summed_gradients", "second_derivatives", "known_first", "counted", "refused", "different", "normalized",
           "objectives", "moving_mean", "accumulated", "curves")  # fmt: skip
SAMPLE = [of_case(case).id for case in chosen(first_of(lambda case: (case.fold, case.name)))]
SAMPLE += [
    split.id
    for split in FOLDLESS
    if split.id in ("gan-hinge-True", "gan-ragan", "gan-ragan-ls", "R1GradientPenalty-HWC", "path", "transferal")
]
Results = list[dict[str, Any]]


def processes(folder: Path, names: list[str], which: list[str]) -> Results:
    """Start all ranks once, and return what went wrong on each."""
    multiprocessing.set_forkserver_preload(["lossfold", "tests.ranks.splits", "tests.ranks.scripts"])  # imported once
    torch.multiprocessing.start_processes(work, (str(folder), names, which), nprocs=WORLD, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return processes(tmp_path_factory.mktemp("ranks"), SAMPLE, list(SCRIPTS))


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return processes(tmp_path_factory.mktemp("ranks"), [name for name in ALL if name not in SAMPLE], list(SLOW))


def fine(results: Results, key: str) -> None:
    for rank, wrong in enumerate(results):
        assert key not in wrong, f"rank {rank}: {wrong[key]}"


def test_each_loss_on_ranks(quick: Results) -> None:
    for name in SAMPLE:
        for counts in SPLITS:
            fine(quick, f"{name} {counts}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_together(quick: Results, script: str) -> None:
    fine(quick, script)
    for rank in quick:
        print(rank.get(f"{script} found", ""))


@pytest.mark.slow
def test_every_loss_on_ranks(every: Results) -> None:
    for key in (f"{name} {counts}" for name in ALL for counts in SPLITS):
        fine(every, key)


@pytest.mark.slow
@pytest.mark.parametrize("script", SLOW)
def test_together_slowly(every: Results, script: str) -> None:
    fine(every, script)
    print(every[0].get(f"{script} found", ""))


def dies(rank: int, folder: str) -> None:
    """Rank 1 is killed between two calls; the others' next call ends in an error, long before any timeout."""
    start(rank, folder, seconds=300)
    criterion = lf.LossSet(dice=lf.DiceLoss(), sync=True)
    scores, labels = torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4).long()
    criterion(scores, labels)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    begin = time.perf_counter()
    try:
        criterion(scores, labels)
    except RuntimeError as error:
        Path(folder, f"{rank}").write_text(f"{time.perf_counter() - begin} {error}")
        os._exit(0)


@pytest.mark.slow
def test_a_killed_rank_does_not_hang_the_others(tmp_path: Path) -> None:
    begin = time.perf_counter()
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="SIGKILL"):
        torch.multiprocessing.start_processes(dies, (str(tmp_path),), nprocs=WORLD, start_method="forkserver")
    assert time.perf_counter() - begin < 60


def test_a_refused_call_is_told_where_the_others_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a call where its sums were, labels on the CPU or not; at the first where scores are, or what the group is for."""
    monkeypatch.setattr(torch.distributed, "get_rank", lambda group: 0)
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda group: "cpu:gloo,cuda:nccl")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device_of(None, ()) == torch.device("cuda", 1)
    there, found = torch.zeros(1, device="meta"), []
    for known, given in ((None, (torch.zeros(1), there)), (there.device, (torch.zeros(1),)), (None, (torch.zeros(1),))):
        ranks = Ranks(None, "mean")
        ranks.device = known
        exchange = Exchange(ranks, 2)
        monkeypatch.setattr(exchange, "_send", lambda head, flat: found.append(head.device.type))
        exchange.fail(*given)
    assert found == ["meta", "meta", "cpu"]


def test_without_a_process_group_nothing_happens() -> None:
    scores, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    alone, synced = (lf.LossSet(dice=lf.DiceLoss(), ce=lf.CrossEntropyLoss(), sync=sync) for sync in (False, True))
    found = []
    for criterion in (alone, synced):
        out = criterion(scores, labels)
        found.append((out.total.detach(), torch.autograd.grad(out.total, scores)[0]))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_what_is_refused() -> None:
    refused(lambda: lf.LossSet(mse=torch.nn.MSELoss(), sync=True), "mse", "sync", "register_module")
    refused(lambda: lf.LossSet(lovasz=lf.LovaszLoss(exact=True), sync=True), "lovasz", "sync", "exact")
    lf.LossSet(lovasz=lf.LovaszLoss(exact=True, per_image=True), sync=True)
    refused(lambda: lf.LossSet(inner=lf.LossSet(dice=lf.DiceLoss(), sync=True)), "inner", "sync")
    refused(lambda: lf.LossSet(dice=lf.DiceLoss(), gradients="sum"), "sync")
    refused(lambda: lf.LossSet(dice=lf.DiceLoss(), sync=True, gradients="max"), "gradients", "mean")
    refused(lambda: lf.LossSet(dice=lf.DiceLoss(), sync=True, process_group="all"), "process_group")
    refused(lambda: lf.LossSet(dice=lf.DiceLoss(), sync=1), "sync")

    class Own(lf.DiceLoss):
        def evaluate(self, *inputs: Any, **named: Any) -> torch.Tensor:
            return 2 * super().evaluate(*inputs, **named)

    refused(lambda: lf.LossSet(own=Own(), sync=True), "own", "sync", "addends")


def test_a_loss_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documentation's: it can be split without a further word."""
    monkeypatch.setattr(lf.LOSSES, "_classes", dict(lf.LOSSES._classes))
    text = (Path(__file__).parents[2] / "docs" / "ranks.md").read_text()
    names: dict[str, Any] = {}
    exec(
        compile(
            next(code for code in re.findall(r"```python\n(.*?)```", text, flags=re.S) if "Energy" in code), "ranks.md", "exec"
        ),
        names,
    )
    scores = torch.randn(3, 4, requires_grad=True)
    torch.testing.assert_close(names["Energy"](loss_weight=2.0)(scores), 2 * scores.square().mean())
    whole = lf.LossSet(energy=names["Energy"](), sync=True).accumulate()
    for part in (scores[:1], scores[1:]):
        whole.add(part)
    for part in (scores[:1], scores[1:]):
        whole.backward(part)
    torch.testing.assert_close(whole.output.total, scores.detach().square().mean())
    torch.testing.assert_close(scores.grad, 2 * scores.detach() / 12)
