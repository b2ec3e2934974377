"""What losses ask of the dense fold: per-channel sums of scores ``[B, K, *S]`` against targets of their shape in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.errors import wrong
from lossfold.folds.arithmetic import INTERPOLATED, total
from lossfold.folds.checks import (
    CLASS_INDICES,
    INTEGER_DTYPES,
    SCORE_DTYPES,
    WITHOUT_BATCH,
    check_scores,
    check_weight,
    has_one_channel,
    is_turned,
    other_size,
    result_dtype,
)
from lossfold.folds.dense import definition, eager, operators
from lossfold.folds.dense.spec import CONSTANT, DenseSpec
from lossfold.folds.dense.triton import lacks, lacks_once
from lossfold.folds.fold import Fold, describe, place
from lossfold.folds.histogram import in_units
from lossfold.folds.looks import can_look, in_unit, mention_all_ignored, refuse_negative, refuse_other_than_probabilities
from lossfold.folds.scores import Given, ScoreNeeds
from lossfold.memory import Known, recall


@dataclass(frozen=True)
class DenseNeeds(ScoreNeeds[DenseSpec]):
    """What a loss wants collected by a dense fold."""

    def collect(self, given: Given) -> Fold:
        """Make the pass over a call's arguments, which have been checked."""
        scores, targets, weight = given.tensors
        self.look(scores, targets, weight)
        maps, dtype = self.maps_of(given), result_dtype(scores)
        fixed = not any(one is not None and one.requires_grad for one in (targets, weight, maps))
        spec = self.spec
        sorts = self.sorts(scores, targets.shape[2:])
        if scores.dim() == 2 and not self.apart:  # without space, images that are added anyway serve as pixels
            scores, targets, weight = as_pixels(scores, targets, weight)
            maps = None if maps is None else maps.t()[None]
        with refusing_targets(targets, spec.ignore_index):
            if sorts:
                spec = replace(spec, bins=None)
                alone = all(kind in CONSTANT for kind, _ in spec.sums)
                asked = spec if alone else replace(spec, sums=())
                hinge = self.spec.bins is not None and self.spec.bins.hinge
                sums, errors = definition.with_errors(scores, targets, weight, asked, hinge)
                if not alone:
                    run = replace(self, spec=spec)._engine(scores, targets, weight, maps).among(eager, operators)
                    sums = run.fold(scores, targets, weight, spec, maps).sums
                return Fold(sums, spec.sums, dtype, CONSTANT if fixed else (), None, given.kind, errors)
            engine = self._engine(scores, targets, weight, maps, given.known)
            weight, unit = in_units(weight, spec.bins, engine.launches)
            sums, table = engine.among(eager, operators).fold(scores, targets, weight, spec, maps)
        if given.partial is not None and given.partial.counted is not None:
            sums = self.with_weights(sums, given.partial.counted)
        table = table if spec.bins else None
        fold = Fold(sums, spec.sums, dtype, CONSTANT if fixed else (), table, given.kind, launches=engine.launches)
        return fold if unit is None else fold.scaled(unit)

    def with_weights(self, sums: Tensor, counted: Tensor) -> Tensor:
        """Return sums ``[B, K, C]`` whose weights are those of elements ``[B, C, *S]``, where the pass had others."""
        rows = list(sums.unbind(1))
        at = place(self.spec.sums, ("weight", 0.0))
        if at >= 0:
            own = total(counted.flatten(2) if counted.dim() > 2 else counted[..., None])
            rows[at] = own if len(own) == len(sums) else own.sum(0, keepdim=True)
        return torch.stack(rows, 1)

    def look(self, scores: Tensor, targets: Tensor, weight: Tensor | None) -> None:
        """Refuse weights below 0 and probabilities that are none, and say where all foreground may be ignored."""
        refuse_negative("weight", weight, self.validate)
        if not can_look(scores, self.validate):
            return
        if not self.spec.together:
            mention_all_ignored("labels", targets, self.spec.ignore_index)
        if self.spec.link != "identity" or (self.spec.bins is not None and self.spec.bins.hinge) or in_unit(scores):
            return
        with refusing_targets(targets, self.spec.ignore_index):
            found = definition.elements(scores.detach(), targets, weight, self.spec)  # those that do not count have 0
        refuse_other_than_probabilities(found.z, torch.ones_like(found.z, dtype=torch.bool), self.spec.together)

    def engine_for(self, given: Given) -> engines.Engine:
        """Return the engine that serves a call."""
        return self._engine(*given.tensors, given.maps, given.known)

    def has_once(self, given: Given) -> bool:
        """Whether the engine that serves a call finds its value and gradient in one pass."""
        engine = self.engine_for(given)
        return engine.once and not lacks_once(self.spec, engine.name)

    def once(self, given: Given, above: Tensor, below: Tensor | None) -> Tensor:
        """Return Σ above·S, over Σ below·W where below is given, by such a pass."""
        scores, targets, weight = given.tensors
        self.look(scores, targets, weight)
        if scores.dim() == 2:
            scores, targets, weight = as_pixels(scores, targets, weight)
        with refusing_targets(targets, self.spec.ignore_index):
            return operators.once(scores, targets, weight, above, below, self.spec)

    def integrate(self, coef: Tensor, given: Given) -> Tensor:
        """Return each element's share (each pixel's, where channels count together) of the sums weighted by ``coef [K, C]``."""
        scores, targets, weight = given.tensors
        self.look(scores, targets, weight)
        maps = self.maps_of(given)
        run = self._engine(scores, targets, weight, maps).among(eager, operators)
        with refusing_targets(targets, self.spec.ignore_index):
            values: Tensor = run.integrand(scores, targets, weight, coef, self.spec, maps)
        return values

    def _engine(
        self, scores: Tensor, targets: Tensor, weight: Tensor | None, maps: Tensor | None = None, known: Known | None = None
    ) -> engines.Engine:
        lacking = lacks(self.spec, scores, targets)
        return recall(known, self.spec, lambda: engines.select(self.engine, scores, weight, targets, maps, lacks=lacking))

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        return "dense", *super().describe()[1:]


