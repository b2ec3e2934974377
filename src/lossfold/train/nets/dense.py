"""Networks from image to image: small ones that take images of any size."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)


class SmallUNet(nn.Module):
    """A U-Net of a few levels: convolutions down, bilinear upsampling and skip connections up.

    Args:
        classes: number of classes scored at every pixel.
        width: channels of the first level; each level below has twice as many.
        levels: number of resolutions.
        stem_stride: stride of the first convolution. 2 costs a quarter of the time, and the scores are then
            upsampled to the image's size. None: by `image_side`.
        in_channels: channels of the image.
        image_side: longer side of the images that are to be scored: up to 400 pixels the stride is 1, up to 1600 it is 2, beyond 4,
            so that the deepest level sees as much of a photograph as of a small image. None: 1.

    Example:
        >>> SmallUNet(classes=4, width=8)(torch.zeros(1, 3, 50, 70)).shape
        torch.Size([1, 4, 50, 70])
    """

    def __init__(
        self,
        classes: int = 2,
        width: int = 24,
        levels: int = 4,
        stem_stride: int | None = None,
        in_channels: int = 3,
        image_side: int | None = None,
    ) -> None:
        super().__init__()
        if stem_stride is None:
            stem_stride = 1 if image_side is None or image_side <= 400 else 2 if image_side <= 1600 else 4
        widths = [width * 2**level for level in range(levels)]
        self.stem = nn.Conv2d(in_channels, width, 5, stem_stride, padding=2)
        self.down = nn.ModuleList(_block(widths[max(level - 1, 0)], widths[level]) for level in range(levels))
        self.up = nn.ModuleList(_block(widths[level] + widths[level + 1], widths[level]) for level in reversed(range(levels - 1)))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Score images `[B,3,H,W]`; returns logits `[B,classes,H,W]`."""
        features = self.stem(images)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(functional.max_pool2d(features, 2, ceil_mode=True) if level else features)
            skips.append(features)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            features = functional.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            features = block(torch.cat([features, skip], dim=1))
        logits: Tensor = self.head(features)
        if logits.shape[-2:] != images.shape[-2:]:
            logits = functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits


class MattingUNet(nn.Module):
    """A small U-Net for image and trimap that compares every pixel with the known colours around it, and loses no pixel.

    Means of the known foreground's and the known ground's colours reach into the unknown; where a pixel lies between the two is
    a first guess of its alpha (`guesses`). The network says how far to trust it, and what to add: to find such means by itself
    takes long. It works at a fraction of the resolution: blocks of pixels are turned into channels, and channels into pixels at
    the end, so that structures thinner than a pixel, such as hair, are not lost.

    Args:
        classes: number of channels scored at every pixel.
        width: channels of the first level.
        levels: number of resolutions.
        block: side of the blocks of pixels.
        in_channels: 4: the image's, and the trimap from -1 (ground) to 1 (foreground).

    Example:
        >>> MattingUNet(width=8)(torch.zeros(1, 4, 50, 71)).shape
        torch.Size([1, 1, 50, 71])
    """

    def __init__(self, classes: int = 1, width: int = 16, levels: int = 5, block: int = 2, in_channels: int = 4) -> None:
        super().__init__()
        self.block = block
        self.unet = SmallUNet(2 * classes * block**2, width, levels, in_channels=(in_channels + GUESSES) * block**2)

    def forward(self, images: Tensor) -> Tensor:
        """Score images and trimaps `[B,4,H,W]`; returns logits `[B,classes,H,W]`."""
        height, width = images.shape[-2:]
        images = functional.pad(images, (0, -width % self.block, 0, -height % self.block), mode="replicate")
        guess = guesses(images[:, :-1], images[:, -1:])
        blocks = functional.pixel_unshuffle(torch.cat([images, guess], dim=1), self.block)
        logits, trust = functional.pixel_shuffle(self.unet(blocks), self.block).chunk(2, dim=1)
        return (logits + trust * guess[:, :1])[..., :height, :width]


GUESSES = 3
"""Channels of `guesses`."""


