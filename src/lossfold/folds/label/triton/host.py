"""The label fold's operators on GPUs."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lossfold.folds.arithmetic import equals
from lossfold.folds.fold import code_of
from lossfold.folds.gpu import maps as maps_of
from lossfold.folds.gpu.launch import (
    added,
    complain,
    divided,
    in_total,
    launch,
    narrowed,
    options,
    rows_of_kinds,
    slopes_of,
    tabled,
    warp,
)
from lossfold.folds.gpu.launch import scaled as scaled
from lossfold.folds.gpu.resizing import back, full
from lossfold.folds.label.spec import KINDS
from lossfold.folds.label.triton import hard, resized, whole
from lossfold.folds.label.triton.call import Call, at_labels

OF_HARD = tuple(code_of(KINDS, kind) for kind in ("hard_weight", "hard_nll"))
OF_MAPS = tuple(code_of(KINDS, kind) for kind in maps_of.KINDS)


def launches(call: Call) -> ModuleType:
    """Return how a call is launched."""
    return resized if call.resized else whole


def fold(
    scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None,
    ignore_index: int, softmax: bool, align_corners: bool, kinds: Sequence[int], gammas: Sequence[float],
    bins: int, bins_per_image: bool, *selection: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Implement ``label_fold``."""
    kept = scores.new_empty(0, dtype=torch.uint8)
    wide = at_labels(scores, labels, align_corners)
    call = Call.of(wide, labels, weight, kept, ignore_index, softmax, align_corners)
    images, classes, _ = call.sizes
    rest, mapped = maps_of.places_of(kinds, OF_MAPS)
    easy, chosen = ([rest[k] for k in places] for places in maps_of.places_of([kinds[k] for k in rest], OF_HARD))
    if not labels.numel():
        shape = (images if bins_per_image else 1, 4, classes, bins) if bins else (0,)
        kept = labels.new_empty(labels.shape, dtype=torch.uint8) if chosen else kept
        table = scores.new_zeros(shape, dtype=torch.float64)
        return scores.new_zeros((images, len(kinds), classes), dtype=torch.float64), table, kept
    step = launches(call).most_kinds(classes)
    several = bool(chosen or mapped) or len(easy) > step
    hardness = torch.empty(labels.shape, dtype=torch.int32, device=scores.device) if chosen else None
    rows: dict[int, Tensor] = {}
    for start in range(0, max(1, len(easy)), step):
        places = easy[start : start + step]
        wanted = tuple(kinds[k] for k in places), tuple(gammas[k] for k in places)
        found = launches(call).sums_of(call, *wanted, None if start else hardness, selection[0])
        if several:
            rows |= dict(zip(places, found.unbind(1), strict=True))
    if hardness is not None:
        kept, found = _chosen(call, hardness, tuple(kinds[k] for k in chosen), *selection[1:])
        rows |= dict(zip(chosen, found.unbind(1), strict=True))
    if mapped:
        of_maps = _mapped(wide, labels, weight, maps, ignore_index, softmax, align_corners).sums([KINDS[kinds[k]] for k in mapped])
        rows |= dict(zip(mapped, of_maps.unbind(1), strict=True))
    if found.shape[1] != len(kinds) or mapped:
        found = torch.stack([rows[k] for k in range(len(kinds))], 1)
    if not bins:
        return found, scores.new_empty(0, dtype=torch.float64), kept
    counts = weight is None or call.w.dtype == torch.uint8  # weights are 1
    return found, tabled(launches(call).table_of(call, bins, bins_per_image, counts)), kept


def unfold(
    grad_sums: Tensor | None, grad_table: Tensor | None, kept: Tensor,
    scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None,
    ignore_index: int, softmax: bool, align_corners: bool, kinds: Sequence[int], gammas: Sequence[float], *rest: Any,
) -> Tensor:  # fmt: skip
    """Implement ``label_unfold``."""
    if not labels.numel():
        return torch.zeros_like(scores)
    exact = scores if maps is None else scores.float()  # gradients are added up there
    wide = at_labels(exact, labels, align_corners)
    call = Call.of(wide, labels, weight, kept, ignore_index, softmax, align_corners)
    g, sums = (scores, ((), ())) if grad_sums is None else (narrowed(grad_sums), (tuple(kinds), tuple(gammas)))
    slopes = None if grad_table is None else slopes_of(grad_table)
    result: Tensor = launches(call).gradient_of(call, wide, g, slopes, *sums)
    if maps is not None and OF_MAPS[0] in sums[0]:
        of_maps = _mapped(wide, labels, weight, maps, ignore_index, softmax, align_corners)
        row = g[:, sums[0].index(OF_MAPS[0])]
        if call.resized:
            slope = torch.zeros((*scores.shape[:2], *labels.shape[1:]), dtype=torch.float32, device=scores.device)
            result += back(of_maps.add_gradient(row, slope), exact, align_corners)
        else:
            result = of_maps.add_gradient(row, result)
    return back(result, scores, align_corners)


