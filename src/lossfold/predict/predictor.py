"""A trained network as a function of images of any size: window by window where they are large."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossfold.predict.pictures import Array, Picture, picture_of
from lossfold.predict.tasks import ImageTask
from lossfold.train.errors import TrainError
from lossfold.train.tiles import Span, blended, spans

Block = tuple[int, int, Tensor]
"""Top, left and values `[K,h,w]` float32 of a part of a result."""

BAND = 1 << 22
"""Values that are enlarged at once where a result is larger than what the network has seen."""


class Predictor:
    """A trained network as a function from an image to an array; `lossfold.load` makes it.

    Images larger than a tile are seen in windows that overlap, and what is said of them fades from one to the next: the memory
    is that of a window and of the rows where two rows of windows overlap. Calls take no gradients.

    Args:
        task: the module with what is done before and after it.
        source: the checkpoint's file.
        device: where it runs.
        tile: largest window in pixels.
        overlap: least overlap of neighbouring windows in pixels.
        max_side: larger images are reduced to this longer side for the network, as they were in training, and the result is
            enlarged to the image's own size; None: none is.
        data_range: white; None: 255 of uint8, 65535 of uint16, 1 of floats.

    Raises:
        TrainError: the tile is too small.

    Example:
        >>> predictor = lossfold.load("runs/segmentation")  # doctest: +SKIP
        >>> labels = predictor("photograph.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        task: ImageTask,
        source: Path,
        device: torch.device,
        tile: int,
        overlap: int,
        max_side: int | None = None,
        data_range: float | None = None,
    ) -> None:
        spans(1, tile, overlap, task.divisor)
        if max_side is not None and (max_side < 1 or task.scale > 1):
            raise TrainError(f"max_side must be at least 1, and None where a network enlarges images, got {max_side}")
        self.task, self.source, self.device = task.to(device), source, device
        self.tile, self.overlap, self.max_side, self.data_range = tile, overlap, max_side, data_range

    @property
    def name(self) -> str:
        """The task: multiclass, binary, multilabel, matting, restoration or depth."""
        return self.task.name

    @property
    def class_names(self) -> list[str]:
        """The names of classes or channels; none for the other tasks."""
        return list(getattr(self.task, "class_names", ()))

    @property
    def colours(self) -> list[str]:
        """Their colours, `#rrggbb`, as in the report."""
        return list(getattr(self.task, "colours", ()))

    def __call__(self, image: Any, trimap: Any = None) -> Array:
        """Predict one image.

        Args:
            image: a file, an image of Pillow, or an array `[H,W]` or `[H,W,3]`: uint8, uint16, or floats in 0..1.
            trimap: of the task matting: a file or an array `[H,W]` of 0, 128 (unknown) and 255.

        Returns:
            multiclass: class ids `[H,W]`, uint8 (int32 for more than 256 classes). binary: 0 and 1 `[H,W]`, multilabel
            `[K,H,W]`, uint8. matting: alphas `[H,W]` float32 in 0..1. restoration: `[sH,sW,3]`, uint8 or uint16 as the image, or
            float32 in 0..1. depth: `[H,W]` float32, in the unit that the network has learned.

        Raises:
            FileError: a file can't be read.
            TrainError: something else is no image, or holds NaN, inf, or values below 0 or above white; or a trimap is missing or
                of another size.
        """
        picture = self.see(image, trimap)
        if self.name in ("matting", "depth"):
            alphas: Array = self._whole(picture, lambda values: values)[0]
            return alphas
        if self.name == "restoration" and picture.top == 1:
            return np.moveaxis(self._whole(picture, lambda values: values), 0, 2)
        found = self._whole(picture, lambda values: self.task.decide(values, int(picture.top)))
        if self.name in ("binary", "multilabel"):
            found //= 255
        result: Array = found if self.name == "multilabel" else found[0]
        return result

    def probabilities(self, image: Any, trimap: Any = None) -> Array:
        """See what the decision is made of; the arguments are those of a call.

        Returns:
            `[K,H,W]` float32 in 0..1: of classes, of channels, alphas, or the three colours of a restored image.
        """
        return self._whole(self.see(image, trimap), lambda values: values)

    def see(self, image: Any, trimap: Any = None) -> Picture:
        """Open an image, with its trimap where the task has one."""
        if self.task.takes_trimap and trimap is None:
            raise TrainError("matting needs a trimap of the image: 0 background, 128 unknown, 255 foreground")
        return picture_of(image, trimap if self.task.takes_trimap else None, self.data_range)

    def blocks(self, picture: Picture) -> Iterator[Block]:
        """Predict a picture part by part, from top to bottom; the parts cover the result without overlap."""
        size = picture.height, picture.width
        if self.max_side is None or max(size) <= self.max_side:
            return self._windows(size, picture.window)
        small = picture.reduced(self.max_side)
        seen = _joined(
            self._windows((small.shape[2], small.shape[3]), lambda rows, columns: small[..., rows, columns]), small.shape[2:]
        )
        whole = _enlarged(torch.from_numpy(seen), size)
        return whole if picture.trimap is None else _with_known(whole, picture.trimap)

    @torch.inference_mode()
    def _windows(self, size: tuple[int, int], read: Callable[[slice, slice], Tensor]) -> Iterator[Block]:
        def evaluate(row: Span, column: Span) -> Tensor:
            rows, columns = slice(row.start, min(row.stop, size[0])), slice(column.start, min(column.stop, size[1]))
            values: Tensor = self.task(read(rows, columns).to(self.device))
            return values[0].cpu()

        across, along = (spans(side, self.tile, self.overlap, self.task.divisor) for side in size)
        yield from blended(across, along, self.task.scale, evaluate)

    def _whole(self, picture: Picture, of: Callable[[Tensor], Tensor]) -> Array:
        try:
            size = self.task.scale * picture.height, self.task.scale * picture.width
            return _joined(((top, left, of(values)) for top, left, values in self.blocks(picture)), size)
        finally:
            picture.close()


