"""The compiled library of the cpp engine: loading it, and why it is not there."""

from __future__ import annotations

from pathlib import Path

import torch

NAMESPACE = "lossfold_r5"
"""Of all operators. It carries a revision, raised whenever a registered shape or gradient changes: ``torch.compile`` keys its disk
cache on the operator's name."""

OPERATORS = getattr(torch.ops, NAMESPACE)
LIBRARY = torch.library.Library(NAMESPACE, "DEF")
LIBRARY.define("simd_level() -> str")
LIBRARY.define("codes() -> str")


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
    return ""


PROBLEM = _load()


def simd_level() -> str:
    """Return the instruction set the kernels use on this processor."""
    return "none" if PROBLEM else str(OPERATORS.simd_level())


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
