"""Gradients of several ranks, where a module takes the steps of its optimisers itself."""

from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import distributed, nn

from lossfold.train.errors import TrainError


def only_whole(strategy: Any, what: str) -> None:
    """Refuse a strategy under which a rank may hold a part of the parameters: averages over the ranks would mix different ones.

    Args:
        strategy: the trainer's.
        what: what it is refused for.

    Raises:
        TrainError: it is one.
    """
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise TrainError(f"trainer.strategy: {type(strategy).__name__} is not supported for {what}; take ddp or auto")


def unreduced(strategy: Any) -> Any:
    """Within it a backward leaves each rank its own gradients."""
    return strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()


def average_gradients(network: nn.Module, world_size: int) -> None:
    """Replace the gradients by their means over all ranks; one call for the whole network.

    A parameter that no rank has used has none on any of them, as the losses of a step are the same everywhere.
    """
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if world_size == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / world_size
    distributed.all_reduce(flat)
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
