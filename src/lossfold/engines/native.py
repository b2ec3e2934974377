"""The compiled library of the cpp engine: loading it, and why it is not there."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

OLDEST_TORCH = (2, 10)
if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
    needed = ".".join(map(str, OLDEST_TORCH))
    raise ImportError(f"lossfold needs torch {needed} or newer, and {torch.__version__} is here: pip install --upgrade torch")

NAMESPACE = "lossfold_r6"
"""Of all operators. It carries a revision, raised whenever a registered shape or gradient changes: ``torch.compile`` keys its disk
cache on the operator's name."""

OPERATORS = getattr(torch.ops, NAMESPACE)
LIBRARY: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
for schema in ("simd_level() -> str", "simd_levels() -> str", "codes() -> str"):
    LIBRARY.define(schema)


def _load() -> str:
    """Load the library; return why there is none, or nothing."""
    library = Path(__file__).parent.parent / "_native.so"
    if not library.exists():
        return "it was not compiled (install with a C++ compiler, torch installed first and --no-build-isolation)"
    try:
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"it does not load: {error}"
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::codes", "CompositeExplicitAutograd"):
        return "it was compiled from other sources than these (install again)"
    try:
        OPERATORS.simd_level()
    except RuntimeError as error:  # what LOSSFOLD_SIMD names is not here: never another level without a word
        raise ImportError(f"lossfold: {error}") from None
    return ""


PROBLEM = _load()
if PROBLEM and os.environ.get("LOSSFOLD_ENGINE") != "eager":  # pip shows nothing of a build that went without the engine
    warnings.warn(
        f"lossfold: the C++ engine is not in this installation: {PROBLEM}. The definitions in plain PyTorch serve on CPUs, slower. "
        "LOSSFOLD_REQUIRE_NATIVE=1 pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation lossfold builds it "
        "or says what is missing; LOSSFOLD_ENGINE=eager says that all is as you want it.",
        stacklevel=2,
    )


def simd_level() -> str:
    """Return the instruction set the kernels use on this processor; ``LOSSFOLD_SIMD`` may name another than the highest."""
    return "none" if PROBLEM else str(OPERATORS.simd_level())


def simd_levels() -> tuple[str, ...]:
    """Return what ``LOSSFOLD_SIMD`` may name on this processor."""
    return () if PROBLEM else tuple(str(OPERATORS.simd_levels()).split())


def check_codes(fold: str, **words: tuple[str, ...]) -> None:
    """Compare the words that operators take as numbers with those of the library: a number is a word's place.

    Raises:
        ImportError: the library means something else by a number, so that its results would be wrong.
    """
    if PROBLEM:
        return
    lines = [line.split() for line in str(OPERATORS.codes()).splitlines()]
    there = {line[0]: tuple(line[1:]) for line in lines}
    for name, here in words.items():
        compiled = there.get(f"{fold}.{name}")
        if compiled != here:
            raise ImportError(f"lossfold: {fold}.{name} is {here} in Python and {compiled} in C++: install again")
