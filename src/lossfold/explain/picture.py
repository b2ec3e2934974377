"""An explanation drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lossfold.errors import LossError

if TYPE_CHECKING:
    from lossfold.explain.explanation import Explanation

COLOURS = ("#1b4965", "#c8553d", "#6a994e", "#e0a458", "#8d6cab", "#4f9da6", "#d6628a", "#7f5539")
SMALL = 9
MANY, LONG = 30, 16  # classes whose names have a place, and letters of a name


def figure(width: float, height: float) -> Any:
    """Return an empty figure.

    Raises:
        LossError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LossError("explain", "picture", "drawn with matplotlib", "none installed", "pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def drawn(found: Explanation, image: int = 0, maps_alone: bool = False, class_names: Sequence[str] = ()) -> Any:
    """Return the figure: shares and cosines, classes by their names if there are any, and a row of maps, or that alone."""
    path, maps = next(((path, maps) for path, maps in found.maps.items() if maps.dim() == 4), ("", None))
    classes = next(iter(found.by_class.values()), None)
    count = len(found.names)
    if maps_alone and maps is not None:
        whole = figure(10, 2.6)
        where(whole.subplots(1, count + 1, squeeze=False)[0], found, maps[:, image])
        return whole
    whole = figure(10, 3.0 + (2.6 if maps is not None else 0))
    rows = whole.subfigures(2 if maps is not None else 1, 1, squeeze=False)
    top = rows[0, 0].subplots(1, 3, gridspec_kw={"width_ratios": (1.1, 1.0, 1.4)})
    shares(top[0], found)
    matrix(top[1], found)
    if classes is None:
        top[2].set_axis_off()
    else:
        parts(top[2], found, classes, class_names)
    if maps is not None:
        axes = rows[1, 0].subplots(1, count + 1, squeeze=False)[0]
        rows[1, 0].suptitle(f"|gradient| at each pixel of image {image}" + f", {path}" * bool(path), fontsize=SMALL + 1)
        where(axes, found, maps[:, image])
    return whole


def shares(axes: Any, found: Explanation) -> None:
    """Draw the shares as bars."""
    axes.barh(range(len(found.names)), (100 * found.shares).tolist(), color=[*COLOURS] * (len(found.names) // len(COLOURS) + 1))
    axes.set_yticks(range(len(found.names)), found.names, fontsize=SMALL, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_title("share of the gradient, %", fontsize=SMALL + 1, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def matrix(axes: Any, found: Explanation) -> None:
    """Draw the cosines between the terms."""
    axes.imshow(found.cosines.numpy(), cmap="RdBu", vmin=-1, vmax=1)
    axes.set_xticks(range(len(found.names)), found.names, fontsize=SMALL, rotation=40, ha="right", parse_math=False)
    axes.set_yticks(range(len(found.names)), found.names, fontsize=SMALL, parse_math=False)
    for i, row in enumerate(found.cosines.tolist()):
        for j, cosine in enumerate(row):
            axes.text(
                j, i, f"{cosine:.2f}", ha="center", va="center", fontsize=SMALL, color="white" if abs(cosine) > 0.6 else "black"
            )
    axes.set_title("cosines", fontsize=SMALL + 1, loc="left")


def parts(axes: Any, found: Explanation, classes: Tensor, class_names: Sequence[str]) -> None:
    """Draw each class's part of each term."""
    for index, (name, norms) in enumerate(zip(found.names, classes, strict=True)):
        axes.plot(norms.tolist(), marker="o", markersize=4, label=name, color=COLOURS[index % len(COLOURS)])
    if len(class_names) == classes.shape[1] <= MANY:
        shown = [name if len(name) <= LONG else name[: LONG - 1] + "…" for name in class_names]
        axes.set_xticks(range(len(shown)), shown, fontsize=SMALL - 1, rotation=40, ha="right", parse_math=False)
    else:
        axes.set_xlabel("class or channel", fontsize=SMALL)
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.set_title("|gradient| of each class", fontsize=SMALL + 1, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(frameon=False, fontsize=SMALL).get_texts():
        text.set_parse_math(False)


def where(axes: Any, found: Explanation, maps: Tensor) -> None:
    """Draw where each term pulls, on one scale, and the largest of all."""
    top = float(maps.max()) or 1.0
    for one, name, values in zip(axes, (*found.names, "the strongest"), [*maps, maps.argmax(0)], strict=True):
        if name == "the strongest" and one is axes[-1]:
            from matplotlib.colors import ListedColormap

            colours = ListedColormap([COLOURS[index % len(COLOURS)] for index in range(len(found.names))])
            shown = values.float().where(maps.amax(0) > 0, torch.nan)  # nothing where no term pulls
            one.imshow(shown.numpy(), cmap=colours, vmin=-0.5, vmax=len(found.names) - 0.5, interpolation="nearest")
        else:
            one.imshow(values.sqrt().numpy(), cmap="magma", vmin=0, vmax=top**0.5, interpolation="nearest")
        one.set_title(name, fontsize=SMALL, parse_math=False)
        one.set_axis_off()
