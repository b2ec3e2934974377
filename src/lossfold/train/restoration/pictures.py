"""Pictures of restoration: images of any size, an enlarged detail of each, and the course of the two scores."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.train.pictures import LINES, Array, new_panel, rendered, rgb, series
from lossfold.train.restoration.evaluation import TITLES, RestorationScores, input_name
from lossfold.train.run_folder import Row

DETAIL = 64
"""Side of a detail in pixels."""

LARGEST = 512
"""Longer side of a picture that shows a whole image."""

FRAME = "#ffd60a"

Place = tuple[slice, slice]


def as_bytes(image: Tensor) -> Tensor:
    """An image in 0..1 as uint8."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def photograph(image: Tensor) -> Array:
    """An image uint8 `[3,H,W]` as rows of pixels."""
    picture: Array = image.permute(1, 2, 0).numpy()
    return picture


def whole(image: Tensor) -> Tensor:
    """An image uint8 `[3,H,W]`, reduced if it is larger than a picture."""
    factor = LARGEST / max(image.shape[1:])
    if factor >= 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    smaller = functional.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)[0]
    return smaller.round().to(torch.uint8)


def busiest(clean: Tensor) -> Place:
    """Where an image uint8 `[3,H,W]` has the most detail: the square of `DETAIL` pixels with the most differences."""
    grey = clean.float().mean(0)
    change = torch.zeros_like(grey)
    change[:, 1:] += grey.diff(dim=1).abs()
    change[1:] += grey.diff(dim=0).abs()
    height, width = (min(DETAIL, side) for side in grey.shape)
    means = functional.avg_pool2d(change[None, None], (height, width), stride=1)[0, 0]
    top, left = divmod(int(means.argmax()), means.shape[1])
    return slice(top, top + height), slice(left, left + width)


def framed(image: Tensor, place: Place) -> Tensor:
    """The whole image with a frame around the detail."""
    thick = max(1, round(max(image.shape[1:]) / 250))
    (top, bottom), (left, right) = ((max(0, part.start - thick), part.stop + thick) for part in place)
    marked = image.clone()
    marked[:, top:bottom, left:right] = torch.tensor(rgb(FRAME), dtype=torch.uint8)[:, None, None]
    marked[:, place[0], place[1]] = image[:, place[0], place[1]]
    return whole(marked)


def score_curves(rows: Sequence[Row], scale: int, degraded: RestorationScores | None) -> list[str]:
    """One panel for each score on the held-out images, and the degraded images' as a dashed line."""
    panels: list[str] = []
    for index, (name, title) in enumerate(TITLES.items()):
        figure, axes = new_panel(title)
        axes.plot(*series(rows, f"val/score/{name}"), color=LINES[index], marker="o", markersize=3, linewidth=2)
        if degraded is not None:
            axes.axhline(getattr(degraded, name), color="#98a2b3", linestyle="--", linewidth=1, label=input_name(scale))
            axes.legend(frameon=False, fontsize=9)
        panels.append(rendered(figure))
    return panels
