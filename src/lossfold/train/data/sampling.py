"""The order of the samples; in training a pure function of the seed and of how many batches have been processed."""

from collections.abc import Callable, Iterator, Sized

import torch
from torch.utils.data import DistributedSampler


class ResumingSampler(DistributedSampler[int]):
    """Shuffle anew in every epoch, and start where the training stands.

    It yields `epoch * len(dataset) + index`, so that a dataset can vary its samples from epoch to epoch without
    any state. A run that continues from a checkpoint, in the middle of an epoch too, sees exactly the samples that
    the uninterrupted run would have seen.

    Args:
        dataset: its length is the number of samples of an epoch.
        batch_size: samples of a batch on one rank.
        seed: decides every order.
        position: tells (batches processed so far by this rank, batches of an epoch); asked when an epoch begins.
        num_replicas: number of ranks.
        rank: this process's rank.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        seed: int,
        position: Callable[[], tuple[int, int]],
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=True)  # type: ignore[arg-type]
        self.size = len(dataset)
        self.batch_size = batch_size
        self.position = position

    def __iter__(self) -> Iterator[int]:
        processed, per_epoch = self.position()
        epoch, batches = divmod(processed, per_epoch)
        generator = torch.Generator().manual_seed(self.seed + epoch)
        order = torch.randperm(self.size, generator=generator)[self.rank : self.total_size : self.num_replicas]
        return iter((epoch * self.size + order[batches * self.batch_size :]).tolist())


class EvaluationSampler(DistributedSampler[int]):
    """Every sample once, in order: ranks may get unequal shares, and none is repeated to make them equal.

    Args:
        dataset: the samples.
        num_replicas: number of ranks.
        rank: this process's rank.
    """

    def __init__(self, dataset: Sized, num_replicas: int, rank: int) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)  # type: ignore[arg-type]
        self.share = range(rank, len(dataset), num_replicas)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)
