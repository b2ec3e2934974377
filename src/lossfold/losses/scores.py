"""What every loss of scores is: the options that all of them have, and which fold reads their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold import engines
from lossfold.errors import is_number, python_scalar, wrong
from lossfold.folds.checks import signature
from lossfold.folds.dense.needs import DenseNeeds, check_targets
from lossfold.folds.dense.spec import DenseSpec
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.label.needs import LabelNeeds, check_labels, one_channel
from lossfold.folds.label.spec import LabelSpec
from lossfold.folds.looks import mention_pictures_without_channel
from lossfold.folds.partial import Partial, check_annotated
from lossfold.folds.scores import Given, with_channel
from lossfold.losses.folded import Folded
from lossfold.losses.reduce import REDUCTIONS, Addends, Ratio, finished
from lossfold.memory import recall
from lossfold.options import Word, configured, option

LABELS, MASKS, SOFT = "labels", "masks", "soft"
"""What scores are held against: a class for each pixel; or a target for each channel, 0 or 1, or anything between."""

Factor = float | Tensor  # of a sum: of all classes, or of each, [C]
WEIGHT: Sum = ("weight", 0.0)


@configured
class ScoreLoss(Folded):
    """A loss of ``(logits, labels, weight=None, normalizer=None)``.

    With ``per_image`` every image has a loss of its own, and the result is the mean of those in which something counts: an image
    without counted pixels is left out (``sample_wise`` of losses of images has it as 0).
    """

    link: str = "softmax"  # one of label_links and dense_links
    ignore_index: int | Sequence[int] = option(-100, several=True)
    class_weight: Sequence[float] | Tensor | None = option(None, each_class=True)
    reduction: str = option("mean", words=REDUCTIONS)
    per_image: bool = option(False)
    align_corners: bool = option(False)
    resize: bool = option(True)
    validate: bool = option(False)
    engine: str | None = option(None, words=engines.NAMES)

    label_links: ClassVar[tuple[str, ...]] = ("softmax", "identity")  # that read integer labels
    dense_links: ClassVar[tuple[str, ...]] = ()  # that read targets of the scores' shape
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = ()  # as samples, for these
    takes_normalizer: ClassVar[bool] = True
    of_sums: ClassVar[bool] = True
    by_element: ClassVar[bool] = False  # the mean is one over elements, whatever channel they are of
    without_channels = False  # read [N, *S] as N masks [N, 1, *S]; see lossfold.presets
    absent = "skip"  # what a class without pixels costs, and
    include_background = True  # whether class 0 takes part: options of the losses that average over classes

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.kinds["link"] = Word(among=tuple(dict.fromkeys((*cls.label_links, *cls.dense_links))))

    def settle(self) -> None:
        """Refuse wrong options, and class weights under which no class would count."""
        super().settle()
        if self.class_weight is not None:
            self.check_counted(len(self.class_weight))

    def counted(self, classes: int) -> set[int]:
        """Return the classes that take part, and whose weight is not 0."""
        weights: Any = self.class_weight
        found = set(range(classes)) if weights is None else {c for c, weight in enumerate(weights) if weight != 0}
        return found if self.include_background else found - {0}

    @property
    def ignored(self) -> tuple[int, ...]:
        """The labels that do not count, one that every dtype of labels holds first, if there is one."""
        given = self.ignore_index
        return (given,) if isinstance(given, int) else tuple(sorted(given, key=lambda label: not 0 <= label <= 255))

    def check_counted(self, classes: int, without: tuple[int, ...] = ()) -> None:
        """Refuse options under which no class counts, so that the loss would be 0 whatever it is given.

        Args:
            classes: their number.
            without: classes that no pixel can have, the ignored ones.
        """
        found = self.counted(classes)
        if not found - set(without):
            name = "class_weight" if self.class_weight is not None else "include_background"
            hint = f"ignore_index={self.ignore_index} leaves out the only one" if found else "the loss would always be 0"
            raise wrong(name, "such that a class counts", f"{getattr(self, name)!r} for {classes} classes, in {self!r}", hint)

    @property
    def together(self) -> bool:
        """Whether a pixel's channels count together, against targets of the scores' shape."""
        return self.link == "softmax"

    @property
    def by_image(self) -> bool:
        """Whether each image has a loss of its own."""
        return self.per_image

    @property
    def narrows(self) -> bool:
        """Whether options leave out classes."""
        return self.class_weight is not None or not self.include_background

    @property
    def counts_absent(self) -> bool:
        """Whether a class without pixels counts."""
        return self.absent == "count" or self.joint

    @property
    def second(self) -> str:
        """How the images' own losses are averaged."""
        return "counted" if self.by_image else ""

    @property
    def joint(self) -> bool:
        """Whether the formula takes the classes together."""
        return False

    def kind_of(self, scores: object, targets: object) -> str:
        """Return what the scores are held against: LABELS, MASKS or SOFT."""
        if self.link in self.label_links:
            if self.link not in self.dense_links or not isinstance(scores, Tensor) or not isinstance(targets, Tensor):
                return LABELS
            one = self.link == "identity" and not self.together and scores.shape[1:2] == (1,) and targets.dim() == scores.dim() - 1
            dense = targets.is_floating_point() or targets.dtype == torch.bool or targets.shape[1:2] == scores.shape[1:2]
            if not one and (not dense or targets.dim() != scores.dim()):
                return LABELS
        return SOFT if isinstance(targets, Tensor) and targets.is_floating_point() else MASKS

    def check(
        self,
        logits: Any,
        labels: Any,
        weight: Any = None,
        normalizer: float | Tensor | None = None,
        annotated: Tensor | None = None,
    ) -> Given:
        """Refuse what can't be folded, or does not fit the options."""
        like = signature(logits, labels, weight)
        known = self.memory.of(like and (like, self.without_channels))
        kind = recall(known, "kind", self.checked_kind, logits, labels, weight)
        if kind != LABELS and not self.without_channels and not self.by_element:
            mention_pictures_without_channel(logits, labels, self.validate)
        if normalizer is not None:
            normalizer = normalizer if isinstance(normalizer, Tensor) else python_scalar(normalizer)
            self.check_normalizer(normalizer, kind)
            kind = MASKS
        partial = None
        if annotated is not None or not isinstance(self.ignore_index, int):
            partial = Partial(self.ignored, self.checked_annotated(annotated, logits, labels), self.link)
        return Given(logits, labels, weight, kind, normalizer, self.without_channels, known=known, partial=partial)

    def checked_annotated(self, annotated: Any, logits: Tensor, labels: Tensor) -> Tensor | None:
        """Refuse annotations that do not fit the tensors, or the options."""
        if annotated is None:
            return None
        if self.without_channels:
            raise wrong("annotated", "left out: masks have no classes", f"{annotated!r}"[:80])
        if getattr(self, "label_smoothing", 0):
            raise wrong("annotated", "left out with label_smoothing", f"label_smoothing={getattr(self, 'label_smoothing')!r}")  # noqa: B009
        return check_annotated(annotated, logits, labels)

    def checked_kind(self, *given: Any) -> str:
        """Return what the scores are held against, and refuse shapes, dtypes and devices that do not fit, or not the options."""
        seen: tuple[Any, Any, Any] = with_channel(*given) if self.without_channels else given
        kind = self.kind_of(seen[0], seen[1])
        if kind == LABELS:
            scores, *_ = check_labels(*seen, self.resize)
        else:
            scores, *_ = check_targets(*seen, together=self.together, resize=self.resize)
        if scores.shape[1] == 1 and (self.link == "softmax" or kind == LABELS):
            got = "'softmax', which makes every probability 1" if self.link == "softmax" else f"{self.link!r} with class indices"
            raise wrong("link", "'sigmoid' for one channel", got, one_channel(self.link))
        for name in self.per_class_options:
            self.check_classes(name, scores.shape[1])
        if self.narrows:
            self.check_counted(scores.shape[1], self.ignored if kind == LABELS and not self.counts_absent else ())
        return kind

    def check_normalizer(self, normalizer: float | Tensor, kind: str) -> None:
        """Refuse a normaliser that is none, or does not fit the options."""
        scalar = isinstance(normalizer, Tensor) and normalizer.dim() == 0 and not normalizer.is_complex()
        if not scalar and not (is_number(normalizer) and normalizer >= 0):
            raise wrong("normalizer", "a number >= 0 or a scalar tensor", f"{normalizer!r}"[:80])
        if not self.takes_normalizer:
            raise wrong("normalizer", "left out: this loss has none", f"{normalizer!r}"[:80])
        if kind == LABELS or self.together:
            raise wrong("normalizer", "left out: it is for masks, link='sigmoid' or 'identity'", f"link={self.link!r}")
        if not self.by_image or self.reduction != "mean":
            raise wrong("normalizer", "given together with per_image=True and reduction='mean'", repr(self))

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads, for this kind of targets."""
        raise NotImplementedError

    def needs(self, given: Given | None = None) -> LabelNeeds | DenseNeeds:
        """Return the fold that a call wants; without one, that of the targets that the link is most used with."""
        usual = LABELS if self.link in self.label_links else MASKS
        kind = usual if given is None else given.kind
        return recall(self.memory.of("needs"), kind, self.needs_for, kind)

    def needs_for(self, kind: str) -> LabelNeeds | DenseNeeds:
        """Return the fold that a kind of targets wants."""
        if kind == LABELS:
            label = LabelSpec(self.link, self.ignored[0], self.align_corners, self.sums(kind))
            return LabelNeeds(label, self.engine, apart=self.by_image, validate=self.validate)
        link = "sigmoid" if self.link == "hinge" else self.link
        dense = DenseSpec(link, self.ignored[0], self.align_corners, self.sums(kind), None, self.together)
        return DenseNeeds(dense, self.engine, apart=self.by_image, validate=self.validate)

    def masks(self, fold: Fold) -> Tensor:
        """Return every mask's own loss, ``[B, K]``, times its class weight: every channel of every image is one."""
        raise NotImplementedError

    def reduce(self, fold: Fold, given: Given, gate: Tensor | None = None, every_image: bool = False) -> Tensor:
        """Turn the fold of checked arguments into the loss, before ``loss_weight``; with a normaliser, the masks' sum over it."""
        if given.normalizer is None or every_image:
            return super().reduce(fold, given, gate, every_image)
        return finished(self.added(fold, given, gate))

    def added(self, fold: Fold, given: Given, gate: Tensor | None = None, every_image: bool = False) -> Addends:
        """Return what adds up over parts of a batch; with a normaliser the masks' sum and the normaliser."""
        count = given.normalizer
        if count is None or every_image:
            return super().added(fold, given, gate, every_image)
        above = self.masks(fold if gate is None else fold.only(gate)).sum()
        below = count.to(above) if isinstance(count, Tensor) else above.new_full((), count)
        return Addends((above, below), lambda above, below: (above / below.clamp_min(1)).to(fold.dtype))

    def unreduced(self, ratio: Ratio) -> Tensor:
        """Return what each class costs, ``[C]``, or ``[B, C]`` with ``per_image``; without C where they are taken together."""
        rows = ratio.above.squeeze(1) if ratio.above.shape[1] == 1 and self.joint else ratio.above
        return rows if self.by_image else rows.squeeze(0)

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        normalizer: float | Tensor | None = None,
        annotated: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            logits: ``[B, C, *S]`` logits (probabilities with ``link="identity"``); float16, bfloat16, float32 or float64.
                ``[B, C, h, w]`` of another size than the labels are interpolated to it (bilinearly, ``align_corners``), volumes
                ``[B, C, d, h, w]`` trilinearly.
            labels: ``[B, *S]`` class indices or ``ignore_index`` (int64, int32 or uint8); or, where the loss takes them, targets
                ``[B, C, *S]`` in [0, 1]: float, bool, or integers 0, 1 and ``ignore_index`` (``[B, *S]`` will do for C = 1).
            weight: ``[B, *S]`` or ``[B, 1, *S]`` float pixel weights or a boolean mask; ``[B, C, *S]`` for such targets, unless
                the link is softmax.
            normalizer: with ``per_image=True`` every channel of every image is a mask, and the loss the sum over the masks of
                each mask's own (times its class weight), divided by max(normalizer, 1). A synced set adds the ranks' up: then
                it is the number of this rank's masks.
            annotated: ``[B, C]`` bool, the classes that an image was searched for, where data sets label different ones. With
                classes that exclude each other, the probability of the others counts as that of the background, class 0, and
                so do labels of theirs (Shi et al., Marginal loss and exclusion loss, Medical Image Analysis 2021); channels
                that exclude nothing do not count where they are not annotated.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each pixel or class.
        """
        named = {} if annotated is None else {"annotated": annotated}
        return self.weigh(self.evaluate(logits, labels, weight, normalizer, **named))


def times(values: Tensor, factor: Factor | None) -> Tensor:
    """Multiply, by 1 if there is no factor; what has the factor 0 takes no part, even if it is infinite."""
    if isinstance(factor, Tensor):
        return torch.where(factor == 0, 0.0, values * factor)
    return values if factor is None or factor == 1 else values * factor
