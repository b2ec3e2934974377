"""Pictures of matting: alphas, signed errors, foregrounds on a new background, and the course of the four errors."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.train.data.composites import composite
from lossfold.train.data.depth import eight_bits, unit
from lossfold.train.matting.evaluation import TITLES, MattingScores
from lossfold.train.pictures import LINES, Array, bound, new_panel, rendered, rgb, series
from lossfold.train.run_folder import Row

LARGEST = 512
"""Longer side of a picture."""

RED, BLUE = "#d00000", "#1b6ec2"
FULL_ERROR = 0.5
"""An error of this size has the full colour."""


def photograph(image: Tensor) -> Array:
    """An image `[3,H,W]` as rows of pixels of 8 bits."""
    picture: Array = eight_bits(image).permute(1, 2, 0).numpy()
    return picture


def grey(alpha: Tensor) -> Array:
    """An alpha or a trimap `[1,H,W]` in 0..1: black is clear, white is opaque."""
    return photograph((alpha.clamp(0, 1) * 255).round().to(torch.uint8).expand(3, -1, -1))


def signed_error(predicted: Tensor, truth: Tensor) -> Array:
    """Where an alpha `[1,H,W]` is too opaque (red) or too clear (blue), on white."""
    error = ((predicted - truth) / FULL_ERROR).clamp(-1, 1)
    red, blue = (torch.tensor(rgb(colour))[:, None, None] / 255 for colour in (RED, BLUE))
    shown = 1 - error.abs() * (1 - torch.where(error > 0, red, blue))
    return photograph((shown * 255).round().to(torch.uint8))


def on_backdrop(image: Tensor, foreground: Tensor | None, alpha: Tensor, backdrop: Tensor) -> Array:
    """Lay what an alpha cuts out over a new background.

    Args:
        image: `[3,H,W]`, uint8 or floats in 0..1.
        foreground: its true colours `[3,H,W]`; None: `estimated_foreground` of this alpha.
        alpha: `[1,H,W]` in 0..1.
        backdrop: uint8 `[3,H,W]`.
    """
    layers = [unit(layer) for layer in (image, alpha, backdrop, *([] if foreground is None else [foreground]))]
    image, alpha, backdrop, *true = map(_shown, layers)
    return photograph(composite(true[0] if true else estimated_foreground(image, alpha), backdrop, alpha))


def _shown(layer: Tensor) -> Tensor:
    """Reduce a layer to the longer side of a picture: what is estimated of it takes as much less time."""
    factor = min(1.0, LARGEST / max(layer.shape[1:]))
    size = [max(1, round(side * factor)) for side in layer.shape[1:]]
    return layer if factor == 1 else functional.interpolate(layer[None], size=size, mode="bilinear", antialias=True)[0]


def estimated_foreground(image: Tensor, alpha: Tensor) -> Tensor:
    """Guess the colours `[3,H,W]` of the foreground, so that they and a smooth ground explain the image.

    With blurred estimates F and B, means of the image weighted by alpha and 1 - alpha, the guess is
    F + alpha (I - alpha F - (1 - alpha) B); done with a wide window, then with a narrow one.

    Reference:
        Forte, Approximate Fast Foreground Colour Estimation, ICIP 2021.
    """
    front, back = image, image
    for window in (91, 7):
        reach = min(window // 2, (min(image.shape[1:]) - 1) // 2)
        front, back = _mean(front, alpha, reach), _mean(back, 1 - alpha, reach)
        front = (front + alpha * (image - alpha * front - (1 - alpha) * back)).clamp(0, 1)
    return front


def _mean(image: Tensor, weight: Tensor, reach: int) -> Tensor:
    """Weighted mean of each pixel's neighbourhood, `reach` to each side: means along columns of means along rows."""
    total, share = (_along(_along(part, reach, 1), reach, 2) for part in (image * weight, weight))
    return total / (share + 1e-5)


def _along(image: Tensor, reach: int, axis: int) -> Tensor:
    window, border = ((2 * reach + 1, 1), (reach, 0)) if axis == 1 else ((1, 2 * reach + 1), (0, reach))
    return functional.avg_pool2d(image[None], window, 1, padding=border, count_include_pad=False)[0]


def error_curves(rows: Sequence[Row], trimap: MattingScores | None) -> list[str]:
    """One panel for each error on the held-out images, and the trimap's as a dashed line."""
    panels: list[str] = []
    for index, (name, title) in enumerate(TITLES.items()):
        figure, axes = new_panel(title)
        unit = 1000 if name == "mse" else 1
        steps, values = series(rows, f"val/{name}")
        values = [unit * value for value in values]
        axes.plot(steps, values, color=LINES[index], marker="o", markersize=3, linewidth=2)
        known = [] if trimap is None else [unit * getattr(trimap, name)]
        if known:
            axes.axhline(known[0], color="#98a2b3", linestyle="--", linewidth=1, label="trimap as alpha")
            axes.legend(frameon=False, fontsize=9)
        bound(axes, values, known)
        panels.append(rendered(figure))
    return panels
