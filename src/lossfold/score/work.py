"""The work of one image, as every process and every machine of a cluster does it."""

from __future__ import annotations

from typing import Any

from lossfold.files import FileError
from lossfold.score.depth import measure_depth
from lossfold.score.items import Item, Problem
from lossfold.score.labels import measure_class_map, measure_masks
from lossfold.score.matting import measure_alpha
from lossfold.score.pixels import MismatchError
from lossfold.score.restoration import measure_image
from lossfold.score.rows import Row
from lossfold.score.settings import Settings

MEASURES = {
    "segmentation": measure_class_map,
    "binary": measure_masks,
    "multilabel": measure_masks,
    "matting": measure_alpha,
    "restoration": measure_image,
    "depth": measure_depth,
}


def measure(item: Item, settings: Settings) -> Row | Problem:
    """Return the sums of an image, or why there are none: one image's fault stops nobody."""
    try:
        stamps = item.stamps  # before anything is read: what is written meanwhile is scored again
        sums: dict[str, Any] = MEASURES[settings.task](item, settings)
        return Row(item.name, stamps, sums)
    except (FileError, MismatchError) as error:
        return Problem(item.name, str(error).replace("data.mask_colors", "--colors"))
    except MemoryError:
        return Problem(item.name, "does not fit in memory; save it as .npy or as a tiled TIFF, or use fewer workers")
    except Exception as error:
        return Problem(item.name, f"failed: {type(error).__name__}: {error}")
