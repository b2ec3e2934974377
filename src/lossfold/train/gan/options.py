"""Options of a GAN that make no training, refused with what they may be."""

import math

from torch import nn

from lossfold.train.errors import TrainError


def check_numbers(disc_steps: int, accumulate: int, ema_decay: float | None, gradient_clip: float | None, seed: int) -> None:
    """Refuse numbers that make no training.

    Raises:
        TrainError: which of them, and what it may be.
    """
    for name, value in (("disc_steps", disc_steps), ("accumulate", accumulate)):
        if not isinstance(value, int) or value < 1:
            raise TrainError(f"model.{name} must be an integer, at least 1, got {value}")
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise TrainError(f"model.ema_decay must lie in 0..1, below 1, or be null for no moving mean, got {ema_decay}")
    if gradient_clip is not None and not 0 < gradient_clip < math.inf:
        raise TrainError(f"model.gradient_clip must be above 0, or null, got {gradient_clip}")
    if not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise TrainError(f"model.seed must be an integer from 0 to 2^31 - 1, got {seed}")


def latent_size_of(generator: nn.Module, given: int | None) -> int:
    """The numbers of a latent: what was given, or what the generator says.

    Raises:
        TrainError: neither says so.
    """
    size = getattr(generator, "latent_size", None) if given is None else given
    if not isinstance(size, int) or size < 1:
        raise TrainError(f"model.latent_size must be named, at least 1, for {type(generator).__name__}, got {size}")
    return size
