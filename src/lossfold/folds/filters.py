"""Filters as convolutions of each plane by itself, and their adjoints, for the lean forms of folds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional


def constants(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers as a tensor of a dtype and device, made there: nothing is copied from the host."""
    made, last = like.new_empty(len(numbers)), len(numbers) - 1
    for place, number in enumerate(numbers):
        if numbers[last - place] != number or 2 * place == last:
            made[place].fill_(number)
        elif 2 * place < last:  # both ends at once
            made[place : last - place + 1 : last - 2 * place].fill_(number)
    return made


def convolve(planes: Tensor, kernels: Tensor, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
    """Return ``[G, M, h, w]``: the correlations of each plane ``[G, H, W]`` with its own M kernels ``[G M, 1, k, l]``.

    In the planes' own dtype: neither autocast nor a device's shorter multiplications touch it.
    """
    groups, device = len(planes), planes.device.type
    library = groups == 1  # PyTorch's own kernel is for groups; the library's without TF32, and always by the same algorithm
    options = (stride, stride), padding, (1, 1), False, (0, 0), groups, False, True, library, False
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        return torch.ops.aten._convolution(planes[None], kernels, None, *options)[0].unflatten(0, (groups, -1))  # type: ignore[no-any-return]


def shifted_sum(planes: Tensor, taps: Sequence[float], dim: int, adjoint: bool) -> Tensor:
    """Correlate planes with numbers along one side, where all of them fit; ``adjoint``: apply the transpose."""
    length = planes.shape[dim] + (len(taps) - 1) * (1 if adjoint else -1)
    shape = [*planes.shape[:dim], length, *planes.shape[dim + 1 :]]
    if adjoint:
        made = planes.new_zeros(shape)
        for place, tap in enumerate(taps):
            made.narrow(dim, place, planes.shape[dim]).add_(planes, alpha=tap)
        return made
    made = planes.narrow(dim, 0, length) * taps[0]
    for place, tap in enumerate(taps[1:], 1):
        made.add_(planes.narrow(dim, place, length), alpha=tap)
    return made.contiguous()


class Pyramid:
    """A Laplacian pyramid of planes ``[G, H, W]`` with sides from 4 on; see :func:`lossfold.folds.pair.definition.pyramid`.

    Coefficients come as ``[G, 2, 2, h, w]``, even and odd rows and columns apart: filling up with zeros and filtering is, along
    each side, (c₋₁ + 6c + c₊₁) / 8 between them and (c + c₊₁) / 2.

    Args:
        like: a tensor of the dtype and the device.
        groups: the number of planes.
    """

    def __init__(self, like: Tensor, groups: int) -> None:
        phases = constants((1 / 8, 6 / 8, 1 / 8, 0.0, 0.5, 0.5), like).view(2, 3)
        self.up = (phases[:, None, :, None] * phases[:, None, :]).view(4, 1, 3, 3).repeat(groups, 1, 1, 1)
        row = constants((1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16), like)
        self.down = (row[:, None] * row).expand(groups, 1, 5, 5)

    def split(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients of planes, and the smaller planes that are left; an odd side is cut."""
        small = convolve(functional.pad(even(planes)[None], (2, 1, 2, 1), mode="reflect")[0], self.down, stride=2)[:, 0]
        padded = functional.pad(functional.pad(small[None], (1, 0, 1, 0), mode="reflect"), (0, 1, 0, 1), mode="replicate")[0]
        up = convolve(padded, self.up).unflatten(1, (2, 2))  # type: ignore[no-untyped-call]
        return torch.sub(phases_of(planes), up, out=up), small


class PyramidAdjoint:
    """The adjoint of :class:`Pyramid`, of its ``up`` kernels."""

    def __init__(self, up: Tensor) -> None:
        self.up, self.down = up.flip(2, 3), up / 4

    def join(self, by_coefficient: Tensor | None, by_small: Tensor | None, planes: torch.Size) -> Tensor:
        """Return the gradient of planes of a shape from those of what :meth:`Pyramid.split` returns; the latter is used up."""
        if by_coefficient is not None:
            minus = self._of_up(by_coefficient)
            by_small = minus.neg_() if by_small is None else torch.sub(by_small, minus)
        assert by_small is not None
        padded = self._of_down(by_small.contiguous())
        cut = tuple(side // 2 * 2 for side in planes[1:])
        slope = padded[:, 2 : cut[0] + 2, 2 : cut[1] + 2]
        if by_coefficient is not None:
            phases_of(slope).add_(by_coefficient)
        if slope.shape == planes:
            return slope
        return functional.pad(slope, (0, planes[2] - cut[1], 0, planes[1] - cut[0]))

    def _of_up(self, slopes: Tensor) -> Tensor:
        groups = len(slopes)
        padded = convolve(slopes.flatten(0, 2), self.up, padding=(2, 2))[:, 0].unflatten(0, (groups, 4)).sum(1)  # type: ignore[no-untyped-call]
        for dim in (1, 2):
            last = padded.shape[dim] - 1
            add_border(padded, dim, 0, 2)
            add_border(padded, dim, last, last - 1)
            padded = padded.narrow(dim, 1, last - 1)
        return padded  # type: ignore[no-any-return]

    def _of_down(self, slopes: Tensor) -> Tensor:
        """Return the gradient of planes with borders of 2; these are added to their insides."""
        phases = convolve(slopes, self.down, padding=(2, 2)).unflatten(1, (2, 2))  # type: ignore[no-untyped-call]
        padded = phases.new_empty((len(slopes), *(2 * side for side in phases.shape[-2:])))
        phases_of(padded).copy_(phases)
        del phases
        for dim in (1, 2):
            last = padded.shape[dim] - 2
            add_border(padded, dim, 1, 3)
            add_border(padded, dim, 0, 4)
            add_border(padded, dim, last, last - 2)
        return padded  # type: ignore[no-any-return]


def add_border(planes: Tensor, dim: int, border: int, inside: int) -> None:
    """Add one row or column to another, which it was a copy of."""
    planes.narrow(dim, inside, 1).add_(planes.narrow(dim, border, 1))


def even(planes: Tensor) -> Tensor:
    """Cut an odd side by one."""
    return planes[..., : planes.shape[-2] // 2 * 2, : planes.shape[-1] // 2 * 2]


def phases_of(planes: Tensor) -> Tensor:
    """Return a view ``[..., 2, 2, h, w]`` of planes: even and odd rows and columns apart."""
    split = even(planes).unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2))  # type: ignore[no-untyped-call]  # [..., h, 2, w, 2]  # type: ignore[no-untyped-call]
    return split.movedim((-3, -1), (-4, -3))  # type: ignore[no-any-return]


class Sobel:
    """The responses of planes ``[G, H, W]`` to [-1 0 1; -2 0 2; -1 0 1] and to its transpose."""

    def __init__(self, like: Tensor, groups: int) -> None:
        smooth, steep = constants((1.0, 2.0, 1.0), like), constants((-1.0, 0.0, 1.0), like)
        self.kernels = torch.stack([smooth[:, None] * steep, steep[:, None] * smooth]).repeat(groups, 1, 1)[:, None]

    def responses(self, planes: Tensor, padding: str) -> Tensor:
        """Return ``[G, 2, H, W]``."""
        if padding == "zeros":
            return convolve(planes, self.kernels, padding=(1, 1))
        return convolve(functional.pad(planes[None], (1, 1, 1, 1), mode="replicate")[0], self.kernels)

    def adjoint(self, slopes: Tensor, padding: str) -> Tensor:
        """Return the gradient of the planes from that of the responses."""
        reach = 1 if padding == "zeros" else 2
        padded = (
            convolve(slopes.flatten(0, 1), self.kernels.flip(2, 3), padding=(reach, reach))[:, 0]  # type: ignore[no-untyped-call]
            .unflatten(0, (len(slopes), 2))
            .sum(1)
        )
        for dim in (1, 2) if padding == "replicate" else ():
            last = padded.shape[dim] - 1
            add_border(padded, dim, 0, 1)
            add_border(padded, dim, last, last - 1)
            padded = padded.narrow(dim, 1, last - 1)
        return padded  # type: ignore[no-any-return]
