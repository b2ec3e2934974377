"""Soft foregrounds drawn by rule: hair, things out of focus, glass and solid shapes, each with its exact alpha.

Every function takes a texture `[3,S,S]` in 0..1 that the foreground is made of, and returns the foreground's colours `[3,S,S]`
and its alpha `[1,S,S]`, both in 0..1; the colours go on where alpha is 0.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor
from torch.nn import functional

Matte = tuple[Tensor, Tensor]
Points = npt.NDArray[np.float64]

SUPERSAMPLING = 4
"""Shapes are drawn this many times larger, and alpha is the share of a pixel that is covered: strands may be thinner than one."""


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `[C,H,W]` with repeated borders; sigma in pixels."""
    reach = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    kernel = (kernel / kernel.sum()).expand(image.shape[0], 1, 1, -1)
    padded = functional.pad(image[None], (reach,) * 4, mode="replicate")
    blurred = functional.conv2d(padded, kernel, groups=image.shape[0])
    return functional.conv2d(blurred, kernel.mT, groups=image.shape[0])[0]


def outline(size: int, generator: Generator, roughness: float = 0.3) -> Points:
    """Corners `[N,2]` (x, y) of an irregular round shape near the middle of a square of `size` pixels."""
    angles = torch.arange(180) * (2 * math.pi / 180)
    radius, stretch, turn, *place = torch.rand(5, generator=generator).tolist()
    waves = torch.arange(2, 7)
    strength, phase = roughness * _normal(5, generator) / waves, 2 * math.pi * torch.rand(5, generator=generator)
    bumps = (strength[:, None] * torch.cos(waves[:, None] * angles + phase[:, None])).sum(0)
    distance = size * (0.17 + 0.13 * radius) * (1 + bumps).clamp(0.35, 1.8)
    along, across = distance * angles.cos() * (0.8 + 0.5 * stretch), distance * angles.sin()
    cos, sin = math.cos(math.pi * turn), math.sin(math.pi * turn)
    corners = torch.stack([cos * along - sin * across, sin * along + cos * across], 1)
    return (corners + size * (0.35 + 0.3 * torch.tensor(place))).double().numpy()


def coverage(size: int, draw: Callable[[ImageDraw.ImageDraw], None]) -> Tensor:
    """What share of each pixel a drawing covers: `[1,size,size]`, multiples of 1 / 255.

    Args:
        size: height and width in pixels.
        draw: draws with the colour 255 in coordinates that are `SUPERSAMPLING` times as large.
    """
    canvas = Image.new("L", (size * SUPERSAMPLING,) * 2)
    draw(ImageDraw.Draw(canvas))
    return torch.from_numpy(np.array(canvas.reduce(SUPERSAMPLING)))[None].float() / 255


def _fill(corners: Points) -> Callable[[ImageDraw.ImageDraw], None]:
    return lambda pen: pen.polygon([tuple(corner) for corner in corners * SUPERSAMPLING], fill=255)


