"""The path-length regulariser on two ranks: what one process does with both batches."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import torch

import lossfold as lf
from tests.losses.adversarial.oracles import number
from tests.losses.adversarial.test_path_length import Pixel, latents, lengths

DECAY = 0.25
STEPS = 3


def batch(rank: int, step: int) -> torch.Tensor:
    return latents(6, 4, seed=10 * rank + step)


def work(rank: int, folder: str) -> None:
    """Three steps, each rank with its own latents and its own noise."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    generator = Pixel()
    regulariser = lf.GeneratorPathRegularizer(decay=DECAY, batch_shrink=1)
    found = []
    for step in range(STEPS):
        torch.manual_seed(100 * rank + step)
        value = regulariser(generator, batch(rank, step))
        (slope,) = torch.autograd.grad(value, generator.s)
        torch.distributed.all_reduce(slope)
        found.append((value.detach(), regulariser.mean_path_length.clone(), slope / 2))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_are_one_process(tmp_path: Path) -> None:
    """The mean is over both ranks; the mean of their values and of their gradients are those of the whole batch."""
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    mean = 0.0
    for step in range(STEPS):
        generator = Pixel()
        whole = torch.cat([lengths(generator, batch(rank, step), 100 * rank + step) for rank in range(2)])
        anchor = mean + DECAY * (whole.mean() - mean)
        value = (whole - anchor).square().mean()
        (slope,) = torch.autograd.grad(value, generator.s)
        values, means, slopes = zip(*(rank[step] for rank in ranks), strict=True)
        torch.testing.assert_close((values[0] + values[1]) / 2, value.detach())
        assert not torch.isclose(values[0], values[1])
        for other in range(2):
            torch.testing.assert_close(means[other].double(), anchor.detach().double(), rtol=1e-6, atol=0)
            torch.testing.assert_close(slopes[other], slope)
        mean = number(means[0])
