"""A page for each loss, written from the registry before Sphinx reads: formula, options, what it has, pictures, failures, peers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loss_scenes import pulls
from torch import nn

from lossfold.cli.catalogue import FAMILIES, family, forward_of, listed
from lossfold.cli.plot import draw, drawable
from lossfold.cli.supports import columns
from lossfold.config.describe import described, documentation
from lossfold.migrate import PEERS

FOLDER = Path(__file__).parent / "generated"
REFERENCES = ("CrossEntropyLoss", "DiceLoss", "BinaryCrossEntropyLoss", "L1Loss", "PerceptualLoss", "GANLoss", "Term", "LossSet")
"""Whose documentation says what an option means where a loss's own does not."""
SECTION = re.compile(r"^(Raises|Returns|References?|Example|Gradient|Note|Yields):$")
SMALL = {
    "loss_weight": "A factor on the result; `0.5 * loss` multiplies it.",
    "name": "",
    "target_is_real": "What the input is held against.",
}


def setup(app: Any) -> dict[str, Any]:
    """Let Sphinx call :func:`write` when a build begins."""
    app.connect("builder-inited", lambda app: write(pictures=app.config.loss_pictures))
    app.add_config_value("loss_pictures", True, "env", (bool,))
    return {"parallel_read_safe": True}


def write(pictures: bool = True) -> None:
    """Write every page and the list of them."""
    FOLDER.mkdir(exist_ok=True)
    makers = listed()
    meanings = known_meanings(makers)
    pages: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for name, maker in makers.items():
        page(name, maker, meanings, pictures)
        pages[family(maker)].append(name)
    for name, title in FAMILIES.items():
        if pages[name]:
            tree = "\n".join(pages[name])
            save(FOLDER / f"{name}.md", f"# {title.partition(':')[0]}\n\n{title}.\n\n```{{toctree}}\n:maxdepth: 1\n\n{tree}\n```\n")
    examples()
    tree = "\n".join(name for name in FAMILIES if pages[name])
    save(FOLDER / "index.md", f"# A page for each loss\n\n```{{toctree}}\n:maxdepth: 2\n\n{tree}\n```\n")


def examples() -> None:
    """Write the programs of `examples/` onto one page; the tests run them."""
    parts = ["# Programs", "`examples/` of the sources; each runs as it stands."]
    for file in sorted((Path(__file__).parent.parent / "examples").glob("*.py")):
        if file.stem != "__init__":
            parts.append(
                f"## {file.stem.replace('_', ' ')}\n\n```{{literalinclude}} ../../examples/{file.name}\n:language: python\n```"
            )
    save(FOLDER / "examples.md", "\n\n".join(parts) + "\n")


def save(path: Path, text: str) -> None:
    """Write what has changed, so that Sphinx reads only that again."""
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def known_meanings(makers: dict[str, Callable[..., Any]]) -> dict[str, dict[str, str]]:
    """Return of every loss what its documentation says of its options."""
    return {name: {option.name: option.meaning for option in described(maker)} for name, maker in makers.items()}


def meaning_of(name: str, option: str, meanings: dict[str, dict[str, str]]) -> str:
    """Return what an option means, written out where the documentation refers to another loss."""
    own = meanings.get(name, {}).get(option, "")
    other = re.match(r"as (?:for|of|in) (\w+)", own)
    for source in ([other[1]] if other else []) + ([] if own and not other else [*REFERENCES, *meanings]):
        text = meanings.get(source, {}).get(option, "")
        if text and not re.match(r"as (?:for|of|in) \w+", text):
            return text + (own[other.end() :].replace(".", "", 1) if other else "")
    return own or SMALL.get(option, "")


