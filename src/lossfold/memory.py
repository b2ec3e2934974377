"""What a loss remembers of a call, for calls that are like it: for small inputs, finding things out costs more than using them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Found = TypeVar("Found")
Known = dict[Any, Any]
MOST = 256  # kinds of calls that one loss remembers: images of as many sizes


class Memory:
    """What has been found out under a loss's options; no copy of the loss takes it along, and changed options begin another.

    Args:
        keeps: whether anything is remembered: not of a class of somebody else's, which may go by more than options.
    """

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self.known: Known = {}

    def __reduce__(self) -> Any:
        return Memory, (self.keeps,)

    def of(self, like: Any) -> Known | None:
        """Return what is known of calls that have something in common; None if that is None, and in compiled code."""
        if like is None or not self.keeps or torch.compiler.is_compiling():
            return None
        known = self.known.get(like)
        if known is None:
            if len(self.known) >= MOST:
                self.known.clear()
            known = self.known[like] = {}
        return known


def recall(known: Known | None, key: Any, find: Callable[..., Found], *given: Any) -> Found:
    """Return what is known by a key, or find it of what is given, and keep it if there is a place for it."""
    if known is None:
        return find(*given)
    try:
        return known[key]  # type: ignore[no-any-return]
    except KeyError:
        found = find(*given)
    if not is_captured():  # what is written into a CUDA graph is there once the graph is replayed
        known[key] = found
    return found


CAPTURED: dict[int, Any] = {}
"""What CUDA graphs read whenever they are replayed, by its id: they outlive what is remembered."""


def lasting(known: Known | None, tensor: Any) -> Known | None:
    """Return what is known of calls on a tensor's device; for good, if a CUDA graph is being captured."""
    if known is not None and getattr(tensor, "is_cuda", False) and is_captured():
        CAPTURED[id(known)] = known
    return known


def is_captured() -> bool:
    """Whether what is launched now goes into a CUDA graph."""
    return bool(torch._C._cuda_isCurrentStreamCapturing()) if torch.cuda.is_initialized() else False  # type: ignore[no-untyped-call]
