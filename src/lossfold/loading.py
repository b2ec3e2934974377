"""`lossfold.load`: trained networks, ready to use."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def load(
    run: str | Path,
    checkpoint: str | None = None,
    device: str | None = None,
    tile: int = 1024,
    overlap: int = 128,
    max_side: int | None = None,
    network: "nn.Module | None" = None,
) -> Any:
    """Load what `lossfold train` has trained: `lossfold.load("runs/m")(image)` gives an array.

    The checkpoint names the network's class, which is imported: load only checkpoints that you trust.

    Args:
        run: a run's folder, or a checkpoint file.
        checkpoint: best or last, of a run's folder; None: best where there is one.
        device: cpu, cuda, cuda:1, ...; None: a GPU where there is one.
        tile: largest window in pixels in which images are seen; a multiple of 32.
        overlap: least overlap of neighbouring windows in pixels.
        max_side: larger images are reduced to this longer side for the network, and the result is enlarged; None: as in training,
            0: never.
        network: the network, where the checkpoint was written by a module that was built by hand.

    Returns:
        `lossfold.predict.Predictor`: a function of an image (a file, an array, a Pillow image) and, of the task matting, a trimap.
        Of a GAN `lossfold.predict.Sampler`, a function of a number of images. Gradients are not taken.

    Raises:
        TrainError: there is no such checkpoint, it is torn or of something else, or its network can't be built.
        ImportError: the extra `train` is not installed.

    Example:
        >>> predictor = lossfold.load("runs/segmentation")  # doctest: +SKIP
        >>> predictor("photograph.jpg").shape  # doctest: +SKIP
        (3024, 4032)
    """
    from lossfold.predict.load import load_run  # which brings in what training needs

    return load_run(run, checkpoint, device, tile, overlap, max_side, network)
