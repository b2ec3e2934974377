"""The adversarial losses in float64 NumPy, from their papers.

vanilla: Goodfellow et al., NeurIPS 2014; lsgan: Mao et al., ICCV 2017; wgan: Arjovsky et al., ICML 2017; hinge: Miyato et al.,
ICLR 2018; wgan-logistic-ns: the softplus of Karras et al., CVPR 2019; ragan: Jolicoeur-Martineau, ICLR 2019; smgan: Zeng et al.,
AOT-GAN, TVCG 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POINTWISE = ("vanilla", "lsgan", "l1", "wgan", "wgan-logistic-ns", "hinge")
"""The types that read logits alone."""


def array(tensor: Any) -> Array:
    """A tensor's numbers in float64."""
    return np.asarray(tensor.detach().double().cpu().numpy())


def number(value: Any) -> float:
    """A scalar's number, whether it has a graph or not."""
    return float(value.detach() if hasattr(value, "detach") else value)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def pointwise(kind: str, x: Array, real: bool, disc: bool, label: float) -> tuple[Array, Array]:
    """The loss of each logit, and its derivative."""
    sign = 1.0 if real else -1.0
    if kind == "vanilla":  # -t log s(x) - (1 - t) log(1 - s(x))
        return softplus(x) - label * x, sigmoid(x) - label
    if kind == "lsgan":
        return (x - label) ** 2, 2 * (x - label)
    if kind == "l1":
        return np.abs(x - label), np.sign(x - label)
    if kind == "wgan":
        return -sign * x, np.full_like(x, -sign)
    if kind == "wgan-logistic-ns":
        return softplus(-sign * x), -sign * sigmoid(-sign * x)
    assert kind == "hinge"
    if not disc:
        return -x, np.full_like(x, -1.0)
    return np.maximum(1 - sign * x, 0), np.where(sign * x < 1, -sign, 0.0)


def gan(kind: str, x: Array, real: bool, disc: bool, labels: tuple[float, float] = (1.0, 0.0)) -> tuple[float, Array]:
    """Value and gradient of a pointwise type; `labels` are those of real and fake."""
    each, slope = pointwise(kind, x, real, disc, labels[0] if real else labels[1])
    return float(each.mean()), slope / x.size


def ragan(x: Array, other: Array, real: bool, labels: tuple[float, float] = (1.0, 0.0)) -> tuple[float, Array, Array]:
    """Value, and the gradients for both logits."""
    each, slope = pointwise("vanilla", x - other.mean(), real, True, labels[0] if real else labels[1])
    return float(each.mean()), slope / x.size, np.full_like(other, -slope.mean() / other.size)


def aligned(x: Array, size: tuple[int, int]) -> Array:
    """Bilinear with align_corners along the last two axes, as two matrices."""

    def matrix(old: int, new: int) -> Array:
        found = np.zeros((new, old))
        for i in range(new):
            at = i * (old - 1) / (new - 1) if new > 1 else 0.0
            low = min(int(at), old - 1)
            high = min(low + 1, old - 1)
            found[i, low] += 1 - (at - low)
            found[i, high] += at - low
        return found

    return np.einsum("ih,bchw,jw->bcij", matrix(x.shape[2], size[0]), x, matrix(x.shape[3], size[1]))


def blurred(mask: Array) -> Array:
    """71 taps of a Gaussian of sigma 10, the border replicated, one axis after the other."""
    taps = np.exp(-0.5 * (np.arange(-35, 36) / 10.0) ** 2)
    taps /= taps.sum()
    for axis in (2, 3):
        padded = np.pad(mask, [(35, 35) if one == axis else (0, 0) for one in range(4)], mode="edge")
        mask = np.stack([np.tensordot(taps, np.moveaxis(padded, axis, 0)[i : i + 71], 1) for i in range(mask.shape[axis])], axis)
    return mask


def smgan(
    x: Array, mask: Array, real: bool, disc: bool, polarity: str = "paper", labels: tuple[float, float] = (1.0, 0.0)
) -> tuple[float, Array]:
    """Value, and the gradient for logits of the mask's size."""
    if not disc:
        area = mask.sum() * x.shape[1]
        error = x - labels[0]
        return (float((error**2 * mask).sum() / area), 2 * error * mask / area) if area else (0.0, np.zeros_like(x))
    if real:
        target: Any = labels[0]
    else:
        hole = blurred(mask) if polarity == "paper" else 1 - blurred(mask)
        target = labels[0] * (1 - hole) + labels[1] * hole
    return float(((x - target) ** 2).mean()), 2 * (x - target) / x.size


def gradient_penalty(g: Array, mask: Array | None, norm_mode: str, center: float = 1.0) -> float:
    """(‖g‖ - 1)² of a gradient [B, C, *S]; with center 0, R1's ‖g‖². A mask is [B, 1, *S]."""
    m = np.ones_like(g[:, :1]) if mask is None else mask
    if norm_mode == "pixel":
        norms = np.sqrt((g**2).sum(1, keepdims=True))
        return float(((norms - center) ** 2 * m).sum() / m.sum()) if m.sum() else 0.0
    axes = tuple(range(1, g.ndim))
    norms = np.sqrt(((g * m) ** 2).sum(axes))
    counts = (m != 0).any(axes)
    return float(((norms - center) ** 2)[counts].mean()) if counts.any() else 0.0