def once(
    scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None, above: Tensor, below: Tensor | None,
    ignore_index: int, softmax: bool, align_corners: bool, kinds: Sequence[int], gammas: Sequence[float], *rest: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Implement ``label_once``."""
    if not labels.numel():
        return scores.new_zeros((), dtype=torch.float32), torch.zeros_like(scores)
    wide = at_labels(scores, labels, align_corners)
    call = Call.of(wide, labels, weight, scores.new_empty(0, dtype=torch.uint8), ignore_index, softmax, align_corners)
    g = narrowed(above) if below is None else divided(above, whole.counted(call, below))
    part, bad, gradient = whole.at_once(call, wide, g, tuple(kinds), tuple(gammas))
    return in_total(part, bad, call.message).to(torch.float32), back(gradient, scores, align_corners)


def map(
    scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None, coef: Tensor, kept: Tensor,
    ignore_index: int, softmax: bool, align_corners: bool, kinds: Sequence[int], gammas: Sequence[float], *rest: Any,
) -> Tensor:  # fmt: skip
    """Implement ``label_map``."""
    values = torch.empty(labels.shape, dtype=torch.float32, device=scores.device)
    if labels.numel():
        wide = at_labels(scores, labels, align_corners)
        call = Call.of(wide, labels, weight, kept, ignore_index, softmax, align_corners)
        rest, mapped = maps_of.places_of(kinds, OF_MAPS)
        coefs = [rows_of_kinds(narrowed(coef), places) for places in (rest, mapped)]
        bad = launches(call).values_of(call, coefs[0], tuple(kinds[k] for k in rest), tuple(gammas[k] for k in rest), values)
        complain(bad, call.message, values)
        if mapped:
            of_maps = _mapped(wide, labels, weight, maps, ignore_index, softmax, align_corners)
            of_maps.add_values(coefs[1], [KINDS[kinds[k]] for k in mapped], values, alone=False)
    return values


def _mapped(
    scores: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    maps: Tensor | None,
    ignore_index: int,
    softmax: bool,
    align_corners: bool,
) -> maps_of.Mapped:
    """Return what sums of a map are made of."""
    assert maps is not None
    counted = ~equals(labels, ignore_index)
    wide = full(scores, labels.shape[1:], align_corners)
    return maps_of.Mapped.of(wide, maps, weight, counted, "softmax" if softmax else "identity")


def _chosen(
    call: Call, hardness: Tensor, kinds: tuple[int, ...], min_kept: int, ratio: float, apart: bool
) -> tuple[Tensor, Tensor]:
    """Return the mask of the hard pixels, and the sums ``[B, kinds, C]`` over them."""
    images, classes, pixels = call.sizes
    groups, each = (images, pixels) if apart else (1, images * pixels)
    (ratio_bits,) = struct.unpack("<q", struct.pack("<d", ratio))
    state = torch.empty((groups, 2), dtype=torch.int64, device=hardness.device)
    shift = sum(hard.DIGITS)
    for bits in hard.DIGITS:
        first, shift = shift == sum(hard.DIGITS), shift - bits
        counts = torch.zeros((groups, 2**bits), dtype=torch.int32, device=hardness.device)
        digit = {"SHIFT": shift, "BITS": bits}
        programs = math.ceil(each / 1024)
        launch(hard.count_digits, (programs * groups,), hardness, state, counts, programs, each, **digit, BLOCK=1024, **options(4))
        launch(hard.choose_digit, (groups,), counts, state, min_kept, ratio_bits, **digit, FIRST=first, **options(4))
    kept = torch.empty(hardness.shape, dtype=torch.uint8, device=hardness.device)
    block = 4 * warp()
    programs = math.ceil(pixels / block)
    part = torch.empty((images, programs, len(kinds), classes), dtype=torch.float64, device=hardness.device)
    bad = torch.empty((images, programs), dtype=torch.int32, device=hardness.device)
    fixed = {"C": classes, "HAS_W": call.fixed["HAS_W"], "KINDS": kinds, "TILE": 16, "BLOCK": block}
    tensors = (hardness, state, call.y, call.w, kept, part, bad)
    launch(hard.keep_kernel, (programs * images,), *tensors, programs, pixels, call.ignore, int(apart), **fixed, **options(4))
    return kept, added(part, bad, call.message)
