"""What a step of two networks is made of: images as numbers and bytes, weights that stay, means over the ranks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn


def real_images(batch: Any) -> Tensor:
    """Images float32 in -1..1 of a batch: images, uint8 or floats in -1..1, or a list or tuple that begins with them."""
    images: Tensor = batch[0] if isinstance(batch, (list, tuple)) else batch
    return images / 127.5 - 1 if images.dtype == torch.uint8 else images


def as_bytes(images: Tensor) -> Tensor:
    """Images in -1..1 as uint8 on the CPU."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within it the network's weights take no gradient."""
    taking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in taking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in taking:
            parameter.requires_grad_(True)


def gathered(images: list[Tensor]) -> list[Tensor]:
    """The images of all ranks, in the ranks' order."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return images
    everyone: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everyone, images)
    return [image for rank in everyone for image in rank]
