"""Images of 8 bits are uint8 tensors, where white is 255; all others are float32 tensors, where white is 1."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate

from lossfold.files import FileError, out_of_range, range_of, read_image
from lossfold.train.errors import TrainError


def unit(image: Tensor) -> Tensor:
    """An image as floats, where white is 1."""
    return image / 255 if image.dtype == torch.uint8 else image


def white_of(image: Tensor) -> int:
    """The value that is white: 255 or 1."""
    return 255 if image.dtype == torch.uint8 else 1


def eight_bits(image: Tensor) -> Tensor:
    """An image as uint8, to be shown."""
    return image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).round().to(torch.uint8)


def as_deep(values: Tensor, image: Tensor) -> Tensor:
    """Float values on the scale of `image`, in its dtype: cut to 0 and white, and rounded where it has 8 bits."""
    values = values.clamp(0, white_of(image))
    return values.round().to(torch.uint8) if image.dtype == torch.uint8 else values.float()


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """An image `[3,H,W]` in another size and the same depth, without aliasing where it gets smaller."""
    return as_deep(functional.interpolate(image[None].float(), size=size, mode=mode, antialias=True)[0], image)


def of_one_depth(images: Sequence[Tensor]) -> Sequence[Tensor]:
    """The images, as floats where their dtypes differ."""
    return images if len({image.dtype for image in images}) == 1 else [unit(image) for image in images]


def stacked(samples: Sequence[Any]) -> Any:
    """Make a batch of samples, tensors or named tuples of them, whose images may have different depths."""
    first = samples[0]
    if isinstance(first, Tensor):
        return torch.stack(list(of_one_depth(samples)))
    if isinstance(first, tuple):
        return type(first)(*map(stacked, zip(*samples, strict=True)))
    return default_collate(list(samples))


@contextmanager
def told() -> Iterator[None]:
    """Within it what is wrong with a file becomes the error of a training."""
    try:
        yield
    except FileError as error:
        raise TrainError(f"data: {error}") from error


def read_picture(path: Path, data_range: float | None = None) -> Tensor:
    """Read an image in colours, `[3,H,W]`: uint8 of 8 bits, float32 of others.

    Args:
        path: the file.
        data_range: the value that is white; None: 255 for 8 bits, 65535 for 16, 1 for floats.

    Raises:
        TrainError: the file can't be read, or holds values below 0 or above white.
    """
    with told():
        values = read_image(path, 3)
        white = data_range or range_of(values.dtype)
        if found := out_of_range(values, white):
            raise FileError(path, found, "set data.data_range to what is white")
    image = torch.from_numpy(values).permute(2, 0, 1)
    return image.contiguous() if values.dtype == np.uint8 and white == 255 else image.float().div(white).contiguous()
