"""Binary cross entropy: every channel a yes or no of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import Sum
from lossfold.folds.partial import Partial, check_positive
from lossfold.folds.scores import Given
from lossfold.losses.pixels import PixelLoss
from lossfold.losses.scores import WEIGHT, Factor
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NLL: Sum = ("nll", 0.0)
NLL_ALL: Sum = ("nll_all", 0.0)
NLL_NOT: Sum = ("nll_not", 0.0)
NLL_NOT_ALL: Sum = ("nll_not_all", 0.0)


@LOSSES.register
@configured
class BinaryCrossEntropyLoss(PixelLoss):
    r"""Binary cross entropy between every channel's scores and targets in [0, 1].

    With weight w, class weight v, positive weight a, smoothing ε and t' = (1-ε) t + ε/2, over what is not ignored::

        loss = Σ w v [a t' (-log p) + (1-t') (-log (1-p))] / Σ w v

    Equals :class:`torch.nn.BCEWithLogitsLoss` (``weight`` as pixel weights, where that loss divides by their number), except
    that it is 0, not NaN, when nothing counts. The positive weight scales values and is not in the denominator.

    Args:
        pos_weight: a >= 0, a number for all channels or C numbers; one for each element is ``pos_weight_map`` at the call.
        label_smoothing: ε in [0, 1].
        class_weight: C numbers >= 0, the weights of the channels.
        link: ``"sigmoid"`` for logits, ``"identity"`` for probabilities; then -log p is -log(max(p, 1e-12)).
        ignore_index: the value of integer targets that do not count, or a list of such values.
        reduction: ``"mean"``, ``"sum"``, or ``"none"`` for the map ``[B, C, *S]``.
        per_image: the mean of each image's own loss over the images in which something counts; an empty one is left out, where
            ``sample_wise`` of losses of images counts it as 0.
        align_corners: how logits of another size than the targets are interpolated to it (bilinearly; volumes trilinearly).
        resize: False refuses logits of another size than the targets, in place of interpolating them.
        validate: look for wrong values off the CPU too, which waits for the device: probabilities outside of [0, 1], say.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in a dict of outputs, from names to dotted paths; the loss then takes that dict.
        engine: ``"eager"``, ``"triton"``, ``"cpp"``, or None for the fastest that can serve.

    Raises:
        LossError: for options, shapes, dtypes or targets that are out of range.

    Gradient:
        Exact. 0 where nothing counts, and for probabilities under the floor.

    Example:
        >>> loss = BinaryCrossEntropyLoss(pos_weight=3.0)
        >>> loss(torch.randn(2, 5, 8, 8), torch.rand(2, 5, 8, 8)).shape
        torch.Size([])

    Reference:
        Label smoothing: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016.
    """

    link: str = "sigmoid"
    pos_weight: float | Sequence[float] | Tensor | None = option(None, of=float, each_class=True)
    label_smoothing: float = option(0.0, between=(0, 1))

    label_links: ClassVar[tuple[str, ...]] = ()
    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid", "identity")
    samples: ClassVar[tuple[dict[str, Any], ...]] = ()
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"pos_weight": 3.0, "label_smoothing": 0.1},
        {"pos_weight": "random", "class_weight": "random", "per_image": True},
        {"link": "identity", "label_smoothing": 0.2},
    )

    def check(
        self,
        logits: Any,
        labels: Any,
        weight: Any = None,
        normalizer: Any = None,
        annotated: Any = None,
        pos_weight_map: Any = None,
    ) -> Given:
        """Refuse what can't be folded, or does not fit the options."""
        given = super().check(logits, labels, weight, normalizer, annotated)
        if pos_weight_map is None:
            return given
        if self.label_smoothing or self.without_channels:
            raise wrong("pos_weight_map", "left out with label_smoothing, and for masks without channels", repr(self))
        ignored, before = self.ignored, given.partial
        positive = check_positive(pos_weight_map, logits, labels)
        return given._replace(known=None, partial=Partial(ignored, before.annotated if before else None, self.link, positive))

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        normalizer: float | Tensor | None = None,
        annotated: Tensor | None = None,
        pos_weight_map: Tensor | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            logits, labels, weight, normalizer, annotated: as for every loss of scores, see :class:`DiceLoss`.
            pos_weight_map: ``[B, C, *S]`` or ``[C, *S]`` float, the positive weight of every element, times the option's.

        Returns:
            A scalar, float32 (float64 for float64 logits); with ``reduction="none"`` a value for each element.
        """
        beside = {"annotated": annotated, "pos_weight_map": pos_weight_map}
        named = {name: value for name, value in beside.items() if value is not None}
        return self.weigh(self.evaluate(logits, labels, weight, normalizer, **named))

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, NLL, NLL_NOT) + ((NLL_ALL, NLL_NOT_ALL) if self.label_smoothing else ())

    def coefficients(self, like: Tensor, kind: str) -> dict[Sum, Factor]:
        """Return v a (1-ε) and v (1-ε) for what targets say, v a ε/2 and v ε/2 for what smoothing adds."""
        weights = self.per_class("class_weight", like)
        v: Factor = 1.0 if weights is None else weights
        a = self.pos_weight if isinstance(self.pos_weight, (int, float)) else self.per_class("pos_weight", like)
        positive, smooth = v if a is None else v * a, self.label_smoothing
        told = {NLL: (1 - smooth) * positive, NLL_NOT: (1 - smooth) * v}
        return told | {NLL_ALL: smooth / 2 * positive, NLL_NOT_ALL: smooth / 2 * v} if smooth else told
