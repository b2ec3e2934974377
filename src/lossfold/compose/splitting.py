"""What can be split into parts, and how far: whole batches, micro-batches, tiles of images, labels without scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lossfold.compose.passes import Call, Leaf
from lossfold.errors import wrong
from lossfold.folds.arithmetic import equals
from lossfold.folds.fold import describe
from lossfold.losses.adversarial.path_length import GeneratorPathRegularizer
from lossfold.losses.folded import Folded
from lossfold.losses.images.elementwise import FunctionLoss
from lossfold.losses.pairs import PairLoss
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.scores import LABELS, WEIGHT, ScoreLoss
from lossfold.routing import is_one_dict

KNOWN_FIRST = "it has to know a mean over the whole batch before the parts can be made"


def why_not_in_parts(leaf: Leaf) -> str:
    """Return why a term can't be accumulated over parts of a batch; "" if it can."""
    loss = leaf.loss
    if isinstance(loss, GeneratorPathRegularizer):
        return "its moving mean moves at each call"
    if leaf.own is not None and leaf.own.rounds > 1 and leaf.folded is None:
        return KNOWN_FIRST
    return leaf.in_one_part


def images_of(images: Sequence[int] | Tensor | None) -> list[int] | None:
    """Return which image each row of a part belongs to."""
    if images is None:
        return None
    listed = images.tolist() if isinstance(images, Tensor) else list(images)
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in listed):
        raise wrong("images", "integers [B], an image's number for each row", f"{images!r}"[:80])
    return listed


def refuse_tiles(call: Call, images: Sequence[int]) -> None:
    """Refuse tiles of images for a loss that does not add up over them."""
    why, loss = why_not_in_tiles(call), call.leaf.loss
    if why:
        raise wrong("images", "left out: the loss can't be split into tiles of images", f"{type(loss).__name__}", why)
    rows = 0 if call.fold is None else len(call.fold.sums)
    if rows > 1 and rows != len(images):
        raise wrong("images", f"{rows} integers, one for each row", str(len(images)))


def why_not_in_tiles(call: Call) -> str:
    """Return why a checked call can't be one of tiles; "" if it can."""
    loss = call.leaf.loss
    if isinstance(loss, FunctionLoss):
        return "its samples have means of their own" if loss.sample_wise else ""
    if not isinstance(loss, Folded) or call.checked is None or not loss.folds:
        return "it is no sum over pixels"
    if call.gate is not None:
        return "its condition is one of whole images"
    if getattr(loss, "reference_area", None) is not None:
        return "reference_area is relative to the area of whole images"
    if getattr(call.checked, "normalizer", None) is not None:
        return "normalizer counts the masks of whole images"
    if getattr(loss, "of_whole_images", False):
        return "what it is weighed by is made of whole images"
    spec = call.leaf.needs(call.checked).spec
    hard = getattr(spec, "hard", None)
    if hard is not None and hard.per_image:
        return "the hard pixels of an image are chosen in all of it"
    if getattr(getattr(spec, "bins", None), "sort", False):
        return "the errors of an image are sorted all together"
    if isinstance(loss, PairLoss):
        return "" if all(one.alone for one in spec.sums) else "a pixel's neighbours count"
    if isinstance(loss, ScoreLoss):
        scores, targets, _ = call.checked.tensors
        return (
            ""
            if scores.shape[2:] == targets.shape[targets.dim() - scores.dim() + 2 :]
            else "scores are interpolated to the targets' size"
        )
    return "a pixel's neighbours count"


def knows_denominators(leaf: Leaf) -> bool:
    """Whether what a term's numerators are divided by follows from labels (targets) and weights alone."""
    loss = leaf.folded
    if loss is None or not loss.linear or loss.selects or leaf.condition is not None or leaf.every_image:
        return False
    if isinstance(loss, PixelLoss) and tuple(loss.denominators(torch.zeros(1), LABELS)) != (WEIGHT,):
        return False
    return next(iter(loss.arguments)) in ("logits", "pred") and ("labels" in loss.arguments or "target" in loss.arguments)


def with_unseen_scores(
    leaves: Iterable[Leaf], inputs: tuple[Any, ...], named: Mapping[str, Any], needs_scores: bool
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """Return the arguments of a call, zeros in the place of scores that are left out, and whether there were scores."""
    active = [leaf for leaf in leaves if leaf.active]
    if not active:  # nothing is to be seen
        return inputs, dict(named), True
    arguments = list(getattr(active[0].loss, "arguments", {}))
    scores, targets = [*arguments, "", ""][:2]
    if inputs or is_one_dict(inputs, dict(named)) or scores in named or targets not in named:
        return inputs, dict(named), True
    if needs_scores:
        names = ", ".join(leaf.name for leaf in active if not knows_denominators(leaf))
        raise wrong(scores, f"given, because of {names}: their formulas need the scores' sums", "left out", "see needs_scores")
    held = named[targets]
    if not isinstance(held, Tensor):
        raise wrong(targets, "a tensor", describe(held))
    shape = list(held.shape)
    losses = [leaf.loss for leaf in active if isinstance(leaf.loss, ScoreLoss)]
    if losses and not held.is_floating_point() and all(loss.link in loss.label_links for loss in losses):
        shape.insert(1, classes_among(losses, held))
    wide = any(isinstance(one, Tensor) and one.dtype == torch.float64 for one in named.values())
    zeros = torch.zeros((), dtype=torch.float64 if wide else torch.float32, device=held.device).expand(shape)
    return (), {scores: zeros, **named}, False


def classes_among(losses: Iterable[ScoreLoss], labels: Tensor) -> int:
    """Return how many classes there are: as options list, or as labels show, which waits for the device."""
    counted = labels
    for loss in losses:
        listed = (getattr(loss, name) for name in loss.per_class_options)
        count = next((len(values) for values in listed if isinstance(values, tuple)), 0)
        if count:
            return count
        for ignored in loss.ignored:
            counted = torch.where(equals(counted, ignored), torch.zeros_like(counted), counted)
    return max(2, int(counted.max()) + 1) if counted.numel() else 2
