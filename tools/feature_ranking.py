"""Print how much further blur is than a brightness shift of equal MSE, in real VGG16 features and in random ones.

For each photograph of scikit-image: loss(blurred, photograph) / loss(shifted, photograph), the shift being that constant whose
square is the MSE of the blur. An MSE of pixels gives 1. The loss is PerceptualLoss with squared differences (as in Johnson et al.)
of relu1_2, relu2_2, relu3_3 and relu4_3, weighted alike, without style. Absolute differences give about the roots of these ratios.
"""

from __future__ import annotations

import statistics

import torch
from scipy.ndimage import gaussian_filter
from skimage import data
from torch import Tensor

import lossfold as lf

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
SEEDS = range(5)


def photograph(name: str, size: int = 256) -> Tensor:
    """Return the middle of a photograph as ``[1, 3, size, size]`` in [0, 1]."""
    image = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float() / 255
    side = min(image.shape[2:])
    top, left = ((length - side) // 2 for length in image.shape[2:])
    image = image[..., top : top + side, left : left + side]
    return torch.nn.functional.interpolate(image, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def degraded(image: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Return the image blurred, and the image shifted towards middle grey, with the same MSE; nothing is clipped."""
    blurred = torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, sigma, sigma)))
    shift = (blurred - image).square().mean().sqrt()
    return blurred, image + (shift if image.mean() < 0.5 else -shift)


def criterion(pretrained: str, kind: str = "mse") -> lf.PerceptualLoss:
    """Return the loss that is asked."""
    weights = dict.fromkeys(LAYERS, 1.0)
    options = {"vgg_type": "vgg16", "norm_img": False, "style_weight": 0.0, "criterion": kind}
    return lf.PerceptualLoss(layer_weights=weights, pretrained=pretrained, **options)


@torch.no_grad()
def ratio(loss: lf.PerceptualLoss, image: Tensor, sigma: float) -> float:
    """Return loss(blur) / loss(shift)."""
    blurred, shifted = degraded(image, sigma)
    return float(loss(blurred, image).total / loss(shifted, image).total)


def rankings(images: dict[str, Tensor], sigma: float = 2.0, kind: str = "mse") -> dict[str, dict[str, float]]:
    """Return the ratio of each photograph, with the real features and with random ones."""
    losses = {"hed": criterion("hed", kind)}
    for seed in SEEDS:
        torch.manual_seed(seed)
        losses[f"random {seed}"] = criterion("random", kind)
    return {source: {name: ratio(loss, image, sigma) for name, image in images.items()} for source, loss in losses.items()}


def table(found: dict[str, dict[str, float]]) -> str:
    """Return the ratios as text."""
    names = list(next(iter(found.values())))
    lines = ["features  " + "".join(f"{name:>11}" for name in names) + "       mean"]
    for source, ratios in found.items():
        lines.append(f"{source:<10}" + "".join(f"{x:11.2f}" for x in (*ratios.values(), statistics.mean(ratios.values()))))
    return "\n".join(lines)


if __name__ == "__main__":
    pictures = {name: photograph(name) for name in PHOTOGRAPHS}
    for criterion_kind in ("mse", "l1"):
        for width in (1.0, 2.0):
            print(f"\nblur of sigma {width:g}, {criterion_kind}")
            print(table(rankings(pictures, width, criterion_kind)))
