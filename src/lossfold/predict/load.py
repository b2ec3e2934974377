"""From a run to a predictor."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossfold.predict.loading import checkpoint_of, load_module
from lossfold.predict.predictor import Predictor
from lossfold.predict.sampler import Sampler
from lossfold.predict.tasks import task_of
from lossfold.train.checkpoints import read_checkpoint
from lossfold.train.errors import TrainError
from lossfold.train.gan.module import GANWithCustomizedLoss

TILE = 1024


def fitting(divisor: int, overlap: int) -> int:
    """Return the window that nobody has asked for: the least from `TILE` pixels on that a network takes."""
    return -(-max(TILE, 3 * overlap + 2 * divisor) // divisor) * divisor


def load_run(
    run: str | Path,
    checkpoint: str | None = None,
    device: str | None = None,
    tile: int = TILE,
    overlap: int = 128,
    max_side: int | None = None,
    network: nn.Module | None = None,
) -> Predictor | Sampler:
    """Make what `lossfold.load` returns; see there."""
    path = checkpoint_of(run, checkpoint)
    try:
        content = read_checkpoint(path)
    except TrainError as error:
        raise TrainError(str(error).removeprefix("ckpt_path: ").replace("--ckpt_path", "--checkpoint")) from error
    module = load_module(path, content, network)
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise TrainError(f"device: {str(error).splitlines()[0]}") from error
    if isinstance(module, GANWithCustomizedLoss):
        return Sampler(module.to(place), path)
    reading: dict[str, Any] = content.get("reading", {})
    longest = reading.get("max_side") if max_side is None else max_side
    task = task_of(module, reading.get("divisor") or 32)
    tile = fitting(task.divisor, overlap) if tile == TILE else tile
    return Predictor(task, path, place, tile, overlap, longest or None, reading.get("data_range"))
