"""Lovász-Softmax, -Sigmoid and hinge: the convex extension of the Jaccard loss, from a histogram or by sorting."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import naming, wrong
from lossfold.folds.arithmetic import total, total_dtype
from lossfold.folds.checks import plain
from lossfold.folds.collect import collect
from lossfold.folds.dense.needs import DenseNeeds
from lossfold.folds.fold import Fold, Rows, Sum
from lossfold.folds.histogram import OCTAVES, REST, Bins, Errors
from lossfold.folds.label.needs import LabelNeeds
from lossfold.folds.scores import Given
from lossfold.losses.base import UNKNOWN
from lossfold.losses.reduce import Ratio
from lossfold.losses.scores import LABELS, MASKS, ScoreLoss
from lossfold.options import Number, Numbers, configured, option
from lossfold.registry import LOSSES

WEIGHT: Sum = ("weight", 0.0)
TARGET: Sum = ("target", 0.0)
CLASSES = Numbers(each=Number(whole=True, at_least=0), distinct=True)


@LOSSES.register
@configured
class LovaszLoss(ScoreLoss):
    r"""Lovász-Softmax loss: the Lovász extension of the Jaccard loss, at the errors m = ``|[y = c] - p_c|``.

    With G the weight of the foreground (y = c) and F(t), B(t) that of the foreground and the background with m > t::

        loss_c = ∫ J(t) dt,   J(t) = 1 - (G - F(t)) / (G + B(t))

    and the mean over the classes. From a histogram of each class's errors (weights and Σm per bin, in integers) the value is
    within 1/bins of the exact one, in practice far closer, and 0 for a perfect prediction; no sort, no one-hot labels.

    ``link="sigmoid"`` takes logits and targets ``[B, C, *S]``, every channel for itself; ``link="hinge"`` reads the logits z as
    they are, m = max(0, 1 - z (2t - 1)), each image on its own: within (1 + m) 16/bins (m the largest error, up to 65535) of the
    exact value. Foreground is where targets exceed 1/2.

    Args:
        classes: ``"present"``, ``"all"``, or a list of class indices, each of which counts, present or not; with hinge every
            channel counts, and one without foreground costs its largest error.
        bins: of the histogram.
        exact: True sorts the errors instead, in plain PyTorch, and builds the probabilities at label resolution; False never does.
            None, the default, sorts where an image's pixels (all images' without ``per_image``) are fewer than half the bins, so
            that the histogram would be slower and larger; not for logits of another size, nor under a forced engine.
        class_weight: C numbers >= 0, the weights of the classes in the mean.
        link: ``"softmax"``, ``"identity"`` (probabilities, with labels or targets), ``"sigmoid"`` or ``"hinge"``.
        ignore_index, align_corners, resize, validate, loss_weight, engine, inputs: as for :class:`CrossEntropyLoss`; probabilities
            are taken into [0, 1].
        reduction: ``"mean"`` over classes, ``"sum"``, or ``"none"``: ``[C]``, ``[B, C]`` with ``per_image``, weighted, 0 for
            classes left out.
        per_image: the mean of each image's own loss over the images in which something counts; by default with hinge alone.

    Pixel weights are >= 0, in any units: a factor on all of them changes nothing. The histogram resolves 2e-16 of their sum; a
    class whose pixels weigh so little beside the others' is NaN.

    Raises:
        LossError: for options, shapes, dtypes or labels that are out of range, and for pixel weights that need a gradient.

    Gradient:
        Of the extension; constant between ties, and within a bin the mean over the ways to order it. 0 where nothing counts.

    Example:
        >>> LovaszLoss(ignore_index=255)(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))).shape
        torch.Size([])

    Reference:
        Berman et al., The Lovász-Softmax loss, CVPR 2018.
    """

    per_image: bool | None = option(None, of=bool)  # type: ignore[assignment]
    classes: str | Sequence[int] = option("present", words=("present", "all"), others=CLASSES)
    bins: int = option(4096, between=(2, 65536))
    exact: bool | None = option(None, of=bool)

    takes_normalizer: ClassVar[bool] = False
    dense_links: ClassVar[tuple[str, ...]] = ("sigmoid", "hinge", "identity")
    dense_samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"link": "hinge", "exact": False},
        {"link": "sigmoid", "classes": "all", "class_weight": "random", "bins": 128, "exact": False},
        {"link": "hinge", "per_image": False, "bins": 1024, "exact": False},
        {"link": "identity", "per_image": True, "exact": False},
        {"link": "hinge", "exact": True},
        {"link": "sigmoid", "classes": [0, 2, 3], "exact": True},
    )

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"exact": False},
        {"classes": "all", "class_weight": "random", "bins": 100, "exact": False},
        {"classes": [0, 2, 3], "per_image": True, "exact": False},
        {"link": "identity", "exact": False},
        {"exact": True},
    )

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        self.require("engine", not self.exact or self.engine in (None, "eager"), "None or 'eager' with exact=True, which sorts")
        if self.link == "hinge":
            self.require("bins", self.bins % OCTAVES == 0, f"a multiple of {OCTAVES} with link='hinge'")
            self.require("classes", self.classes == "present", "left out with link='hinge', where every channel counts")

    def counted(self, classes: int) -> set[int]:
        """Return the classes that take part."""
        return super().counted(classes) & (set(range(classes)) if isinstance(self.classes, str) else set(self.classes))

    @property
    def counts_absent(self) -> bool:
        """Whether a class without pixels counts."""
        return self.classes != "present"

    @property
    def by_image(self) -> bool:
        """Whether each image has a loss of its own."""
        return self.link == "hinge" if self.per_image is None else self.per_image

    def check(self, logits: Any, labels: Any, weight: Any = None, normalizer: Any = None, annotated: Any = None) -> Given:
        """Refuse what can't be folded, or does not fit the options."""
        given = super().check(logits, labels, weight, normalizer, annotated)
        count = given.tensors[0].shape[1]
        if not isinstance(self.classes, str) and max(self.classes) >= count:
            raise wrong("classes", f"indices below the logits' {count} classes", repr(self.classes))
        if torch.is_grad_enabled() and given.weight is not None and given.weight.requires_grad:
            raise wrong("weight", "without a gradient", "requires_grad=True", "detach it")
        return given

    def sums(self, kind: str) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT, TARGET) if kind == MASKS else (WEIGHT,)

    def needs_for(self, kind: str) -> LabelNeeds | DenseNeeds:
        """Return the fold that a kind of targets wants."""
        return super().needs_for(kind).asking(bins=self.histogram)

    @property
    def histogram(self) -> Bins:
        """The histogram of the errors."""
        hinge = self.link == "hinge"
        return Bins(self.bins + REST if hinge else self.bins, self.by_image, hinge, self.exact)

    def formula(self, fold: Fold, given: object) -> Ratio:
        """Return Σ over the bins of w_f Σm of the foreground and w_b Σm of the background, and the classes' weights."""
        if fold.errors is not None:
            return self.average(*sorted_values(fold.errors))
        if isinstance(fold, Rows) and fold.integral is not None:
            values, held_f, held_b = fold.integral
        else:
            assert fold.table is not None
            values, held_f = self.integral(fold.table), fold.table[:, 0].sum(-1)
            held_b = held_f if fold.target == LABELS else fold.table[:, 2].sum(-1)  # which labels do not read
        # Weights of a class too small for the histogram beside the others: not a number rather than a wrong one.
        counted = fold[WEIGHT].detach()
        if fold.target == LABELS:
            known = near(held_f, counted)
            foreground, background = counted, counted.sum(1, keepdim=True) - counted
        else:
            known = near(held_f + held_b, counted)
            known = known & near(held_f, fold[TARGET].detach()) if fold.target == MASKS else known
            foreground, background = torch.where(known, held_f, torch.nan), held_b
        return self.average(torch.where(known, values, torch.nan), foreground, background)

    def integral(self, table: Tensor) -> Tensor:
        """Return ∫ J of each image and class."""
        f, place_f, b, place_b = table.unbind(1)
        with torch.no_grad():
            w_f, w_b = bin_weights(f, b)
            lower, width = bin_edges(self.histogram, f)
            edges = ((w_f * f + w_b * b) * lower).sum(-1)
        return edges + ((w_f * place_f + w_b * place_b) * width).sum(-1)

    @property
    def in_one_part(self) -> str:
        """Why it can't be split; "" if it can."""
        if self.exact and not self.by_image:
            return "exact=True sorts all pixels' errors together; histograms add up (exact=False), and images (per_image=True)"
        return "" if self.adds_up else UNKNOWN

    def average(self, values: Tensor, foreground: Tensor, background: Tensor) -> Ratio:
        """Return the classes' values and weights in the mean, ``[I, C]``."""
        v = self.per_class("class_weight", values)
        something = (foreground + background != 0).detach()  # NaN counts, and shows
        if self.classes == "present" and self.link != "hinge":
            something = foreground.detach() != 0
        elif not isinstance(self.classes, str):
            here = torch.arange(values.shape[-1], device=values.device)
            among = functools.reduce(torch.logical_or, [here == c for c in self.classes])  # no list is copied from the host
            something = something & among
        v = something.to(values.dtype) if v is None else torch.where(something, v, 0.0)
        return Ratio(torch.where(v != 0, v * values, 0.0), v)


