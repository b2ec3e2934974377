"""``lossfold list`` and ``lossfold show NAME``: what the registry knows, as text or JSON."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from lossfold.config.describe import described
from lossfold.errors import LossError, nearest
from lossfold.registry import LOSSES, PRESETS


def summary(thing: object) -> str:
    """Return the first line of a documentation."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def family(maker: Callable[..., Any]) -> str:
    """Return the name of the file that a loss stands in; of others' losses, their module."""
    module = maker.__module__
    return module.rpartition(".")[2] if module.startswith("lossfold.") else module


def entries() -> list[dict[str, str]]:
    """Return every loss and preset: name, family, summary. Plug-ins are named without being imported."""
    makers: dict[str, Callable[..., Any]] = {**LOSSES, **PRESETS}
    found = [{"name": name, "family": family(maker), "summary": summary(maker)} for name, maker in makers.items()]
    return found + [{"name": name, "family": "plug-ins", "summary": f"of {where}"} for name, where in LOSSES.plugins().items()]


def show_losses(as_json: bool = False) -> int:
    """Print every loss with the first line of its documentation, by family."""
    losses = entries()
    if as_json:
        print(json.dumps(losses, indent=2, ensure_ascii=False))
        return 0
    width = max(len(one["name"]) for one in losses)
    for heading in dict.fromkeys(one["family"] for one in losses):
        module = next((sys.modules.get(maker.__module__) for maker in LOSSES.values() if family(maker) == heading), None)
        print(f"\n{heading}" + (f": {summary(module)}" if module else ""))
        for one in losses:
            if one["family"] == heading:
                print(f"  {one['name']:<{width}}  {one['summary']}")
    return 0


def maker_of(name: str) -> Callable[..., Any]:
    """Return a loss class or a preset by its name."""
    if name in LOSSES:
        return LOSSES[name]
    if name in PRESETS:
        return PRESETS[name]
    raise LossError("lossfold show", "name", "that of a loss or a preset", repr(name), nearest(name, [*LOSSES, *PRESETS]))


def show(name: str, plot: str = "") -> int:
    """Print one loss: formula, options with kinds and defaults, call, shapes; draw value and gradient into a file."""
    maker = maker_of(name)
    documentation = inspect.getdoc(maker) or ""
    before, _, rest = documentation.partition("\nArgs:\n")
    after = re.split(r"\n(?=\S)", rest, maxsplit=1)[1:] if rest else []
    print(f"{name} ({family(maker)})\n\n{before.strip()}\n\nOptions:")
    for option in described(maker):
        print(f"    {option}" + (f"\n        {option.meaning}" if option.meaning else ""))
    if isinstance(maker, type):
        print(f"\nCalled with {inspect.signature(maker.forward)}:\n{inspect.getdoc(maker.forward)}")  # type: ignore[attr-defined]
    print("".join(f"\n{part}" for part in after))
    if plot:
        from lossfold.cli.plot import draw

        print(f"Value and gradient over {draw(name, maker, plot)}: {plot}")
    else:
        print(f"lossfold show {name} --plot FILE.png draws its value and gradient.")
    return 0
