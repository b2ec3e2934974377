"""Real images that losses are shown on, and where they pull there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from skimage import data
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from lossfold.cli.supports import sample
from lossfold.compose.loss_set import LossSet
from lossfold.errors import LossError
from lossfold.explain import explain
from lossfold.routing import arguments_of

SIDE = 160


def horse() -> Tensor:
    """Return a mask, ``[1, 1, H, W]``."""
    return interpolate(torch.from_numpy(data.horse() == 0)[None, None].float(), (SIDE * 3 // 4, SIDE), mode="area")


def camera() -> Tensor:
    """Return a photograph, ``[1, 1, H, W]`` in [0, 1]."""
    return interpolate(torch.from_numpy(data.camera())[None, None].float() / 255, (192, 192), mode="area")


def blurred(image: Tensor, times: int = 3) -> Tensor:
    """Return it out of focus."""
    for _ in range(times):
        image = avg_pool2d(image, 5, 1, 2, count_include_pad=False)
    return image


def scenes(loss: nn.Module) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """Yield an image to look at, and what the loss may be called with; the first that it takes serves."""
    names = [name for name, required in arguments_of(type(loss).forward).items() if required]
    alpha = horse()
    if names == ["logits", "labels"] or (isinstance(loss, LossSet) and not names):
        mask = (alpha > 0.5).float()
        score = 6 * (blurred(mask) - 0.5) + 0.5 * torch.randn(mask.shape)
        score[..., 4:26, 50:76] += 6  # a patch that is wrong
        yield alpha, (torch.cat([-score / 2, score / 2], 1), mask[:, 0].long())
        yield alpha, (score, mask)
    photo = camera()
    for channels in (1, 3):
        image = photo.expand(1, channels, -1, -1)
        wrong = (blurred(image) + 0.03 * torch.randn(image.shape)).clamp(0, 1)
        given = {"region": (blurred(alpha) - 0.5).abs().lt(0.45).float(), "fg": alpha * 0 + 0.8, "bg": alpha * 0 + 0.2}
        if "region" in names:
            yield alpha, tuple(given.get(name, blurred(alpha, 1) if not index else alpha) for index, name in enumerate(names))
        if "ori_merged" in names:
            yield alpha, (blurred(alpha, 2), given["fg"], given["bg"], 0.2 + 0.6 * alpha)
        if len(names) <= 2:
            yield photo, (wrong, image)[: len(names) or 2]


def pulls(name: str, maker: Callable[..., Any], file: Path) -> bool:
    """Draw the image, the prediction and the gradient's size; return whether the loss takes any of the scenes."""
    loss = sample(maker)  # type: ignore[arg-type]
    if loss is None or not isinstance(loss, nn.Module):
        return False
    for image, inputs in scenes(loss):
        try:
            found = explain(loss, inputs, {})
        except (LossError, TypeError, RuntimeError, ValueError, AttributeError):
            continue
        where = next(iter(found.maps.values()), None)
        if where is None or not where.any() or where.dim() != 4:
            continue
        figure = Figure(figsize=(7.5, 2.3), layout="constrained")
        first = inputs[0][0].detach()
        shown = first[-1] if first.shape[0] != 3 else first.movedim(0, -1).clamp(0, 1)
        panels = {"image": image[0, 0], "prediction": shown, "|gradient|": where.sum(0)[0]}
        for axes, (title, picture) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            axes.imshow(picture.detach().numpy(), cmap="magma" if title == "|gradient|" else "gray")
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
        figure.savefig(file, dpi=110)
        return True
    return False
