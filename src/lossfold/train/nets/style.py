"""A generator whose convolutions are modulated by styles, and a residual discriminator, for small square images."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossfold.train.errors import TrainError

SLOPE = 0.2
"""Of the leaky rectifiers, everywhere."""

LARGEST_START = 8
"""Side of the smallest feature maps, at most."""

WIDEST = 4
"""Feature maps have at most so many times the channels of the largest ones."""


def sides_of(image_size: int) -> list[int]:
    """The sides of the feature maps from the smallest to the image's own: it is halved while it is even and above 4.

    Raises:
        TrainError: the smallest would be larger than `LARGEST_START`.
    """
    sides = [image_size]
    while sides[0] > 4 and sides[0] % 2 == 0:
        sides.insert(0, sides[0] // 2)
    if not 2 <= sides[0] <= LARGEST_START:
        raise TrainError(
            f"image_size must be 2 to {LARGEST_START} times a power of 2 for this network, as 16, 24, 28 and 64 are, "
            f"got {image_size}"
        )
    return sides


class StyleGenerator(nn.Module):
    """Images from latents by way of styles: w = mapping(z), and every convolution's input channels are scaled by a function of w.

    With the scales s = 1 + A w of the input channels i, the output channel o is Σ_i W_oi * (s_i x_i) / √(Σ_i s_i² |W_oi|²): the
    modulated and demodulated convolution of StyleGAN2, with the scales at the features in place of the weights, so that a batch is
    one convolution. Images are sums over the resolutions, each enlarged to the next.

    Args:
        image_size: side of the images.
        channels: of the images, 1 or 3.
        latent_size: numbers of a latent.
        style_size: numbers of a style.
        width: channels at the images' own resolution; each smaller one has twice as many, at most `WIDEST` times as many.
        mapping_layers: layers from latents to styles.

    Example:
        >>> images, styles = StyleGenerator(image_size=16, width=8)(torch.randn(2, 64))
        >>> images.shape, styles.shape
        (torch.Size([2, 1, 16, 16]), torch.Size([2, 64]))

    Reference:
        Karras et al., Analyzing and improving the image quality of StyleGAN, CVPR 2020.
    """

    def __init__(
        self,
        image_size: int = 16,
        channels: int = 1,
        latent_size: int = 64,
        style_size: int = 64,
        width: int = 24,
        mapping_layers: int = 3,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        sides = sides_of(image_size)
        widths = [width * min(WIDEST, 2**level) for level in reversed(range(len(sides)))]
        layers: list[nn.Module] = []
        for inputs in [latent_size, *[style_size] * (mapping_layers - 1)]:
            layers += [nn.Linear(inputs, style_size), nn.LeakyReLU(SLOPE)]
        self.mapping = nn.Sequential(*layers)
        self.start = nn.Parameter(torch.randn(1, widths[0], sides[0], sides[0]))
        self.convolutions = nn.ModuleList(
            StyledConvolution(widths[max(level - 1, 0)], widths[level], 3, style_size) for level in range(len(sides))
        )
        self.to_images = nn.ModuleList(StyledConvolution(inputs, channels, 1, style_size, demodulate=False) for inputs in widths)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return images `[B,channels,S,S]`, about -1..1, and styles `[B,style_size]`, for latents `[B,latent_size]`."""
        length = latents.square().mean(dim=1, keepdim=True).add(1e-8).sqrt()
        styles = self.mapping(latents / length)
        features = self.start.expand(len(latents), -1, -1, -1)
        images: Tensor | None = None
        for convolution, to_image in zip(self.convolutions, self.to_images, strict=True):
            if images is not None:
                features, images = _twice(features), _twice(images)
            features = functional.leaky_relu(convolution(features, styles), SLOPE)
            image = to_image(features, styles)
            images = image if images is None else images + image
        assert images is not None
        return images, styles


