"""A query head on a real picture: a crop in, a mask and a score for every coin out, as Mask2Former's heads give them.

Every query scores whether it has found a coin and which pixels that is. Costs of all pairs and SciPy's assignment say which query
is which coin; then cross entropy, Dice and binary cross entropy on uncertain points train it. Trains on three rows of the picture
of coins that scikit-image ships and scores the fourth row. About a minute on two cores; needs `lossfold[train]` and SciPy.

    python examples/query_head.py --out queries.png
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

SIZE, HELD_OUT_FROM = 96, 222  # of a crop; the picture's row where the fourth row of coins begins
GRID, WIDTH = 4, 32  # queries along a side of the crop; features


def crop(image: Tensor, numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a random crop `[1,S,S]` and the masks of its coins `[M,S,S]`; slivers at its border are no coins."""
    top, left = (int(torch.randint(side - SIZE + 1, (), generator=generator)) for side in image.shape)
    window = slice(top, top + SIZE), slice(left, left + SIZE)
    turns = int(torch.randint(4, (), generator=generator))
    picture, inside = (torch.rot90(one[window], turns) for one in (image, numbers))
    masks = inside == inside.unique()[inside.unique() > 0].view(-1, 1, 1)
    return picture[None] - 0.4, masks[masks.flatten(1).sum(1) > 60]


class QueryHead(nn.Module):
    """Queries that look at the pixels, and masks as products of queries and pixels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride, dilation in ((3, 16, 2, 1), (16, WIDTH, 2, 1), (WIDTH, WIDTH, 1, 2), (WIDTH, WIDTH, 1, 4)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation), nn.GroupNorm(8, outputs), nn.ReLU(True)]
        self.pixels = nn.Sequential(*layers, nn.Conv2d(WIDTH, WIDTH, 3, 1, 1))
        self.place = nn.Sequential(nn.Linear(2, WIDTH), nn.ReLU(True), nn.Linear(WIDTH, WIDTH))
        self.look = nn.ModuleList([nn.MultiheadAttention(WIDTH, 4, batch_first=True) for _ in range(2)])
        self.think = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, 96), nn.ReLU(True), nn.Linear(96, WIDTH)) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(4)])
        self.classes, self.masks = nn.Linear(WIDTH, 2), nn.Linear(WIDTH, WIDTH)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits `[B,Q,2]`, none and coin, and mask logits `[B,Q,S/4,S/4]` of crops `[B,1,S,S]`."""
        count, _, high, wide = images.shape
        places = torch.stack(torch.meshgrid(torch.linspace(-1, 1, high), torch.linspace(-1, 1, wide), indexing="ij"))
        features = self.pixels(torch.cat([images, places.expand(count, -1, -1, -1)], 1))
        seen = features.flatten(2).mT
        side = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
        queries = self.place(torch.cartesian_prod(side, side)).expand(count, -1, -1)  # one for each part of the crop
        for i, (look, think) in enumerate(zip(self.look, self.think, strict=True)):
            queries = self.norms[2 * i](queries + look(queries, seen, seen, need_weights=False)[0])
            queries = self.norms[2 * i + 1](queries + think(queries))
        return self.classes(queries), torch.einsum("bqc,bchw->bqhw", self.masks(queries), features) / WIDTH**0.5


class Criterion:
    """Costs, matching, points and losses of one batch."""

    def __init__(self, points: int, generator: torch.Generator) -> None:
        self.points, self.generator = points, generator
        self.of_classes = 2.0 * lf.CrossEntropyLoss(class_weight=[0.1, 1.0])
        self.of_masks = lf.presets.mask_losses(bce=5.0, dice=5.0)

    def __call__(self, classes: Tensor, masks: Tensor, truths: list[Tensor]) -> dict[str, Tensor]:
        """Return the weighted losses of class logits `[B,Q,2]`, mask logits `[B,Q,h,w]` and true masks `[M,S,S]` of each image."""
        pairs = lf.functional.match([self.costs(*one) for one in zip(classes, masks, truths, strict=True)])
        labels = torch.zeros(classes.shape[:2], dtype=torch.int64)
        for image, (queries, _) in enumerate(pairs):
            labels[image, queries] = 1
        predicted = torch.cat([one[queries] for one, (queries, _) in zip(masks, pairs, strict=True)])[:, None]
        true = torch.cat([one[coins] for one, (_, coins) in zip(truths, pairs, strict=True)])[:, None]
        places = lf.functional.sample_uncertain_points(predicted, self.points, generator=self.generator)
        at_points = (lf.functional.sample_points(one, places) for one in (predicted, true))
        out = self.of_masks(*at_points, normalizer=len(true))
        return {"class": self.of_classes(classes.movedim(-1, 1), labels), **out.weighted}

    def costs(self, classes: Tensor, masks: Tensor, truths: Tensor) -> Tensor:
        """Return what each query of one image costs as each coin, `[Q,M]`, at the same random points for all."""
        places = torch.rand(1, self.points, 2, generator=self.generator)
        predicted, true = (
            lf.functional.sample_points(one[:, None], places.expand(len(one), -1, -1))[:, 0] for one in (masks.detach(), truths)
        )
        return lf.functional.mask_costs(predicted, true, bce=5.0, dice=5.0) - 2 * classes.detach().softmax(1)[:, 1:]