def guesses(image: Tensor, trimap: Tensor) -> Tensor:
    """What the known colours nearby say of each pixel.

    With F and B means of the known colours, I = B + a (F - B) + r with r orthogonal to F - B.

    Args:
        image: `[B,3,H,W]`.
        trimap: -1, 0, 1, `[B,1,H,W]`.

    Returns:
        `[B,3,H,W]`: a, from -1 to 1 in place of 0 to 1; the length of r; the length of F - B.
    """
    front, back = nearby_mean(image, (trimap > 0.5).to(image)), nearby_mean(image, (trimap < -0.5).to(image))
    across, off = front - back, image - back
    length = across.square().sum(1, keepdim=True)
    share = ((off * across).sum(1, keepdim=True) / (length + 0.02)).clamp(-0.5, 1.5)
    rest = (off - share * across).square().sum(1, keepdim=True)
    return torch.cat([2 * share - 1, (rest + 1e-6).sqrt(), (length + 1e-6).sqrt()], dim=1)


def nearby_mean(image: Tensor, weight: Tensor) -> Tensor:
    """Continue an image `[B,C,H,W]` from where its weight `[B,1,H,W]` is 1 to where it is 0, by means over squares of 2, 4, 8, ...

    A mean of a small square counts as far as the square is known, and the mean of the next larger one for the rest.
    """
    sums, weights = [image * weight], [weight]
    while max(sums[-1].shape[-2:]) > 1:
        sums.append(functional.avg_pool2d(sums[-1], 2, ceil_mode=True))
        weights.append(functional.avg_pool2d(weights[-1], 2, ceil_mode=True))
    mean = sums[-1] / weights[-1].clamp(min=1e-6)
    for total, share in zip(sums[-2::-1], weights[-2::-1], strict=True):
        mean = functional.interpolate(mean, size=total.shape[-2:], mode="bilinear", align_corners=False)
        mean = (total + 0.05 * mean) / (share + 0.05)
    return mean


class RestorationNet(nn.Module):
    """A residual network that adds to the bicubic enlargement of an image what it misses.

    All convolutions work at one small resolution, without normalisation, and the last one's channels are turned into pixels: for
    a scale above 1 the image's own resolution, for scale 1 that of blocks of pixels, which are turned into channels first.

    Args:
        scale: how many times larger the result is; 1 for noise and other faults that leave the size.
        width: channels.
        blocks: number of residual blocks, two convolutions each.
        block: side of the blocks of pixels; None: 2 where the scale is 1, otherwise 1.

    Example:
        >>> RestorationNet(scale=2, width=8, blocks=2)(torch.zeros(1, 3, 25, 31)).shape
        torch.Size([1, 3, 50, 62])

    Reference:
        Lim et al., Enhanced deep residual networks for single image super-resolution, CVPR Workshops 2017; Shi et al., Real-time
        single image and video super-resolution using an efficient sub-pixel convolutional neural network, CVPR 2016.
    """

    def __init__(self, scale: int = 2, width: int = 48, blocks: int = 8, block: int | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.block = block or (2 if scale == 1 else 1)
        self.stem = nn.Conv2d(3 * self.block**2, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(True), _faint(nn.Conv2d(width, width, 3, padding=1)))
            for _ in range(blocks)
        )
        self.head = _faint(nn.Conv2d(width, 3 * (scale * self.block) ** 2, 3, padding=1), 0.0)

    def forward(self, images: Tensor) -> Tensor:
        """Restore images `[B,3,H,W]` in 0..1; returns `[B,3,scale*H,scale*W]`, which may lie a little outside of 0..1."""
        height, width = images.shape[-2:]
        padded = functional.pad(images, (0, -width % self.block, 0, -height % self.block), mode="replicate")
        features = start = self.stem(functional.pixel_unshuffle(padded, self.block) - 0.5)
        for block in self.body:
            features = features + block(features)
        missing = functional.pixel_shuffle(self.head(features + start), self.scale * self.block)
        return enlarged(images, self.scale) + missing[..., : self.scale * height, : self.scale * width]


def _faint(layer: nn.Conv2d, share: float = 0.1) -> nn.Conv2d:
    """Let a layer say little at first: so blocks start near the identity, and the network with the image it was given."""
    with torch.no_grad():
        layer.weight.mul_(share)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def enlarged(images: Tensor, scale: int) -> Tensor:
    """Images `[B,C,H,W]` at `scale` times the size, by cubic convolution with a = -1/2, as MATLAB's and Pillow's bicubic."""
    if scale == 1:
        return images
    # PyTorch takes a = -1/2 only with antialias, which changes nothing else where the image grows.
    return functional.interpolate(images, scale_factor=scale, mode="bicubic", antialias=True)