def as_pixels(scores: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return images without space as the pixels of one."""
    return scores.t()[None], targets.t()[None], None if weight is None else (weight.t() if weight.dim() == 2 else weight)[None]


class refusing_targets:  # noqa: N801 - reads as a verb
    """Turn an engine's complaint about a target into a LossError (compiled code keeps the RuntimeError)."""

    def __init__(self, targets: Tensor, ignore_index: int) -> None:
        self.targets, self.ignore_index = targets, ignore_index

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, RuntimeError) or ("lossfold: a target" not in str(error) and "lossfold: target" not in str(error)):
            return
        whole = not self.targets.is_floating_point()
        values = self.targets.detach().double()
        outside = ~((values >= -0.01) & (values <= 1.01)) & ~(
            values == self.ignore_index if whole else torch.zeros_like(values).bool()
        )
        found = sorted({round(x, 4) for x in values[outside][:1000].tolist()})[:5]
        expected = f"0, 1 or ignore_index={self.ignore_index}" if whole else "in [0, 1]"
        largest = values[outside].max().item() if bool(outside.any()) else 0
        hint = "divide by 255" if largest == 255 else ""
        if whole and self.ignore_index < 0 and set(found) == {255} and bool((values == 1).any()):
            hint = "ignore_index=255, if 255 is what does not count"
        elif whole and largest == 255:
            hint = "of masks of 0 and 255 take masks > 0"
        if not whole and found == [self.ignore_index]:
            hint = f"floats have no label to ignore: use integer targets, or weight=targets != {self.ignore_index}"
        raise wrong("labels", expected, f"also {found}", hint) from None


def check_targets(
    logits: object, targets: object, weight: object, *, together: bool, resize: bool = True
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Refuse tensors that can't be folded, by shape, dtype and device; values are looked at in the pass.

    Args:
        logits, targets, weight: what is checked.
        together: whether a pixel's channels count together, so that a weight belongs to a pixel.
        resize: whether logits of another size than the targets are interpolated.
    """
    scores = check_scores(logits, labels=targets, weight=weight)
    expected = tuple(scores.shape)
    if not isinstance(targets, Tensor):
        raise wrong("labels", f"a tensor {list(expected)} of targets in [0, 1]", describe(targets))
    if targets.dtype not in (*SCORE_DTYPES, *INTEGER_DTYPES, torch.bool):
        raise wrong("labels", "float, bool, int64, int32 or uint8", describe(targets))
    given = targets
    if scores.shape[1] == 1 and targets.dim() == scores.dim() - 1:
        targets = targets.unsqueeze(1)
    alike = targets.dim() == scores.dim() and targets.shape[:2] == scores.shape[:2]
    turned = is_turned(targets.shape[2:], scores.shape[2:])
    if scores.dim() - 2 in INTERPOLATED and alike and resize and min(*targets.shape[2:], *scores.shape[2:]) > 0 and not turned:
        expected = tuple(targets.shape)  # scored at the targets' resolution
    if tuple(targets.shape) != expected:
        hint = (other_size(targets.shape[2:], scores, resize) if alike else "") or f"for logits {list(scores.shape)}"
        if together and has_one_channel(targets, scores):
            hint = CLASS_INDICES
        elif given.dim() == scores.dim() - 1 and given.shape == scores.shape[1:]:
            hint = WITHOUT_BATCH
        elif targets.dim() == scores.dim() - 1 and not targets.is_floating_point():
            hint = f"of class indices: one_hot(labels, {scores.shape[1]}).movedim(-1, 1)"
        elif targets.dim() > 2 and targets.movedim(-1, 1).shape == expected:
            hint = "call .movedim(-1, 1)"
        raise wrong("labels", f"targets of shape {list(expected)}", describe(targets), hint)
    if targets.device != scores.device:
        raise wrong("labels", f"on the logits' device {scores.device}", str(targets.device))
    pixels = (expected[0], *expected[2:])
    shapes = (pixels,) if together and expected[1] > 1 else (pixels, expected)
    return scores, given, check_weight(weight, scores, *shapes)
