"""An image in windows that overlap: where they lie, and how what is said of them becomes one, in the memory of a window."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lossfold.train.errors import TrainError

OVERLAP = 8
"""Which part of a tile neighbouring windows of an evaluation share: 128 of 1024 pixels."""


@dataclass(frozen=True)
class Span:
    """A window along one axis, and the part of it that counts, `begin` to `end`, fading in and out where it meets others.

    Args:
        start: first pixel of the window.
        stop: the pixel behind its last; it may lie beyond the image, which is padded.
        begin: first pixel that counts.
        end: the pixel behind the last that counts.
        rise: pixels from `begin` on in which the weight rises from 0 to 1; 0 at the image's edge.
        fall: pixels up to `end` in which it falls.
    """

    start: int
    stop: int
    begin: int
    end: int
    rise: int
    fall: int

    @property
    def size(self) -> int:
        """Pixels of the window."""
        return self.stop - self.start

    def weights(self, scale: int) -> Tensor:
        """Weights of the pixels that count, `scale` for each; those of two neighbours add up to 1."""
        weights = torch.ones(scale * (self.end - self.begin))
        ramp = (torch.arange(scale * max(self.rise, self.fall)) + 0.5) / (scale * max(self.rise, self.fall, 1))
        if self.rise:
            weights[: scale * self.rise] = ramp
        if self.fall:
            weights[-scale * self.fall :] = 1 - ramp
        return weights


def spans(length: int, tile: int, overlap: int, divisor: int = 32) -> list[Span]:
    """Windows of one size along an axis: one where it is no longer than a tile, else evenly spaced ones.

    A quarter of the overlap at each end of a window only informs, the half between fades. Windows start and end at multiples of
    the divisor, as those of a network with strides must to see the image as they would see all of it.

    Args:
        length: pixels of the axis.
        tile: largest window; a multiple of the divisor.
        overlap: least overlap of neighbours.
        divisor: starts and sizes are multiples of it; the last window may go beyond the image by less than that.

    Raises:
        TrainError: the overlap leaves no room in a tile.
    """
    if tile % divisor or tile < divisor or overlap < 0 or tile < 3 * overlap + 2 * divisor:
        raise TrainError(
            f"tile must be a multiple of {divisor}, and at least three times the overlap and {2 * divisor}: got a tile of {tile} "
            f"and an overlap of {overlap}"
        )
    padded = -(-length // divisor) * divisor
    if length <= tile:
        return [Span(0, padded, 0, length, 0, 0)]
    count = -(-length // (tile - overlap - divisor))
    size = -(-(-(-length // count) + overlap + divisor) // divisor) * divisor
    edges, fade = [round(index * length / count) for index in range(count + 1)], overlap // 4
    found = []
    for index, (begin, end) in enumerate(pairwise(edges)):
        first, last = index == 0, index == count - 1
        middle = (begin + end - size) // 2
        start = min(max(0, round(middle / divisor) * divisor), padded - size)
        rise, fall = (0 if first else 2 * fade), (0 if last else 2 * fade)
        found.append(Span(start, start + size, begin - rise // 2, end + fall // 2, rise, fall))
    return found


def blended(
    rows: list[Span], columns: list[Span], scale: int, evaluate: Callable[[Span, Span], Tensor]
) -> Iterator[tuple[int, int, Tensor]]:
    """Evaluate window by window and put the results together; of a row of windows only what fades into the next is kept.

    Args:
        rows: the windows' places from top to bottom.
        columns: those from left to right.
        scale: pixels of the result for each of the image, along each axis.
        evaluate: gives `[C,scale*h,scale*w]` float32 of the window of a row and a column.

    Yields:
        top, left and values `[C,h,w]` of parts of the result that are finished; they cover it without overlap.
    """
    carried: Tensor | None = None
    for row in rows:
        beside: Tensor | None = None
        down, rise, fall = row.weights(scale)[:, None], scale * row.rise, scale * row.fall
        for column in columns:
            values = evaluate(row, column)
            part = values[:, _counted(row, scale), _counted(column, scale)] * down * column.weights(scale)
            if beside is not None:
                part[..., : beside.shape[2]] += beside
            if column.fall:
                beside = part[..., -scale * column.fall :].clone()
                part = part[..., : -scale * column.fall]
            left = scale * column.begin
            across = slice(left, left + part.shape[2])
            if rise and carried is not None:
                part[:, :rise] += carried[..., across]
            if fall:
                if carried is None:
                    carried = torch.empty(len(part), fall, scale * columns[-1].end)
                carried[..., across] = part[:, -fall:]
                part = part[:, :-fall]
            yield scale * row.begin, left, part


def _counted(span: Span, scale: int) -> slice:
    return slice(scale * (span.begin - span.start), scale * (span.end - span.start))


def in_windows(run: Callable[..., Tensor], inputs: Sequence[Tensor], tile: int, divisor: int = 32, scale: int = 1) -> Tensor:
    """What a network says of whole images, in windows where they are larger than a tile.

    Args:
        run: takes windows `[1,C,h,w]` of every input and returns `[1,K,scale*h,scale*w]`.
        inputs: `[B,C,H,W]` each, of one size.
        tile: largest window, rounded up to a multiple of the divisor; 0: images are seen as wholes.
        divisor: windows start at multiples of it.
        scale: pixels of the result for each of the images, along each axis.

    Returns:
        `[B,K,scale*H,scale*W]`, on the inputs' device: float32 where there are windows.
    """
    size, tile = inputs[0].shape[-2:], -(-tile // divisor) * divisor
    if not tile or max(size) <= tile:
        return run(*inputs)
    rows, columns = (spans(side, tile, tile // OVERLAP, divisor) for side in size)
    results = []
    for index in range(len(inputs[0])):

        def evaluate(row: Span, column: Span, index: int = index) -> Tensor:
            place = slice(row.start, min(row.stop, size[0])), slice(column.start, min(column.stop, size[1]))
            return run(*(part[index : index + 1, :, place[0], place[1]] for part in inputs))[0].float().cpu()

        whole: Tensor | None = None
        for top, left, part in blended(rows, columns, scale, evaluate):
            if whole is None:
                whole = torch.empty(len(part), scale * size[0], scale * size[1])
            whole[:, top : top + part.shape[1], left : left + part.shape[2]] = part
        assert whole is not None
        results.append(whole)
    return torch.stack(results).to(inputs[0].device)
