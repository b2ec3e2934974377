"""Compile what the triton engine launches for GPUs that are not here: `python -m tests.engines.compiled short | full TARGET`.

A line of JSON for each kernel. In a process of its own, with its cache where TRITON_CACHE_DIR says.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

import lossfold as lf
from lossfold.folds.dense.spec import KINDS as DENSE_KINDS
from lossfold.folds.dense.spec import LINKS, PLAIN
from lossfold.folds.dense.triton import host as dense
from lossfold.folds.fold import Fold
from lossfold.folds.gpu import maps, units
from lossfold.folds.gpu.maps import Mapped
from lossfold.folds.histogram import REST
from lossfold.folds.label.spec import KINDS
from lossfold.folds.label.triton import host as label
from lossfold.folds.pair.spec import KINDS as PAIR_KINDS
from lossfold.folds.pair.triton import host as pair
from lossfold.folds.scores import Given
from lossfold.folds.window.spec import WindowSpec
from lossfold.folds.window.triton import MOST_TAPS
from lossfold.folds.window.triton import host as window
from lossfold.losses.fused import Part, together
from lossfold.losses.scores import ScoreLoss
from tests.engines.offline import TARGETS, Built, Launch, launches_of

CE = ("weight", "nll")
SET = ("weight", "nll", "prob", "prob_at_label", "focal")  # CE + Dice + focal
EVERY = tuple(kind for kind in KINDS if not kind.startswith("map_"))  # a map has kernels of its own
EVERY_OF_TARGETS = tuple(kind for kind in DENSE_KINDS if not kind.startswith("map_") and kind not in PLAIN)
BCE_SET = ("weight", "nll", "nll_not", "target", "prob", "both", "focal", "focal_not")
OF_SOFT = ("weight", "nll", "nll_all", "prob", "prob_sq", "both", "apart")
L1 = (("weight", 0, -1), ("abs", 0, -1))
PYRAMID = tuple((kind, level, 2 * level) for level in range(5) for kind in ("laplacian", "laplacian_weight"))
LEFT = (("low_pass", 5, -1), ("low_pass_weight", 5, -1))
STEPS = tuple((kind, axis, -1) for axis in range(2) for kind in ("step", "step_sq", "step_weight"))
MATTING = (("weight", 0, 0), ("abs", 0, 0), ("weight", 0, 1), ("abs", 0, 1), ("smooth_abs", 0.5, 0), ("edge", 1, 0), *PYRAMID)
SOBEL = tuple((kind, padding, 0) for kind in ("edge", "edge_of_pred") for padding in range(2))
EDGES = (("weight", 0, 0), *SOBEL, ("charbonnier", 1e-6, 1))
SETS = {"L1": (L1, 0), "matting": (MATTING, 5), "Laplacian": ((*PYRAMID, *LEFT), 5), "steps": (STEPS, 0), "Sobel": (EDGES, 0)}
AT_ONCE = {"CE": ("label", 19, CE), "BCE": ("dense", 19, ("weight", "nll", "nll_not")), "L1": ("pair", 3, ("weight", "abs"))}
Call = Callable[[], Any]


def of_labels(
    classes: int,
    kinds: tuple[str, ...],
    dtype: torch.dtype = torch.float32,
    *,
    bins: int = 0,
    softmax: bool = True,
    weighted: bool = False,
    last: bool = False,
    stride: int = 1,
    maps: bool = True,
    size: tuple[int, int] = (512, 1024),
) -> Call:
    """Fold, unfold and map of logits [2, classes, *size], or so many times smaller along both sides."""

    def call() -> None:
        scores = torch.empty(2, classes, *(side // stride for side in size), dtype=dtype, device="meta")
        scores = scores.to(memory_format=torch.channels_last) if last else scores
        labels = torch.empty(2, *size, dtype=torch.int64, device="meta")
        weight = torch.empty(labels.shape, device="meta") if weighted else None
        codes, numbers = [KINDS.index(kind) for kind in kinds], [2.0 * kind.startswith("focal") for kind in kinds]
        options = (255, softmax, False, codes, numbers, bins, False, 0.7, 1000, 0.0, False)
        sums, table, kept = label.fold(scores, labels, weight, None, *options)
        label.unfold(sums, table if bins else None, kept, scores, labels, weight, None, *options)
        if maps and not bins:
            label.map(scores, labels, weight, None, sums[0], kept, *options)

    return call


def of_targets(
    channels: int,
    kinds: tuple[str, ...],
    link: str,
    dtype: torch.dtype = torch.float32,
    *,
    bins: int = 0,
    hinge: bool = False,
    each: bool = False,
    whole: bool = False,
) -> Call:
    """Fold, unfold and map of logits [2, channels, 512, 1024] against targets."""

    def call() -> None:
        scores = torch.empty(2, channels, 512, 1024, dtype=dtype, device="meta")
        targets = torch.empty(scores.shape, dtype=torch.uint8 if whole else torch.float32, device="meta")
        weight = torch.empty(scores.shape, device="meta") if each else None
        codes, numbers = [DENSE_KINDS.index(kind) for kind in kinds], [2.0 * kind.startswith("focal") for kind in kinds]
        options = (255, LINKS.index(link), link == "softmax", False, codes, numbers, bins, False, hinge)
        sums, table = dense.fold(scores, targets, weight, None, *options)
        dense.unfold(sums, table if bins else None, scores, targets, weight, None, *options)
        if not bins:
            dense.map(scores, targets, weight, None, sums[0], *options)

    return call


def of_pairs(
    sums: tuple[tuple[str, float, int], ...], dtype: torch.dtype = torch.float32, *, levels: int = 0, sigmoid: bool = False
) -> Call:
    """Fold and unfold of images [2, 3, 512, 1024], by kind, number and region; of one region, with its means at so many levels."""

    def call() -> None:
        pred = torch.empty(2, 3, 512, 1024, dtype=dtype, device="meta")
        target = torch.empty(pred.shape, device="meta")
        maps = [torch.empty(2, 1, 512 >> level, 1024 >> level, device="meta") for level in range(levels + 1)]
        kinds, numbers, where = [PAIR_KINDS.index(kind) for kind, *_ in sums], [one[1] for one in sums], [one[2] for one in sums]
        options = (1, int(sigmoid), kinds, [float(number) for number in numbers], where)
        found, signs = pair.fold(pred, target, maps, *options)
        pair.unfold(found, signs, pred, target, maps, *options)

    return call


def of_windows(size: int = 11, dtype: torch.dtype = torch.float32, *, weighted: bool = False) -> Call:
    """Fold and unfold of images [2, 3, 512, 1024] through a window."""

    def call() -> None:
        pred = torch.empty(2, 3, 512, 1024, dtype=dtype, device="meta")
        target = torch.empty(pred.shape, device="meta")
        weight = torch.empty(2, 1, 513 - size, 1025 - size, device="meta") if weighted else None
        constants = WindowSpec(size, 1.5, 0.01, 0.03, 1.0, "valid").constants
        window.unfold(window.fold(pred, target, weight, *constants), pred, target, weight, *constants)

    return call


def of_one_pass(fold: str, classes: int, kinds: tuple[str, ...], dtype: torch.dtype = torch.float32) -> Call:
    """Value and gradient at once, and the factor that comes later."""

    def call() -> None:
        scores = torch.empty(2, classes, 512, 1024, dtype=dtype, device="meta")
        above = torch.empty(len(kinds), classes, dtype=torch.float64, device="meta")
        gammas = [2.0 * kind.startswith("focal") for kind in kinds]
        if fold == "label":
            labels = torch.empty(2, 512, 1024, dtype=torch.int64, device="meta")
            options = (255, True, False, [KINDS.index(kind) for kind in kinds], gammas)
            _, gradient = label.once(scores, labels, None, None, above, above[0], *options)
        elif fold == "dense":
            targets = torch.empty(scores.shape, dtype=torch.uint8, device="meta")
            options = (255, LINKS.index("sigmoid"), False, False, [DENSE_KINDS.index(kind) for kind in kinds], gammas)
            _, gradient = dense.once(scores, targets, None, None, above, above[0], *options)
        else:
            codes = [PAIR_KINDS.index(kind) for kind in kinds]
            _, gradient = pair.once(scores, scores, [], above[:, :1], None, 0, 0, codes, [1e-6] * len(kinds), [-1] * len(kinds))
        label.scaled(gradient, above[0])

    return call


def of_formulas(classes: int, *losses: ScoreLoss, images: int = 1) -> Call:
    """The formulas of losses, forward."""

    def call() -> None:
        specs = [loss.needs() for loss in losses]
        needs = functools.reduce(lambda one, other: one.merge(other), specs)
        sums = torch.ones(images, len(needs.spec.sums), classes, dtype=torch.float64)
        table = None if needs.spec.bins is None else torch.ones(images, 4, classes, needs.spec.bins.count, dtype=torch.float64)
        fold = Fold(sums, needs.spec.sums, torch.float32, (), table, launches=True)
        given = Given(sums, sums, None, "labels", None)
        values = together([Part(loss, fold, given, False, loss.weigh, ()) for loss in losses])
        assert values is not None

    return call


def of_maps(classes: int, link: str, dtype: torch.dtype = torch.float32, *, each: bool = False) -> Call:
    """Sums of a map, gradient and integrand."""

    def call() -> None:
        scores = torch.empty(2, classes, 512, 1024, dtype=dtype, device="meta")
        counted = torch.empty(scores.shape if each else (2, 512, 1024), dtype=torch.bool, device="meta")
        found = Mapped.of(scores, torch.empty(scores.shape, device="meta"), None, counted, link)
        g = torch.empty(2, classes, device="meta")
        found.sums(maps.KINDS)
        found.add_gradient(g, torch.empty_like(scores))
        found.add_values(g, maps.KINDS, torch.empty(scores.shape if each else counted.shape, device="meta"), each)

    return call


def of_units(*, apart: bool) -> Call:
    """Weights in units that a histogram resolves, and what was collected of them."""

    def call() -> None:
        _, unit = units.in_units(torch.empty(2, 512, 1024, device="meta"), apart)
        sums = torch.empty(2, 3, 19, dtype=torch.float64, device="meta")
        table = torch.empty(len(unit), 4, 19, 4096, dtype=torch.float64, device="meta")
        for one in (sums, sums[:1].expand(2, -1, -1)):
            units.multiplied(unit, one, table)

    return call


def short() -> Iterator[tuple[str, Call, tuple[str, ...]]]:
    """Yield what is compiled for which target: the kernels of the largest sets, each on one or two of them."""
    yield "sm_90", of_labels(19, SET), ("unfold_kernel",)
    yield "sm_120", of_labels(19, SET, bins=4096), ("bins_kernel",)
    yield "sm_80", of_one_pass("label", 19, CE), ("once_kernel",)
    yield "gfx942", of_windows(5), ("owe",)


CLASSES = (1, 2, 3, 19, 21, 24, 25, 70, 150, 192, 300, 2000)
"""Around every border of the plan: of warps, of classes a thread, of kernels that walk lines or many classes."""


def full() -> Iterator[Call]:
    """Yield calls of which every kernel is compiled: in float32 all of them, in halves every other number of classes.

    What a half changes is how scores are loaded and stored; registers go by classes and sums.
    """
    yield of_units(apart=False)
    yield of_units(apart=True)
    yield of_labels(19, CE, stride=4, size=(16390, 16391))  # of which places take long integers
    yield of_labels(300, CE, stride=4)
    yield of_labels(300, CE, torch.bfloat16, stride=4)
    yield of_targets(1000, OF_SOFT, "softmax")
    for link in maps.LINKS:
        yield of_maps(19, link)
        yield of_maps(150, link, torch.bfloat16, each=link != "softmax")
    for place, classes in enumerate(CLASSES):
        yield from of_scores(classes, torch.float32)
        half = (torch.bfloat16, torch.float16)[place % 2]
        yield of_labels(classes, SET, half)
        yield of_labels(classes, EVERY, half, softmax=False, weighted=True, last=True)
        yield of_labels(classes, SET, half, bins=4096)
        if classes <= 192:
            yield of_labels(classes, EVERY, half, stride=8, weighted=True)
        yield from formulas(classes)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for name, (sums, levels) in SETS.items():
            if dtype == torch.float32 or name in ("matting", "Sobel"):
                yield of_pairs(sums, dtype, levels=levels, sigmoid=dtype == torch.bfloat16)
        for size in (3, 11, MOST_TAPS):
            yield of_windows(size, dtype, weighted=size == 11)
        yield of_one_pass("pair", 3, ("weight", "charbonnier"), dtype)
        for classes in (1, 19, 150):
            yield of_one_pass("label", classes, ("weight", "nll", "nll_all"), dtype)
            yield of_one_pass("dense", classes, ("weight", "nll", "nll_not", "focal", "focal_not"), dtype)
        for channels in (1, 19, 150):
            yield from of_channels(channels, dtype)


def of_scores(classes: int, dtype: torch.dtype) -> Iterator[Call]:
    """Yield what reads scores against labels."""
    for kinds in (CE, SET, EVERY):
        yield of_labels(classes, kinds, dtype)
    yield of_labels(classes, EVERY, dtype, softmax=False, weighted=True, last=True)
    yield of_labels(classes, SET, dtype, bins=4096)
    yield of_labels(classes, SET, dtype, bins=4096, weighted=True, softmax=False)
    if classes <= 192:
        yield of_labels(classes, CE, dtype, stride=4)
        yield of_labels(classes, EVERY, dtype, stride=8, weighted=True)
        yield of_labels(classes, CE, dtype, bins=4096, stride=4)
        yield of_one_pass("label", classes, ("weight", "focal"), dtype)


def of_channels(channels: int, dtype: torch.dtype) -> Iterator[Call]:
    """Yield what reads scores against targets."""
    yield of_targets(channels, BCE_SET, "sigmoid", dtype)
    yield of_targets(channels, EVERY_OF_TARGETS, "identity", dtype, each=True, whole=True)
    yield of_targets(channels, BCE_SET, "sigmoid", dtype, bins=4096, each=True)
    yield of_targets(channels, ("weight", "target"), "sigmoid", dtype, bins=4096 + REST, hinge=True)
    yield of_targets(channels, OF_SOFT, "softmax", dtype)


def formulas(classes: int) -> Iterator[Call]:
    """Yield the formulas of sets, of one image and of several."""
    overlaps = lf.DiceLoss(), lf.TverskyLoss(exponent=0.75), lf.GeneralizedDiceLoss(absent="count")
    yield of_formulas(min(classes, 300), lf.CrossEntropyLoss(), lf.FocalLoss(), *overlaps)
    yield of_formulas(min(classes, 19), lf.LovaszLoss(), lf.OhemCrossEntropyLoss(), *overlaps)
    yield of_formulas(min(classes, 24), lf.CrossEntropyLoss(per_image=True), lf.DiceLoss(per_image=True), images=16)
    yield of_formulas(min(classes, 300), lf.CrossEntropyLoss(), lf.DiceLoss(), images=16)


def told(one: Launch, built: Built, target: str) -> dict[str, Any]:
    """Return what is asserted of a kernel; scores, beside: the bytes that a thread needs of scores, and may load besides."""
    has, lanes = one.constants, TARGETS[target].warp_size
    rows, pixels = has.get("ROWS", 1), max(1, has.get("BLOCK", 0) // lanes)
    size = {"*fp32": 4, "*bf16": 2, "*fp16": 2}.get(one.signature.get("z_ptr", ""), 0)
    scores = size * rows * pixels
    if one.signature.get("p_ptr") or "TILE" in has or {"corner_ptr", "ax"} & set(one.signature) or target.startswith("gfx"):
        scores = 0  # tiles are read again, nodes for each column of labels; and AMD's loops are unrolled
    if one.name == "fold_lines" and {DENSE_KINDS[kind] for kind in has["KINDS"]} <= {"weight", "target"}:
        scores = 0  # nothing reads them
    held = min(has.get("GROUPS", 1), pixels) if has.get("stride_c") == 1 else 1  # groups of a thread, where classes adjoin
    of_weights = 4 * pixels * bool(has.get("HAS_W"))
    if "p_ptr" in one.signature and "TILES" in has and "KINDS" in has:  # pixels of pairs; their loop may be unrolled
        both = 4 * pixels * (1 + has["DIFFERS"])
        tiles = has["TILES"] if built.loaded_bytes >= 2 * both else 1
        exact = one.signature["p_ptr"] == "*fp32" and not target.startswith("gfx")
        scores, beside = tiles * both * exact, tiles * (4 * pixels * len(has["EACH"]) + 8 * len(has["KINDS"]))
    elif "t_ptr" in one.signature:
        beside = 4 * rows * pixels + of_weights + 4 * rows * len(has.get("KINDS", ()))
    else:
        beside = 8 * pixels + of_weights
        if "g_ptr" in one.signature:  # twice those by -log p of every class, once those of a class, or of each pixel's
            of_logs = 3 if one.name == "once_kernel" else 2
            loads = {"prob": held * rows, "prob_sq": held * rows, "nll_all": held * of_logs * rows, "weight": pixels}
            beside += pixels + 4 * sum(loads.get(KINDS[kind], pixels) for kind in has.get("KINDS", ()))
    beside += 4 * rows * pixels * bool(has.get("BINS")) + scores // 4
    return {
        "kernel": one.name, "target": target, "registers": built.registers, "spills": built.spills, "shared": built.shared,
        "instructions": built.instructions, "loaded": built.loaded_bytes, "scores": scores, "beside": beside,
        "float_atomics": built.float_atomics, "constants": str(has),
    }  # fmt: skip


def main(which: str, *targets: str) -> None:
    chosen: dict[str, tuple[Launch, str]] = {}
    if which == "short":
        for target, call, names in short():
            chosen |= {one.key + target: (one, target) for one in launches_of(call, target) if one.name in names}
    else:
        for target in targets:
            for call in full():
                chosen |= {one.key + target: (one, target) for one in launches_of(call, target)}
    for one, target in chosen.values():
        print(json.dumps(told(one, one.compiled(target), target)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
