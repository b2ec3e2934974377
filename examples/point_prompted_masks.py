"""A mask head on real pictures: a point on a coin in, the mask of that coin out.

Trains on three rows of the picture of coins that scikit-image ships, with the losses of Mask2Former and SAM heads on
uncertain points of quarter-resolution logits, and scores the fourth row. About a minute on two cores; needs `lossfold[train]`.

    python examples/point_prompted_masks.py --out masks.png
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image
from skimage.data import coins
from skimage.measure import label
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf
from lossfold.train.data.objects import coin_mask

SIZE, HELD_OUT_FROM = 80, 222  # of a crop; the picture's row where the fourth row of coins begins


def load() -> tuple[Tensor, Tensor]:
    """Return the picture `[H,W]` in 0..1 and the number of the coin at every pixel, 0 for none."""
    grey = coins()
    return torch.from_numpy(grey / 255).float(), torch.from_numpy(label(coin_mask(grey))).long()


def prompts(image: Tensor, numbers: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crop around random points on coins; returns crops with a channel that marks the point `[N,2,S,S]`, and masks `[N,1,S,S]`."""
    inside = numbers.nonzero()
    chosen = inside[torch.randint(len(inside), (count,), generator=generator)]
    crops, masks = [], []
    for y, x in chosen.tolist():
        top, left = (int(torch.randint(SIZE // 4, 3 * SIZE // 4, (), generator=generator)) for _ in range(2))
        box = [min(max(at - away, 0), length - SIZE) for at, away, length in zip((y, x), (top, left), image.shape, strict=True)]
        window = tuple(slice(start, start + SIZE) for start in box)
        rows, columns = torch.arange(SIZE)[:, None] + box[0], torch.arange(SIZE) + box[1]
        point = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
        crops.append(torch.stack([image[window] - 0.4, point]))
        masks.append(numbers[window] == numbers[y, x])
    return torch.stack(crops), torch.stack(masks)[:, None]


def network() -> nn.Module:
    """Score a quarter of the height and width: `[N,2,S,S]` to `[N,1,S/4,S/4]`."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride, dilation in (
        (2, 24, 2, 1),
        (24, 48, 2, 1),
        (48, 48, 1, 2),
        (48, 48, 1, 4),
        (48, 48, 1, 6),
        (48, 48, 1, 1),
    ):
        layers += [
            nn.Conv2d(inputs, outputs, 5 if stride == 2 else 3, stride, 2 if stride == 2 else dilation, dilation),
            nn.GroupNorm(8, outputs),
            nn.ReLU(True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(48, 1, 1))


@torch.no_grad()
def score(head: nn.Module, crops: Tensor, masks: Tensor) -> tuple[float, Tensor]:
    """Return the mean IoU of the masks in percent, and the predicted masks."""
    logits = functional.interpolate(head(crops), size=masks.shape[2:], mode="bilinear", align_corners=False)
    return float(lf.metrics.iou_binary(logits[:, 0] > 0, masks[:, 0])), logits > 0


def main() -> None:
    """Train, score, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--masks", type=int, default=16, help="masks of a step")
    parser.add_argument("--out", default="", help="a PNG of held-out crops, truths and predictions")
    options = parser.parse_args()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    image, numbers = load()
    train = image[:HELD_OUT_FROM], numbers[:HELD_OUT_FROM]
    held_out = prompts(image[HELD_OUT_FROM - 4 :], numbers[HELD_OUT_FROM - 4 :], 48, generator)
    head = network()
    criterion = lf.presets.mask_losses(bce=5.0, dice=5.0)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    print(f"IoU of held-out coins before: {score(head, *held_out)[0]:.1f} %")
    for step in range(options.steps):
        crops, masks = prompts(*train, options.masks, generator)
        logits = head(crops)
        points = lf.functional.sample_uncertain_points(logits, 784, generator=generator)
        predicted, true = (lf.functional.sample_points(x, points) for x in (logits, masks))
        out = criterion(predicted, true, normalizer=len(masks))
        optimizer.zero_grad()
        out.backward()
        optimizer.step()
        scheduler.step()
        if step % 40 == 0:
            print(f"step {step}: " + ", ".join(f"{name} {float(value):.3f}" for name, value in out.terms.items()))
    after, shown = score(head, *held_out)
    print(f"IoU of held-out coins after: {after:.1f} %")
    if options.out:
        columns = [held_out[0][:12, 0] + 0.4 + 0.6 * held_out[0][:12, 1], held_out[1][:12, 0].float(), shown[:12, 0].float()]
        sheet = torch.cat([torch.cat(list(column), 1) for column in columns])
        Image.fromarray((sheet.clamp(0, 1) * 255).byte().numpy().astype(np.uint8)).save(options.out)


if __name__ == "__main__":
    main()
