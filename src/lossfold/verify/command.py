"""The command line of ``lossfold verify``."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lossfold.errors import LossError
from lossfold.registry import LOSSES, PRESETS
from lossfold.verify import PROPERTIES, check
from lossfold.verify.inputs import KINDS


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    options = argparse.ArgumentParser(
        prog="lossfold verify",
        description="Hold a loss against the contract: what breaks, in plain words, with the smallest input that shows it.",
    )
    options.add_argument(
        "loss", help="package.module:MyLoss, path/to/file.py:MyLoss, or the name of a loss here; a class or a function"
    )
    options.add_argument("options", nargs="*", metavar="NAME=VALUE", help="options of the class: ignore_index=255 gamma=2.0")
    options.add_argument("--kind", choices=list(KINDS), help="what it is called with; found out by trying")
    options.add_argument("--classes", type=int, default=3, help="number of classes or channels (3)")
    options.add_argument("--only", nargs="+", metavar="PROPERTY", choices=list(PROPERTIES), help=f"of: {', '.join(PROPERTIES)}")
    options.add_argument(
        "--skip", nargs="+", metavar="PROPERTY", choices=list(PROPERTIES), default=[], help="properties not to ask"
    )
    return options


def main(argv: Sequence[str]) -> int:
    """Verify a loss; return 0 if everything that was asked holds, 1 if something broke."""
    given = parser().parse_args(argv)
    options = {}
    for pair in given.options:
        name, sign, text = pair.partition("=")
        if not sign:
            raise LossError("lossfold verify", "options", "NAME=VALUE", repr(pair))
        options[name] = value_of(text)
    report = check(loss_of(given.loss), options, kind=given.kind, classes=given.classes, only=given.only, skip=given.skip)
    print(report)
    return 0 if report.ok else 1


def value_of(text: str) -> Any:
    """Return a value as Python would read it, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def loss_of(name: str) -> Callable[..., Any]:
    """Import a loss.

    Raises:
        LossError: there is no such module, or nothing of that name in it.
    """
    place, sign, attribute = name.rpartition(":")
    if not sign:
        known: dict[str, Callable[..., Any]] = {**LOSSES, **PRESETS}
        if name in known:
            return known[name]
        raise LossError("lossfold verify", "loss", "package.module:MyLoss or path/to/file.py:MyLoss", repr(name))
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise LossError("lossfold verify", "loss", "a file that exists", repr(place))
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[Path(place).stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, "")  # as python -m does
        try:
            module = importlib.import_module(place)
        except ImportError as error:
            raise LossError("lossfold verify", "loss", "a module that can be imported", repr(place), str(error)) from error
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise LossError("lossfold verify", "loss", f"a name in {place}", repr(attribute)) from None
    if not callable(found):
        raise LossError("lossfold verify", "loss", "a class or a function", type(found).__name__)
    return found  # type: ignore[no-any-return]
