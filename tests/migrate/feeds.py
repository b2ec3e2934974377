"""What the two sides of a row of the table are called with, and their values and gradients."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.migrate import PEERS, Row, Way, rows
from tests.migrate import oracles

FLOATS = {"smp.LovaszLoss", "toolbelt.LovaszLoss", "toolbelt.BinaryLovaszLoss", "mmseg.LovaszLoss"}
"""Classes that take float32 alone."""
SINGLE = {"monai.FocalLoss", "monai.DiceFocalLoss", "monai.GeneralizedDiceLoss", "monai.GeneralizedDiceFocalLoss", "monai.SSIMLoss"}
SINGLE |= {"torchmetrics.PeakSignalNoiseRatio", "torchmetrics.MeanIoU", "torchmetrics.DiceScore"}
"""Classes that compute in float32 whatever they are given."""
C = 4


def compared() -> list[tuple[str, Row, Way]]:
    """Every way whose two sides can be run here, with a name for the test."""
    return [
        (f"{row.name}-{index}", row, way)
        for peer in PEERS.values()
        for row in peer.rows
        for index, way in enumerate(row.ways)
        if way.run
    ]


def inputs(row: Row, way: Way) -> dict[str, Any]:
    """Random inputs by the names that rows have for them; of class 3 there are no pixels, of class 2 none in the first image."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    binary = way.inputs == rows.BINARY
    logits = 3 * torch.randn(2, 1 if binary else C, 12, 10, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2 if binary else 3, (2, 12, 10), generator=generator)
    labels[0][labels[0] == 2] = 1
    one_hot = (labels[:, None] == torch.arange(C).view(1, -1, 1, 1)).double()
    ignored = labels.masked_fill(random(2, 12, 10) < 0.2, 255)
    side = 176 if "MultiScale" in row.name else 24
    target = random(2, 3, side, side)
    predicted = torch.randint(0, C, (2, 12, 10), generator=generator)
    found = {
        "logits": logits.float() if row.name in FLOATS else logits,
        "labels": labels,
        "masks": one_hot.float() if row.name in FLOATS else one_hot,
        "one_hot": one_hot,
        "ignored": ignored,
        "predicted": predicted,
        "one_hot_predicted": functional.one_hot(predicted, C).movedim(-1, 1).double(),
        "pred": target + torch.tensor([0.1, 0.4]).view(2, 1, 1, 1) * (random(2, 3, side, side) - 0.5),
        "target": target,
        "w": random(2, 1, side, side) if way.inputs == rows.IMAGES else random(2, 12, 10),
        "mask": (random(2, 1, side, side) < 0.3).double(),
        "score": torch.randn(2, 1, 5, 5, generator=generator, dtype=torch.float64),
        "C": C,
        "B": 2,
        "share": float((ignored != 255).double().mean()),
        "torch": torch,
    }
    found |= dict(zip(("alpha", "fg", "bg", "merged"), (random(2, 1 + 2 * (i > 0), 6, 5) for i in range(4)), strict=True))
    return found


def arguments(way: Way, given: dict[str, Any], text: str, channel: bool) -> tuple[Tensor, ...]:
    """What a loss is called with where its row does not say it; ``channel`` where labels have one there."""
    labels = given["ignored"] if "255" in text else given["labels"]
    if way.inputs == rows.BINARY:
        dense = "ovasz" not in text and "BoundaryLoss" not in text
        return given["logits"], labels[:, None] if dense else labels
    by_inputs = {
        rows.LABELS: (given["logits"], labels[:, None] if channel else labels),
        rows.MASKS: (given["logits"], given["masks"]),
        rows.ONE_HOT: (given["logits"], given["one_hot"]),
        rows.IMAGES: (given["pred"], given["target"]),
    }
    return by_inputs.get(way.inputs, (given["alpha"], given["fg"], given["bg"], given["merged"]))


def run(text: str, names: dict[str, Any], row: Row, way: Way, ours: bool) -> tuple[Tensor, Tensor | None]:
    """Return value and gradient of one side."""
    given = inputs(row, way)
    lead = {rows.IMAGES: "pred", rows.CRITIC: "score"}.get(way.inputs, "logits")
    lead = "alpha" if "merged" in way.inputs else lead
    given[lead] = leaf = given[lead].requires_grad_()
    plain = ours or row.name.startswith(("mmseg", "mmdet"))
    given["v"] = [1.0, 2.0, 0.5, 1.5] if plain else torch.tensor([1.0, 2.0, 0.5, 1.5], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = eval(text, {**names, **given})
        if not isinstance(result, Tensor):
            result = result(*arguments(way, given, text, row.name.startswith("monai.") and not ours))
    result = getattr(result, "total", result)
    slope = torch.autograd.grad(result.sum(), leaf, allow_unused=True)[0] if result.requires_grad else None
    return result.detach().double(), None if slope is None else slope.double()


def namespace(peer: str) -> dict[str, Any]:
    """The names of a library's losses."""
    if peer in ("mmseg", "mmdet", "mmagic"):
        return getattr(oracles, peer)()  # type: ignore[no-any-return]
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in reversed(PEERS[peer].modules):
            found |= vars(importlib.import_module(module))
    return found


OURS = {**vars(lf), **vars(lf.metrics)}


def apart(theirs: Tensor, ours: Tensor) -> float:
    """Return the largest difference, relative to the largest of ours; nan where theirs is."""
    return float((theirs - ours).abs().max() / ours.abs().max()) if theirs.shape == ours.shape else math.inf
