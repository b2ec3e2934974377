"""The distance of generated images from held-out ones, and the table that a run ends with."""

import math
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional

DIRECTIONS = 256
"""Random directions that descriptors are projected on."""

LARGEST = 32
"""Whole images are compared at this side at most, in pixels."""

PATCH, PATCHES = 7, 16
"""Side of a patch, and how many are cut from each image at each level."""

SMALLEST_LEVEL = 16
"""Side of the smallest level of the pyramid, as in the paper; images below it have one level."""

TITLES = {"swd": "sliced Wasserstein distance, images", "swd_patches": "sliced Wasserstein distance, patches"}
"""Each score and its name."""


@dataclass(frozen=True)
class GANScores:
    """Distances between generated and held-out images; less is better.

    Args:
        swd: sliced Wasserstein distance of whole images, see `image_distance`.
        swd_patches: of patches, see `patch_distance`.
    """

    swd: float
    swd_patches: float

    @classmethod
    def of(cls, made: Tensor, real: Tensor) -> "GANScores":
        """Compare images uint8 `[N,C,S,S]`, as many of the one kind as of the other."""
        one, other = (images.float().cpu() / 127.5 - 1 for images in (made, real))
        return cls(image_distance(one, other), patch_distance(one, other))


def sliced_wasserstein(one: Tensor, other: Tensor, generator: torch.Generator) -> float:
    """Sliced Wasserstein distance of two sets of N vectors `[N,D]`.

    The mean over random unit vectors u of the Wasserstein-1 distance between the sets' projections on u, which for sets of one
    size is the mean of |a_(i) - b_(i)| over the sorted projections.

    Reference:
        Rabin et al., Wasserstein barycenter and its application to texture mixing, SSVM 2011.
    """
    directions = functional.normalize(torch.randn(one.shape[1], DIRECTIONS, generator=generator), dim=0)
    first, second = ((directions.T @ vectors.T).sort(dim=1).values for vectors in (one, other))
    return float((first - second).abs().mean())


def image_distance(one: Tensor, other: Tensor) -> float:
    """Sliced Wasserstein distance of whole images in -1..1, `[N,C,S,S]`; those above `LARGEST` are reduced to it.

    An offset of every value by d counts about 0.8 d, whatever the number of pixels: the components of a random unit vector add
    up to about a normal number, whose absolute value has the mean √(2/π).
    """
    if one.shape[-1] > LARGEST:
        one, other = (functional.interpolate(images, size=(LARGEST, LARGEST), mode="area") for images in (one, other))
    return sliced_wasserstein(one.flatten(1), other.flatten(1), torch.Generator().manual_seed(0))


def patch_distance(one: Tensor, other: Tensor) -> float:
    """Sliced Wasserstein distance of patches, the mean over the levels of a Laplacian pyramid, of images in -1..1, `[N,C,S,S]`.

    At each level the patches of a set are normalised to mean 0 and standard deviation 1 in every channel, as in the paper; places
    and directions are random and the same in every call.

    Reference:
        Karras et al., Progressive growing of GANs for improved quality, stability, and variation, ICLR 2018.
    """
    generator = torch.Generator().manual_seed(0)
    distances: list[float] = []
    for levels in zip(laplacian(one), laplacian(other), strict=True):
        side = levels[0].shape[-1]
        patch = min(PATCH, side)
        places = torch.randint(side - patch + 1, (len(one), PATCHES, 2), generator=generator)
        descriptors = [patches(level, places, patch) for level in levels]
        distances.append(sliced_wasserstein(descriptors[0], descriptors[1], generator))
    return sum(distances) / len(distances)


def laplacian(images: Tensor) -> list[Tensor]:
    """Levels of a pyramid, finest first: what the next smaller one, enlarged, does not say; the last is the image itself."""
    levels: list[Tensor] = []
    while images.shape[-1] // 2 >= SMALLEST_LEVEL:
        smaller = functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
        levels.append(images - functional.interpolate(smaller, size=images.shape[-2:], mode="bilinear"))
        images = smaller
    return [*levels, images]


def patches(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Squares of images `[N,C,S,S]` at the given places `[N,P,2]`, normalised in each channel: `[N*P,C*size*size]`."""
    steps = torch.arange(size)
    rows = places[:, :, 0, None, None] + steps[:, None]  # [N,P,size,1]
    columns = places[:, :, 1, None, None] + steps  # [N,P,1,size]
    found = images[torch.arange(len(images))[:, None, None, None], :, rows, columns]  # [N,P,size,size,C]
    found = (found - found.mean((0, 1, 2, 3))) / found.std((0, 1, 2, 3)).clamp(min=1e-6)
    return found.flatten(2).flatten(0, 1)


def shown(scores: GANScores | None, name: str) -> str:
    """One score for people; a dash where there is none."""
    value = math.nan if scores is None else getattr(scores, name)
    return f"{value:.4f}" if math.isfinite(value) else "–"


def numbers(scores: GANScores | None) -> dict[str, float | None] | None:
    """Plain values for a file, None in place of what is not finite."""
    if scores is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(scores).items()}


def score_table(before: GANScores | None, after: GANScores, training: GANScores | None) -> Table:
    """The distances before and after, and those of training images, which no generator is expected to beat."""
    table = Table(title="Distances from held-out images")
    table.add_column("less is better")
    for title in ("before", "after", "training images"):
        table.add_column(title, justify="right")
    for name, title in TITLES.items():
        table.add_row(title, shown(before, name), shown(after, name), shown(training, name))
    return table
