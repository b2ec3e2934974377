"""Checks of inputs that more than one fold makes: by shape, dtype, device and layout, before any work."""

from __future__ import annotations

import torch
from torch import Tensor

from lossfold.errors import wrong
from lossfold.folds.fold import describe

SCORE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.uint8)


def result_dtype(scores: Tensor) -> torch.dtype:
    """Results are float32, or float64 for float64 scores."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def check_dense(argument: str, tensor: Tensor) -> None:
    """Refuse sparse and nested tensors."""
    if tensor.layout != torch.strided or tensor.is_nested:
        raise wrong(argument, "a dense strided tensor", f"layout {tensor.layout}", "call .to_dense()")


def check_floats(argument: str, tensor: object, of_what: str, hint: str = "") -> Tensor:
    """Refuse what are no floats ``[B, C, *S]`` with at least one class (or channel: ``of_what``)."""
    shape = "[B, C, *S]"
    if not isinstance(tensor, Tensor) or tensor.dtype not in SCORE_DTYPES:
        raise wrong(argument, f"a float tensor {shape}", describe(tensor), hint)
    check_dense(argument, tensor)
    if tensor.dim() < 2 or tensor.shape[1] == 0:
        raise wrong(argument, f"{shape} with at least one {of_what}", describe(tensor))
    return tensor


def check_scores(logits: object, **others: object) -> Tensor:
    """Refuse scores that no fold reads, and tensors beside them that are not dense and strided."""
    scores = check_floats("logits", logits, "class")
    for argument, tensor in others.items():
        if isinstance(tensor, Tensor):
            check_dense(argument, tensor)
    return scores


def check_weight(weight: object, scores: Tensor, *shapes: tuple[int, ...]) -> Tensor | None:
    """Refuse weights of none of these shapes; the first is that of pixel weights ``[B, *S]``."""
    pixels = shapes[0]
    if weight is None:
        return None
    if not isinstance(weight, Tensor):
        raise wrong("weight", f"a float or bool tensor {list(pixels)}", describe(weight))
    if tuple(weight.shape) not in (*shapes, (pixels[0], 1, *pixels[1:])):
        hint = "did you mean class_weight?" if weight.dim() == 1 else ""
        raise wrong("weight", f"pixel weights of shape {list(pixels)}", describe(weight), hint)
    if weight.dtype not in (*SCORE_DTYPES, torch.bool):
        raise wrong("weight", "a float or bool tensor", describe(weight), "call .float() or .bool()")
    if weight.device != scores.device:
        raise wrong("weight", f"on the logits' device {scores.device}", str(weight.device))
    return weight
