"""Volumes: the usual pair of medical segmentation, at the logits' resolution and at the labels'."""

from __future__ import annotations

from dataclasses import replace

from ..case import Sizes
from . import combined
from .label_resolution import at_label_resolution

PAIR = combined.CASES[0]

CROSS_ENTROPY_DICE = replace(
    PAIR,
    name="ce-dice-3d",
    title="CE + Dice of a volume",
    entries={provider: entry for provider, entry in PAIR.entries.items() if provider != "kornia"},
    lacking={"kornia": "its Dice takes images alone"},
    sizes=Sizes(full=(1, 14, 96, 96, 96), quick=(1, 14, 32, 32, 32)),
)

CASES = (CROSS_ENTROPY_DICE, at_label_resolution(CROSS_ENTROPY_DICE, 4))
