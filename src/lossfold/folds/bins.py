"""The lean form of histograms: each element's slot is found once, and kept in two bytes for the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.histogram import OCTAVES, REST, UNIT, Bins


class Slots:
    """The slots of a histogram: those of the background's bins, then those of the foreground's.

    Each histogram is a row of tensors ``[I, C, N]``: of an image's N pixels, or of all images', which then lie side by side.

    Args:
        bins: what is asked for.
        shape: B, C and P of the elements.
    """

    def __init__(self, bins: Bins, shape: torch.Size) -> None:
        self.bins, self.shape = bins, shape
        self.apart = bins.per_image or shape[0] == 1
        self.half = bins.count + bins.hinge  # with hinge, one more before the others, of errors that are held at 0

    def empty(self, like: Tensor) -> Tensor:
        """Return room for a value of each element, ``[B, C, P]``, whose memory is that of rows."""
        images, channels, pixels = self.shape
        return like.new_empty(self.shape) if self.apart else like.new_empty((channels, images, pixels)).transpose(0, 1)

    def rows(self, values: Tensor) -> Tensor:
        """Return values ``[B, 1 or C, P]`` as rows."""
        return values if self.apart else values.transpose(0, 1).flatten(1)[None]

    def elements(self, rows: Tensor) -> Tensor:
        """Return rows as ``[B, C, P]``."""
        return rows if self.apart else rows[0].unflatten(1, self.shape[::2]).transpose(0, 1)  # type: ignore[no-untyped-call]

    def even(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots and the positions in bins of equal width, from error times their number, which is used up."""
        bin_ = place.nan_to_num(0.0).clamp_(0, self.bins.count - 1).floor_()
        return bin_.long(), place.sub_(bin_)

    def octaves(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of hinge errors, negative ones too, which are used up."""
        lower, scale = self._edges(error)
        index = torch.bucketize(error, torch.cat([lower.new_zeros(1), lower[1:]]), out_int32=True).long()
        # Errors up to 0 are in slot 0, as far as its lower edge; those that are not finite show.
        lower, scale = torch.cat([lower[:1], lower]), torch.cat([torch.zeros_like(scale[:1]), scale])
        position = error.clamp_min_(0).sub_(lower[index]).mul_(scale[index])
        return index, position

    def _edges(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hinge bins' lower edges and one over their widths."""
        each = (self.bins.count - REST) // OCTAVES
        start = torch.arange(OCTAVES + REST, dtype=like.dtype, device=like.device).exp2()
        fine, rest = start[:OCTAVES, None], start[OCTAVES:]
        part = torch.arange(each, dtype=like.dtype, device=like.device) / each
        lower = torch.cat([((fine - 1) + fine * part).flatten(), rest - 1])
        return lower, torch.cat([(each / fine).expand(-1, each).flatten(), 1 / rest])

    def table(self, index: Tensor, position: Tensor, w: Tensor | None) -> Tensor:
        """Return what is in the bins, ``[I, 4, C, bins]``; see :func:`lossfold.folds.histogram.histogram`.

        Args:
            index: the rows' slots.
            position: the rows' positions, which are used up.
            w: weights ``[B, 1 or C, P]``, or booleans; None for 1.
        """
        dtype = total_dtype(position)
        size = (*index.shape[:2], 2 * self.half)
        if w is not None and w.dtype != torch.bool:
            position = position.mul_(self.rows(w))
        bad = position.sum(2, keepdim=True).mul_(0)  # NaN if one, or its weight, is not finite
        fixed = position.nan_to_num_(0.0, 0.0, 0.0).mul_(UNIT).round_().long()
        del position
        places = fixed.new_zeros(size).scatter_add_(2, index, fixed).to(dtype).div_(UNIT).add_(bad)
        del fixed
        shares = index.new_ones(()) if w is None else self.rows(w.long() if w.dtype == torch.bool else (w * UNIT).round_().long())
        counts = index.new_zeros(size).scatter_add_(2, index, shares.expand(index.shape)).to(dtype)
        counts = counts if w is None or w.dtype == torch.bool else counts.div_(UNIT)
        parts = [one.unflatten(2, (2, self.half)).unbind(2) for one in (counts, places)]  # type: ignore[no-untyped-call]
        table = torch.stack([parts[0][1], parts[1][1], parts[0][0], parts[1][0]], 1)
        if self.bins.hinge:
            table[..., 1] += table[..., 0]
            table = table[..., 1:]
        return table

    def packed(self, index: Tensor) -> Tensor:
        """Return slots in as few bytes as hold them."""
        return index.to(torch.int16 if 2 * self.half < 2**15 else torch.int32)

    def slopes(self, packed: Tensor, grad: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the derivative of the loss by each element's probability (with hinge: by its score), ``[B, C, P]``.

        Args:
            packed: the slots.
            grad: the derivatives by the table.
            dtype: that is computed in.
        """
        _, foreground, _, background = grad.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype).unbind(1)
        if self.bins.hinge:
            scale = self._edges(foreground)[1]
            zero = torch.zeros_like(foreground[..., :1])
            table = torch.cat([zero, background * scale, zero, foreground * -scale], 2)
        else:
            table = torch.cat([background * self.bins.count, foreground * -self.bins.count], 2)
        return self.elements(table.gather(2, packed.long()))