class StyledConvolution(nn.Module):
    """A convolution whose input channels are scaled by a function of the style.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, odd.
        style_size: numbers of a style.
        demodulate: whether output channels are divided by the length of their scaled weights.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style_size: int, demodulate: bool = True) -> None:
        super().__init__()
        self.scales = nn.Linear(style_size, inputs)
        nn.init.zeros_(self.scales.bias)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel**2))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.demodulate = demodulate

    def forward(self, features: Tensor, styles: Tensor) -> Tensor:
        """Return `[B,outputs,H,W]` for features `[B,inputs,H,W]` and styles `[B,style_size]`."""
        scales = 1 + self.scales(styles)
        result = functional.conv2d(features * scales[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            lengths = scales.square() @ self.weight.square().sum((2, 3)).T
            result = result * (lengths + 1e-8).rsqrt()[:, :, None, None] * math.sqrt(2)  # of the leaky rectifier that follows
        return result + self.bias[:, None, None]


def _twice(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


class ResidualDiscriminator(nn.Module):
    """Logits of images: residual blocks that halve the resolution, then the batch's spread as one more channel; no batch norm.

    The extra channel holds the standard deviation over groups of images, averaged over features: with it a discriminator sees
    that a generator makes the same image again and again.

    Args:
        image_size: side of the images.
        channels: of the images, 1 or 3.
        width: channels at the images' own resolution; each smaller one has twice as many, at most `WIDEST` times as many.
        group: images that a standard deviation is taken over; 1: no such channel, and images do not depend on each other.

    Example:
        >>> ResidualDiscriminator(image_size=16, width=8)(torch.zeros(4, 1, 16, 16)).shape
        torch.Size([4])

    Reference:
        Karras et al., Progressive growing of GANs for improved quality, stability, and variation, ICLR 2018 (the extra channel);
        Karras et al., Analyzing and improving the image quality of StyleGAN, CVPR 2020 (the blocks).
    """

    def __init__(self, image_size: int = 16, channels: int = 1, width: int = 24, group: int = 4) -> None:
        super().__init__()
        self.group = group
        sides = sides_of(image_size)[::-1]
        widths = [width * min(WIDEST, 2**level) for level in range(len(sides))]
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(inputs, outputs) for inputs, outputs in pairwise(widths))
        self.last = nn.Conv2d(widths[-1] + (group > 1), widths[-1], 3, padding=1)
        self.hidden = nn.Linear(widths[-1] * sides[-1] ** 2, widths[-1])
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[B]` of images `[B,channels,S,S]`: above 0 for what looks real."""
        features = functional.leaky_relu(self.stem(images), SLOPE)
        for block in self.blocks:
            features = block(features)
        if self.group > 1:
            features = torch.cat([features, spread(features, self.group)], dim=1)
        features = functional.leaky_relu(self.last(features), SLOPE)
        features = functional.leaky_relu(self.hidden(features.flatten(1)), SLOPE)
        logits: Tensor = self.head(features)[:, 0]
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.short_cut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        new = functional.avg_pool2d(functional.leaky_relu(self.convolution(features), SLOPE), 2)
        sum_: Tensor = (new + self.short_cut(functional.avg_pool2d(features, 2))) * math.sqrt(0.5)
        return sum_


def spread(features: Tensor, group: int) -> Tensor:
    """The standard deviation over groups of a batch, averaged over features: `[B,1,H,W]`, one number for each group.

    Args:
        features: `[B,C,H,W]`.
        group: images of a group; a batch that it does not divide is one group.
    """
    count = len(features)
    size = group if count % group == 0 else count
    groups = features.reshape(size, -1, *features.shape[1:])  # image b belongs to group b % (B / size)
    deviation = (groups - groups.mean(0)).square().mean(0).add(1e-8).sqrt()
    each = deviation.mean((1, 2, 3)).repeat(size)
    return each[:, None, None, None].expand(-1, 1, *features.shape[2:])
