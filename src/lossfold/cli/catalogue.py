"""``lossfold list``, ``lossfold show NAME`` and ``lossfold show --from PEER.CLASS``: what the registry knows, as text or JSON."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lossfold.config.describe import described, documentation
from lossfold.errors import LossError, nearest
from lossfold.registry import LISTED, LOSSES, PARTS, PRESETS


def plainly(text: str) -> str:
    """Return a documentation without the marks of its format: ``x`` and :class:`~a.X` as x and X, a :: before an example as :."""
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return re.sub(r"``(.+?)``", r"\1", text, flags=re.DOTALL).replace("::\n", ":\n")


def summary(thing: object) -> str:
    """Return the first line of a documentation."""
    return plainly(documentation(thing).partition("\n")[0])


FAMILIES = {
    "classes": "Losses of classes: scores against class indices, or targets of the scores' shape",
    "masks": "Losses of masks: every channel a yes or no of its own",
    "shapes": "Losses of shapes: boundaries, distances, skeletons",
    "matting": "Losses of alpha mattes",
    "images": "Losses of images, and of whatever is predicted with a target of its kind",
    "depth": "Losses of depth and flow",
    "features": "Losses of what frozen networks make of images",
    "adversarial": "Losses of discriminators' outputs, and penalties on gradients",
    "components": "MMagic's components: the same losses, by the names of its configs",
    "sets": "Sets: several losses in one pass",
}
"""The families of lossfold's own losses, as they are listed."""
OTHERS = "plug-ins"


def family(maker: Callable[..., Any]) -> str:
    """Return the folder that a loss stands in; of others' losses, their module."""
    _, *path = maker.__module__.split(".")
    if not maker.__module__.startswith("lossfold."):
        return maker.__module__
    return next((name for name in reversed(path) if name in FAMILIES), "sets")


def listed() -> dict[str, Callable[..., Any]]:
    """Return every loss and preset by its name, family by family."""
    makers: dict[str, Callable[..., Any]] = {**LOSSES, **PRESETS}
    order = [*FAMILIES, *sorted({family(maker) for maker in makers.values()} - set(FAMILIES))]
    return dict(sorted(makers.items(), key=lambda item: (order.index(family(item[1])), item[0])))


def entries(words: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return every loss and preset, or those that say all of these words: name, family, summary. Plug-ins are not imported."""
    found = [{"name": name, "family": family(maker), "summary": summary(maker)} for name, maker in listed().items()]
    found += [{"name": name, "family": OTHERS, "summary": f"of {where}"} for name, where in LOSSES.plugins().items()]
    return [one for one in found if all(word.lower() in " ".join(one.values()).lower() for word in words)]


def show_losses(words: Sequence[str] = (), as_json: bool = False, as_markdown: bool = False, unicode: bool = True) -> int:
    """Print every loss, or those that say all of these words, with the first line of its documentation, by family."""
    if as_markdown:
        from lossfold.cli.supports import table  # which reads this list

        if words:
            raise LossError("lossfold list", "words", "left out with --markdown, which tells of all", " ".join(words))
        print(table())
        return 0
    losses = entries(words)
    if not losses:
        hint = nearest(words[0], [*LOSSES, *PRESETS], "fewer words find more")
        raise LossError("lossfold list", "words", "together in the name, family or summary of a loss", " ".join(words), hint)
    if as_json:
        print(json.dumps(losses, indent=2, ensure_ascii=not unicode))
        return 0
    width = max(len(one["name"]) for one in losses)
    for heading in dict.fromkeys(one["family"] for one in losses):
        print(f"\n{FAMILIES.get(heading, heading)}")
        for one in losses:
            if one["family"] == heading:
                print(f"  {one['name']:<{width}}  {one['summary']}")
    return 0


def maker_of(name: str) -> Callable[..., Any]:
    """Return a loss class, a preset, :class:`Term` or a schedule by its name."""
    if name in LOSSES:
        return LOSSES[name]
    others = {**PRESETS, **PARTS}
    if name in others:
        return others[name]
    hint = nearest(name, [*LOSSES, *others], LISTED)
    raise LossError("lossfold show", "name", "that of a loss, a preset or a schedule", repr(name), hint)


def forward_of(maker: Callable[..., Any]) -> str:
    """Return what a loss is called with and what that returns, "" where its class does not say."""
    forward = getattr(maker, "forward", None)
    if not isinstance(maker, type) or maker in PARTS.values() or forward in (None, nn.Module.forward):
        return ""
    owners = maker.__mro__[: maker.__mro__.index(nn.Module)] if nn.Module in maker.__mro__ else maker.__mro__
    texts = [vars(owner)["forward"].__doc__ for owner in owners if "forward" in vars(owner)]
    called = str(inspect.signature(forward)).replace("'", "").replace("(self, ", "(", 1)
    return f"\nCalled with {called}:\n{inspect.cleandoc(next(filter(None, texts), ''))}".rstrip()


def show_peer(name: str) -> int:
    """Print what another library's loss is here: ``monai.DiceCELoss``; of all libraries for ``DiceCELoss``, all for ``monai``."""
    from lossfold.migrate import PEERS, find, rows_named

    peers = [peer for peer in PEERS.values() if name == peer.name or name in peer.modules[:1]]
    rows = [row for peer in peers for row in peer.rows] or rows_named(name) or [find(name)]
    print("\n\n".join(map(str, rows)))
    for peer in PEERS.values():
        if set(peer.rows) & set(rows):
            print(f"\n{peer.name}: {peer.facts}")
    return 0


def show(name: str, plot: str = "") -> int:
    """Print one loss: formula, options with kinds and defaults, call, shapes; draw value and gradient into a file."""
    from lossfold.cli.plot import check_name, draw, drawable

    maker = maker_of(name)
    if plot:
        check_name(plot)
    before, _, rest = documentation(maker).partition("\nArgs:\n")
    after = re.split(r"\n(?=\S)", rest, maxsplit=1)[1:] if rest else []
    where = f"; lossfold.presets.{name}" * str(maker.__module__).startswith("lossfold.presets")
    print(f"{name} ({family(maker)}{where})\n\n{plainly(before.strip())}\n\nOptions:")
    for option in described(maker):
        print(f"    {option}" + (f"\n        {plainly(option.meaning)}" if option.meaning else ""))
    call = plainly(forward_of(maker))
    print(call + "\n" * bool(call), end="")
    print(plainly("".join(f"\n{part}" for part in after)))
    if plot:
        print(f"Value and gradient over {draw(name, maker, plot)}: {plot}")
    elif drawable(maker):
        print(f"lossfold show {name} --plot FILE.png draws its value and gradient.")
    return 0