MOST_SORTED = 2**17  # elements at once


def sorted_values(errors: Errors) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ of the errors times what each adds to J in their order, and the weights of foreground and background, ``[I, C]``."""
    shape, (images, classes, pixels) = errors.error.shape, errors.error.shape
    with torch.no_grad():
        foreground, error, w = (x.expand(shape).reshape(images * classes, pixels) for x in errors)
        steps, sides = [], []
        many = max(1, MOST_SORTED // max(1, pixels))
        for start in range(0, max(1, len(error)), many):
            here, part, share = (x[start : start + many] for x in (foreground, error, w))
            order = part.argsort(dim=1, descending=True, stable=True)
            share = share.to(total_dtype(error))
            f, b = (torch.where(side, share, 0.0).gather(1, order) for side in (here, ~here))
            steps.append(torch.zeros_like(part).scatter(1, order, jaccard_steps(f, b).to(part.dtype)))
            sides.append(torch.stack([f.sum(1), b.sum(1)]))
        each, areas = torch.cat(steps).reshape(shape), torch.cat(sides, 1).reshape(2, images, classes)
    return total(errors.error * each), areas[0], areas[1]


def near(held: Tensor, true: Tensor) -> Tensor:
    """Whether the histogram holds at least half of a weight."""
    return (held - true).abs() <= 0.5 * true.abs()


def bin_edges(bins: Bins, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower edge and the width of every bin, ``[bins]`` with the dtype and on the device of ``like``."""

    def count(end: int) -> Tensor:
        return torch.arange(end, dtype=like.dtype, device=like.device)

    if not bins.hinge:
        lower = count(bins.count) / bins.count
        return lower, torch.full_like(lower, 1 / bins.count)
    each = (bins.count - REST) // OCTAVES
    start = count(OCTAVES + REST).exp2()
    fine, rest = start[:OCTAVES, None], start[OCTAVES:]
    lower = fine * (1 + count(each) / each) - 1
    return torch.cat([lower.flatten(), rest - 1]), torch.cat([(fine / each).expand_as(lower).flatten(), rest])


