"""The dense fold's operators on GPUs: how a call is cut into programs, and the kernels that they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.folds.arithmetic import equals
from lossfold.folds.dense.spec import KINDS, LINKS
from lossfold.folds.dense.triton import bins as histogram
from lossfold.folds.dense.triton import gradient, lines, pixels
from lossfold.folds.gpu import maps as maps_of
from lossfold.folds.gpu.launch import (
    MOST_GROUPS,
    MOST_HELD,
    MOST_ROWS,
    Plan,
    added,
    complain,
    divided,
    flat,
    in_total,
    launch,
    narrowed,
    options,
    plan,
    rows_of_kinds,
    slopes_of,
    tabled,
    warp,
    written,
)
from lossfold.folds.gpu.launch import scaled as scaled
from lossfold.folds.gpu.resizing import back, full
from lossfold.folds.gpu.tables import MOST_PIXELS
from lossfold.folds.histogram import OCTAVES, REST

SOFTMAX = LINKS.index("softmax")
OF_MAPS = tuple(KINDS.index(kind) for kind in maps_of.KINDS)
MOST_KINDS = 8  # of one launch, of channels by themselves


class Call(NamedTuple):
    """One call's tensors as kernels read them.

    Attributes:
        z, t: scores and targets ``[B, K, P]`` of any strides.
        w: weights ``[B, P]`` or ``[B, K, P]``; anything without.
        fixed: what kernels are compiled for.
        ignore: the target that does not count.
        link: how scores become probabilities.
    """

    z: Tensor
    t: Tensor
    w: Tensor
    fixed: dict[str, Any]
    ignore: int
    link: int

    @classmethod
    def of(cls, scores: Tensor, targets: Tensor, weight: Tensor | None, ignore: int, link: int, together: bool) -> Call:
        """Return a call."""
        whole = not targets.is_floating_point() and targets.dtype != torch.bool
        if whole and together and link != SOFTMAX and targets.shape[1] > 1:  # a channel's target decides for the others
            counted = ~equals(targets, ignore).any(1)
            weight = counted if weight is None else torch.where(counted, weight, torch.zeros_like(weight))
        each = weight is not None and weight.dim() == targets.dim()
        w = scores if weight is None else weight.contiguous()
        w = w.view(torch.uint8) if w.dtype == torch.bool else w
        t = targets.view(torch.uint8) if targets.dtype == torch.bool else targets
        fixed: dict[str, Any] = {"HAS_W": weight is not None, "WHOLE": whole}
        if link == SOFTMAX:
            fixed["C"] = scores.shape[1]
        else:
            fixed |= {"LINK": link, "EACH": each}
        return cls(flat(scores), flat(t), w, fixed, ignore, link)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of images, channels and pixels."""
        return tuple(self.z.shape)

    @property
    def by_pixel(self) -> bool:
        """Whether a program has all channels of a pixel."""
        return self.link == SOFTMAX

    def cut(self, held: int, lanes: int, most_tiles: int = 1) -> Plan:
        """Return how it is cut up; see :func:`lossfold.folds.gpu.launch.plan`."""
        images, channels, pixels = self.sizes
        if self.by_pixel:
            return plan(channels, held, images, pixels, lanes, most_tiles, groups_of(channels))
        return plan(1, 1, images * channels, pixels, 4 * lanes, most_tiles)

    def compiled(self, cut: Plan, tiles: bool = False, **others: Any) -> dict[str, Any]:
        """Return what kernels are compiled for, and how."""
        if self.by_pixel:
            others.pop("GAMMAS", None)
            return self.fixed | cut.constants(tiles) | others | cut.options()
        return self.fixed | {"BLOCK": cut.block} | ({"TILES": cut.tiles} if tiles else {}) | others | options(1)

    def programs(self, cut: Plan) -> tuple[int, int]:
        """Return how many programs an image (or a line) has, and how many there are."""
        images, channels, pixels = self.sizes
        each = cut.programs(pixels)
        return each, each * images * (1 if self.by_pixel else channels)

    def numbers(self, each: int) -> tuple[int, ...]:
        """Return sizes and strides."""
        _, channels, pixels = self.sizes
        count = (each, pixels) if self.by_pixel else (each, channels, pixels)
        return (*count, *self.z.stride(), *self.t.stride())


def groups_of(channels: int) -> int:
    """Return how many groups of channels a program may have."""
    groups = MOST_GROUPS
    while MOST_ROWS * groups < channels:
        groups *= 2
    return groups


def kinds_of(channels: int) -> int:
    """Return how many kinds of sums of pixels one launch collects; the largest programs have the fewest registers for them."""
    return MOST_HELD // math.ceil(channels / MOST_GROUPS) if channels <= MOST_ROWS * MOST_GROUPS else 2


