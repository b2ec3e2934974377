"""The transferal perceptual loss of reference-based super-resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.losses.base import Loss
from lossfold.losses.features.frozen import CRITERIA, check_images
from lossfold.losses.reduce import Addends, mean_of
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class TransferalPerceptualLoss(Loss):
    """Differences of features and transferred textures where the attention is: Σ_l ρ(map_l·s_l, texture_l·s_l).

    s_l is the sigmoid of the soft attention, resized (bicubic) to level l's size before the sigmoid, at every level.

    Args:
        use_attention: False sets s_l = 1.
        criterion: ρ, "l1" or "mse": the mean absolute or squared difference.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, levels that do not fit together, and an attention of another batch.

    Gradient:
        Exact for all three arguments; detach what should take none.

    Example:
        >>> maps, textures = [torch.ones(1, 4, 8, 8)], [torch.zeros(1, 4, 8, 8)]
        >>> TransferalPerceptualLoss()(maps, torch.zeros(1, 1, 8, 8), textures)
        tensor(0.2500)

    Reference:
        Yang et al., Learning Texture Transformer Network for Image Super-Resolution, CVPR 2020.
    """

    use_attention: bool = option(True)
    criterion: str = option("mse", words=CRITERIA)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"use_attention": False, "criterion": "l1"})

    def check(self, maps: Sequence[Tensor], soft_attention: Tensor | None, textures: Sequence[Tensor]) -> None:
        """Refuse levels that do not fit together."""
        for argument, levels in (("maps", maps), ("textures", textures)):
            if not isinstance(levels, (list, tuple)) or not levels:
                raise wrong(argument, "a list or tuple of features [B, C, H, W]", type(levels).__name__)
            for index, level in enumerate(levels):
                check_images(f"{argument}[{index}]", level, channels=None)
        if len(maps) != len(textures):
            raise wrong("textures", f"{len(maps)} levels, as maps are", str(len(textures)))
        for index, (one, other) in enumerate(zip(maps, textures, strict=True)):
            if one.shape != other.shape:
                raise wrong(f"textures[{index}]", f"of maps' shape {list(one.shape)}", str(list(other.shape)))
        if not self.use_attention:
            return
        check_images("soft_attention", soft_attention, channels=1)
        assert soft_attention is not None
        for index, level in enumerate(maps):
            if len(soft_attention) != len(level):
                hint = f"maps[{index}] is {list(level.shape)}"
                raise wrong("soft_attention", f"[{len(level)}, 1, H, W]", str(list(soft_attention.shape)), hint)
            if soft_attention.device != level.device:
                raise wrong("soft_attention", f"on the device of maps, {level.device}", str(soft_attention.device))

    def addends(self, maps: Sequence[Tensor], soft_attention: Tensor | None, textures: Sequence[Tensor]) -> Addends:
        """Return what adds up over parts of a batch."""
        self.check(maps, soft_attention, textures)
        values = []
        with exactly(maps[0]):
            for level, texture in zip(maps, textures, strict=True):
                shown = torch.sigmoid(resized(soft_attention, level)) if self.use_attention and soft_attention is not None else 1
                values.append(CRITERIA[self.criterion](wide(level) * shown, wide(texture) * shown))
        return mean_of(values, [1.0] * len(values))

    def forward(self, maps: Sequence[Tensor], soft_attention: Tensor | None, textures: Sequence[Tensor]) -> Tensor:
        """Return the loss.

        Args:
            maps: features ``[B, C_l, H_l, W_l]`` of the prediction, a level each; TTSR has three, from small to large.
            soft_attention: ``[B, 1, H, W]``, before the sigmoid; None will do without attention.
            textures: the transferred textures, level by level of the maps' shapes.

        Returns:
            A scalar, float32 (float64 for float64 features).
        """
        return self.weigh(self.evaluate(maps, soft_attention, textures))


def resized(attention: Tensor, level: Tensor) -> Tensor:
    """Return the attention at a level's size."""
    attention = wide(attention)
    if attention.shape[2:] == level.shape[2:]:
        return attention
    return functional.interpolate(attention, size=level.shape[2:], mode="bicubic", align_corners=False)
