"""The label fold's operators on GPUs: how a call is cut into programs, and the kernels that they run."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossfold.engines.triton import INTERPRETED
from lossfold.folds.fold import code_of
from lossfold.folds.gpu.launch import added, flat, launch, narrowed, options, plan, slopes_of, tabled, warp, written
from lossfold.folds.gpu.tables import MOST_PIXELS
from lossfold.folds.label.spec import KINDS
from lossfold.folds.label.triton import bins as histogram
from lossfold.folds.label.triton import gradient, hard, many, sums

MOST_KINDS = 6  # of one launch: each has a sum for every row of a thread
OF_EVERY_P = tuple(code_of(KINDS, kind) for kind in ("prob", "prob_sq"))
OF_HARD = tuple(code_of(KINDS, kind) for kind in ("hard_weight", "hard_nll"))
OF_EVERY_LOG = code_of(KINDS, "nll_all")


class Call(NamedTuple):
    """One call's tensors as kernels read them: scores ``[B, C, P]`` of any strides, labels and weights ``[B, P]``."""

    z: Tensor
    y: Tensor
    w: Tensor
    kept: Tensor
    fixed: dict[str, Any]
    ignore: int

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor, weight: Tensor | None, kept: Tensor, ignore: int, softmax: bool) -> Call:
        """Return a call."""
        z, y = flat(scores), labels.contiguous()
        w = y if weight is None else weight.contiguous()
        w = w.view(torch.uint8) if w.dtype == torch.bool else w
        return cls(z, y, w, kept, {"C": z.shape[1], "HAS_W": weight is not None, "SOFTMAX": softmax}, ignore)

    @property
    def message(self) -> str:
        """What is complained of labels that are no classes."""
        return f"lossfold: a label is out of range [0, {self.z.shape[1]}) and is not ignore_index={self.ignore}"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What a gradient and a map read."""
        return self.z, self.y, self.w, self.kept

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of images, classes and pixels."""
        return tuple(self.z.shape)


