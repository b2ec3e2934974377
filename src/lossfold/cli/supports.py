"""What each loss can have, read from its options and from calls with tensors that hold no numbers: ``lossfold list --markdown``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.cli.catalogue import FAMILIES, family, listed, summary
from lossfold.compose.loss_set import LossSet
from lossfold.losses.folded import Folded
from lossfold.routing import arguments_of
from lossfold.signatures import options_of

COLUMNS = (
    "ignored labels",
    "pixel weights",
    "class weights",
    "each image",
    "3-D",
    "label resolution",
    "ranks and parts",
    "kernels",
)
WEIGHTS = ("weight", "mask", "region")


def columns(maker: Callable[..., Any]) -> dict[str, bool]:
    """Return for each of :data:`COLUMNS` whether a loss has it; nothing for a function that makes a set."""
    if not isinstance(maker, type) or not issubclass(maker, nn.Module):
        return {}
    loss, options = sample(maker), options_of(maker)
    arguments = taken(maker, loss)
    answers = (
        "ignore_index" in options,
        any(name in arguments for name in WEIGHTS),
        "class_weight" in options,
        bool({"per_image", "sample_wise"} & set(options)),
        accepts(loss, volume=True),
        "logits" in arguments and accepts(loss, volume=False, label_side=8),
        in_parts(loss),
        all(isinstance(one, Folded) and has_kernels(one) for one in leaves(loss)),
    )
    return dict(zip(COLUMNS, answers, strict=True))


def has_kernels(loss: Folded) -> bool:
    """Whether another engine than plain PyTorch may be chosen."""
    return "cpp" in getattr(loss.kinds.get("engine"), "among", ())


def sample(maker: type[nn.Module]) -> nn.Module | None:
    """Return a loss without options, or with those that its tests take first; None if it needs a network."""
    for options in ({}, *getattr(maker, "samples", ())):
        try:
            return maker(**options)
        except (TypeError, ValueError):
            continue
    return None


def leaves(loss: nn.Module | None) -> list[nn.Module | None]:
    """Return the losses of a set, or the one."""
    return [leaf.loss for leaf in loss.leaves()] if isinstance(loss, LossSet) else [loss]


def taken(maker: type[nn.Module], loss: nn.Module | None) -> set[str]:
    """Return the names of the arguments that a loss, or every loss of a set, takes."""
    found = [set(arguments_of(type(one).forward)) for one in leaves(loss) if one is not None]
    return set.intersection(*found) if found else set(arguments_of(maker.forward))


def in_parts(loss: nn.Module | None) -> bool:
    """Whether ranks and parts of a batch add up to the loss of the whole."""
    found = leaves(loss)
    return bool(found) and all(getattr(one, "in_one_part", "no loss of lossfold") == "" for one in found)


def accepts(loss: nn.Module | None, volume: bool, label_side: int = 0) -> bool:
    """Whether it can be called with volumes, or with labels of another size than the scores."""
    side = max(16, getattr(loss, "smallest_side", 0))
    space = (side,) * (3 if volume else 2)
    return loss is not None and any(
        works(loss, inputs) for inputs in calls(loss, space, (label_side,) * 2 if label_side else space)
    )


def calls(loss: nn.Module, space: tuple[int, ...], label_space: tuple[int, ...]) -> Iterable[tuple[Tensor, ...]]:
    """Yield what a loss may be called with."""
    names = [name for name, required in arguments_of(type(loss).forward).items() if required]
    if names == ["logits", "labels"] or not names:
        labels = torch.zeros(1, *label_space, dtype=torch.int64, device="meta")
        yield torch.zeros(1, 2, *space, device="meta"), labels
        yield torch.zeros(1, 1, *space, device="meta"), labels[:, None]
    if names != ["logits", "labels"]:
        for channels in (1, 3):
            yield tuple(torch.zeros(1, channels, *space, device="meta") for _ in names or ("pred", "target"))


def works(loss: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a call is not refused."""
    try:
        loss(*inputs)
    except Exception:  # whatever says no
        return False
    return True


def table() -> str:
    """Return the losses as Markdown: for each family what its losses are, and what they have."""
    parts = []
    for key, title in FAMILIES.items():
        chosen = {name: maker for name, maker in listed().items() if family(maker) == key}
        if not chosen:
            continue
        lines = [f"## {title}", "", "| loss | what it is |", "|---|---|"]
        lines += [f"| `{name}` | {cell(maker)} |" for name, maker in chosen.items()]
        having = {name: has for name, maker in chosen.items() if any((has := columns(maker)).values())}
        if having:
            lines += ["", "| loss | " + " | ".join(COLUMNS) + " |", "|---" + "|:-:" * len(COLUMNS) + "|"]
            lines += [f"| `{name}` | " + " | ".join("✓" if has[c] else "–" for c in COLUMNS) + " |" for name, has in having.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def cell(maker: Callable[..., Any]) -> str:
    """Return what it is, as Markdown in a table."""
    return summary(maker).replace("|", "\\|").replace("``", "`")
