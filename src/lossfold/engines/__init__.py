"""How a fold is computed: which engines there are, and which one serves a call."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from lossfold.engines import cpp, eager
from lossfold.errors import LossError, nearest

NAMES = ("eager", "cpp")


def available() -> tuple[str, ...]:
    """Return the engines that can run in this installation."""
    return NAMES if cpp.LOADED else ("eager",)


def check_name(loss: str, argument: str, name: str | None) -> None:
    """Refuse an engine that lossfold does not have."""
    if name is not None and name not in NAMES:
        raise LossError(loss, argument, "the name of an engine or None", repr(name), nearest(name, NAMES))


def forced(loss: str, wanted: str | None) -> str | None:
    """Return the engine that the option, or else the environment's ``LOSSFOLD_ENGINE``, names."""
    choice = wanted or os.environ.get("LOSSFOLD_ENGINE") or None
    check_name(loss, "LOSSFOLD_ENGINE", choice)
    return choice


def select(loss: str, wanted: str | None, scores: Tensor, *targets: Tensor | None) -> str:
    """Return the engine that serves these tensors.

    Without a choice (``engine=`` or the environment's ``LOSSFOLD_ENGINE``) the fastest one that can; a choice that can't
    serve is an error that says why.
    """
    choice = forced(loss, wanted)
    if choice == "eager":
        return "eager"
    obstacle = cpp_obstacle(scores, *targets)
    if obstacle and choice == "cpp":
        raise LossError(loss, "engine", "one that can serve this call", "'cpp'", obstacle)
    return "eager" if obstacle else "cpp"


def cpp_obstacle(scores: Tensor, *targets: Tensor | None) -> str:
    """Say why the cpp engine can't serve these tensors; empty if it can."""
    if not cpp.LOADED:
        return f"the C++ engine is not in this installation: {cpp.PROBLEM}"
    if scores.device.type not in ("cpu", "meta"):
        return f"the cpp engine runs on CPUs and the scores are on {scores.device}"
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in targets):
        return "the cpp engine gives no gradient to targets and weights"
    if eager.inside_transform():
        return "the cpp engine has no rules for torch.func transforms and forward-mode derivatives"
    return ""
