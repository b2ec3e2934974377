"""LPIPS's weights of VGG16's channels, from a file or from the package ``lpips``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import nn

from lossfold.errors import wrong
from lossfold.nets.weights import read

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def channel_weights(source: str) -> nn.ParameterList:
    """Return the weights of each layer's channels, ``[C]``.

    Args:
        source: the path of a state dict with the package's names (``lin0.model.1.weight``), or "lpips" for the package's own.
        loss: who asks, for errors.
    """
    state = read(_shipped() if source == "lpips" else source, "linear")
    weights = nn.ParameterList()
    while f"lin{len(weights)}.model.1.weight" in state:
        tensor = state[f"lin{len(weights)}.model.1.weight"]
        if tensor.dim() != 4 or tensor.shape[0] != 1 or tensor.shape[2:] != (1, 1):
            got = f"{list(tensor.shape)} in {source!r}"
            raise wrong("linear", f"weights of LPIPS, 'lin{len(weights)}.model.1.weight' [1, C, 1, 1]", got)
        if not bool((tensor >= 0).all()):  # a distance that may be negative is none; NaN is refused, too
            raise wrong("linear", "weights of LPIPS, all >= 0", f"one of {float(tensor.min()):.4g} in {source!r}")
        weights.append(nn.Parameter(tensor.flatten().float()))
    if not weights:
        raise wrong("linear", "weights of LPIPS", f"{source!r} without 'lin0.model.1.weight'")
    return weights


def _shipped() -> str:
    # The package is looked up and not imported: importing it wants torchvision and SciPy.
    spec = importlib.util.find_spec("lpips")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "weights" / "v0.1" / "vgg.pth"
        if path.is_file():
            return str(path)
    hint = "pip install --no-deps lpips, or linear=None for unweighted channels"
    raise wrong("linear", "'lpips' only where the package lpips is installed", "no package lpips", hint)
