"""``criterion.explain(...)``: for one batch, which term pulls how much at the scores, where, and against which other.

From the bottom up: `scores` (which tensors the gradients are taken at), `explanation` (what is found), `picture` and `page` (drawn
with matplotlib, and as HTML), `run` and `command` (``lossfold explain RUN``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.compose.loss_set import LossSet
from lossfold.explain.explanation import Explanation as Explanation
from lossfold.explain.scores import with_leaves
from lossfold.losses.base import Summable
from lossfold.registry import snake_case


def explain(criterion: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Explanation:
    """Call a criterion once more, at scores without a network behind them, and differentiate each term by itself.

    Args:
        criterion: a set, or one loss.
        inputs, named: the arguments of a call. Gradients are taken at the tensors in them that require one, in dicts and lists
            too; where none does, at the first argument, a list of heads as a whole. Halves are taken as float32, in which small
            gradients stay.

    Returns:
        Values, shares, cosines, and the gradients' norms by class, by image and by pixel.

    Raises:
        LossError: what the criterion refuses, and where there is no tensor to take gradients at.
    """
    criterion = criterion if isinstance(criterion, LossSet) else LossSet({snake_case(type(criterion).__name__): criterion})
    with torch.inference_mode(False), torch.enable_grad(), kept(criterion), criterion.alone() if criterion.ranks else nullcontext():
        (inputs, named), leaves = with_leaves(type(criterion).__name__, inputs, named)
        with torch.random.fork_rng([leaf.device for leaf in leaves.values() if leaf.device.type == "cuda"]):
            out = criterion(*inputs, **named)
        slopes = {name: gradients(value, leaves) for name, value in out.weighted.items()}
    values = {name: float(value) for name, value in out.terms.items()}
    weighted = {name: float(value.detach()) for name, value in out.weighted.items()}
    return Explanation.of(values, weighted, slopes)


@contextmanager
def kept(criterion: nn.Module) -> Iterator[None]:
    """Leave buffers as they are, such as moving means, which a call in training moves."""
    before = [(buffer, buffer.clone(), buffer._version) for buffer in criterion.buffers() if not buffer.is_inference()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value, version in before:
                if buffer._version != version:  # others may be held by a graph whose backward is still to come
                    buffer.copy_(value)


def gradients(value: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a term's gradient at each of the tensors, 0 where it does not depend on it."""
    found: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if value.requires_grad:
        found = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
    pairs = zip(leaves.items(), found, strict=True)
    return {path: torch.zeros_like(leaf) if slope is None else slope for (path, leaf), slope in pairs}


Summable.explained = staticmethod(explain)
