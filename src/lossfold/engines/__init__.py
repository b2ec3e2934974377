"""How a fold is computed: which engines there are, and which one serves a call."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossfold.engines import native as native
from lossfold.engines import triton as triton
from lossfold.engines.transforms import inside_transform, is_active
from lossfold.errors import nearest, wrong

MOST_PLACES = (1 << 31) - (1 << 20)
"""Of an image or a volume, where programs count them."""
Lacks = Callable[[str], str]
"""What a fold says of a call: given the name of an engine, what the call needs and the engine lacks; nothing if it has all."""

VARIABLE = "LOSSFOLD_ENGINE"
KEY = os.fsencode(VARIABLE) if os.name == "posix" else VARIABLE
"""Of the environment's variable that names an engine, and as the dict in os.environ has it."""


@dataclass(frozen=True)
class Engine:
    """What computes folds.

    Attributes:
        name: what users call it.
        problem: says why it is not in this installation; nothing if it is.
        devices: whose tensors it serves, in words and as torch names them; None for all, by the definitions in plain PyTorch. Every
            other engine implements the operators, and PyTorch's dispatcher goes by the device from there.
        here: whether one of its devices is in this machine.
        doubles: whether it computes in float64.
        launches: whether each small operation on what it has collected is a launch of its own.
        once: whether it has the operators that give value and gradient in one pass.
    """

    name: str
    problem: Callable[[], str]
    devices: tuple[str, tuple[str, ...]] | None = None
    here: Callable[[], bool] = lambda: True
    doubles: bool = True
    launches: bool = False
    once: bool = False

    def obstacle(self, scores: Tensor, targets: tuple[Tensor | None, ...], lacks: Lacks | None) -> str:
        """Say why it can't serve these tensors; nothing if it can."""
        if self.devices is None:
            return ""
        problem = self.problem()
        if problem:
            return problem
        words, devices = self.devices
        if scores.device.type not in devices:
            return f"the {self.name} engine runs on {words} and the scores are on {scores.device}"
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in targets):
            return f"the {self.name} engine gives no gradient to targets and weights"
        if inside_transform():
            return f"the {self.name} engine has no rules for torch.func transforms and forward-mode derivatives"
        if self.launches and math.prod(scores.shape[2:]) > MOST_PLACES:
            return f"the {self.name} engine counts an image's places in 32 bits, and the scores are {list(scores.shape)}"
        if not self.doubles and scores.dtype == torch.float64:
            return f"the {self.name} engine computes in float32, and the scores are float64"
        lacking = lacks(self.name) if lacks is not None else ""
        return lacking and f"the {self.name} engine does not have {lacking}"

    def among(self, eager: Any, operators: Any) -> Any:
        """Return what it runs: a fold in plain PyTorch, or its operators; their functions are the same."""
        return eager if self.devices is None else operators


def _no_library() -> str:
    if triton.SERVES_CPUS:
        return "LOSSFOLD_ENGINE=triton and TRITON_INTERPRET=1 have handed the CPU's tensors to the triton engine"
    return f"the C++ engine is not in this installation: {native.PROBLEM}" if native.PROBLEM else ""


TABLE = (
    Engine("cpp", _no_library, ("CPUs", ("cpu", "meta")), once=True),
    Engine("triton", triton.problem, triton.DEVICES, triton.here, doubles=False, launches=True, once=True),
    Engine("eager", str),
)
"""From the fastest on; the first that can serve a call does."""
NAMES = tuple(engine.name for engine in reversed(TABLE))


def _running() -> list[Engine]:
    return [engine for engine in TABLE if not engine.problem() and engine.here()]


def available() -> tuple[str, ...]:
    """Return the engines that can run in this installation on this machine."""
    return tuple(engine.name for engine in reversed(_running()))


def serving() -> str:
    """Say which engine serves what in this installation: "cpp on CPUs, eager elsewhere"."""
    *special, last = _running()
    words = [f"{engine.name} on {engine.devices[0]}" for engine in special if engine.devices is not None]
    return ", ".join([*words, f"{last.name} elsewhere" if words else last.name])


def with_one_pass(wanted: str | None) -> str:
    """Say on which of these engines one pass can give value and gradient: "cpp"."""
    choice = forced(wanted)
    return ", ".join(engine.name for engine in _running() if engine.once and choice in (None, engine.name))


def check_name(argument: str, name: str | None) -> None:
    """Refuse an engine that lossfold does not have."""
    if name is not None and name not in NAMES:
        raise wrong(argument, "the name of an engine or None", repr(name), nearest(name, NAMES))


def forced(wanted: str | None) -> str | None:
    """Return the engine that the option, or else the environment's ``LOSSFOLD_ENGINE``, names."""
    choice = wanted or os.environ.get(VARIABLE) or None
    check_name(VARIABLE, choice)
    return choice


def variable() -> object:
    """Return what the environment's ``LOSSFOLD_ENGINE`` holds, at a tenth of what os.environ.get() takes where there is none."""
    inside = getattr(os.environ, "_data", None)
    return os.environ.get(VARIABLE) if inside is None else inside.get(KEY)


def surroundings() -> tuple[object, ...]:
    """Return what :func:`select` goes by beside tensors and the choice of a loss, outside of compiled code."""
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), is_active(), variable()


def select(wanted: str | None, scores: Tensor, *targets: Tensor | None, lacks: Lacks | None = None) -> Engine:
    """Return the engine that serves these tensors, and has what a fold needs.

    Without a choice (``engine=`` or the environment's ``LOSSFOLD_ENGINE``) the fastest one that can; a choice that can't
    serve is an error that says why.
    """
    choice = forced(wanted)
    for engine in TABLE:
        if choice not in (None, engine.name):
            continue
        obstacle = engine.obstacle(scores, targets, lacks)
        if not obstacle:
            return engine
        if choice:
            raise wrong("engine", "one that can serve this call", repr(choice), obstacle)
    raise AssertionError("the last engine serves everything")
