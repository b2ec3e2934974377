"""Lovász-Softmax (Berman et al., CVPR 2018), exactly by sorting and from a histogram of the errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.folds.label.oracles.common import Array, merged, pixels, probabilities, settle, weights_of


def jaccard_loss(G: float, F: Any, B: Any) -> Any:  # noqa: N803 - the paper's letters
    """1 - IoU of a prediction wrong at foreground of weight F of G and at background of weight B; 0 if nothing is there."""
    return np.where(G + B > 0, 1 - (G - F) / np.where(G + B > 0, G + B, 1), 0.0)


def by_sorting(errors: Array, foreground: Array, w: Array) -> Any:
    """Σ of the errors in descending order, each times what its pixel adds to the Jaccard loss."""
    order = np.argsort(-np.real(errors), kind="stable")
    f, b = np.where(foreground, w, 0)[order], np.where(foreground, 0, w)[order]
    rises = jaccard_loss(f.sum(), f.cumsum(), b.cumsum())
    return (errors[order] * np.diff(rises, prepend=0.0)).sum()


def by_histogram(bins: int) -> Callable[[Array, Array, Array], Any]:
    """The same with the pixels of a bin taken together, their foreground and background evenly mixed."""

    def value(errors: Array, foreground: Array, w: Array) -> Any:
        bin_ = np.minimum((np.real(errors) * bins).astype(np.int64), bins - 1)
        G = w[foreground].sum()  # noqa: N806
        F = B = 0.0  # noqa: N806
        total: Any = 0.0
        for k in np.unique(bin_)[::-1]:
            ours, theirs = (bin_ == k) & foreground, (bin_ == k) & ~foreground
            f, b = w[ours].sum(), w[theirs].sum()
            rise = jaccard_loss(G, F + f, B + b) - jaccard_loss(G, F, B)
            if b == 0:
                w_f, w_b = 1 / (G + B), 0.0
            elif f == 0:
                w_f, w_b = 0.0, rise / b
            else:
                w_f = np.log1p(b / (G + B)) / b
                w_b = (rise - f * w_f) / b
            total = total + w_f * (w[ours] * errors[ours]).sum() + w_b * (w[theirs] * errors[theirs]).sum()
            F, B = F + f, B + b  # noqa: N806
        return total

    return value


def lovasz(
    scores: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    classes: str | Sequence[int] = "present",
    bins: int = 4096,
    exact: bool = False,
    link: str = "softmax",
    ignore_index: int = -100,
    class_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    per_image: bool = False,
) -> Any:
    count = scores.shape[1]
    v = weights_of(class_weight, count)
    value = by_sorting if exact else by_histogram(bins)
    images = pixels(scores, labels, weight, ignore_index)
    rows, parts = [], []
    for x, y, w in images if per_image else merged(images):
        p = probabilities(x, link)
        p = np.where(np.real(p) > 1, 1.0, np.where(np.real(p) < 0, 0.0, p))
        listed = range(count) if isinstance(classes, str) else classes
        row, share = np.zeros(count, scores.dtype), np.zeros(count)
        for c in listed:
            if (y == c).any() if classes == "present" else w.size > 0:
                row[c] = v[c] * value(np.where(y == c, 1 - p[:, c], p[:, c]), y == c, w)
                share[c] = v[c]
        rows.append(row)
        parts.append((row.sum(), share.sum(), w.size > 0))
    if reduction == "none":
        return np.stack(rows) if per_image else rows[0]
    return settle(parts, reduction)
