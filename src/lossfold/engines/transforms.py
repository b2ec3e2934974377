"""What PyTorch does with functions at the moment: whether it transforms them, whether it records them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def inside_transform() -> bool:
    """Whether a torch.func transform or a forward-mode level is active: operators without rules break there, or give nothing."""
    if torch.compiler.is_compiling():
        return _while_tracing()
    return is_active()


def is_active() -> bool:
    """Whether one is, outside of compiled code."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def _while_tracing() -> bool:
    return is_active()


# The compiler enters the transforms that it traces, and guards on those that are active outside: the answer is part of the graph.
_while_tracing._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result imports it all


def is_recorded(tensor: Tensor) -> bool:
    """Whether PyTorch records what is done with a tensor: not in inference mode, whatever else is switched on inside."""
    return tensor.requires_grad and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
