"""What losses ask of the label fold: per-class sums of scores ``[B, C, *S]`` against integer labels ``[B, *S]``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.errors import wrong
from lossfold.folds.arithmetic import INTERPOLATED
from lossfold.folds.checks import (
    CLASS_INDICES,
    INTEGER_DTYPES,
    WITHOUT_BATCH,
    check_scores,
    check_weight,
    has_one_channel,
    is_turned,
    other_size,
    result_dtype,
)
from lossfold.folds.fold import Fold, describe
from lossfold.folds.histogram import in_units
from lossfold.folds.label import definition, eager, operators
from lossfold.folds.label.definition import Collected
from lossfold.folds.label.spec import CONSTANT, LabelSpec
from lossfold.folds.label.triton import lacks, lacks_once
from lossfold.folds.looks import can_look, in_unit, refuse_negative, refuse_other_than_probabilities
from lossfold.folds.scores import Given, ScoreNeeds
from lossfold.memory import Known, recall


def one_channel(link: str = "softmax") -> str:
    """Say what to do with one channel."""
    if link == "softmax":
        return "for one channel of logits take link='sigmoid', or BinaryCrossEntropyLoss"
    return "for one channel of probabilities take BinaryCrossEntropyLoss(link='identity')"


@dataclass(frozen=True)
class LabelNeeds(ScoreNeeds[LabelSpec]):
    """What a loss wants collected by a label fold."""

    def reads_alike(self, other: LabelSpec) -> bool:
        """Whether one pass can serve both."""
        mine, yours = self.spec.hard, other.hard
        return super().reads_alike(other) and (mine is None or yours is None or mine == yours)

    def joined(self, other: LabelSpec) -> LabelSpec:
        """Return the spec of a pass for both."""
        return replace(super().joined(other), hard=self.spec.hard or other.hard)

    def collect(self, given: Given) -> Fold:
        """Make the pass over a call's arguments, which have been checked."""
        scores, labels, weight = given.tensors
        self.look(scores, labels, weight)
        needs, maps = self, self.maps_of(given)
        if given.kept is not None:  # sums over pixels that are chosen already are plain sums
            weight = given.kept if weight is None else torch.where(given.kept, weight, torch.zeros_like(weight))
            needs = self.asking(sums=tuple((kind.removeprefix("hard_"), number) for kind, number in self.spec.sums), hard=None)
        constants = () if any(one is not None and one.requires_grad for one in (weight, maps)) else CONSTANT
        if self.sorts(scores, labels.shape[1:]):
            plain = replace(self.spec, bins=None)
            alone = all(kind == "weight" for kind, _ in plain.sums)
            with refusing_labels(scores.shape[1], labels, self.spec.ignore_index):
                sums, errors = definition.with_errors(
                    scores, labels, weight, plain if alone else replace(plain, sums=(), hard=None)
                )
            if not alone:
                needs = replace(self, spec=plain)
                sums = needs._fold(needs._engine(scores, labels, weight, maps), scores, labels, weight, maps).sums
            return Fold(sums, self.spec.sums, result_dtype(scores), constants, None, given.kind, errors)
        engine = needs._engine(scores, labels, weight, maps, given.known)
        weight, unit = in_units(weight, self.spec.bins, engine.launches)
        collected = needs._fold(engine, scores, labels, weight, maps)
        table = collected.table if self.spec.bins else None
        made = collected.sums, self.spec.sums, result_dtype(scores), constants, table, given.kind
        fold = Fold(*made, launches=engine.launches)
        return fold if unit is None else fold.scaled(unit)

    def engine_for(self, given: Given) -> engines.Engine:
        """Return the engine that serves a call."""
        return self._engine(*given.tensors, given.maps, given.known)

    def has_once(self, given: Given) -> bool:
        """Whether the engine that serves a call finds its value and gradient in one pass."""
        engine = self.engine_for(given)
        return engine.once and not lacks_once(self.spec, *given.tensors[:2], engine.name)

    def once(self, given: Given, above: Tensor, below: Tensor | None) -> Tensor:
        """Return Σ above·S, over Σ below·W where below is given, by such a pass."""
        scores, labels, weight = given.tensors
        self.look(scores, labels, weight)
        if scores.dim() == 2:
            scores, labels, weight = as_pixels(scores, labels, weight)
        try:  # which costs nothing, and a context manager as much as a look
            return operators.once(scores, labels, weight, above, below, self.spec)
        except RuntimeError as error:
            refuse_labels(error, scores.shape[1], labels, self.spec.ignore_index)
            raise

    def integrate(self, coef: Tensor, given: Given) -> Tensor:
        """Return the map ``[B, *S]`` of each pixel's share, the sums weighted by ``coef [K, C]``."""
        scores, labels, weight = given.tensors
        self.look(scores, labels, weight)
        kept, maps = labels.new_empty(0, dtype=torch.uint8), self.maps_of(given)
        engine = self._engine(scores, labels, weight, maps)
        if self.spec.hard:
            with torch.no_grad():
                kept = self._fold(engine, scores, labels, weight, maps).kept
        run = engine.among(eager, operators)
        with refusing_labels(scores.shape[1], labels, self.spec.ignore_index):
            values: Tensor = run.integrand(scores, labels, weight, coef, kept, self.spec, maps)
        return values

    def look(self, scores: Tensor, labels: Tensor, weight: Tensor | None) -> None:
        """Refuse weights below 0, and probabilities that are none."""
        refuse_negative("weight", weight, self.validate)
        if self.spec.softmax or not can_look(scores, self.validate) or in_unit(scores):
            return
        with refusing_labels(scores.shape[1], labels, self.spec.ignore_index):
            found = definition.pixels(scores.detach(), labels, weight, self.spec)  # those that do not count have 0
        refuse_other_than_probabilities(found.z, found.counted.expand_as(found.z), True)

    def kept(self, given: Given) -> Tensor:
        """Return the mask ``[B, *S]`` of the hard pixels."""
        return self._fold(self._engine(*given.tensors, given.maps), *given.tensors, given.maps).kept

    def _engine(
        self, scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None = None, known: Known | None = None
    ) -> engines.Engine:
        lacking = lacks(self.spec, scores, labels)
        return recall(known, self.spec, lambda: engines.select(self.engine, scores, weight, maps, lacks=lacking))

    def _fold(
        self, engine: engines.Engine, scores: Tensor, labels: Tensor, weight: Tensor | None, maps: Tensor | None
    ) -> Collected:
        if scores.dim() == 2 and not self.apart:  # without space, images that are added anyway serve as pixels
            scores, labels, weight = as_pixels(scores, labels, weight)
            maps = None if maps is None else maps.t()[None]
        run = engine.among(eager, operators)
        with refusing_labels(scores.shape[1], labels, self.spec.ignore_index):
            collected: Collected = run.fold(scores, labels, weight, self.spec, maps)
        return collected

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        return "label", *super().describe()[1:]