def page(name: str, maker: Callable[..., Any], meanings: dict[str, dict[str, str]], pictures: bool) -> None:
    """Write a loss's page."""
    before, _, rest = documentation(maker).partition("\nArgs:\n")
    after = re.split(r"\n(?=\S)", rest, maxsplit=1)[1:] if rest else []
    first, _, more = before.strip().partition("\n")
    parts = [f"# {name}", markdown(first), markdown(more)]
    if pictures:
        parts += drawn(name, maker)
    parts += ["## Options", options(name, maker, meanings)]
    call = forward_of(maker)
    if call:
        plain = call.strip().replace("``", "").replace("(self, ", "(").replace("'", "")
        parts += ["## Call", f"```text\n{plain}\n```"]
    has = columns(maker)
    if has:
        parts += ["## What it has", "| " + " | ".join(has) + " |\n" + "|:-:" * len(has) + "|"]
        parts[-1] += "\n| " + " | ".join("✓" if one else "–" for one in has.values()) + " |"
    parts += ["## Where it fails", failure_of(name, maker)]
    peers = peers_of(name)
    if peers:
        parts += ["## In other libraries", peers]
    for section in after:
        parts.append(markdown(section))
    save(FOLDER / f"{name}.md", "\n\n".join(part for part in parts if part.strip()) + "\n")


def markdown(text: str) -> str:
    """Return documentation as Markdown: roles and double quotes as code, sections as headings, examples and formulas as blocks."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")
    lines: list[str] = []
    block = ""
    for line in text.splitlines():
        heading = SECTION.match(line)
        if heading:
            lines += [*closed(block), "", f"## {heading[1]}", ""]
            block = ""
            continue
        indented = line.startswith("    ")
        if indented and not block:
            code = line.strip().startswith(">>>")
            block = "```python" if code else "plain" if lines[-2:-1] and lines[-2].startswith("## ") else "```text"
            lines += [] if block == "plain" else ["", block]
        elif block and line.strip() and not indented:
            lines += closed(block)
            block = ""
        lines.append(line[4:] if indented else re.sub(r"::$", ":", line))
    return "\n".join([*lines, *closed(block)])


def closed(block: str) -> list[str]:
    """Return the end of a block of code."""
    return ["```", ""] if block.startswith("```") else []


def options(name: str, maker: Callable[..., Any], meanings: dict[str, dict[str, str]]) -> str:
    """Return the options with their defaults, a line each."""
    lines = []
    for option in described(maker):
        kind = str(option).partition(": ")[2]
        kind = kind if option.required else kind.rpartition(" = ")[0]
        default = ", required" if option.required else f" = `{option.default!r}`"
        text = re.sub(r"^([>+-])", r"\\\1", meaning_of(name, option.name, meanings).replace("\n", " "))
        lines.append(f"- **`{option.name}`**: `{kind}`{default}" + f"  \n  {text}" * bool(text))
    return "\n".join(lines) or "None."


def drawn(name: str, maker: Callable[..., Any]) -> list[str]:
    """Draw value and gradient, and where it pulls on a real image; return what shows the pictures."""
    found = []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        file = FOLDER / f"{name}_curve.png"
        if file.is_file() or drawable(maker):
            if not file.is_file():
                draw(name, maker, str(file))
            found.append(f"![Value and gradient of {name} as one prediction changes]({file.name})")
        file = FOLDER / f"{name}_pull.png"
        is_loss = isinstance(maker, type) and issubclass(maker, nn.Module)
        if file.is_file() or (is_loss and pulls(name, maker, file)):
            found.append(f"![Where {name} pulls on a real image: image, prediction, gradient]({file.name})")
    return found


def failure_of(name: str, maker: Callable[..., Any]) -> str:
    """Return what `failures.md` says of a loss, or else of its family."""
    text = (Path(__file__).parent / "failures.md").read_text("utf-8")
    known = dict(re.findall(r"^##+ (\w+)\n\n(.+?)\n(?=\n|$)", text, flags=re.M | re.S))
    return known.get(name) or known[family(maker)]


def peers_of(name: str) -> str:
    """Return what other libraries call it."""
    lines = []
    for peer in PEERS.values():
        for row in peer.rows:
            if name in row.ours:
                way = next(way for way in row.ways if re.search(rf"\b{name}\(", way.ours))
                differs = (way.differs or "equal, value and gradient").replace("|", "\\|")
                calls = " | ".join(f"`{call}`".replace("|", "\\|") for call in (way.theirs, way.ours))
                lines.append(f"| {peer.name} | {calls} | {differs} |")
    return "\n".join(["| library | there | here | differs |", "|---|---|---|---|", *lines]) if lines else ""
