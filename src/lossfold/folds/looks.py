"""Looks at values, which on CPUs cost no waiting: what is surely wrong is refused, what is probably meant otherwise is said.

Off the CPU they are made where a loss or a metric has ``validate=True``; in compiled code and in transforms of torch.func, never.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from lossfold.engines.transforms import inside_transform
from lossfold.errors import wrong

SLACK = 0.01  # by which probabilities and alphas may lie outside of [0, 1]: halves and interpolation round
OVERSHOOT = 1.5  # data ranges that an image's values may span: enlarged ones overshoot
SMALLEST_PICTURE = 8  # rows and columns from which on masks [B, X, X] are pictures rather than X channels


def can_look(tensor: Tensor, validate: bool) -> bool:
    """Whether a tensor's values may be looked at: where that waits for nothing, or was asked for."""
    if torch.compiler.is_compiling() or type(tensor) not in (Tensor, nn.Parameter) or not tensor.numel():
        return False
    here = tensor.device.type == "cpu" or (validate and tensor.device.type != "meta")
    return here and not inside_transform() and torch._C._len_torch_dispatch_stack() == 0


def in_unit(tensor: Tensor, counted: Tensor | None = None) -> bool:
    """Whether all values, of those that count, lie in [0, 1] to rounding; NaN do."""
    values = tensor.detach()
    if values.dtype == torch.bool:
        return True
    least, largest = values.aminmax()  # of all first, which makes nothing of their size
    if bool((least >= -SLACK) & (largest <= 1 + SLACK)):
        return True
    values = values if counted is None else torch.where(counted, values, 0)
    return not bool(((values < -SLACK) | (values > 1 + SLACK)).any())


def span(values: Tensor) -> str:
    """Return in words from where to where values go."""
    finite = values.detach()[values.isfinite()]
    return f"values from {float(finite.min()):.4g} to {float(finite.max()):.4g}" if len(finite) else "no finite value"


def refuse_negative(name: str, weight: Tensor | None, validate: bool = False) -> None:
    """Refuse weights below 0, with which a mean is no mean and a score may be anything."""
    if weight is None or weight.dtype == torch.bool or not can_look(weight, validate):
        return
    least = (weight.detach() if weight.requires_grad else weight).amin().item()
    if least < 0:
        raise wrong(name, "floats >= 0, or bool", span(weight))


def refuse_other_than_probabilities(scores: Tensor, counted: Tensor, together: bool) -> None:
    """Refuse scores that are no probabilities, for ``link="identity"``; both are alike in shape."""
    if not in_unit(scores, counted):
        link = "'softmax'" if together else "'sigmoid'"
        raise wrong("logits", "probabilities in [0, 1] with link='identity'", span(scores), f"logits take link={link}")


def refuse_other_than_alphas(target: Tensor, counted: Tensor | None) -> None:
    """Refuse true alphas of another range."""
    if not in_unit(target, counted):
        raise wrong("target", "alphas in [0, 1]", span(target), "divide by 255" if float(target.amax()) > 2 else "")


def refuse_another_range(target: Tensor, counted: Tensor | None, data_range: float) -> None:
    """Refuse images whose values span far more than the range that they are said to have."""
    lowest, highest = target.detach().aminmax()  # of all first, which makes nothing of their size
    if target.dtype == torch.bool or bool(highest.double() - lowest.double() <= OVERSHOOT * data_range):
        return
    values = target.detach() if counted is None else target.detach()[counted.expand_as(target)]
    values = values[values.isfinite()]
    if len(values) and float(values.max()) - float(values.min()) > OVERSHOOT * data_range:
        least, largest = float(values.min()), float(values.max())
        meant = next((end for end in (1, 2, 255, 1023, 4095, 65535) if largest - min(least, 0.0) <= OVERSHOOT * end), None)
        hint = (
            f"data_range={meant}, the difference of white and black?" if meant is not None else "the difference of white and black"
        )
        raise wrong("data_range", "that of the images", f"{data_range:g} for a target of {span(target)}", hint)


def mention_all_ignored(argument: str, targets: Tensor, ignored: int | None, word: str = "ignore_index") -> None:
    """Say that all foreground may have been ignored: masks of 0 and 255 whose 255 does not count."""
    if ignored is None or ignored < 2 or targets.dtype == torch.bool or targets.is_floating_point():
        return
    if int(targets.amax()) == ignored and int(targets.amin()) == 0 and not bool((targets == 1).any()):
        text = f"{argument} are all 0 or {word}={ignored}, so that no foreground counts: of masks of 0 and {ignored} take masks > 0"
        warnings.warn(f"lossfold: {text}", stacklevel=2)


def mention_a_trimap(region: Tensor) -> None:
    """Say that a region may be a trimap: 0, 0.5 and 1 mean known, unknown, known there."""
    if not region.is_floating_point():
        return

    def levels(values: Tensor) -> bool:
        return bool(((values == 0) | (values == 0.5) | (values == 1)).all())

    if (
        levels(region.flatten()[:: max(1, region.numel() // 256)])
        and levels(region)
        and all(bool((region == x).any()) for x in (0.5, 1))
    ):
        text = (
            "the region is all 0, 0.5 and 1, as a trimap is, but 1 is the unknown: lossfold.functional.region_from_trimap(trimap)"
        )
        warnings.warn(f"lossfold: {text}", stacklevel=2)


def mention_pictures_without_channel(scores: Tensor, targets: Tensor, validate: bool) -> None:
    """Say that binary logits ``[B, H, W]`` are read as H channels, where their masks look like pictures."""
    if scores.dim() != 3 or targets.shape != scores.shape:
        return
    few, many = sorted(scores.shape[1:])
    if few < SMALLEST_PICTURE or (few < many and (few < 32 or many > 4 * few)):
        return
    if targets.is_floating_point() and not (can_look(targets, validate) and bool(((targets == 0) | (targets == 1)).all())):
        return
    text = f"masks {list(scores.shape)} are read as {scores.shape[1]} channels of {scores.shape[2]} pixels"
    warnings.warn(f"lossfold: {text}; one channel is logits[:, None], labels[:, None]", stacklevel=2)
