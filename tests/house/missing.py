"""What a registered loss still lacks: the places that a new one has to be named in, found by looking."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import lossfold as lf
from lossfold.functional import snake_case

ROOT = Path(__file__).parents[2]
STUB = ROOT / "src" / "lossfold" / "functional.pyi"


def missing(names: Iterable[str]) -> list[str]:
    """A line for each thing that a loss lacks, with what to do."""
    exported = (ROOT / "src" / "lossfold" / "__init__.py").read_text()
    stub, texts = STUB.read_text(), "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")))
    found = []
    for name in names:
        cls = lf.LOSSES[name]
        as_function = cls.__module__ != "lossfold.losses.adversarial.components" and name not in (
            "LossSet",
            "GeneratorPathRegularizer",
        )
        if f"import {name} as {name}\n" not in exported:
            found.append(f"{name}: export it in src/lossfold/__init__.py")
        if as_function and f"def {snake_case(name)}(" not in stub:
            found.append(f"{name}: run `make stubs`")
        if name not in texts:
            found.append(f"{name}: give it a row in the README or in docs/")
        if not (cls.__doc__ or "").strip() or (as_function and "Example" not in (cls.__doc__ or "")):
            found.append(f"{name}: say what it is, with an example, in its docstring")
    return found
