"""Pictures of segmentation: label maps in colour, errors, and the course of the IoU."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lossfold.train.pictures import Array, class_colours, new_panel, rendered, rgb, series
from lossfold.train.run_folder import Row


def hatching(height: int, width: int) -> Array:
    """Diagonal stripes of two greys, for pixels that count nowhere."""
    rows, columns = np.indices((height, width))
    stripes: Array = np.where((rows + columns) % 6 < 3, 90, 200).astype(np.uint8)
    return np.repeat(stripes[..., None], 3, axis=2)


def label_map(labels: npt.NDArray[np.int64], ignored: npt.NDArray[np.bool_], classes: int) -> Array:
    """Colour labels `[H,W]`; ignored pixels are hatched."""
    table = np.array([rgb(colour) for colour in class_colours(classes)], dtype=np.uint8)
    return np.where(ignored[..., None], hatching(*labels.shape), table[labels.clip(0, classes - 1)])


def channel_map(image: Array, channels: npt.NDArray[np.bool_], ignored: npt.NDArray[np.bool_], colours: Sequence[str]) -> Array:
    """Lay each channel of `[K,H,W]` over the grey image in its colour, the last on top; ignored pixels are hatched."""
    shown = np.repeat(0.6 * image.mean(axis=2, keepdims=True) + 30, 3, axis=2)
    for channel, colour in zip(channels, colours, strict=True):
        shown = np.where(channel[..., None], 0.35 * shown + 0.65 * np.array(rgb(colour)), shown)
    return np.where(ignored[..., None], hatching(*ignored.shape), shown.astype(np.uint8))


def error_map(image: Array, wrong: npt.NDArray[np.bool_], ignored: npt.NDArray[np.bool_]) -> Array:
    """The image in pale grey, wrong pixels in red, ignored pixels hatched."""
    grey = image.mean(axis=2, keepdims=True)
    pale = np.repeat(0.35 * grey + 155, 3, axis=2)
    red = np.array(rgb("#d00000")) * 0.8 + 0.2 * grey
    shown = np.where(wrong[..., None], red, pale).astype(np.uint8)
    return np.where(ignored[..., None], hatching(*wrong.shape), shown)


def score_curves(rows: Sequence[Row], class_names: Sequence[str], colours: Sequence[str]) -> list[str]:
    """MIoU on the held-out images, over the IoU of each class in its colour."""
    figure, axes = new_panel("IoU, and their mean (mIoU) in black", width=4.8, height=3.0)
    for name, colour in zip(class_names, colours, strict=True):
        axes.plot(*series(rows, f"val/iou/{name}"), color=colour, linewidth=1.4)
    axes.plot(*series(rows, "val/miou"), color="#111", linewidth=2.6, marker="o", markersize=4)
    axes.set_ylim(0, 1)
    return [rendered(figure)]
