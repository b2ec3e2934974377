"""Pictures of every report: colours, pictures as data addresses, and the curves of the log."""

import base64
import colorsys
import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from lossfold.train.run_folder import Row

Array = npt.NDArray[np.uint8]

PALETTE = (
    "#b9bec7", "#c8553d", "#6a994e", "#8d6cab", "#e0a458", "#23395b", "#d6628a", "#4f9da6",
    "#7f5539", "#f2d16b", "#2f7fc1", "#a3b18a", "#9d0208", "#5e548e", "#00a878", "#ff9f7a",
)  # fmt: skip
LINES = ("#1b4965", "#c8553d", "#6a994e", "#e0a458", "#8d6cab", "#4f9da6", "#d6628a", "#7f5539")


def class_colours(count: int) -> list[str]:
    """Colours of the classes, `#rrggbb`: a fixed list, then hues at the golden angle."""
    extra = (colorsys.hls_to_rgb(index * 0.618 % 1, 0.35 + 0.3 * (index % 2), 0.6) for index in range(count))
    more = ["#" + "".join(f"{round(255 * value):02x}" for value in rgb) for rgb in extra]
    return [*PALETTE, *more][:count]


def rgb(colour: str) -> tuple[int, int, int]:
    """The three values 0..255 of `#rrggbb`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def png(picture: Array) -> str:
    """A picture as a data address; small ones are enlarged without smoothing."""
    image = Image.fromarray(picture)
    factor = max(1, round(256 / max(image.size)))
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if max(image.size) > 512:
        image.thumbnail((512, 512))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return _address(buffer)


def jpeg(picture: Array) -> str:
    """A photograph as a data address, large ones reduced to 512 pixels."""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((512, 512))
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return _address(buffer, "jpeg")


def _address(buffer: io.BytesIO, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def term_names(rows: Sequence[Row]) -> list[str]:
    """The loss terms that a log holds, the total first."""
    names = {key.removeprefix("train/") for row in rows for key in row if key.startswith("train/")}
    return sorted(names, key=lambda name: (name != "total", name))


def loss_curves(rows: Sequence[Row]) -> list[str]:
    """One panel per term: training (single steps pale, smoothed strong) and held-out images."""
    panels: list[str] = []
    for index, name in enumerate(term_names(rows)):
        figure, axes = new_panel(name)
        colour = LINES[index % len(LINES)]
        steps, values = series(rows, f"train/{name}")
        held_out = series(rows, f"val/{name}")
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, _smooth(values), color=colour, linewidth=2, label="training")
        if held_out[0]:
            axes.plot(*held_out, color="#333", marker="o", markersize=3, linewidth=1, label="held out")
        bound(axes, values, held_out[1])
        axes.legend(frameon=False, fontsize=9)
        panels.append(rendered(figure))
    return panels + share_curves(rows)


def share_curves(rows: Sequence[Row]) -> list[str]:
    """The share of each term in the gradient at the scores, where it was logged."""
    names = sorted({key for row in rows for key in row if key.startswith("share/")})
    if not names:
        return []
    figure, axes = new_panel("share of the gradient")
    for index, name in enumerate(names):
        steps, values = series(rows, name)
        colour, label = LINES[index % len(LINES)], name.removeprefix("share/")
        axes.plot(steps, values, color=colour, marker="o", markersize=3, linewidth=1.5, label=label)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=9)
    return [rendered(figure)]


def bound(axes: Axes, *lines: Sequence[float]) -> None:
    """Show 0 and what a line's values are after its first tenth; say how far single ones, or the first, lie beyond."""
    known = [[value for value in line if math.isfinite(value)] for line in lines]
    every = [value for line in known for value in line]
    later = [value for line in known if line for value in np.quantile(line[len(line) // 10 :], (0.03, 0.97)).tolist()]
    if not later:
        return
    low, high = min(0.0, *later), max(0.0, *later)
    room = 3 * (high - low)
    above, below = max(every) > high + room, min(every) < low - room
    axes.set_ylim(bottom=low if above or below or low == 0 else None)
    if above or below:
        axes.set_ylim(top=high + 0.15 * (high - low))
        beyond = ", ".join(f"{end:.3g}" for end, out in ((max(every), above), (min(every), below)) if out)
        axes.text(0.02, 0.98, f"not shown: {beyond}", transform=axes.transAxes, fontsize=9, va="top", color="#667085")


def series(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of one column of the log."""
    points = {row["step"]: row[key] for row in rows if key in row and "step" in row}
    return list(points.keys()), list(points.values())


def _smooth(values: Sequence[float]) -> list[float]:
    window = max(1, len(values) // 12)
    return [float(np.mean(values[max(0, index - window) : index + window + 1])) for index in range(len(values))]


def new_panel(title: str, width: float = 3.8, height: float = 2.6) -> tuple[Figure, Axes]:
    """A picture of curves over the steps of a run, of the given size in inches, small enough to be read on a telephone."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=9)
    axes.set_xlabel("step", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    return figure, axes


def rendered(figure: Figure) -> str:
    """A figure as a data address."""
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names may hold $
    figure.savefig(buffer, dpi=160, format="png")
    return _address(buffer)
