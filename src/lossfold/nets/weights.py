"""Weights from files: read, compared with what the network has, and filled in."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from lossfold.errors import wrong


def read(source: str, argument: str = "pretrained") -> dict[str, Tensor]:
    """Return the state dict in a file that ``torch.save`` wrote; nothing but tensors is unpickled."""
    path = Path(source).expanduser()
    if not path.is_file():
        raise wrong(argument, "the path of a state dict", repr(source), "there is no such file")
    accepted = "the path of a state dict"
    with path.open("rb") as file:
        start = file.read(32)
    if not start or start.startswith(b"version https://git-lfs"):
        empty, pointer = "an empty file: copy it again", "a pointer of Git LFS: fetch the file with `git lfs pull`"
        raise wrong(argument, accepted, f"{source!r}, {pointer if start else empty}")
    try:
        damaged = damaged_part(path) if start.startswith(b"PK") else None
        state = torch.load(path, map_location="cpu", weights_only=True) if damaged is None else None
    except Exception as error:  # foreign and truncated bytes make a reader raise anything
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        hint = "save network.state_dict() with torch.save; whole modules, TorchScript and .h5 files are not read"
        raise wrong(argument, accepted, f"{source!r}: {reason}", hint) from None
    if damaged is not None:
        raise wrong(argument, accepted, f"{source!r}, where the checksum of {damaged} is wrong", "it is damaged: copy it again")
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):  # a training checkpoint
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise wrong(argument, accepted, f"{source!r}, a {type(state).__name__} of other things")
    return dict(state)


def damaged_part(path: Path) -> str | None:
    """The first part of a file of ``torch.save`` whose checksum is wrong, if one is; torch leaves the checksums unread."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    *,
    unused: tuple[str, ...] = (),
    argument: str = "pretrained",
) -> None:
    """Copy a state dict into a network.

    Args:
        network: what is filled.
        state: a tensor for each of the network's, of the same shape.
        loss: who asks, for errors.
        source: where the state dict is from, for errors.
        unused: prefixes of entries that the network has no use for; any other entry too many is refused.
        argument: the option, for errors.

    Raises:
        LossError: for an entry that is missing, has another shape, or is not known.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    expected = f"weights of {type(network).__name__}"
    for name, tensor in wanted.items():
        if name not in state:
            some = ", ".join(list(state)[:3])
            raise wrong(argument, expected, f"{source!r} without {name!r}", f"it has {some}, ...")
        if state[name].shape != tensor.shape:
            got = f"{source!r} with {name!r} {list(state[name].shape)} in place of {list(tensor.shape)}"
            raise wrong(argument, expected, got)
    for name in state:
        if name not in wanted and not name.endswith("num_batches_tracked") and not name.startswith(unused):
            raise wrong(argument, expected, f"{source!r} with {name!r}, which they do not have")
    network.load_state_dict({name: state[name] for name in wanted}, strict=False)


def initialize(network: nn.Module) -> None:
    """Draw weights from torch's generator: He et al., Delving Deep into Rectifiers, ICCV 2015; biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                module.weight.normal_(std=math.sqrt(2 / module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.zero_()


def from_torchvision(name: str, pretrained: str, option: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights of a network, which it downloads or has in its cache.

    Args:
        name: the network's, there and here.
        pretrained: "torchvision" or "torchvision://" with the name.
        option: that says which network, for errors.
    """
    if pretrained not in ("torchvision", f"torchvision://{name}"):
        raise wrong("pretrained", f"'torchvision://{name}', as {option} is", repr(pretrained))
    try:
        from torchvision.models import get_model_weights  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        expected, hint = "'torchvision' only where torchvision is installed", "pip install torchvision"
        raise wrong("pretrained", expected, "no module torchvision", hint) from None
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return cast("Mapping[str, Tensor]", weights.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, no room, another file
        expected, file = (
            "'torchvision' only where its weights can be downloaded, or are in its cache",
            weights.url.rpartition("/")[2],
        )
        hint = f"download {weights.url} elsewhere, and write pretrained='/path/to/{file}'"
        raise wrong("pretrained", expected, f"{type(error).__name__}: {error}"[:200], hint) from error
