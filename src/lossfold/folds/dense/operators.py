"""The dense fold's operators; see :mod:`lossfold.folds.label.operators`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossfold.engines.native import check_codes
from lossfold.engines.operators import FoldOperators, remembered
from lossfold.folds.dense import definition
from lossfold.folds.dense.definition import Collected
from lossfold.folds.dense.spec import KINDS, LINKS, DenseSpec
from lossfold.folds.fold import code_of
from lossfold.folds.histogram import Bins

OPTIONS = (
    "int ignore_index, int link, bool together, bool align_corners, int[] kinds, float[] gammas, int bins, bool bins_per_image, "
    "bool hinge"
)


def fold(scores: Tensor, targets: Tensor, weight: Tensor | None, spec: DenseSpec, maps: Tensor | None = None) -> Collected:
    """Compute :func:`lossfold.folds.dense.definition.fold` by an operator."""
    return Collected(*OPERATORS.fold((scores, targets, weight, maps), flat(spec)))


def once(scores: Tensor, targets: Tensor, weight: Tensor | None, above: Tensor, below: Tensor | None, spec: DenseSpec) -> Tensor:
    """Compute :func:`lossfold.folds.label.operators.once` for targets of the scores' shape."""
    return OPERATORS.once((scores, targets, weight, None, above, below), flat(spec))


def integrand(
    scores: Tensor, targets: Tensor, weight: Tensor | None, coef: Tensor, spec: DenseSpec, maps: Tensor | None = None
) -> Tensor:
    """Compute :func:`lossfold.folds.dense.definition.integrand` by an operator."""
    values: Tensor = MAP(scores, targets, weight, maps, coef.detach(), *flat(spec))
    return values


@remembered
def flat(spec: DenseSpec) -> tuple[Any, ...]:
    """Return a spec as the operators take it."""
    kinds, gammas = [code_of(KINDS, kind) for kind, _ in spec.sums], [gamma for _, gamma in spec.sums]
    bins = spec.bins or Bins(0, False)
    link = (spec.ignore_index, LINKS.index(spec.link), spec.together, spec.align_corners)
    return (*link, kinds, gammas, bins.count, bins.per_image, bins.hinge)


def spec_of(
    ignore_index: int,
    link: int,
    together: bool,
    align_corners: bool,
    kinds: Any,
    gammas: Any,
    bins: int,
    per_image: bool,
    hinge: bool,
) -> DenseSpec:
    """Return the spec that :func:`flat` was given."""
    sums = tuple((KINDS[kind], gamma) for kind, gamma in zip(kinds, gammas, strict=True))
    histogram = Bins(bins, per_image, hinge) if bins else None
    return DenseSpec(LINKS[link], ignore_index, align_corners, sums, histogram, together)


def _on_gpus() -> Any:
    from lossfold.folds.dense.triton import host

    return host


def _definition(scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, *options: Any) -> Collected:
    return definition.fold(scores, targets, weight, spec_of(*options), maps)


def _map_definition(
    scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None, coef: Tensor, *options: Any
) -> Tensor:
    return definition.integrand(scores, targets, weight, coef, spec_of(*options), maps)


def _shapes(scores: Tensor, targets: Tensor, weight: Any, maps: Any, *options: Any) -> tuple[Tensor, Tensor]:
    spec = spec_of(*options)
    images, channels = scores.shape[:2]
    sums = scores.new_empty((images, len(spec.sums), channels), dtype=torch.float64)
    rows = images if spec.bins and spec.bins.per_image else 1
    return sums, scores.new_empty((rows, 4, channels, spec.bins.count) if spec.bins else (0,), dtype=torch.float64)


def _map_shapes(scores: Tensor, targets: Tensor, weight: Any, maps: Any, coef: Any, *options: Any) -> Tensor:
    shape = (len(targets), *targets.shape[2:]) if spec_of(*options).together else targets.shape
    return scores.new_empty(shape, dtype=torch.float64 if scores.dtype == torch.float64 else torch.float32)


INPUTS = "Tensor scores, Tensor targets, Tensor? weight, Tensor? maps"
OPERATORS = FoldOperators("dense", INPUTS, OPTIONS, ("sums", "table"), (), _definition, _shapes)
MAP = OPERATORS.with_map(_map_definition, _map_shapes)
OPERATORS.with_once()
OPERATORS.on_gpus(_on_gpus)
check_codes("dense", kinds=KINDS, links=LINKS)