@torch.no_grad()
def score(head: QueryHead, images: Tensor, truths: list[Tensor]) -> tuple[float, float, Tensor]:
    """Return recall and precision in percent at an IoU of 1/2, and the picture of the masks that were found."""
    classes, masks = head(images)
    found = functional.interpolate(masks, size=images.shape[2:], mode="bilinear", align_corners=False) > 0
    kept = classes.softmax(2)[..., 1] > 0.5
    hits, coins_, claims, shown = 0, 0, 0, []
    for one, keep, true in zip(found, kept, truths, strict=True):
        mine = one[keep]
        both = mine.flatten(1).float() @ true.flatten(1).float().mT
        union = mine.flatten(1).sum(1)[:, None] + true.flatten(1).sum(1)[None] - both
        overlap = both / union.clamp_min(1)
        rows, columns = lf.functional.match(-overlap)
        hits += int((overlap[rows, columns] > 0.5).sum())
        coins_, claims = coins_ + len(true), claims + len(mine)
        shown.append(numbered(mine))
    return 100 * hits / max(coins_, 1), 100 * hits / max(claims, 1), torch.stack(shown)


def numbered(masks: Tensor) -> Tensor:
    """Return masks `[M,S,S]` as one picture, each of another brightness."""
    shades = torch.linspace(0.4, 1, max(1, len(masks)))[: len(masks)].view(-1, 1, 1)
    return torch.cat([torch.zeros(1, *masks.shape[1:]), shades * masks]).amax(0)


def main() -> None:
    """Train, score, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--crops", type=int, default=8, help="crops of a step")
    parser.add_argument("--out", default="", help="a PNG of held-out crops, truths and predictions")
    options = parser.parse_args()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    grey = coins()
    image, numbers = torch.from_numpy(grey / 255).float(), torch.from_numpy(label(coin_mask(grey))).long()
    train = image[:HELD_OUT_FROM], numbers[:HELD_OUT_FROM]
    aside = [crop(image[HELD_OUT_FROM - 16 :], numbers[HELD_OUT_FROM - 16 :], generator) for _ in range(24)]
    held_out, truths = torch.stack([one for one, _ in aside]), [masks for _, masks in aside]
    head, criterion = QueryHead(), Criterion(512, generator)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, options.steps + 1)
    print("held-out coins before: recall {:.0f} %, precision {:.0f} %".format(*score(head, held_out, truths)[:2]))
    for step in range(options.steps):
        batch = [crop(*train, generator) for _ in range(options.crops)]
        losses = criterion(*head(torch.stack([one for one, _ in batch])), [masks for _, masks in batch])
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 50 == 0:
            print(f"step {step}: " + ", ".join(f"{name} {float(value.detach()):.3f}" for name, value in losses.items()))
    recall, precision, shown = score(head, held_out, truths)
    print(f"held-out coins after: recall {recall:.0f} %, precision {precision:.0f} %")
    if options.out:
        true = torch.stack([numbered(one) for one in truths[:10]])
        sheet = torch.cat([torch.cat(list(row), 1) for row in (held_out[:10, 0] + 0.4, true, shown[:10])])
        Image.fromarray((sheet.clamp(0, 1) * 255).byte().numpy().astype(np.uint8)).save(options.out)


if __name__ == "__main__":
    main()
