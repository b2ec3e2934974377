"""The structure loss: cross entropy and intersection over union, weighted by how near a pixel is to an edge of the truth."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import wrong
from lossfold.folds.arithmetic import computed_in
from lossfold.folds.collect import collect
from lossfold.folds.fold import Fold, Sum
from lossfold.folds.scores import Given
from lossfold.losses.classes.areas import BOTH, PROB, TARGET
from lossfold.losses.reduce import Addends, Last, Ratio, divide, finished
from lossfold.losses.scores import WEIGHT, ScoreLoss, times
from lossfold.losses.shapes.maps import counted_masks
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NLL: Sum = ("nll", 0.0)
NLL_NOT: Sum = ("nll_not", 0.0)


@LOSSES.register
@configured
class StructureLoss(ScoreLoss):
    r"""Structure loss: weighted binary cross entropy plus weighted IoU, both with more weight at edges.

    With m the mean of the targets t in a window, u = w (1 + factor ``|m - t|``) and probability p, for each channel of each image::

        loss = Σ u [-t log p - (1-t) log (1-p)] / Σ u + 1 - (Σ u p t + smooth) / (Σ u (p + t - p t) + smooth)

    and the mean over channels and images. Beyond the image the window holds zeros, as published; what is ignored,
    or of weight 0, is not in it.

    Args:
        kernel_size: odd, of the window along each axis of space.
        factor: >= 0, how much more edges weigh.
        smooth: >= 0, added above and below in the IoU.
        compat: ``"published"`` gives the value of the published code: its ``reduce='none'`` makes the cross entropy one number, the
            unweighted mean over the batch, before its weights, which then cancel. None for the formula above.
        absent: what a channel without foreground costs: ``"count"`` takes the formula's value, ``"skip"`` leaves it out.
        class_weight: C numbers >= 0.
        link: ``"sigmoid"`` for logits, ``"identity"`` for probabilities.
        ignore_index: the value of integer targets that do not count.
        reduction: ``"mean"``, ``"sum"``, or ``"none"``: ``[B, C]``, or ``[C]`` without ``per_image``, weighted.
        per_image: True, the mean of each image's own loss; False takes the sums of all images together.
        align_corners, resize, validate, loss_weight, engine, inputs: as for :class:`DiceLoss`.

    Raises:
        LossError: for options, shapes, dtypes or targets that are out of range.

    Gradient:
        Exact, in the targets too where they ask for one, as soft ones may. 0 where nothing counts.

    Example:
        >>> StructureLoss()(torch.randn(2, 1, 48, 48), torch.randint(0, 2, (2, 1, 48, 48))).shape
        torch.Size([])

    Reference:
        Wei et al., F³Net: Fusion, Feedback and Focus for Salient Object Detection, AAAI 2020.
    """

    link: str = "sigmoid"
    kernel_size: int = option(31, at_least=1, odd=True)
    factor: float = option(5.0, at_least=0)
    smooth: float = option(1.0, at_least=0)
    compat: str | None = option(None, words=("published",))
    absent: str = option("count", words=("count", "skip"))
    per_image: bool = option(True)

    label_links: ClassVar[tuple[str, ...]] = ()
    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid", "identity")
    of_whole_images: ClassVar[bool] = True  # so that tiles have no part of it
    samples: ClassVar[tuple[dict[str, Any], ...]] = ()
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"kernel_size": 5, "factor": 2.0, "smooth": 0.0, "absent": "skip", "class_weight": "random", "per_image": False},
    )

    def settle(self) -> None:
        """Refuse wrong options, and such as the published code has not."""
        super().settle()
        fits = self.compat is None or (self.per_image and self.reduction == "mean" and self.absent == "count")
        self.require("compat", fits, "None, or with reduction='mean', per_image=True and absent='count'")

    def check(self, logits: Any, labels: Any, weight: Any = None, normalizer: Any = None, annotated: Any = None) -> Given:
        """Refuse what can't be folded, or does not fit the options; and weigh the pixels."""
        given = super().check(logits, labels, weight, normalizer, annotated)
        if self.compat is not None and normalizer is not None:
            raise wrong("normalizer", "left out with compat='published'", f"{normalizer!r}"[:80])
        return given if self.compat else self.at_edges(given)

    def at_edges(self, given: Given) -> Given:
        """Return a call's arguments with the weight w (1 + factor ``|m - t|``)."""
        scores, targets, weight = given.tensors
        _, ignored = counted_masks(given, self.ignored[0], False)
        u = edge_weight(targets, ignored, self.kernel_size, self.factor, computed_in(scores))
        if weight is not None:
            weight = weight if weight.dim() == u.dim() else weight.unsqueeze(1)
            u = torch.where(weight != 0, weight.to(u.dtype), 0.0) * u
        return given.other(weight=u)

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, TARGET, PROB, BOTH, *(() if self.compat else (NLL, NLL_NOT)))

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return the channels' costs and weights."""
        v = self.per_class("class_weight", fold.sums)
        counts = (fold[WEIGHT] if self.absent == "count" else fold[TARGET]) != 0
        weights = counts.to(fold.sums.dtype) if v is None else torch.where(counts, v, 0.0)
        return Ratio(torch.where(weights != 0, times(self.cost(fold), v), 0.0), weights)

    def cost(self, fold: Fold) -> Tensor:
        """Return each channel's IoU loss, and its cross entropy where that is weighted as well."""
        union = fold[PROB] + fold[TARGET] - fold[BOTH]
        cost = divide(union - fold[BOTH], union + self.smooth)
        return cost if self.compat else cost + divide(fold[NLL] + fold[NLL_NOT], fold[WEIGHT])

    def masks(self, fold: Fold) -> Tensor:
        """Return every mask's cost, times its class weight."""
        return times(self.cost(fold), self.per_class("class_weight", fold.sums))

    @property
    def folds(self) -> bool:
        """Whether the loss is a formula over one fold; as published it has two, of which one has no weights of edges."""
        return self.compat is None

    def direct(self, given: Given) -> Tensor:
        """Return the published value."""
        return finished(self.added_directly(given))

    def added_directly(self, given: Given) -> Addends:
        """Return what adds up over parts of a batch."""
        edges, needs = self.at_edges(given), self.needs(given)
        fold = collect(needs, edges)
        plain = collect(needs.asking(sums=(WEIGHT, NLL, NLL_NOT)), given)
        v = self.per_class("class_weight", fold.sums)
        above, below = (times(one, v).sum() for one in (plain[NLL] + plain[NLL_NOT], plain[WEIGHT]))
        last = self.last(self.formula(fold, given))
        parts = (above, below, last.above, torch.as_tensor(last.below).to(above))
        return Addends(parts, lambda a, b, c, d: (Last(a, b).value + Last(c, d).value).to(fold.dtype))


