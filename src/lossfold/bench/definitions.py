"""The losses as people write them in plain PyTorch.

In the leaf's own dtype they are the provider "eager" (and, compiled, "compile"); in float64 they are the truth
of the cases. `smooth` and `per_image` exist for peers that offer the loss only in that form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255
INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""What PyTorch calls it in a space of so many dimensions."""
"""The label of pixels that do not count."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log p at the label over the counted pixels."""
    return functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED)


def dice(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Mean over classes of 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s); every class is counted."""
    counted = (labels != IGNORED).unsqueeze(1)
    safe = torch.where(labels == IGNORED, 0, labels).long()
    probabilities = logits.softmax(dim=1) * counted
    targets = functional.one_hot(safe, logits.shape[1]).movedim(-1, 1).to(logits.dtype) * counted
    pixels = tuple(range(2, logits.dim()))
    dims = pixels if per_image else (0, *pixels)
    overlap = (probabilities * targets).sum(dims)
    areas = probabilities.sum(dims) + targets.sum(dims)
    return (1 - (2 * overlap + smooth) / (areas + smooth)).mean()


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of (1 - p)^gamma (-log p) at the label over the counted pixels."""
    entropy = functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="none")
    hardness = (1 - torch.exp(-entropy)) ** gamma
    return (hardness * entropy).sum() / (labels != IGNORED).sum()


def cross_entropy_dice(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Cross entropy + Dice."""
    return cross_entropy(logits, labels) + dice(logits, labels, smooth, per_image)


def cross_entropy_dice_focal(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Cross entropy + Dice + focal."""
    return cross_entropy_dice(logits, labels, smooth, per_image) + focal(logits, labels)


def lovasz(logits: Tensor, labels: Tensor, per_image: bool = False) -> Tensor:
    """Mean over classes of the Lovász extension of 1 - IoU at the errors |[y = c] - p_c|; every class is counted.

    Berman et al., CVPR 2018: with the errors in descending order and J_i the Jaccard loss of being wrong at the first i
    pixels, the extension is the sum of error_i (J_i - J_(i-1)).
    """
    probabilities = logits.softmax(dim=1)
    if not per_image:
        return _lovasz_of_pixels(probabilities, labels)
    images = zip(torch.split(probabilities, 1), torch.split(labels, 1), strict=True)
    return torch.stack([_lovasz_of_pixels(*image) for image in images]).mean()


def _lovasz_of_pixels(probabilities: Tensor, labels: Tensor) -> Tensor:
    counted = labels != IGNORED
    p, y = probabilities.movedim(1, -1)[counted], labels[counted]
    losses = []
    for label in range(p.shape[1]):
        target = (y == label).to(p.dtype)
        errors, order = (target - p[:, label]).abs().sort(descending=True)
        wrong = target[order].cumsum(0)
        added = (1 - target[order]).cumsum(0)
        jaccard = 1 - (target.sum() - wrong) / (target.sum() + added)
        losses.append(errors @ jaccard.diff(prepend=jaccard.new_zeros(1)))
    return torch.stack(losses).mean()


def ohem(logits: Tensor, labels: Tensor, thresh: float = 0.7, min_kept: int = 100_000) -> Tensor:
    """Cross entropy over the hard pixels: p < thresh at the label, and in any case the min_kept hardest, ties included."""
    entropy = functional.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="none")[labels != IGNORED]
    hardness = entropy.detach()
    bound = hardness.sort(descending=True).values[min(min_kept, hardness.numel()) - 1]
    hard = (torch.exp(-hardness) < thresh) | (hardness >= bound)
    return entropy[hard].mean()


def cross_entropy_dice_lovasz_focal(logits: Tensor, labels: Tensor, smooth: float = 1.0, per_image: bool = False) -> Tensor:
    """Cross entropy + Dice + Lovász + focal."""
    return cross_entropy_dice_focal(logits, labels, smooth, per_image) + lovasz(logits, labels, per_image)


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -t log p - (1 - t) log(1 - p) over all elements."""
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


def binary_dice(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """Mean over channels of 1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s)."""
    probabilities, targets = logits.sigmoid(), targets.to(logits.dtype)
    dims = (0, *range(2, logits.dim()))
    overlap = (probabilities * targets).sum(dims)
    return (1 - (2 * overlap + smooth) / (probabilities.sum(dims) + targets.sum(dims) + smooth)).mean()


def binary_focal(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean of alpha_t (1 - p_t)^gamma times the binary cross entropy over all elements."""
    targets = targets.to(logits.dtype)
    p = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = p * (1 - targets) + (1 - p) * targets
    return ((alpha * targets + (1 - alpha) * (1 - targets)) * miss**gamma * entropy).mean()


