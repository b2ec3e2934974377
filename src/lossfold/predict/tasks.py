"""What each task's network says of an image, and what is made of it: what is done before and after, once for all uses."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossfold.train.data.base import PAD_COLOUR
from lossfold.train.depth.module import DepthModule
from lossfold.train.gan.module import GANWithCustomizedLoss
from lossfold.train.matting.module import MattingModule
from lossfold.train.module import TaskModule
from lossfold.train.pictures import class_colours
from lossfold.train.restoration.module import RestorationModule
from lossfold.train.segmentation.module import SegmentationModule


class ImageTask(nn.Module):
    """A trained module as a function of images that knows what its values mean.

    Args:
        module: the trained module.
        divisor: images are padded to multiples of it.
    """

    name: ClassVar[str]
    takes_trimap: ClassVar[bool] = False
    scale = 1
    """Pixels of the result for each of the image, along each axis."""
    parts: tuple[str, ...] = ("",)
    """Folders of the files that one image gives: one for each channel of the task multilabel."""
    doubt: ClassVar[str] = ""
    """What is said where files can't hold too many of the values."""

    def __init__(self, module: TaskModule, divisor: int) -> None:
        super().__init__()
        self.module: Any = module
        self.divisor = divisor

    def forward(self, images: Tensor) -> Tensor:
        """Return values `[B,K,scale*H,scale*W]` float32 in 0..1 for images `[B,C,H,W]`, uint8 or floats in 0..1.

        Images of the task matting have the trimap, 0, 0.5 and 1, as their last channel.
        """
        raise NotImplementedError

    def decide(self, values: Tensor, top: int = 255) -> Tensor:
        """Return what is written to files, integers `[parts,h,w]` or `[parts,h,w,3]`, for values `[K,h,w]`.

        Args:
            values: what `forward` returns, of one image.
            top: white, of tasks whose results are pictures.
        """
        raise NotImplementedError

    def lost(self, values: Tensor) -> int:
        """Count the values `[K,h,w]` that files can't hold."""
        return 0


class SegmentationTask(ImageTask):
    """Probabilities of classes or channels; class ids, or 0 and 255 for each channel."""

    module: SegmentationModule

    def __init__(self, module: SegmentationModule, divisor: int) -> None:
        super().__init__(module, divisor)
        self.name = module.task  # type: ignore[misc]
        self.class_names = module.class_names
        self.parts = tuple(module.class_names) if module.task == "multilabel" else ("",)
        count = len(self.class_names)
        self.colours = class_colours(count) if self.name == "multiclass" else class_colours(count + 1)[1:]

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities, after padding at the right and bottom with the colour that padding has in training."""
        height, width = images.shape[-2:]
        values = images / 255 if images.dtype == torch.uint8 else images
        colour = torch.tensor(PAD_COLOUR, device=images.device).view(1, 3, 1, 1) / 255
        border = (0, -width % self.divisor, 0, -height % self.divisor)
        logits: Tensor = self.module(functional.pad(values - colour, border) + colour)[..., :height, :width].float()
        return logits.softmax(1) if self.name == "multiclass" else logits.sigmoid()

    def decide(self, values: Tensor, top: int = 255) -> Tensor:
        """Return class ids `[1,h,w]` (uint8, or int32 for more than 256), or 0 and 255 `[K,h,w]`, uint8."""
        if self.name != "multiclass":
            return (values > 0.5).to(torch.uint8) * 255
        return values.argmax(0, keepdim=True).to(torch.uint8 if len(values) <= 256 else torch.int32)


class MattingTask(ImageTask):
    """Alphas."""

    name = "matting"
    takes_trimap = True

    def forward(self, images: Tensor) -> Tensor:
        """Return alphas `[B,1,H,W]`; where the trimap is known they are its values."""
        alphas: Tensor = self.module.estimate(images[:, :3], images[:, 3:])
        return alphas

    def decide(self, values: Tensor, top: int = 255) -> Tensor:
        """Return alphas uint8 `[1,h,w]`, 255 opaque."""
        return (values * 255).round().to(torch.uint8)


class RestorationTask(ImageTask):
    """Restored images."""

    name = "restoration"

    def __init__(self, module: RestorationModule, divisor: int) -> None:
        super().__init__(module, divisor)
        self.scale = module.scale

    def forward(self, images: Tensor) -> Tensor:
        """Return images `[B,3,scale*H,scale*W]`."""
        restored: Tensor = self.module.restore(images)
        return restored

    def decide(self, values: Tensor, top: int = 255) -> Tensor:
        """Return an image `[1,h,w,3]` in the range of the one that came: uint8, or uint16 where white is 65535."""
        return (values * top).round().to(torch.uint8 if top <= 255 else torch.uint16).permute(1, 2, 0)[None]


STEPS = 256
"""Of a unit of depth, in files of 16 bits: of metres as KITTI has them."""


class DepthTask(ImageTask):
    """Depths, in the unit of those that the network has learned from."""

    name = "depth"
    doubt = (
        f"depths are beyond what 16 bits hold in steps of 1/{STEPS} (to {65535 / STEPS:.2f}): --probabilities writes them as they "
        "are; train with a data.unit that makes them metres"
    )

    def forward(self, images: Tensor) -> Tensor:
        """Return depths `[B,1,H,W]`."""
        depths: Tensor = self.module(images)
        return depths

    def decide(self, values: Tensor, top: int = 255) -> Tensor:
        """Return depths times 256, uint16 `[1,h,w]`; what is farther than 65535 / 256 is that far."""
        return (values * STEPS).clamp(0, 65535).round().to(torch.uint16)

    def lost(self, values: Tensor) -> int:
        """Count the depths that become the largest, or 0, which says that there is none."""
        steps = values * STEPS
        return int(((steps > 65535) | ((steps > 0) & (steps <= 0.5))).sum())


def task_of(module: TaskModule, divisor: int = 32) -> ImageTask:
    """The task of a module that takes images."""
    if isinstance(module, SegmentationModule):
        return SegmentationTask(module, divisor)
    if isinstance(module, MattingModule):
        return MattingTask(module, module.divisor)
    if isinstance(module, DepthModule):
        return DepthTask(module, module.divisor)
    assert isinstance(module, RestorationModule)
    return RestorationTask(module, module.divisor)


def makes_samples(module: TaskModule) -> bool:
    """Whether the module makes images from nothing."""
    return isinstance(module, GANWithCustomizedLoss)
