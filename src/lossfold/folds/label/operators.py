"""The label fold's operators: how a spec is handed to them, and what shapes they return."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossfold.engines.native import check_codes
from lossfold.engines.operators import FoldOperators, remembered
from lossfold.folds.fold import code_of
from lossfold.folds.histogram import Bins
from lossfold.folds.label import definition
from lossfold.folds.label.definition import Collected
from lossfold.folds.label.spec import KINDS, Hard, LabelSpec

# After kinds and gammas: the bins of the histogram and whether each image has its own; which pixels are hard.
OPTIONS = (
    "int ignore_index, bool softmax, bool align_corners, int[] kinds, float[] gammas, int bins, bool bins_per_image, "
    "float thresh, int min_kept, float ratio, bool hard_per_image"
)


def fold(scores: Tensor, labels: Tensor, weight: Tensor | None, spec: LabelSpec, maps: Tensor | None = None) -> Collected:
    """Compute :func:`lossfold.folds.label.definition.fold` by an operator."""
    return Collected(*OPERATORS.fold((scores, labels, weight, maps), flat(spec)))


def once(scores: Tensor, labels: Tensor, weight: Tensor | None, above: Tensor, below: Tensor | None, spec: LabelSpec) -> Tensor:
    """Return Σ above·S of all images' sums, over Σ below·W if below is given, by an operator that finds the gradient as well."""
    return OPERATORS.once((scores, labels, weight, None, above, below), flat(spec))


def integrand(
    scores: Tensor, labels: Tensor, weight: Tensor | None, coef: Tensor, kept: Tensor, spec: LabelSpec, maps: Tensor | None = None
) -> Tensor:
    """Compute :func:`lossfold.folds.label.definition.integrand` by an operator."""
    values: Tensor = MAP(scores, labels, weight, maps, coef.detach(), kept, *flat(spec))
    return values


@remembered
def flat(spec: LabelSpec) -> tuple[Any, ...]:
    """Return a spec as the operators take it."""
    kinds, gammas = [code_of(KINDS, kind) for kind, _ in spec.sums], [gamma for _, gamma in spec.sums]
    bins, hard = spec.bins or Bins(0, False), spec.hard or Hard(0.0, 0, None, False)
    selection = (hard.thresh, hard.min_kept, 0.0 if hard.ratio is None else hard.ratio, hard.per_image)
    link = (spec.ignore_index, spec.softmax, spec.align_corners)
    return (*link, kinds, gammas, bins.count, bins.per_image, *selection)


def spec_of(
    ignore_index: int, softmax: bool, align_corners: bool, kinds: Any, gammas: Any, bins: int, bins_per_image: bool, *selection: Any
) -> LabelSpec:
    """Return the spec that :func:`flat` was given."""
    sums = tuple((KINDS[kind], gamma) for kind, gamma in zip(kinds, gammas, strict=True))
    thresh, min_kept, ratio, per_image = selection
    hard = Hard(thresh, min_kept, ratio or None, per_image) if any(kind.startswith("hard") for kind, _ in sums) else None
    histogram = Bins(bins, bins_per_image) if bins else None
    return LabelSpec("softmax" if softmax else "identity", ignore_index, align_corners, sums, histogram, hard)


def _on_gpus() -> Any:
    from lossfold.folds.label.triton import host

    return host


def _definition(scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None, *options: Any) -> tuple[Tensor, Tensor]:
    return definition.fold(scores, labels, weight, spec_of(*options), maps)[:2]


def _map_definition(
    scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None, coef: Tensor, kept: Tensor, *options: Any
) -> Tensor:
    return definition.integrand(scores, labels, weight, coef, kept, spec_of(*options), maps)


def _shapes(scores: Tensor, labels: Tensor, weight: Any, maps: Any, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    spec = spec_of(*options)
    images, classes = scores.shape[:2]
    sums = scores.new_empty((images, len(spec.sums), classes), dtype=torch.float64)
    rows = images if spec.bins and spec.bins.per_image else 1
    table = scores.new_empty((rows, 4, classes, spec.bins.count) if spec.bins else (0,), dtype=torch.float64)
    return sums, table, scores.new_empty(labels.shape if spec.hard else (0,), dtype=torch.uint8)


def _map_shapes(scores: Tensor, labels: Tensor, *rest: Any) -> Tensor:
    return scores.new_empty(labels.shape, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)


INPUTS = "Tensor scores, Tensor labels, Tensor? weight, Tensor? maps"
OPERATORS = FoldOperators("label", INPUTS, OPTIONS, ("sums", "table"), ("kept",), _definition, _shapes)
MAP = OPERATORS.with_map(_map_definition, _map_shapes)
OPERATORS.with_once()
OPERATORS.on_gpus(_on_gpus)
check_codes("label", kinds=KINDS)