def _joined(blocks: Iterator[Block], size: Sequence[int]) -> Array:
    """The whole result `[K,H,W]`, or of parts `[K,h,w,3]` `[K,H,W,3]`."""
    whole: Array | None = None
    for top, left, values in blocks:
        part = values.numpy()
        if whole is None:
            whole = np.empty((part.shape[0], *size, *part.shape[3:]), part.dtype)
        whole[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    assert whole is not None
    return whole


def _enlarged(values: Tensor, size: tuple[int, int]) -> Iterator[Block]:
    """Values `[K,h,w]` at another size, bilinear, in bands of rows."""
    low, high, share = _neighbours(values.shape[2], size[1])
    step = max(1, BAND // (len(values) * size[1]))
    above, below, part = _neighbours(values.shape[1], size[0])
    for top in range(0, size[0], step):
        rows = slice(top, top + step)
        band = torch.lerp(values[:, above[rows]], values[:, below[rows]], part[rows, None])
        yield top, 0, torch.lerp(band[..., low], band[..., high], share)


def _with_known(blocks: Iterator[Block], trimap: Callable[[slice, slice], Array]) -> Iterator[Block]:
    """Alphas that have been enlarged, with what the trimap knows, whose edges a smaller one does not keep."""
    for top, left, values in blocks:
        known = torch.from_numpy(np.array(trimap(slice(top, top + values.shape[1]), slice(left, left + values.shape[2]))))
        yield top, left, torch.where(known == 128, values, (known > 128).float())


def _neighbours(old: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of the new pixels the two old ones between whose middles it lies, and how far it is on the way."""
    place = ((torch.arange(new) + 0.5) * old / new - 0.5).clamp(0, old - 1)
    low = place.floor().long()
    return low, (low + 1).clamp(max=old - 1), place - low
