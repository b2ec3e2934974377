"""Whether PyTorch is transforming functions at the moment."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def inside_transform() -> bool:
    """Whether a torch.func transform or a forward-mode level is active: operators without rules break there, or give nothing."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
