"""What losses ask of the shape fold: sums over distances and skeletons of scores' masks and of targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossfold import engines
from lossfold.folds.checks import result_dtype
from lossfold.folds.dense.needs import refusing_targets
from lossfold.folds.fold import Arguments, Fold
from lossfold.folds.label.needs import refusing_labels
from lossfold.folds.looks import can_look, in_unit, mention_all_ignored, refuse_negative, refuse_other_than_probabilities
from lossfold.folds.scores import Given, ScoreNeeds
from lossfold.folds.shape import definition
from lossfold.folds.shape.spec import CONSTANT, ShapeSpec
from lossfold.shapes.fields import Steps


@dataclass(frozen=True)
class ShapeGiven(Arguments):
    """A call's arguments, checked: scores, targets and weight, and from pixel to pixel along each axis of each sample."""

    read: Given
    steps: Steps
    normalizer = None

    @property
    def kind(self) -> str:
        """What the scores are held against."""
        return self.read.kind

    @property
    def known(self) -> Any:
        """What a loss remembers of calls like this one."""
        return self.read.known

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scores, targets and weight."""
        return self.read.tensors

    def same(self, other: ShapeGiven) -> bool:
        """Whether both hold the same tensors, read alike."""
        return self.steps == other.steps and self.read.same(other.read)

    def having(self, change: Callable[[Tensor], Tensor]) -> ShapeGiven:
        """Return the arguments with other scores, made of these."""
        return replace(self, read=self.read.having(change))


def lacking(engine: str) -> str:
    """Say what another engine than plain PyTorch lacks: distance transforms have operators of their own."""
    return "" if engine == "eager" else "the fold of shapes, which is plain PyTorch beside the distance transforms"


@dataclass(frozen=True)
class ShapeNeeds(ScoreNeeds[ShapeSpec]):
    """What a loss wants collected by a shape fold."""

    def reads_alike(self, other: ShapeSpec) -> bool:
        """Whether one pass can serve both."""
        return self.spec.together == other.together and super().reads_alike(other)

    def collect(self, given: ShapeGiven) -> Fold:
        """Make the pass over a call's arguments, which have been checked."""
        scores, targets, weight = given.tensors
        self.engine_for(given)
        labels = given.kind == "labels"
        self.look(scores, targets, weight, labels)
        fixed = not targets.requires_grad and (weight is None or not weight.requires_grad)
        refusing = (
            refusing_labels(scores.shape[1], targets, self.spec.ignore_index)
            if labels
            else refusing_targets(targets, self.spec.ignore_index)
        )
        with refusing:
            sums = definition.fold(scores, targets, weight, self.spec, labels, given.steps)
        return Fold(sums, self.spec.sums, result_dtype(scores), CONSTANT if fixed else (), None, given.kind)

    def look(self, scores: Tensor, targets: Tensor, weight: Tensor | None, labels: bool) -> None:
        """Refuse weights below 0 and probabilities that are none, and say where all foreground may be ignored."""
        refuse_negative("weight", weight, self.validate)
        if not can_look(scores, self.validate):
            return
        if not labels and not self.spec.together:
            mention_all_ignored("labels", targets, self.spec.ignore_index)
        if self.spec.link == "identity" and not in_unit(scores):
            with torch.no_grad():
                z = definition.masks(scores, targets, weight, self.spec, labels).z  # what does not count is 0
            refuse_other_than_probabilities(z, torch.ones_like(z, dtype=torch.bool), labels or self.spec.together)

    def engine_for(self, given: ShapeGiven) -> engines.Engine:
        """Return the engine that serves a call: the definition."""
        scores, targets, weight = given.tensors
        return engines.select(self.engine, scores, weight, targets, lacks=lacking)

    def serving(self) -> str:
        """Say that plain PyTorch serves everything."""
        return engines.forced(self.engine) or "eager"

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        return "shape", *super().describe()[1:]