def bin_weights(f: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a unit of foreground and of background error counts in each bin, from the bins' weights ``[..., bins]``.

    With F and B the weights above a bin, J = 1 - (G - F)/(G + B) rises over it by ΔJ = f w_f + b w_b. Along the path on which
    the bin's foreground and background come evenly mixed, w_f = ln(1 + b/(G + B))/b.
    """
    found = f.cumsum(-1)  # G - F
    union = found[..., -1:] + b.sum(-1, keepdim=True) - b.cumsum(-1)  # G + B; weights are multiples of 2^-24, so this is exact
    before = union <= 0  # nothing above, and no foreground at all: J steps from 0 to 1
    union = torch.where(before, 1.0, union)
    some = b > 0
    safe = torch.where(some, b, 1.0)
    w_f = torch.where(some, (b / union).log1p() / safe, 1 / union)
    rise = (f * union + b * found) / (union * (union + b))
    rise = torch.where(before, 1.0, rise)
    return w_f, torch.where(some, (rise - f * w_f) / safe, 0.0)


def jaccard_steps(f: Tensor, b: Tensor) -> Tensor:
    """Return what each pixel adds to J = 1 - (G - F)/(G + B), the pixels in order, from their weights as either class."""
    G = f.sum(-1, keepdim=True)  # noqa: N806
    F, B = f.cumsum(-1) - f, b.cumsum(-1) - b  # noqa: N806
    union = G + B
    before = union == 0
    union = torch.where(before, 1.0, union)
    step = f / union + b * (G - F).clamp_min(0) / (union * (union + b))
    return torch.where(before, (b > 0).to(step), step)


def lovasz_bounds(logits: Tensor, labels: Tensor, weight: Tensor | None = None, **options: Any) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper Riemann sum of the Lovász loss over the histogram's bins.

    The exact loss lies between them, and they differ by at most 1/bins (with hinge, by a bin's share of the largest error).

    Args:
        logits, labels, weight: as for :class:`LovaszLoss`.
        options: those of :class:`LovaszLoss`, without ``exact=True``.

    Returns:
        Two tensors shaped like the loss, without a gradient.

    Raises:
        LossError: as :class:`LovaszLoss` does.

    Example:
        >>> lower, upper = lovasz_bounds(torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8)))
        >>> bool(lower <= upper)
        True
    """
    loss = LovaszLoss(**options)
    loss.require("exact", not loss.exact, "left out: bounds are the histogram's")
    with torch.no_grad(), naming("lovasz_bounds"):
        given = loss.check(*plain((logits, labels, weight)))
        fold = collect(loss.needs(given).asking(bins=replace(loss.histogram, sort=False)), given)
        table = (fold if loss.by_image else fold.sum_images()).table
        assert table is not None
        f, _, b, _ = table.unbind(1)
        _, width = bin_edges(loss.histogram, f)
        above = [x.flip(-1).cumsum(-1).flip(-1) for x in (f, b)]
        lower, upper = jaccard(f, *(x - y for x, y in zip(above, (f, b), strict=True))), jaccard(f, *above)
        ratios = (loss.average((J * width).sum(-1), f.sum(-1), b.sum(-1)) for J in (lower, upper))
        low, high = (loss.weigh(loss.settled(ratio, fold.dtype)) for ratio in ratios)
    return low, high


def jaccard(f: Tensor, F: Tensor, B: Tensor) -> Tensor:  # noqa: N803
    """Return J = 1 - (G - F)/(G + B) from the bins' foreground weights and the weights above."""
    G = f.sum(-1, keepdim=True)  # noqa: N806
    empty = G + B == 0
    return torch.where(empty, 0.0, 1 - (G - F) / torch.where(empty, 1.0, G + B))