def as_pixels(scores: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return images without space as the pixels of one."""
    return scores.t()[None], labels[None], None if weight is None else weight[None]


def refuse_labels(error: BaseException | None, classes: int, labels: Tensor, ignore_index: int) -> None:
    """Raise a LossError for an engine's complaint about a label."""
    if not isinstance(error, RuntimeError) or "lossfold: " not in str(error) or "out of range" not in str(error):
        return
    labels = labels.long()  # a uint8 would compare equal to an ignore_index below 0
    outside = ((labels < 0) | (labels >= classes)) & (labels != ignore_index)
    expected = f"in [0, {classes}) or ignore_index={ignore_index}"
    found = f"also {sorted(set(labels[outside].tolist()))[:5]}"
    raise wrong("labels", expected, found, one_channel() if classes == 1 else "") from None


class refusing_labels:  # noqa: N801 - reads as a verb
    """Turn an engine's complaint about a label into a LossError (compiled code keeps the RuntimeError)."""

    def __init__(self, classes: int, labels: Tensor, ignore_index: int) -> None:
        self.given = classes, labels, ignore_index

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        refuse_labels(error, *self.given)


def check_labels(logits: object, labels: object, weight: object, resize: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    """Refuse tensors that can't be folded, by shape, dtype and device; values are looked at in the pass.

    Args:
        logits, labels, weight: what is checked.
        resize: whether logits of another size than the labels are interpolated.
    """
    scores = check_scores(logits, labels=labels, weight=weight)
    expected = (scores.shape[0], *scores.shape[2:])
    if not isinstance(labels, Tensor):
        raise wrong("labels", f"an integer tensor {list(expected)}", describe(labels))
    if labels.dtype not in INTEGER_DTYPES:
        indices = not labels.is_floating_point() or labels.dim() < scores.dim()
        hint = "class indices: call .long()" if indices else "this loss, or its link, takes no soft labels"
        hint = CLASS_INDICES if has_one_channel(labels, scores) else hint
        raise wrong("labels", "int64, int32 or uint8", describe(labels), hint)
    images = scores.dim() == labels.dim() + 1 and scores.dim() - 2 in INTERPOLATED and labels.shape[0] == scores.shape[0]
    if images and resize and min(*labels.shape[1:], *scores.shape[2:]) > 0 and not is_turned(labels.shape[1:], scores.shape[2:]):
        expected = tuple(labels.shape)  # scored at label resolution
    if tuple(labels.shape) != expected:
        squeezable = labels.dim() == scores.dim() and labels.shape[1] == 1
        other = other_size(labels.shape[1:], scores, resize) if labels.dim() == scores.dim() - 1 else ""
        hint = "call .squeeze(1)" if squeezable else other or f"for logits {list(scores.shape)}"
        hint = WITHOUT_BATCH if labels.shape == scores.shape[1:] else hint
        hint = one_channel() if squeezable and scores.shape[1] == 1 else hint
        raise wrong("labels", f"of shape {list(expected)}", describe(labels), hint)
    if labels.device != scores.device:
        raise wrong("labels", f"on the logits' device {scores.device}", str(labels.device))
    return scores, labels, check_weight(weight, scores, expected)
