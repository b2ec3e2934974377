"""Pictures of depth: near is bright, what was not measured is grey; and the course of the scores."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from lossfold.train.depth.evaluation import TITLES, DepthScores
from lossfold.train.pictures import LINES, Array, new_panel, rendered, series
from lossfold.train.run_folder import Row

GREY = 150
"""Which is none of the colours, whose nearest is nearly white."""
NEAR_AND_FAR = 0.02
"""Share of the measured depths beyond both ends of the colours."""


def ends_of(target: Tensor) -> tuple[float, float]:
    """The depths `[1,H,W]` that have the first and the last colour, nearly the least and the largest that were measured."""
    measured = target[target > 0]
    if not len(measured):
        return 1.0, 2.0
    near, far = torch.quantile(measured.float(), torch.tensor([NEAR_AND_FAR, 1 - NEAR_AND_FAR])).tolist()
    return near, max(far, 1.001 * near)


def coloured(depth: Tensor, ends: tuple[float, float]) -> Array:
    """Depths `[1,H,W]` as a picture `[H,W,3]`, evenly by their inverse; 0 is grey."""
    near, far = (1 / end for end in ends)
    shares = ((1 / depth[0].clamp_min(1e-6) - far) / (near - far)).clamp(0, 1)
    picture: Array = (colormaps["magma"](shares.cpu().numpy())[..., :3] * 255).round().astype(np.uint8)
    picture[(depth[0] <= 0).cpu().numpy()] = GREY
    return picture


def score_curves(rows: Sequence[Row], constant: DepthScores | None) -> list[str]:
    """One panel for each score on the held-out images, and that of the typical depth everywhere as a dashed line."""
    panels: list[str] = []
    for index, (name, title) in enumerate(TITLES.items()):
        figure, axes = new_panel(title)
        axes.plot(*series(rows, f"val/score/{name}"), color=LINES[index], marker="o", markersize=3, linewidth=2)
        if constant is not None:
            axes.axhline(getattr(constant, name), color="#98a2b3", linestyle="--", linewidth=1, label="constant")
            axes.legend(frameon=False, fontsize=9)
        panels.append(rendered(figure))
    return panels
