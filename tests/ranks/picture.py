"""A picture in 64 tiles, for `test_picture`: `python -m tests.ranks.picture SIDE WAY` prints the peak memory, and what came out."""

from __future__ import annotations

import json
import resource
import sys

import torch
from torch import Tensor, nn

import lossfold as lf

TILES, CLASSES = 8, 5  # tiles along each side


def tile(number: int, side: int) -> tuple[Tensor, Tensor]:
    """A square of the picture, made when it is needed: the labels are in the colours, and a quarter of the tiles has none."""
    generator = torch.Generator().manual_seed(number)
    image = torch.rand(1, 3, side, side, generator=generator)
    labels = (image.mean(1) * 1.8 + 0.1 * number / TILES**2).mul_(CLASSES / 2).byte().clamp_(max=CLASSES - 1)
    if number % 4 == 0:
        labels.fill_(255)
    return image, labels


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, CLASSES, 1)


def criterion() -> lf.LossSet:
    ignored = {"ignore_index": 255}
    hard = lf.OhemCrossEntropyLoss(thresh=0.1, min_kept=100_000, **ignored)
    dice = lf.DiceLoss(per_image=True, **ignored)
    return lf.LossSet(ce=lf.CrossEntropyLoss(**ignored), dice=dice, lovasz=lf.LovaszLoss(**ignored), hard=hard)


def run(side: int, way: str) -> tuple[dict[str, float], list[float]]:
    """Losses and gradient of a picture in tiles, or of a smaller one as a whole; or a step with one of its tiles alone."""
    model, loss = network(), criterion()
    if way == "tile":
        image, labels = tile(1, side // TILES)
        out = loss(model(image), labels)
        out.backward()
    elif way == "whole":
        rows = [[tile(TILES * y + x, side // TILES) for x in range(TILES)] for y in range(TILES)]
        image, labels = (torch.cat([torch.cat([one[part] for one in row], -1) for row in rows], -2) for part in range(2))
        out = loss(model(image), labels)
        out.backward()
    else:
        whole = loss.accumulate()
        for number in range(TILES**2):
            image, labels = tile(number, side // TILES)
            with torch.no_grad():
                whole.add(model(image), labels, images=[0])
        for number in range(TILES**2):
            image, labels = tile(number, side // TILES)
            whole.backward(model(image), labels, images=[0])
        out = whole.output
    slope = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    return {name: value.item() for name, value in out.terms.items()}, slope.tolist()


if __name__ == "__main__":
    torch.set_num_threads(1)
    terms, slope = run(int(sys.argv[1]), sys.argv[2])
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "terms": terms, "slope": slope}))
