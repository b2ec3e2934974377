"""Checks of inputs that more than one fold makes: by shape, dtype, device and layout, before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lossfold.engines import surroundings
from lossfold.errors import wrong
from lossfold.folds.arithmetic import INTERPOLATED
from lossfold.folds.fold import describe

SCORE_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.uint8)


def result_dtype(scores: Tensor) -> torch.dtype:
    """Results are float32, or float64 for float64 scores."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def are_plain(values: tuple[Any, ...]) -> bool:
    """Whether all are PyTorch's own tensors, or None."""
    for value in values:  # noqa: SIM110 - a generator costs as much again
        if type(value) is not Tensor and value is not None:
            return False
    return True


def signature(*tensors: Any) -> tuple[Any, ...] | None:
    """Return all that checks by shape, dtype, device and layout go by, and that an engine is chosen by.

    None where something is no plain tensor, and where nothing is remembered: in compiled code, and among fake tensors.
    """
    if torch.compiler.is_compiling() or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
        return None
    found: list[Any] = [surroundings()]
    for tensor in tensors:
        if tensor is None:
            found.append(None)
        elif type(tensor) is Tensor and not tensor.is_nested:
            found += (tensor.shape, tensor.dtype, tensor.device, tensor.layout, tensor.requires_grad)
        else:
            return None
    return tuple(found)


def plain(value: Any, made: dict[int, Any] | None = None) -> Any:
    """Return a tensor, or what holds tensors, without subclasses that only say what a tensor is of (tv_tensors, MetaTensor).

    What operators are given has to be plain: two of these subclasses in one call are an error of PyTorch's. Those that change what
    operations do (DTensor, FakeTensor: they have a ``__torch_dispatch__``) stay.

    Args:
        value: a tensor, or nested dicts, lists and tuples; anything else, and what has none of these, is returned as it is.
        made: what was made of which, by id, so that one tensor stays one.
    """
    kind = type(value)
    if kind is Tensor or kind is nn.Parameter:
        return value
    made = {} if made is None else made
    if isinstance(value, Tensor):
        if (
            torch.compiler.is_compiling()
            or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__
            or kind.__torch_function__ is nn.Parameter.__torch_function__
        ):
            return value
        if id(value) not in made:
            with torch._C.DisableTorchFunctionSubclass():
                made[id(value)] = value.as_subclass(Tensor)
        return made[id(value)]
    if kind is dict:  # another mapping may compute what it holds when it is read
        parts = {name: plain(one, made) for name, one in value.items()}
        return value if all(parts[name] is one for name, one in value.items()) else parts
    if kind is list or kind is tuple:
        items = [plain(one, made) for one in value]
        return value if all(item is one for item, one in zip(items, value, strict=True)) else kind(items)
    return value


WITHOUT_BATCH = "the batch dimension is missing: logits[None], labels[None]"
CLASS_INDICES = "class indices of one channel: call .squeeze(1).long()"


def has_one_channel(labels: Tensor, scores: Tensor) -> bool:
    """Whether labels have a channel, one for several of the scores."""
    return labels.dim() == scores.dim() and labels.shape[1] == 1 and scores.shape[1] > 1


def is_turned(space: torch.Size, own: torch.Size) -> bool:
    """Whether labels are as high as the scores are wide, and as wide as these are high."""
    return len(space) == len(own) == 2 and space != own and space == own[::-1]


def other_size(space: torch.Size, scores: Tensor, resize: bool) -> str:
    """Say why labels of another size than the scores are refused; nothing if it is none of these reasons."""
    own = scores.shape[2:]
    if is_turned(space, own):
        return "height and width are exchanged: labels.transpose(-2, -1)"
    if len(space) != len(own) or len(own) not in INTERPOLATED:
        where = "scoring at label resolution is for images and volumes: resize the labels, or interpolate the logits"
        return where if len(space) == len(own) and space != own else ""
    return f"resize=False: the logits are {list(own)}, and nothing is interpolated" if not resize else ""


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