# Why this loss has a pass of its own, and does not read its edges as a map of a shared one: of BCE + Dice + Structure of
# [8, 1, 512, 512], 70 ms on one thread, BCE + Dice takes 17, the edges 35, and the pass of its own 17, which is all that sharing
# could save. It would take four more kinds of sums (of w m t, w m p t and both logarithms) in every engine, and in the inner loops
# of all that are asked for none of them. With weights of its own, the loss is the usual sums.


def edge_weight(targets: Tensor, ignored: Tensor | None, size: int, factor: float, dtype: torch.dtype) -> Tensor:
    """Return 1 + factor ``|m - t|`` of targets ``[B, K, *S]``, m their mean in a window of counted ones, 0 beyond the image."""
    t = targets.to(dtype)
    t = t if ignored is None else t.masked_fill(ignored, 0.0)
    if t.dim() == 2:
        return torch.ones_like(t)
    mean = windowed(t, size)
    if ignored is not None:
        counted = 1 - windowed(ignored.to(dtype), size)
        mean = mean / counted.clamp_min(0.5 / size ** (t.dim() - 2))
    return 1 + factor * (mean - t).abs()


def windowed(values: Tensor, size: int) -> Tensor:
    """Return the means ``[B, K, *S]`` in windows, zeros beyond the edge, along one axis after the other.

    A window's sum is that of runs of 1, 2, 4, ... values, one for each binary digit of its odd size, and a run that of its halves.
    """
    for axis in range(2, values.dim()):
        length, beside = values.shape[axis], [0, 0] * (values.dim() - 1 - axis) + [size // 2] * 2
        runs = functional.pad(values, beside)
        total, start, run = runs.narrow(axis, 0, length), 1, 1
        while 2 * run <= size:
            between = runs.shape[axis] - run
            runs, run = runs.narrow(axis, 0, between) + runs.narrow(axis, run, between), 2 * run
            if size & run:
                total, start = total + runs.narrow(axis, start, length), start + run
        values = total / size
    return values
