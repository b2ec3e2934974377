"""Results as a picture: for each case, bars of time and of extra memory by provider."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .report import case_title, describe_all_inputs, machine_line, milliseconds, provider_title, times
from .results import of_kind

Row = dict[str, Any]

OWN = "#0b7a75"
OWN_LIGHT = "#7fc4bf"
OTHER = "#c9ccd1"
INK = "#22272e"
FAINT = "#6b7280"
BAR = 0.68


def draw(rows: list[Row], path: Path) -> None:
    """Draw the first kind of logits and the first allocator of a run.

    Args:
        rows: a finished run.
        path: the PNG to write.

    Raises:
        ImportError: without matplotlib.
    """
    figures = import_module("matplotlib.figure")
    first = of_kind(rows, "time", status="ok")[0]
    timed = of_kind(rows, "time", status="ok", logits=first["logits"], allocator=first["allocator"])
    cases = list(dict.fromkeys(row["case"] for row in timed))
    peaks = of_kind(rows, "memory", status="ok")
    groups = [[row for row in timed if row["case"] == case] for case in cases]
    columns = 2 if peaks else 1
    heights = [len(group) + 0.2 for group in groups]
    figure = figures.Figure(figsize=(5.6 * columns, 0.27 * sum(heights) + 0.42 * len(cases) + 0.8), layout="constrained", dpi=160)
    axes = figure.subplots(len(cases), columns, squeeze=False, height_ratios=heights)
    for line, group in enumerate(groups):
        _bars(axes[line][0], group, _times(group), milliseconds)
        axes[line][0].set_title(case_title(cases[line]), loc="left", fontsize=10, color=INK, fontweight="bold")
        if peaks:
            memory = [_peak(peaks, row) for row in group]
            _bars(axes[line][1], group, memory, lambda value: f"{value:.0f} MB")
            axes[line][1].set_yticklabels([])
    headings = ("time, forward + backward", "peak extra memory, gradient included")
    for axis, heading in zip(axes[0], headings, strict=False):
        axis.set_title(heading, loc="right", fontsize=8, color=FAINT)
    figure.suptitle("\n".join(describe_all_inputs(timed)), x=0.01, ha="left", fontsize=9, color=FAINT)
    figure.supxlabel(machine_line(rows), x=0.01, ha="left", fontsize=6.5, color=FAINT)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor="white")


def _bars(axis: Any, group: list[Row], values: list[float | None], show: Any) -> None:
    """Horizontal bars, the first provider on top, labelled with value and multiple of the first."""
    places = [-float(place) for place in range(len(group))]
    colours = [_colour(row["provider"]) for row in group]
    axis.barh(places, [value or 0.0 for value in values], height=BAR, color=colours)
    longest = max((value for value in values if value), default=1.0)
    reference = values[0]
    for place, row, value in zip(places, group, values, strict=True):
        if value is None:
            continue
        first = row is group[0]
        multiple = f"   {times(value / reference)}" if reference and not first else ""
        axis.text(
            value + 0.012 * longest,
            place,
            f"{show(value)}{multiple}",
            va="center",
            fontsize=7.5,
            color=INK,
            fontweight="bold" if first else "normal",
        )
    axis.set_yticks(places, [provider_title(row["provider"]) for row in group], fontsize=8, color=INK)
    axis.set_ylim(places[-1] - 0.6, 0.6)
    axis.set_xlim(0, 1.25 * longest)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["left"].set_color(OTHER)


def _colour(provider: str) -> str:
    return {"lossfold-cpp": OWN, "lossfold-eager": OWN_LIGHT}.get(provider, OTHER)


def _times(group: list[Row]) -> list[float | None]:
    return [row["both_ms"]["median"] for row in group]


def _peak(peaks: list[Row], row: Row) -> float | None:
    for peak in peaks:
        if (peak["case"], peak["provider"]) == (row["case"], row["provider"]):
            return float(peak["bytes"]) / 1e6
    return None
