"""Lovász-Softmax: the Jaccard loss's convex extension, from a histogram of the errors or by sorting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.engines import eager
from lossfold.engines.spec import Bins
from lossfold.errors import LossError
from lossfold.folds.label import LabelFold, LabelNeeds, Sum, refusing_labels, result_dtype
from lossfold.losses.base import LabelLoss
from lossfold.registry import LOSSES

WEIGHT: Sum = ("weight", 0.0)


@LOSSES.register
@dataclass(kw_only=True, eq=False, repr=False)
class LovaszLoss(LabelLoss):
    r"""Lovász-Softmax loss: the Lovász extension of the Jaccard loss, at the errors m = ``|[y = c] - p_c|``.

    With G the weight of the foreground (y = c) and F(t), B(t) that of the foreground and the background with m > t::

        loss_c = ∫₀¹ J(t) dt,   J(t) = 1 - (G - F(t)) / (G + B(t))

    and the mean over the classes. From a histogram of each class's errors (weights and Σm per bin, in integers) the value is
    within 1/bins of the exact one, in practice far closer, and 0 for a perfect prediction; no sort, no one-hot labels.

    Args:
        classes: ``"present"``, ``"all"``, or a list of class indices, each of which counts, present or not.
        bins: of the histogram.
        exact: sort the errors instead, in plain PyTorch: slow, and it builds the probabilities at label resolution.
        class_weight: C numbers >= 0, the weights of the classes in the mean.
        link, ignore_index, align_corners, loss_weight, engine, inputs: as for :class:`CrossEntropyLoss`; probabilities are
            taken into [0, 1].
        reduction: ``"mean"`` over classes, ``"sum"``, or ``"none"``: ``[C]``, ``[B, C]`` with ``per_image``, weighted, 0 for
            classes left out.
        per_image: the mean over images of each image's own loss.

    Pixel weights should be about 1: the histogram resolves 6e-8 and holds a total of 5e11; beyond that the loss is NaN.

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

    classes: str | Sequence[int] = "present"
    bins: int = 4096
    exact: bool = False

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"classes": "all", "class_weight": "random", "bins": 100},
        {"classes": [0, 2, 3], "per_image": True},
        {"link": "identity"},
        {"exact": True},
    )

    def validate(self) -> None:
        """Refuse wrong options."""
        super().validate()
        if isinstance(self.classes, str):
            self.require_one_of("classes", ("present", "all"))
        else:
            listed = self.classes.tolist() if hasattr(self.classes, "tolist") else self.classes
            ids = isinstance(listed, (list, tuple)) and all(isinstance(c, int) and not isinstance(c, bool) for c in listed)
            distinct = ids and len(listed) > 0 and min(listed) >= 0 and len(set(listed)) == len(listed)
            self.require("classes", distinct, "'present', 'all' or a list of distinct class indices")
            object.__setattr__(self, "classes", tuple(listed))
        whole = isinstance(self.bins, int) and not isinstance(self.bins, bool)
        self.require("bins", whole and 2 <= self.bins <= 65536, "an integer from 2 to 65536")
        self.require("exact", isinstance(self.exact, bool), "True or False")
        self.require("engine", not self.exact or self.engine in (None, "eager"), "None or 'eager' with exact=True, which sorts")

    def check(self, loss: str, logits: object, labels: object, weight: object = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Refuse what can't be folded, or does not fit the options."""
        tensors = super().check(loss, logits, labels, weight)
        count = tensors[0].shape[1]
        if not isinstance(self.classes, str) and max(self.classes) >= count:
            raise LossError(loss, "classes", f"indices below the logits' {count} classes", repr(self.classes))
        if torch.is_grad_enabled() and tensors[2] is not None and tensors[2].requires_grad:
            raise LossError(loss, "weight", "without a gradient", "requires_grad=True", "detach it")
        return tensors

    def wanted(self) -> tuple[Sum, ...]:
        """Return the sums that the formula reads."""
        return (WEIGHT,)

    def needs(self) -> LabelNeeds:
        """Return the fold this loss wants."""
        needs = super().needs()
        return replace(needs, spec=replace(needs.spec, bins=Bins(self.bins, self.per_image)))

    def formula(self, fold: LabelFold, loss: str) -> tuple[Tensor, Tensor]:
        """Return Σ over the bins of w_f Σm of the foreground and w_b Σm of the background, and the classes' weights."""
        f, place_f, b, place_b = fold.table.unbind(1)
        with torch.no_grad():
            w_f, w_b = bin_weights(f, b)
            lower = torch.arange(self.bins, dtype=f.dtype, device=f.device)
            edges = ((w_f * f + w_b * b) * lower).sum(-1)
        values = (edges + (w_f * place_f + w_b * place_b).sum(-1)) / self.bins
        # Weights too small for the histogram, or too large: not a number rather than a wrong one.
        true = fold[WEIGHT].detach()
        values = torch.where((f.sum(-1) - true).abs() <= 0.5 * true.abs(), values, torch.nan)
        return self.average(values, true, true.sum(1, keepdim=True) - true, loss)

    @property
    def folds(self) -> bool:
        """Sorting needs all pixels at once."""
        return not self.exact

    def average(self, values: Tensor, foreground: Tensor, background: Tensor, loss: str) -> tuple[Tensor, Tensor]:
        """Return the classes' values and weights in the mean, ``[I, C]``."""
        v = self.per_class("class_weight", values.shape[1], loss)
        v = values.new_ones(values.shape[1]) if v is None else v.to(values)
        something = (foreground + background != 0).detach()  # NaN counts, and shows
        if self.classes == "present":
            something = foreground.detach() != 0
        elif self.classes != "all":
            listed = torch.tensor(self.classes, device=v.device)
            v = v * (torch.arange(len(v), device=v.device)[:, None] == listed).any(1)
        v = torch.where(something, v, 0.0)
        return torch.where(v != 0, v * values, 0.0), v

    def raw(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss before ``loss_weight``."""
        if not self.exact:
            return super().raw(logits, labels, weight)
        name = type(self).__name__
        return self.settle(*self.sorted(name, *self.check(name, logits, labels, weight)), result_dtype(logits))

    def sorted(self, loss: str, logits: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what :meth:`formula` does, from the errors in order."""
        with refusing_labels(loss, logits.shape[1], labels, self.ignore_index):
            pixels = eager.pixels(logits, labels, weight, self.needs().spec)
        p = pixels.log_p.exp() if self.link == "softmax" else eager.clamped(pixels.z)
        rows = len(p) if self.per_image else 1
        w, y = (x.reshape(rows, -1) for x in (pixels.w.double(), pixels.y))
        columns = []
        for c in range(p.shape[1]):
            foreground = y == c
            errors = p[:, c].reshape(rows, -1)
            errors = torch.where(foreground, 1 - errors, errors).double()
            errors, order = errors.sort(dim=1, descending=True, stable=True)
            f, b = (torch.where(here, w, 0.0).gather(1, order) for here in (foreground, ~foreground))
            columns.append(((errors * jaccard_steps(f, b)).sum(1), f.sum(1), b.sum(1)))
        values, foregrounds, backgrounds = (torch.stack(column, 1) for column in zip(*columns, strict=True))
        return self.average(values, foregrounds, backgrounds, loss)


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
    """Return the lower and the upper Riemann sum of the Lovász-Softmax loss over the histogram's bins.

    The exact loss lies between them, and they differ by at most 1/bins.

    Args:
        logits, labels, weight: as for :class:`LovaszLoss`.
        options: those of :class:`LovaszLoss`, without ``exact``.

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
    name = "lovasz_bounds"
    with torch.no_grad():
        fold = loss.needs().collect(name, *loss.check(name, logits, labels, weight))
        f, _, b, _ = (fold if loss.per_image else fold.sum_images()).table.unbind(1)
        above = [x.flip(-1).cumsum(-1).flip(-1) for x in (f, b)]
        lower, upper = jaccard(f, *(x - y for x, y in zip(above, (f, b), strict=True))), jaccard(f, *above)
        bounds = (loss.average(J.mean(-1), f.sum(-1), b.sum(-1), name) for J in (lower, upper))
        low, high = (loss.loss_weight * loss.settle(*bound, fold.dtype) for bound in bounds)
    return low, high


def jaccard(f: Tensor, F: Tensor, B: Tensor) -> Tensor:  # noqa: N803
    """Return J = 1 - (G - F)/(G + B) from the bins' foreground weights and the weights above."""
    G = f.sum(-1, keepdim=True)  # noqa: N806
    empty = G + B == 0
    return torch.where(empty, 0.0, 1 - (G - F) / torch.where(empty, 1.0, G + B))
