"""Draw docs/shapes_maps.png and docs/shapes_pulls.png again: `python docs/shape_pictures.py`.

The image is a crop of scikit-image's retina, with the vessels that `VesselsData` finds as the truth; the prediction is that truth
with a vessel cut, one not found, a false blob, and soft edges.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf

FOLDER = Path(__file__).parent
CROP = (slice(60, 220), slice(200, 360))


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Image `[3,H,W]`, truth and logits `[1,1,H,W]`."""
    from lossfold.train.data import VesselsData

    data = VesselsData()
    data.setup("fit")
    samples: Any = data.train_set
    image, truth = samples.image[(slice(None), *CROP)], (samples.labels[CROP] == 1)[None, None].float()
    p = truth.clone()
    p[..., 60:76, 34:62] = 0  # a cut
    p[..., 90:160, 0:46] = 0  # what is not found at all
    rows, columns = torch.meshgrid(torch.arange(160), torch.arange(160), indexing="ij")
    p[..., (rows - 130) ** 2 + (columns - 128) ** 2 < 64] = 1  # what is not there
    soft = functional.avg_pool2d(p, 3, 1, 1, count_include_pad=False).clamp(0.03, 0.97)
    return image, truth, soft.logit()


def main() -> None:
    """Draw both pictures."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    image, truth, logits = scene()
    mask = truth > 0.5
    signed = lf.functional.signed_distance(mask)[0, 0]
    skeleton = lf.functional.soft_skeleton(truth, iterations=5)[0, 0]
    panels: list[tuple[str, Any, dict[str, Any]]] = [
        ("image", image.permute(1, 2, 0), {}),
        ("truth, by a classical filter", truth[0, 0], {"cmap": "gray"}),
        ("prediction p", logits.sigmoid()[0, 0], {"cmap": "gray"}),
        ("signed_distance", signed, {"cmap": "RdBu", "vmin": -30, "vmax": 30}),
        ("distance_transform, inside", lf.functional.distance_transform(mask)[0, 0], {"cmap": "magma"}),
        ("soft_skeleton, 5 iterations", skeleton, {"cmap": "gray"}),
    ]
    draw(pyplot, panels, FOLDER / "shapes_maps.png")

    losses = {
        "DiceLoss": lf.DiceLoss(link="identity"),
        "BoundaryLoss": lf.BoundaryLoss(link="identity"),
        "HausdorffDTLoss": lf.HausdorffDTLoss(link="identity"),
        "CLDiceLoss(iterations=5)": lf.CLDiceLoss(link="identity", iterations=5),
        "CLDiceLoss(.., dice_weight=0.5)": lf.CLDiceLoss(link="identity", iterations=5, dice_weight=0.5),
    }
    panels = [("prediction p", logits.sigmoid()[0, 0], {"cmap": "gray"})]
    for name, loss in losses.items():
        p = logits.sigmoid().requires_grad_()
        (pull,) = torch.autograd.grad(loss(p, truth), p)
        largest = pull.abs().flatten().quantile(0.995)
        panels.append((name, -pull[0, 0] / largest, {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}))
    draw(pyplot, panels, FOLDER / "shapes_pulls.png")


def draw(pyplot: Any, panels: list[tuple[str, Any, dict[str, Any]]], file: Path) -> None:
    """Draw six panels in two rows, small enough for a repository."""
    figure, axes = pyplot.subplots(2, 3, figsize=(7.2, 5.1), dpi=90)
    for ax, (title, values, options) in zip(axes.flat, panels, strict=True):
        ax.imshow(values.numpy(), interpolation="nearest", **options)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
    figure.tight_layout(pad=0.4, h_pad=1.4)
    figure.savefig(file)
    pyplot.close(figure)
    shrink(file)


def shrink(file: Path) -> None:
    """Write a picture again with a palette."""
    from PIL import Image

    Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)


if __name__ == "__main__":
    main()
