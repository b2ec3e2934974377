"""What was predicted of a GPU before one was at hand, beside what is measured: from bytes moved and instructions counted."""

from __future__ import annotations

from typing import Any

from .results import of_kind

Row = dict[str, Any]

SHAPE = [2, 19, 512, 1024]
GPU = "an H100 at 3.0 TB/s"
PREDICTED = {
    "ce": ("cross entropy", (0.085, 0.11)),
    "ce-dice-focal": ("CE + Dice + focal", (0.09, 0.12)),
    "lovasz": ("Lovász-Softmax", (0.3, 0.5)),
    "bce-dice-focal": ("BCE + Dice + focal", (0.14, 0.17)),
    "ce-x4": ("CE, logits at 1/4", (0.07, 0.10)),
}
"""Milliseconds of forward and backward together, of logits of `SHAPE` in float32, by case."""


def table(rows: list[Row] | None = None) -> list[str]:
    """The table of docs/gpu.md: what was predicted, and what rows of a run on a GPU say, as a CUDA graph and in eager mode."""
    lines = ["| case | work | predicted | measured, as a CUDA graph | measured, in eager mode |", "|---|---|---|---|---|"]
    for case, (title, (least, most)) in PREDICTED.items():
        timed = of_kind(rows or [], "time", case=case, provider="lossfold-triton", status="ok", dtype="float32", shape=SHAPE)
        graph = _medians(row["graph_ms"] for row in timed if "graph_ms" in row)
        eager = _medians(row["both_ms"] for row in timed)
        lines.append(f"| `{case}` | {title} | {least:g} to {most:g} ms | {graph} | {eager} |")
    return lines


def _medians(spreads: Any) -> str:
    """The medians of the kinds of inputs."""
    return " / ".join(f"{spread['median']:.3f} ms" for spread in spreads) or "not timed"
