"""What losses of a frozen network's features have in common: the network, the checks of images, criteria in float32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lossfold.errors import wrong
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe
from lossfold.losses.base import Loss
from lossfold.nets.frozen import Frozen
from lossfold.options import configured

CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda first, second: (first - second).abs(),
    "mse": lambda first, second: (first - second).square(),
}
"""The cost of each element, whose mean is a loss."""


@configured
class FrozenLoss(Loss):
    """A loss that keeps a frozen network."""

    network: nn.Module | None = None  # kept as a Frozen copy

    frozen: ClassVar[Frozen]  # each loss has its own: the network in use

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "network" and isinstance(value, nn.Module):
            value = Frozen(copy.deepcopy(value))
        super().__setattr__(name, value)

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        self.require("network", self.network is None or isinstance(self.network, Frozen), "a module, or None")

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # the network is in no parameters(), but goes where the loss goes
        for frozen in {id(value): value for value in self.__dict__.values() if isinstance(value, Frozen)}.values():
            frozen.apply(fn)
        return self


@configured
class FeatureLoss(FrozenLoss):
    """A loss that compares what a frozen network makes of two images."""

    pretrained: str | None = None

    one_needed: ClassVar[tuple[str, ...]] = ("pretrained", "network")
    sources: ClassVar[str] = "the path of a state dict, or 'random'"  # what pretrained may be
    structure: ClassVar[tuple[str, ...]] = ()  # the options that the network is built from

    def settle(self) -> None:
        """Refuse wrong options, and build the network where they ask for another one."""
        super().settle()
        if self.network is None:
            self.require("pretrained", isinstance(self.pretrained, str) and bool(self.pretrained), self.sources, "or network=")
        else:
            self.require("pretrained", self.pretrained is None, "None, because network is given")
        self.check_structure()
        built = (self.network, self.pretrained, *(getattr(self, name) for name in self.structure))
        if self.__dict__.get("_built") != built:
            frozen = self.network if isinstance(self.network, Frozen) else Frozen(self.make_network(str(self.pretrained)))
            self.__dict__.update(frozen=frozen, _built=built)

    def check_structure(self) -> None:
        """Refuse wrong options before the network is built from them."""

    def make_network(self, pretrained: str) -> nn.Module:
        """Return the network with its weights."""
        raise NotImplementedError

    def checked(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse a pair of images that can't be compared; return them in the network's dtype."""
        channels = 3 if self.network is None else None
        smallest = int(getattr(self.frozen.network, "smallest", 1))
        for argument, images in (("pred", pred), ("target", target)):
            check_images(argument, images, channels, smallest, self.frozen.device)
        if pred.shape != target.shape:
            raise wrong("target", f"of pred's shape {list(pred.shape)}", str(list(target.shape)))
        return self.frozen.cast(pred), self.frozen.cast(target)

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """Return the network's features by name; a single tensor is named "features"."""
        found = self.frozen(images)
        if isinstance(found, Tensor):
            found = {"features": found}
        if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
            expected = "a module that returns a tensor, or a dict of tensors by name"
            raise wrong("network", expected, f"one that returns a {type(found).__name__}")
        for name, value in found.items():
            if not value.is_floating_point() or value.dim() < 2 or len(value) != len(images):
                expected, got = f"a module whose features are floats [{len(images)}, ...]", f"{name!r} {describe(value)}"
                raise wrong("network", expected, got)
        return dict(found)

    def both(self, pred: Tensor, target: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the features of the prediction, with its graph, and those of the target, without one."""
        with torch.no_grad():
            true = self.features(target)
        return self.features(pred), true

    def pair(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the only feature of the prediction, and that of the target, of a network that has one."""
        found, true = self.both(pred, target)
        if len(found) != 1:
            raise wrong("network", "a module that returns one tensor", f"one that returns {list(found)}")
        return next(iter(found.values())), next(iter(true.values()))


def check_images(
    argument: str, images: object, channels: int | None = 3, smallest: int = 1, device: torch.device | None = None
) -> None:
    """Refuse what is no batch of images ``[B, channels, H, W]`` of floats on the network's device."""
    expected = f"images [B, {'C' if channels is None else channels}, H, W]"
    if not isinstance(images, Tensor):
        raise wrong(argument, expected, type(images).__name__)
    if images.layout != torch.strided or images.is_nested:
        raise wrong(argument, f"{expected}, dense and strided", f"layout {images.layout}", "call .to_dense()")
    if images.is_floating_point() and images.dtype not in SCORE_DTYPES:
        raise wrong(argument, f"{expected} of float64, float32, bfloat16 or float16", str(images.dtype))
    if not images.is_floating_point():
        raise wrong(argument, f"{expected} of floats", str(images.dtype), "bytes are images / 255")
    if images.dim() != 4 or len(images) == 0:
        raise wrong(argument, expected, f"a tensor {list(images.shape)}")
    if channels is not None and images.shape[1] != channels:
        hint = f"grey images are {argument}.expand(-1, {channels}, -1, -1)" if images.shape[1] == 1 else ""
        raise wrong(argument, expected, f"{images.shape[1]} channels", hint)
    if min(images.shape[2:]) < smallest:
        got = f"{images.shape[2]}x{images.shape[3]}"
        raise wrong(argument, f"images of at least {smallest}x{smallest} for these layers", got)
    if device is not None and images.device != device:
        hint = f"move the loss with .to({str(images.device)!r})"
        raise wrong(argument, f"on the network's device, {device}", str(images.device), hint)