def fold(
    scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, ignore_index: int, link: int, together: bool,
    align_corners: bool,
    kinds: Sequence[int], gammas: Sequence[float], bins: int, bins_per_image: bool, hinge: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Implement ``dense_fold``."""
    images, channels = scores.shape[:2]
    if not targets.numel():
        rows = images if bins_per_image else 1
        table = scores.new_zeros((rows, 4, channels, bins) if bins else (0,), dtype=torch.float64)
        return scores.new_zeros((images, len(kinds), channels), dtype=torch.float64), table
    wide = full(scores, targets.shape[2:], align_corners)
    call = Call.of(wide, targets, weight, ignore_index, link, together)
    most = kinds_of(channels) if call.by_pixel else MOST_KINDS
    rest, mapped = maps_of.places_of(kinds, OF_MAPS)
    passes = [rest[start : start + most] for start in range(0, max(1, len(rest)), most)]
    found = [_sums(call, tuple(kinds[k] for k in one), tuple(gammas[k] for k in one)) for one in passes]
    if mapped:
        found.append(_mapped(call, wide, targets, maps, together).sums([KINDS[kinds[k]] for k in mapped]))
    table = _table(call, bins, bins_per_image, hinge) if bins else scores.new_empty(0, dtype=torch.float64)
    if len(found) == 1:
        return found[0], table
    placed = dict(zip((*rest, *mapped), (row for part in found for row in part.unbind(1)), strict=True))
    return torch.stack([placed[k] for k in range(len(kinds))], 1), table


def unfold(
    grad_sums: Tensor | None, grad_table: Tensor | None, scores: Tensor, targets: Tensor, weight: Tensor | None,
    maps: Tensor | None, ignore_index: int, link: int, together: bool,
    align_corners: bool,
    kinds: Sequence[int], gammas: Sequence[float], bins: int, bins_per_image: bool, hinge: bool,
) -> Tensor:  # fmt: skip
    """Implement ``dense_unfold``."""
    if not targets.numel():
        return torch.empty_like(scores)
    wide = full(scores, targets.shape[2:], align_corners)
    if maps is not None:
        wide = wide.float()  # the gradient is added up there
    call = Call.of(wide, targets, weight, ignore_index, link, together)
    cut = call.cut(0, warp())
    each, programs = call.programs(cut)
    of_sums = {"KINDS": tuple(kinds), "GAMMAS": tuple(gammas)} if grad_sums is not None else {"KINDS": (), "GAMMAS": ()}
    g = scores if grad_sums is None else narrowed(grad_sums)
    slopes, bins = (scores, 0) if grad_table is None else (slopes_of(grad_table, (bins - REST) // OCTAVES if hinge else 0), bins)

    def write(out: Tensor) -> None:
        numbers = (*call.numbers(each), *out.stride())
        if call.by_pixel:
            tensors = (g, call.z, call.t, call.w, out)
            launch(pixels.unfold_pixels, (programs,), *tensors, *numbers, call.ignore, **call.compiled(cut, **of_sums))
            return
        step = slopes.stride(0) if bins and len(slopes) > 1 else 0
        fixed = call.compiled(cut, **of_sums, BINS=bins, HINGE=hinge)
        launch(gradient.unfold_lines, (programs,), g, slopes, call.z, call.t, call.w, out, *numbers, step, call.ignore, **fixed)

    slope = written(wide, write)
    if maps is not None and OF_MAPS[0] in of_sums["KINDS"]:
        row = g[:, of_sums["KINDS"].index(OF_MAPS[0])]
        slope = _mapped(call, wide, targets, maps, together).add_gradient(row, slope)
    return back(slope, scores, align_corners)


def once(
    scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, above: Tensor, below: Tensor | None,
    ignore_index: int, link: int, together: bool, align_corners: bool, kinds: Sequence[int], gammas: Sequence[float], *rest: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Implement ``dense_once``, of channels by themselves."""
    if not targets.numel():
        return scores.new_zeros((), dtype=torch.float32), torch.empty_like(scores)
    wide = full(scores, targets.shape[2:], align_corners)
    call = Call.of(wide, targets, weight, ignore_index, link, together)
    images, _, size = call.sizes
    if below is None:
        g = narrowed(above)
    elif call.fixed["HAS_W"] or call.fixed["WHOLE"]:
        g = divided(above, (_sums(call, (KINDS.index("weight"),), (0.0,)).sum(0) * below).sum())
    else:  # everything counts
        g = divided(above, below.sum() * (images * size))
    cut = call.cut(0, warp())
    each, programs = call.programs(cut)
    part = torch.empty(programs, dtype=torch.float64, device=scores.device)
    bad = torch.empty(programs, dtype=torch.int32, device=scores.device)
    fixed = call.compiled(cut, KINDS=tuple(kinds), GAMMAS=tuple(gammas))

    def write(out: Tensor) -> None:
        numbers = (*call.numbers(each), *out.stride(), call.ignore)
        launch(gradient.once_lines, (programs,), g, call.z, call.t, call.w, out, part, bad, *numbers, **fixed)

    slope = back(written(wide, write), scores, align_corners)
    return in_total(part, bad, MESSAGE).to(torch.float32), slope


def map(
    scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, coef: Tensor,
    ignore_index: int, link: int, together: bool, align_corners: bool, kinds: Sequence[int], gammas: Sequence[float], *rest: Any,
) -> Tensor:  # fmt: skip
    """Implement ``dense_map``."""
    wide = full(scores, targets.shape[2:], align_corners)
    call = Call.of(wide, targets, weight, ignore_index, link, together)
    values = torch.empty(call.z[:, 0].shape if call.by_pixel else call.z.shape, dtype=torch.float32, device=scores.device)
    if targets.numel():
        rest, mapped = maps_of.places_of(kinds, OF_MAPS)
        coefs = [rows_of_kinds(narrowed(coef), places) for places in (rest, mapped)]
        cut = call.cut(0, warp())
        each, programs = call.programs(cut)
        bad = torch.empty(programs, dtype=torch.int32, device=scores.device)
        fixed = call.compiled(cut, KINDS=tuple(kinds[k] for k in rest), GAMMAS=tuple(gammas[k] for k in rest))
        kernel = pixels.map_pixels if call.by_pixel else lines.map_lines
        launch(kernel, (programs,), coefs[0], call.z, call.t, call.w, values, bad, *call.numbers(each), call.ignore, **fixed)
        complain(bad, MESSAGE, values)
        if mapped:
            of_maps = _mapped(call, wide, targets, maps, together)
            of_maps.add_values(coefs[1], [KINDS[kinds[k]] for k in mapped], values, alone=not call.by_pixel)
    if together:
        values = values if call.by_pixel else values.sum(1)
        return values.reshape(len(targets), *targets.shape[2:])
    return values.reshape(targets.shape)


MESSAGE = "lossfold: a target is out of range [0, 1]"


def _mapped(call: Call, scores: Tensor, targets: Tensor, maps: Tensor | None, together: bool) -> maps_of.Mapped:
    """Return what sums of a map are made of."""
    assert maps is not None
    if call.fixed["WHOLE"]:
        counted = (targets != call.ignore).all(1) if together else targets != call.ignore
    else:
        counted = torch.ones_like(targets[:, 0], dtype=torch.bool)
    return maps_of.Mapped.of(scores, maps, call.w if call.fixed["HAS_W"] else None, counted, LINKS[call.link])


def _sums(call: Call, kinds: tuple[int, ...], gammas: tuple[float, ...]) -> Tensor:
    """Return ``[B, kinds, K]``."""
    images, channels, _ = call.sizes
    cut = call.cut(len(kinds), warp(), most_tiles=8)
    each, programs = call.programs(cut)
    inner = 1 if call.by_pixel else channels
    part = torch.empty(
        (images * inner, each, len(kinds), *([channels] if call.by_pixel else [])), dtype=torch.float64, device=call.z.device
    )
    bad = torch.empty(programs, dtype=torch.int32, device=call.z.device)
    fixed = call.compiled(cut, True, KINDS=kinds, GAMMAS=gammas)
    kernel = pixels.fold_pixels if call.by_pixel else lines.fold_lines
    launch(kernel, (programs,), call.z, call.t, call.w, part, bad, *call.numbers(each), call.ignore, **fixed)
    return added(part, bad, MESSAGE, inner).view(images, len(kinds), channels)


def _table(call: Call, bins: int, apart: bool, hinge: bool) -> Tensor:
    """Return the histogram ``[I, 4, K, bins]``."""
    images, channels, _ = call.sizes
    counts = not call.fixed["HAS_W"] or call.w.dtype == torch.uint8
    cut = call.cut(1, warp(), most_tiles=8)
    each, programs = call.programs(cut)
    share = MOST_PIXELS // (cut.block * cut.tiles) if counts else each * images
    groups = math.ceil(each / share)
    rows, tables = (images, groups) if apart else (1, math.ceil(images * each / share))
    words = torch.zeros((rows, tables, channels, 2, bins + 1, 1 if counts else 2), dtype=torch.int64, device=call.z.device)
    fixed = call.compiled(cut, True, BINS=bins, HINGE=hinge, COUNTS=counts, APART=apart)
    launch(
        histogram.bins_lines, (programs,), call.z, call.t, call.w, words, *call.numbers(each), groups, share, call.ignore, **fixed
    )
    return tabled(words)
