"""LPIPS's weights of channels, from a file or from a package that ships them: ``lpips``, ``torchmetrics``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import nn

from lossfold.errors import wrong
from lossfold.nets.weights import read

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
FILES = {"vgg16": "vgg.pth", "alexnet": "alex.pth", "squeezenet1_1": "squeeze.pth"}
FOLDERS = {"lpips": "weights/v0.1", "torchmetrics": "functional/image/lpips_models"}
"""Where packages have the weights, the same in both."""


def channel_weights(source: str, net: str) -> nn.ParameterList:
    """Return the weights of each layer's channels, ``[C]``.

    Args:
        source: the path of a state dict with the package's names (``lin0.model.1.weight``), or "lpips" for what packages ship.
        net: of which network.
    """
    state = read(_shipped(net) if source == "lpips" else source, "linear")
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


def shipped(package: str, file: str) -> str | None:
    """Return the path of a file that a package ships, None where it is not installed.

    The package is looked up and not imported: importing it wants torchvision and SciPy.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / file
        if path.is_file():
            return str(path)
    return None


def _shipped(net: str) -> str:
    for package, folder in FOLDERS.items():
        path = shipped(package, f"{folder}/{FILES[net]}")
        if path is not None:
            return path
    hint = "pip install --no-deps lpips, or linear=None for unweighted channels"
    raise wrong("linear", "'lpips' only where the package lpips or torchmetrics is installed", "neither", hint)