def binary_cross_entropy_dice_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """BCE + Dice + focal."""
    return binary_cross_entropy(logits, targets) + binary_dice(logits, targets) + binary_focal(logits, targets)


def lovasz_hinge(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over images and channels of the Lovász extension of 1 - IoU at the errors 1 - z (2t - 1), negative ones as 0."""
    z, t = logits.flatten(2), targets.flatten(2).to(logits.dtype)
    errors, order = (1 - z * (2 * t - 1)).sort(dim=2, descending=True)
    t = t.gather(2, order)
    total, wrong, added = t.sum(2, keepdim=True), t.cumsum(2), (1 - t).cumsum(2)
    jaccard = 1 - (total - wrong) / (total + added)
    return (errors.relu() * jaccard.diff(prepend=jaccard.new_zeros(1, 1, 1).expand(*t.shape[:2], 1))).sum(2).mean()


def upsampled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function on logits that are first brought to the labels' size, `[B,C,h,w]` to `[B,C,H,W]`, volumes likewise."""

    def run(logits: Tensor, labels: Tensor, **options: object) -> Tensor:
        space = labels.shape[1:]
        scores = functional.interpolate(logits, size=space, mode=INTERPOLATION[len(space)], align_corners=False)
        return function(scores, labels, **options)

    return run


def unknown_l1(pred: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """Mean of |p - t| over the unknown region."""
    mask = region.to(pred.dtype).expand_as(pred)
    return functional.l1_loss(pred * mask, target.to(pred.dtype) * mask, reduction="sum") / mask.sum()


def known_l1(pred: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """Mean of |p - t| where alpha is known."""
    return unknown_l1(pred, target, region == 0)


def matting_gradient(pred: Tensor, target: Tensor, region: Tensor, smoothness: float = 0.01) -> Tensor:
    """Mean over the unknown region of |Sx p - Sx t| + |Sy p - Sy t| + smoothness (|Sx p| + |Sy p|), S the Sobel filters."""
    mask = region.to(pred.dtype).expand_as(pred)
    edges = zip(sobel(pred), sobel(target.to(pred.dtype)), strict=True)
    costs = [functional.l1_loss(p * mask, t * mask, reduction="sum") + smoothness * (p * mask).abs().sum() for p, t in edges]
    return (costs[0] + costs[1]) / mask.sum()


def sobel(image: Tensor) -> tuple[Tensor, Tensor]:
    """The responses to [-1 0 1; -2 0 2; -1 0 1] and to its transpose, borders continued."""
    kernel = image.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    return _each_channel(padded, kernel), _each_channel(padded, kernel.T)


def laplacian(pred: Tensor, target: Tensor, levels: int = 5) -> Tensor:
    """Sum over levels l of 2^l mean |L_l(p) - L_l(t)|, divided by `levels`; L are the levels of the Laplacian pyramid."""
    pyramids = zip(pyramid(pred, levels), pyramid(target.to(pred.dtype), levels), strict=True)
    return torch.stack([2**level * functional.l1_loss(p, t) for level, (p, t) in enumerate(pyramids)]).sum() / levels


def pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """The levels g - up(down(g)) of the Laplacian pyramid, while no side is under 4 (Burt and Adelson, 1983)."""
    details: list[Tensor] = []
    while len(details) < levels and min(image.shape[-2:]) >= 4:
        image = image[..., : image.shape[-2] // 2 * 2, : image.shape[-1] // 2 * 2]
        small = blur(image)[..., ::2, ::2]
        stuffed = torch.zeros_like(image)
        stuffed[..., ::2, ::2] = 4 * small
        details.append(image - blur(stuffed))
        image = small
    return details


def blur(image: Tensor) -> Tensor:
    """Filter with the binomial 5x5 kernel, borders reflected."""
    row = image.new_tensor([1, 4, 6, 4, 1]) / 16
    return _each_channel(functional.pad(image, (2, 2, 2, 2), mode="reflect"), row[:, None] * row)


def matting(pred: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """Unknown L1 + known L1 + Laplacian + gradient."""
    errors = unknown_l1(pred, target, region) + known_l1(pred, target, region)
    return errors + laplacian(pred, target) + matting_gradient(pred, target, region)


def _each_channel(image: Tensor, kernel: Tensor) -> Tensor:
    channels = image.shape[1]
    return functional.conv2d(image, kernel.expand(channels, 1, *kernel.shape), groups=channels)