def strands(roots: Points, outward: Points, size: int, generator: Generator) -> Callable[[ImageDraw.ImageDraw], None]:
    """Hairs that grow from `roots` `[N,2]` in about the directions `outward` `[N]` (radians): locks, curls, weight, thin tips."""
    count, steps = len(roots), 24
    length, curl, weight, mess, comb, side = torch.rand(6, generator=generator).tolist()
    lengths = size * (0.16 + 0.34 * length) * (0.25 + 0.75 * torch.rand(count, 1, generator=generator).sqrt())
    lock = functional.interpolate(_normal(max(4, count // 16), generator)[None, None], size=count, mode="linear")[0, 0]
    sideways = outward + 0.9 * comb * np.sin(2 * math.pi * side - outward)  # combed to one side
    start = torch.from_numpy(sideways).float() + 0.3 * lock + (0.04 + 0.2 * mess) * _normal(count, generator)
    along = torch.linspace(0, 1, steps)
    bend = (0.3 + 0.9 * curl) * (0.7 * lock + 0.3 * _normal(count, generator))
    wave = (0.05 + 0.4 * curl) * torch.sin(2 * math.pi * (1.5 * along + torch.rand(count, 1, generator=generator)))
    angles = start[:, None] + bend[:, None] * along + wave
    moves = torch.stack([angles.cos(), angles.sin() + (0.2 + 1.3 * weight) * along], 2)
    moves = moves / moves.norm(dim=2, keepdim=True) * (lengths / steps)[..., None]
    paths = (torch.from_numpy(roots).float()[:, None] + moves.cumsum(1)) * SUPERSAMPLING
    widths = torch.randint(2, 5, (count,), generator=generator).tolist()

    def draw(pen: ImageDraw.ImageDraw) -> None:
        for path, width in zip(paths.tolist(), widths, strict=True):
            points = [tuple(point) for point in path]
            pen.line(points[: steps // 2 + 1], fill=255, width=width)
            pen.line(points[steps // 2 :], fill=255, width=max(1, width - 1))

    return draw


def hair(texture: Tensor, generator: Generator) -> Matte:
    """A solid body, all of it or one side covered with hairs of a quarter of a pixel to one in width."""
    size = texture.shape[-1]
    corners = outline(size, generator)
    dense, side, whole = torch.rand(3, generator=generator).tolist()
    middle = corners.mean(0)
    around = 2 * math.pi * torch.rand(round(size * (1.6 + 2.4 * dense)), generator=generator).sort().values.numpy()
    if whole < 0.6:  # a head: nothing grows on about a third of it
        around = around[np.cos(around - 2 * math.pi * side) > -0.5]
    roots = corners[(around / (2 * math.pi) * len(corners)).astype(int) % len(corners)]
    outward = np.arctan2(*(roots - middle).T[::-1])
    body, grow = _fill(corners), strands(middle + 0.93 * (roots - middle), outward, size, generator)

    def draw(pen: ImageDraw.ImageDraw) -> None:
        body(pen)
        grow(pen)

    return torch.lerp(texture, blur(texture, size / 12), 0.65), coverage(size, draw)


def defocus(texture: Tensor, generator: Generator) -> Matte:
    """A shape out of focus, more so towards one side, or a near one and a far one."""
    size = texture.shape[-1]
    alpha = coverage(size, _fill(outline(size, generator, 0.45)))
    sharp, far, *slope = torch.rand(4, generator=generator).tolist()
    near, wide = size * (0.008 + 0.02 * sharp), size * (0.02 + 0.05 * far)
    alpha = torch.lerp(blur(alpha, near), blur(alpha, wide), _ramp(size, *slope))
    return blur(texture, near), alpha


def glass(texture: Tensor, generator: Generator) -> Matte:
    """A vessel of tinted glass: seen through in the middle, denser at the rim, with lights in it and a faint reflection."""
    size = texture.shape[-1]
    inside = coverage(size, _fill(outline(size, generator, 0.2)))
    density, rim, tint, *slope = torch.rand(5, generator=generator).tolist()
    edge = (inside - blur(inside, size / 28)).clamp(min=0) * 2
    alpha = torch.lerp(torch.tensor(0.10 + 0.2 * density), torch.tensor(0.3 + 0.3 * density), _ramp(size, *slope))
    lights = _lights(inside, generator)
    alpha = 1 - (1 - alpha) * (1 - (0.4 + 0.5 * rim) * edge.clamp(max=1)) * (1 - 0.9 * lights)
    colour = 0.15 + 0.7 * torch.rand(3, 1, 1, generator=generator) * tint + 0.25 * (1 - tint)
    colours = torch.lerp(colour.expand_as(texture), blur(texture, size / 40), 0.25)
    return torch.lerp(colours, torch.ones(()), lights), alpha * inside


def solid(texture: Tensor, generator: Generator) -> Matte:
    """A shape with a sharp edge, alpha 0 or 1 but for the pixels that the edge crosses."""
    return texture, coverage(texture.shape[-1], _fill(outline(texture.shape[-1], generator, 0.5)))


def _lights(inside: Tensor, generator: Generator) -> Tensor:
    """Two or three elongated lights near the middle of a shape `[1,S,S]`, in 0..1."""
    size = inside.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    mass = inside[0].sum().clamp(min=1)
    centre = [(axis * inside[0]).sum() / mass for axis in (columns, rows)]
    lights = torch.zeros(size, size)
    for turn, x, y, long, thin in torch.rand(3, 5, generator=generator).tolist():
        dx, dy = columns - centre[0] - size * 0.25 * (x - 0.5), rows - centre[1] - size * 0.25 * (y - 0.5)
        cos, sin = math.cos(math.pi * turn), math.sin(math.pi * turn)
        along, across = (
            (cos * dx + sin * dy) / (size * (0.02 + 0.07 * long)),
            (cos * dy - sin * dx) / (size * (0.007 + 0.02 * thin)),
        )
        lights = torch.maximum(lights, torch.exp(-0.5 * (along**2 + across**2)))
    return lights[None]


def _ramp(size: int, x: float, y: float) -> Tensor:
    """A smooth rise from 0 to 1 across a square, in a direction given by two numbers in 0..1."""
    line = torch.linspace(-1, 1, size)
    return torch.sigmoid(3 * ((2 * x - 1) * line + (2 * y - 1) * line[:, None]))


def _normal(count: int, generator: Generator) -> Tensor:
    return torch.randn(count, generator=generator)


KINDS: dict[str, Callable[[Tensor, Generator], Matte]] = {"hair": hair, "defocus": defocus, "glass": glass, "solid": solid}
