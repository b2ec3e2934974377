"""Random numbers that are the same in two passes over the parts of a batch: dropout that falls alike."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossfold.errors import wrong


class State(NamedTuple):
    """Where the generators of the CPU and of all devices are."""

    cpu: Tensor
    devices: list[Tensor]

    @classmethod
    def now(cls) -> State:
        """Return where they are."""
        accelerator = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if accelerator else [])

    def restore(self) -> None:
        """Bring them back there."""
        torch.set_rng_state(self.cpu)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)


class Randomness:
    """Brings the generators back to where they were before each part of the first pass."""

    def __init__(self, rng: bool, parts: int | None) -> None:
        if not isinstance(rng, bool):
            raise wrong("rng", "True or False", repr(rng))
        whole = isinstance(parts, int) and not isinstance(parts, bool) and parts > 0
        if (parts is not None and not whole) or (rng and parts is None):
            hint = "the second pass begins after the last of them"
            raise wrong("parts", "how many parts there are, with rng=True", repr(parts), hint)
        self.parts = parts if rng else None
        self.states = [State.now()] if rng else []

    def after_add(self, number: int) -> None:
        """Keep where the next part begins; after the last, go back to the first."""
        if self.parts is None:
            return
        if number > self.parts:
            raise wrong("add()", f"called for {self.parts} parts", str(number))
        self.states.append(State.now())
        if number == self.parts:
            self.states[0].restore()

    def after_share(self, number: int) -> None:
        """Go to where the next part began."""
        if self.parts is not None:
            self.states[number].restore()
