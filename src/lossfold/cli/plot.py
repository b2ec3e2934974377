"""A loss's value and gradient as one pixel's prediction changes, drawn with matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lossfold.compose.loss_set import LossOutput, LossSet
from lossfold.compose.term import Term
from lossfold.errors import LossError
from lossfold.routing import arguments_of

STEPS = 80  # to each side of 0
ENOUGH = 300  # characters of a reason


class Scene(NamedTuple):
    """What a loss is called with, where its first argument is changed, and how far."""

    what: str
    inputs: tuple[Tensor, ...]
    pixels: Tensor
    reach: float


def scenes(loss: nn.Module) -> Iterator[Scene]:
    """Yield small inputs that a loss may take; the first that it does take serves."""
    names = [name for name, required in arguments_of(type(loss).forward).items() if required]
    if isinstance(loss, LossSet) and not names:
        names = ["logits", "labels"]
    if names == ["logits", "labels"]:
        labels = (torch.arange(64) % 2).reshape(1, 8, 8)
        right = 2.0 * (2 * labels - 1).double()
        yield from _scores("logit of a pixel's class, of two", torch.stack([-right, right], 1) / 2, labels)
        yield from _scores("logit of a pixel, target 1", right[:, None], labels[:, None])
        return
    sides = (1, 8, 32, getattr(loss, "smallest_side", 64), 192)
    for side in sides[2:] if isinstance(loss, LossSet) else sides:
        for channels in (1, 3):
            yield _images(names, side, channels)


def _scores(what: str, logits: Tensor, labels: Tensor) -> Iterator[Scene]:
    pixels = torch.zeros_like(logits)
    pixels[0, -1, 0, 1] = 1
    yield Scene(what, (logits * (1 - pixels), labels), pixels, 6)


def _images(names: list[str], side: int, channels: int) -> Scene:
    """Return grey images; of the regions, the left half is 1 (or all of one pixel)."""
    shape = (1, channels, side, side)
    half = (torch.arange(side) <= side // 2).double().expand(1, 1, side, side)
    pixels = torch.zeros(shape, dtype=torch.float64)
    pixels[:, :, side // 2, side // 4] = pixels[:, :, side // 2, side - 1 - side // 4] = 1  # one in each half
    inputs = []
    for index, name in enumerate(names):
        grey = torch.full(shape, 0.5, dtype=torch.float64)
        alpha = name in ("alpha", "region") or (index == 0 and "alpha" in name)
        inputs.append(half if name == "region" else grey[:, :1] if alpha else grey * {"fg": 2, "bg": 0}.get(name, 1))
    return Scene("prediction minus target at a pixel", tuple(inputs), pixels[:, : inputs[0].shape[1]], 1)


def drawable(maker: Callable[..., Any]) -> bool:
    """Whether a loss has a curve, which three points of it show."""
    try:
        curve(maker, 1)
    except Exception:  # of somebody else's class
        return False
    return True


def curve(maker: Callable[..., Any], count: int = STEPS) -> tuple[Scene, Tensor, Tensor, Tensor]:
    """Return a scene, how far its pixel was changed, and the values and slopes of the loss, so many to each side.

    Raises:
        LossError: the loss can't be made without options, or takes none of the scenes.
    """
    try:
        loss = maker()
    except (TypeError, ValueError) as error:
        raise LossError("lossfold show", "plot", "of a loss that needs no options", shortened(error)) from error
    if not isinstance(loss, nn.Module) or isinstance(loss, Term):
        raise LossError("lossfold show", "plot", "of a loss", type(loss).__name__)
    refusal = "it has no inputs"
    for scene in scenes(loss):
        steps = torch.arange(-count, count + 1, dtype=torch.float64) / count * scene.reach
        try:
            points = [_point(loss, scene, float(step)) for step in steps]
        except (LossError, TypeError) as error:
            refusal = shortened(error)
            continue
        values, slopes = (torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True))
        if values.min() == values.max():  # a single pixel has no gradient, or is in no region
            refusal = f"nothing changes with {scene.what}"
            continue
        return scene, steps, values, slopes
    raise LossError("lossfold show", "plot", "of a loss of scores, or of predicted and true images", refusal)


def shortened(error: Exception) -> str:
    """Return a message in whole words."""
    return textwrap.shorten(str(error), ENOUGH, placeholder=" ...")


def _point(loss: nn.Module, scene: Scene, step: float) -> tuple[float, float]:
    moved = torch.tensor(step, dtype=torch.float64, requires_grad=True)
    first, *others = scene.inputs
    result = loss(first + moved * scene.pixels, *others)
    value = result.total if isinstance(result, LossOutput) else result
    (slope,) = torch.autograd.grad(value, moved)
    return float(value.detach()), float(slope)


def check_name(file: str) -> None:
    """Refuse a name that does not say what kind of picture it is."""
    if not Path(file).suffix:
        raise LossError("lossfold show", "plot", "a file name that ends in .png, .svg or .pdf", repr(file))


def draw(name: str, maker: Callable[..., Any], file: str) -> str:
    """Draw into a file; return what the horizontal axis is.

    Raises:
        LossError: matplotlib is not installed, the loss can't be drawn, or the file not be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LossError("lossfold show", "plot", "drawn with matplotlib", "none installed", "pip install matplotlib") from None
    scene, steps, values, slopes = curve(maker)
    figure = Figure(figsize=(7, 3), layout="constrained")
    for axes, column, title in zip(figure.subplots(1, 2), (values, slopes), ("value", "gradient"), strict=True):
        axes.plot(steps.numpy(), column.numpy(), color="#1f5a99" if title == "value" else "#b5451b")
        axes.set(title=f"{name}: {title}", xlabel=scene.what)
        axes.grid(alpha=0.3)
    try:
        figure.savefig(Path(file), dpi=150)
    except (OSError, ValueError) as error:
        raise LossError("lossfold show", "plot", "a file that can be written", f"{file}: {error}") from error
    return scene.what
