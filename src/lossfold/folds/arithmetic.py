"""What the definitions of all folds, and their lean forms, are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

PROBABILITY_FLOOR = 1e-12  # with link="identity": -log p is -log(max(p, floor)), flat below
INTERPOLATED = {2: "bilinear", 3: "trilinear"}  # spaces in which scores are brought to the targets' resolution
WITHOUT_FLOAT64 = ("mps",)  # devices


def equals(values: Tensor, number: int) -> Tensor:
    """Return where integers are a number, which they may be too narrow to hold: ``uint8 == -1`` would be true of 255."""
    if values.is_floating_point() or values.dtype == torch.bool:
        return values == number
    held = torch.iinfo(values.dtype)
    return values == number if held.min <= number <= held.max else torch.zeros_like(values, dtype=torch.bool)


def on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor is where additions are made in order, launches cost nothing, and convolutions a lot."""
    return tensor.device.type == "cpu"


def computed_in(scores: Tensor) -> torch.dtype:
    """Return the dtype that values are computed in."""
    return torch.float64 if scores.dtype == torch.float64 else torch.float32


def exactly(tensor: Tensor) -> AbstractContextManager[object]:
    """Return the context in which autocast leaves float32 alone."""
    device = tensor.device.type  # meta has no autocast; torch.amp.is_autocast_available, which says so, breaks graphs on torch 2.10
    return torch.autocast(device, enabled=False) if device != "meta" else nullcontext()


def wide(tensor: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32: sums of their squares overflow, or lose what is small."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def widest_on(device: torch.device | None) -> torch.dtype:
    """Return float64, or float32 on devices without it."""
    return torch.float32 if device is not None and device.type in WITHOUT_FLOAT64 else torch.float64


@contextmanager
def buffers_apart(module: nn.Module, fn: Callable[[Tensor], Tensor], *names: str) -> Iterator[dict[str, Tensor]]:
    """Keep buffers of numbers out of what moves or casts a module: a device may have no float64, and half would round them.

    Yields them by name; whatever stands there at the end is a buffer again, on the device where the others went.
    """
    apart = {name: buffer for name in names if (buffer := module._buffers.pop(name, None)) is not None}
    try:
        yield apart
    finally:
        for name, buffer in apart.items():
            there = fn(torch.empty(0, device=buffer.device)).device
            dtype = widest_on(there) if buffer.is_floating_point() else buffer.dtype
            with torch.inference_mode(False):
                nothing = torch.zeros_like(buffer, dtype=dtype, device=there)
                module._buffers[name] = nothing if buffer.is_meta else buffer.to(there, dtype)


def beside(values: Tensor, axes: int) -> Tensor:
    """Return numbers ``[...]`` as they stand beside pixels: with so many axes of one element at the end."""
    return values.reshape(*values.shape, *(1 for _ in range(axes)))


def total_dtype(tensor: Tensor) -> torch.dtype:
    """Return what sums are totalled in."""
    return widest_on(tensor.device)


def resize(scores: Tensor, space: torch.Size, align_corners: bool) -> Tensor:
    """Return scores in the dtype that is computed in, at the targets' resolution."""
    scores = scores.to(computed_in(scores))
    if scores.shape[2:] == space:
        return scores
    return functional.interpolate(scores.contiguous(), space, mode=INTERPOLATED[len(space)], align_corners=align_corners)


def resize_back(gradient: Tensor, scores: Tensor, space: torch.Size, align_corners: bool) -> Tensor:
    """Return the gradient of the scores, given that of :func:`resize`'s result in any shape."""
    gradient = gradient.reshape(*scores.shape[:2], *space)
    if scores.shape[2:] != space:
        sizes = list(space), list(scores.shape)
        if len(space) == 3:
            gradient = torch.ops.aten.upsample_trilinear3d_backward(gradient, *sizes, align_corners, None, None, None)
        else:
            gradient = torch.ops.aten.upsample_bilinear2d_backward(gradient, *sizes, align_corners, None, None)
    return gradient.to(scores.dtype)


def clamped(p: Tensor) -> Tensor:
    """Take probabilities into [0, 1]; the gradient passes where they are there already, ends included."""
    return torch.where((p < 0) | (p > 1), p.detach().clamp(0, 1), p)


def total(share: Tensor, block: int = 1024, add: Callable[..., Tensor] = torch.sum) -> Tensor:
    """Sum the last dimension: in its own dtype within blocks, in float64 over them; ``add`` may be ``torch.nansum``."""
    dtype = total_dtype(share)
    if share.shape[-1] < block:
        return add(share, -1, dtype=dtype)
    whole = share.shape[-1] // block * block
    all_of_it: Tensor = add(share[..., :whole].reshape(*share.shape[:-1], whole // block, block), -1).sum(-1, dtype=dtype)
    return all_of_it if whole == share.shape[-1] else all_of_it + add(share[..., whole:], -1, dtype=dtype)


def slopes_of(grad: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the derivatives of a loss with respect to sums in the dtype that is computed in: finite, so that 0 times them is 0."""
    return grad if grad.dtype == dtype else grad.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)


# Steps that devices have in one kernel, as the derivatives of activations. On CPUs these take another function for the last
# elements of each thread's share, so that bits would depend on the number of threads: there they are made of two.


def minus_times_exp(factor: Tensor, x: Tensor, owned: bool) -> Tensor:
    """Return ``-factor * exp(x)`` for x <= 0, 0 where the factor is 0 even if x is NaN; in the place of x if that is owned."""
    if on_cpu(x):
        return (x.exp_() if owned else x.exp()).mul_(-factor).masked_fill_(factor == 0, 0)
    elu_backward = torch.ops.aten.elu_backward  # below 0, the derivative of ELU is exp
    step = factor, -1.0, 1.0, 1.0, False, x
    return elu_backward.grad_input(*step, grad_input=x) if owned else elu_backward(*step)  # type: ignore[no-any-return]


def times_sigmoid(factor: Tensor | None, z: Tensor, negative: bool = False) -> Tensor:
    """Return ``factor`` (1 if there is none) times the sigmoid of z, or of -z where ``negative``."""
    if factor is None and not negative:
        return z.sigmoid()
    if on_cpu(z):
        p = z.neg().sigmoid_() if negative else z.sigmoid()
        return p if factor is None else p.mul_(factor)
    one = z.new_ones(1) if factor is None else factor
    return torch.ops.aten.softplus_backward(one, z, -1.0 if negative else 1.0, _linear_from(z))  # type: ignore[no-any-return]


def log_sigmoid(z: Tensor) -> Tensor:
    """Return log(sigmoid z)."""
    return functional.logsigmoid(z) if on_cpu(z) else functional.softplus(z, -1.0, _linear_from(z))


def softplus(z: Tensor) -> Tensor:
    """Return log(1 + exp z)."""
    return functional.logsigmoid(-z).neg_() if on_cpu(z) else functional.softplus(z, 1.0, _linear_from(z))


def _linear_from(z: Tensor) -> float:
    """Return from where on log(1 + exp z) is z, well before exp z is infinite."""
    return 700.0 if z.dtype == torch.float64 else 80.0
