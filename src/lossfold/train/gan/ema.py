"""The moving mean of a network's weights, which makes better images than the weights of any single step."""

import copy

import torch
from torch import nn


def moving_mean(network: nn.Module) -> nn.Module:
    """A copy of a network that takes no gradient, for `follow` to move."""
    return copy.deepcopy(network).requires_grad_(False)


def decay_at(decay: float, step: int) -> float:
    """The decay of a step, counted from 0: short means at first, so that the random start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def follow(mean: nn.Module, network: nn.Module, decay: float) -> None:
    """Move each weight of the mean by a share of 1 - decay towards the network's; take its buffers as they are."""
    for weight, now in zip(mean.parameters(), network.parameters(), strict=True):
        weight.lerp_(now, 1 - decay)
    for buffer, state in zip(mean.buffers(), network.buffers(), strict=True):
        buffer.copy_(state)