def fold(
    scores: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int, softmax: bool, align_corners: bool,
    kinds: Sequence[int], gammas: Sequence[float], bins: int, bins_per_image: bool, *selection: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Implement ``label_fold``."""
    kept = scores.new_empty(0, dtype=torch.uint8)
    call = Call.of(scores, labels, weight, kept, ignore_index, softmax)
    images, classes, pixels = call.sizes
    if not labels.numel():
        shape = (images if bins_per_image else 1, 4, classes, bins) if bins else (0,)
        table = scores.new_zeros(shape, dtype=torch.float64)
        return scores.new_zeros((images, len(kinds), classes), dtype=torch.float64), table, kept
    chosen = [place for place, kind in enumerate(kinds) if kind in OF_HARD]
    easy = [place for place, kind in enumerate(kinds) if kind not in OF_HARD]
    hardness = torch.empty(labels.shape, dtype=torch.int32, device=scores.device) if chosen else None
    rows: dict[int, Tensor] = {}
    for start in range(0, max(1, len(easy)), MOST_KINDS):
        places = easy[start : start + MOST_KINDS]
        wanted = tuple(kinds[k] for k in places), tuple(gammas[k] for k in places)
        found = _sums(call, *wanted, None if start else hardness, selection[0])
        rows |= dict(zip(places, found.unbind(1), strict=True))
    if hardness is not None:
        kept, found = _chosen(call, hardness, tuple(kinds[k] for k in chosen), *selection[1:])
        kept = kept.view(labels.shape)
        rows |= dict(zip(chosen, found.unbind(1), strict=True))
    if found.shape[1] != len(kinds):
        found = torch.stack([rows[k] for k in range(len(kinds))], 1)
    table = _table(call, bins, bins_per_image) if bins else scores.new_empty(0, dtype=torch.float64)
    return found, table, kept


def unfold(
    grad_sums: Tensor | None, grad_table: Tensor | None, kept: Tensor,
    scores: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int, softmax: bool, align_corners: bool,
    kinds: Sequence[int], gammas: Sequence[float], bins: int, *rest: Any,
) -> Tensor:  # fmt: skip
    """Implement ``label_unfold``."""
    call = Call.of(scores, labels, weight, kept, ignore_index, softmax)
    images, classes, pixels = call.sizes
    slopes = g = kept
    kinds, gammas = (tuple(kinds), tuple(gammas)) if grad_sums is not None else ((), ())
    if grad_sums is not None:
        g = narrowed(grad_sums)
    bins = 0 if grad_table is None else bins
    cut = plan(classes, 0, images, pixels, warp() if bins else 2 * warp())
    if grad_table is not None:
        slopes = slopes_of(grad_table)
    mixed, logs = bins > 0 or any(kind in OF_EVERY_P for kind in kinds), OF_EVERY_LOG in kinds
    fixed = call.fixed | cut.constants() | {"KINDS": kinds, "GAMMAS": gammas, "MIXED": mixed, "LOGS": logs} | cut.options()
    programs = cut.programs(pixels)

    def write(out: Tensor) -> None:
        sizes = (programs, pixels, *call.z.stride(), *out.stride())
        if cut.many:
            launch(many.unfold_many, (programs * images,), g, *call.tensors, out, *sizes, call.ignore, **fixed)
            return
        step = slopes.stride(0) if bins and len(slopes) > 1 else 0
        launch(
            gradient.unfold_kernel,
            (programs * images,),
            g,
            slopes,
            *call.tensors,
            out,
            *sizes,
            step,
            call.ignore,
            BINS=bins,
            **fixed,
        )

    return written(scores, write) if labels.numel() else torch.empty_like(scores)


def map(
    scores: Tensor, labels: Tensor, weight: Tensor | None, coef: Tensor, kept: Tensor, ignore_index: int, softmax: bool,
    align_corners: bool, kinds: Sequence[int], gammas: Sequence[float], *rest: Any,
) -> Tensor:  # fmt: skip
    """Implement ``label_map``."""
    call = Call.of(scores, labels, weight, kept, ignore_index, softmax)
    images, classes, pixels = call.sizes
    values = torch.empty(labels.shape, dtype=torch.float32, device=scores.device)
    if labels.numel():
        cut = plan(classes, 0, images, pixels, 2 * warp())
        programs = cut.programs(pixels)
        bad = torch.empty(programs * images, dtype=torch.int32, device=scores.device)
        tensors = (narrowed(coef), *call.tensors, values, bad)
        fixed = call.fixed | cut.constants() | {"KINDS": tuple(kinds), "GAMMAS": tuple(gammas)} | cut.options()
        kernel = many.map_many if cut.many else sums.map_kernel
        launch(kernel, (programs * images,), *tensors, programs, pixels, *call.z.stride(), call.ignore, **fixed)
        torch._assert_async((bad == 0).all(), call.message)
    return values


def _sums(call: Call, kinds: tuple[int, ...], gammas: tuple[float, ...], hardness: Tensor | None, thresh: float) -> Tensor:
    """Return ``[B, kinds, C]``, and write how hard pixels are, if asked."""
    images, classes, pixels = call.sizes
    cut = plan(classes, len(kinds), images, pixels, warp(), most_tiles=32)
    programs = cut.programs(pixels)
    part = torch.empty((images, programs, len(kinds), classes), dtype=torch.float64, device=call.z.device)
    bad = torch.empty((images, programs), dtype=torch.int32, device=call.z.device)
    fixed = (
        call.fixed | cut.constants(tiles=True) | {"KINDS": kinds, "GAMMAS": gammas, "HARD": hardness is not None} | cut.options()
    )
    tensors = (call.z, call.y, call.w, bad if hardness is None else hardness, part, bad)
    kernel = many.fold_many if cut.many else sums.fold_kernel
    launch(kernel, (programs * images,), *tensors, programs, pixels, *call.z.stride(), call.ignore, thresh, **fixed)
    return added(part, bad, call.message) if kinds else part[:, 0]


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
    block = 1024 if INTERPRETED else 128
    programs = math.ceil(pixels / block)
    part = torch.empty((images, programs, len(kinds), classes), dtype=torch.float64, device=hardness.device)
    bad = torch.empty((images, programs), dtype=torch.int32, device=hardness.device)
    fixed = {"C": classes, "HAS_W": call.fixed["HAS_W"], "KINDS": kinds, "TILE": 16, "BLOCK": block}
    tensors = (hardness, state, call.y, call.w, kept, part, bad)
    launch(hard.keep_kernel, (programs * images,), *tensors, programs, pixels, call.ignore, int(apart), **fixed, **options(4))
    return kept, added(part, bad, call.message)


def _table(call: Call, bins: int, apart: bool) -> Tensor:
    """Return the histogram ``[I, 4, C, bins]``."""
    images, classes, pixels = call.sizes
    counts = not call.fixed["HAS_W"] or call.w.dtype == torch.uint8
    cut = plan(classes, 6, images, pixels, warp(), most_tiles=16, most_groups=16)
    programs = cut.programs(pixels)
    share = MOST_PIXELS // (cut.block * cut.tiles) if counts else programs * images
    groups = math.ceil(programs / share)
    rows, tables = (images, groups) if apart else (1, math.ceil(images * programs / share))
    words = torch.zeros((rows, tables, classes, 2, bins + 1, 1 if counts else 2), dtype=torch.int64, device=call.z.device)
    fixed = call.fixed | cut.constants(tiles=True) | {"BINS": bins, "COUNTS": counts, "APART": apart} | cut.options()
    sizes = (programs, pixels, *call.z.stride(), groups, share)
    launch(histogram.bins_kernel, (programs * images,), call.z, call.y, call.w, words, *sizes, call.ignore, **fixed)
    return tabled(words)
