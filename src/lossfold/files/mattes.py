"""Alphas and trimaps as files."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossfold.files.errors import FileError
from lossfold.files.read import Opened, range_of

UNKNOWN = {0: 0.0, 128: 0.5, 255: 1.0}
"""Values of a trimap's file, and what they become."""


def read_alpha(path: str | Path) -> npt.NDArray[np.float32]:
    """Read an alpha of 8 or 16 bits, or of floats in 0..1, `[H,W]` float32 in 0..1.

    Raises:
        FileError: the file holds colours, or nothing but 0 and 1 where 255 or 65535 is opaque, or floats outside 0..1.
    """
    with Opened(path) as file:
        if file.shape[2] != 1 or file.has_alpha:
            raise FileError(
                file.path,
                "holds colours or several channels",
                'an alpha has one grey value per pixel; Image.open(path).convert("L"), or .getchannel("A") for a cut-out, makes it',
            )
        values, opaque = file[:, :][..., 0], range_of(file.dtype)
    if opaque > 1 and values.size and values.max() == 1:
        raise FileError(Path(path), f"holds only 0 and 1, but {opaque:g} is opaque", f"multiply the alpha by {opaque:g}")
    if opaque == 1 and not (values.min() >= 0 and values.max() <= 1):
        raise FileError(Path(path), f"holds floats from {values.min():g} to {values.max():g}", "an alpha of floats lies in 0..1")
    alpha: npt.NDArray[np.float32] = values.astype(np.float32) / np.float32(opaque)
    return alpha


def read_trimap(path: str | Path) -> npt.NDArray[np.float32]:
    """Read a trimap of 0, 128 and 255, `[H,W]` float32 of 0, 0.5 and 1.

    Raises:
        FileError: the file holds other values, colours or more than 8 bits.
    """
    with Opened(path, channels=1) as file:
        if file.dtype != np.uint8:
            raise FileError(file.path, f"holds {file.dtype} values", "a trimap has 8 bits")
        values = file[:, :][..., 0]
    strange = sorted(set(np.unique(values).tolist()) - UNKNOWN.keys())
    if strange:
        listed = ", ".join(map(str, strange[:5]))
        raise FileError(
            Path(path),
            f"holds {listed}{', ...' * (len(strange) > 5)}",
            "a trimap holds 0 (background), 128 (unknown) and 255 (foreground)",
        )
    return np.where(values == 128, np.float32(0.5), (values > 128).astype(np.float32))
