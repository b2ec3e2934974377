"""Which pixels are hard, where they are those of several parts: counts of digits add up, and the k-th value follows from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.folds.arithmetic import total_dtype
from lossfold.folds.label.needs import LabelNeeds
from lossfold.folds.label.spec import Hard
from lossfold.folds.scores import Given
from lossfold.losses.reduce import Addends

WIDTH = 11  # bits of a digit: three rounds for float32


class Hardness(NamedTuple):
    """How hard some pixels are: what follows their k-th largest needs.

    Attributes:
        bits: -log p at the label as an integer that orders as the number does; the largest integer where p is below the
            threshold, so that the pixel is hard in any case, and -1 where a pixel does not count.
        more: how many pixels below the threshold there are beside these.
    """

    bits: Tensor
    more: Tensor | int = 0

    @property
    def size(self) -> int:
        """How many bits there are, without the sign."""
        return 8 * self.bits.element_size() - 1

    @property
    def largest(self) -> int:
        """The bits of what is hard in any case."""
        return torch.iinfo(self.bits.dtype).max

    def counts(self, known: int, prefix: Tensor) -> Tensor:
        """Return how many pixels there are of each next digit, of those that begin with the ``known`` bits found so far."""
        shift = max(0, known - WIDTH)
        digits = 2 ** (known - shift)
        here = self.bits >= 0
        if known < self.size:
            here = here & ((self.bits >> known) == prefix)
        digit = torch.where(here, (self.bits >> shift) & (digits - 1), digits).long()
        counts = torch.zeros(digits + 1, dtype=torch.int64, device=digit.device).scatter_add(0, digit, torch.ones_like(digit))
        if isinstance(self.more, Tensor):
            counts[digits - 1] += self.more * (prefix[0] == self.largest >> known if known < self.size else 1)
        return counts[:-1]


def hardness(given: Given, needs: LabelNeeds) -> tuple[Tensor, Tensor]:
    """Return how hard each pixel of checked arguments is, as bits (see :class:`Hardness`), and -log p at the label."""
    hard = needs.spec.hard
    assert hard is not None
    scores, labels, weight = given.tensors
    counted = labels != needs.spec.ignore_index
    counted = counted if weight is None else counted & (weight != 0)
    with torch.no_grad():
        plain = given.other(scores=given.scores.detach(), weight=counted)
        one = scores.new_ones((1, scores.shape[1]), dtype=total_dtype(scores))
        nll = needs.asking(sums=(("nll", 0.0),), hard=None).integrate(one, plain)
        nll = nll.clamp_min_(0).nan_to_num_(nan=torch.inf, posinf=torch.inf).add_(0.0)  # no -0
        bits = nll.view(torch.int64 if nll.dtype == torch.float64 else torch.int32).masked_fill(~counted, -1)
        if hard.thresh > 0:
            below = needs.asking(hard=Hard(hard.thresh, 0, None, hard.per_image)).kept(plain).view(bits.shape).bool()
            bits.masked_fill_(below, torch.iinfo(bits.dtype).max)
    return bits.flatten(), nll.flatten()


def bound_of(found: Hardness, hard: Hard, then: Callable[[Tensor], Any]) -> Any:
    """Return what adds up until the hard pixels' least bits are known, ``[1]``, and go on with these."""
    if hard.min_kept == 0 and hard.ratio is None:
        return then(torch.full((1,), found.largest, dtype=found.bits.dtype, device=found.bits.device))

    def next_digit(known: int, prefix: Tensor, k: Tensor | None) -> Addends:
        def after(counts: Tensor) -> Any:
            return chosen(counts.long(), known, prefix, k)

        return Addends((found.counts(known, prefix),), after)

    def chosen(counts: Tensor, known: int, prefix: Tensor, k: Tensor | None) -> Any:
        if k is None:
            count = counts.sum(0, keepdim=True)
            wanted = torch.full_like(count, hard.min_kept)
            if hard.ratio is not None:
                wanted = (count.double() * hard.ratio).ceil().long()
            k = wanted.minimum(count).clamp_min(1)  # of no pixel at all, whatever follows
        above = counts.flip(0).cumsum(0).flip(0)
        digit = ((above >= k).sum(0, keepdim=True) - 1).clamp_min(0)
        k = k - (above - counts).gather(0, digit)
        shift = max(0, known - WIDTH)
        prefix = (prefix << (known - shift)) | digit
        return next_digit(shift, prefix, k) if shift else then(prefix)

    return next_digit(found.size, torch.zeros(1, dtype=torch.int64, device=found.bits.device), None)


def of_all(given: Given, needs: LabelNeeds, then: Callable[[Given], Any]) -> Any:
    """Return what adds up until the hard pixels of all parts are known, and go on with the arguments that know them."""
    hard = needs.spec.hard
    assert hard is not None
    bits, _ = hardness(given, needs)
    return bound_of(Hardness(bits), hard, lambda bound: then(given.other(kept=(bits >= bound).view(given.tensors[1].shape))))
