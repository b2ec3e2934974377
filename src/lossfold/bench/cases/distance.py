"""Distance transforms of masks, exact and Euclidean: each score times its pixel's distance to where its mask ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ..case import Case, Entry, LossFunction, Sample, Setting, Sizes
from ..inputs import dense_sample

Transform = Callable[[Tensor], Tensor]
ONE_BY_ONE = "called for each class and image, as it takes one at a time"
LACKING = {
    "lossfold-eager": "is for devices without the operator, and takes a time that grows with the square of a side",
    "torchvision": "has no distance transform",
    "smp": "has no distance transform",
    "toolbelt": "has no distance transform",
    "kornia": "has one of convolutions, which is not exact",
    "scikit-image": "has none of its own: medial_axis calls SciPy's",
}


def mask_sample(setting: Setting) -> Sample:
    """Make scores `[B,C,*S]` and masks of their shape: smooth ones, or of noise with three pixels in ten."""
    leaf, (targets,) = (sample := dense_sample(setting)).leaf, sample.rest
    masks = targets > 0.5
    masks.flatten(2)[..., -1] = False  # a mask that covers all ends nowhere
    return Sample(leaf, (masks,))


def far(transform: Transform) -> LossFunction:
    """The mean of the scores times the distances."""

    def loss(leaf: Tensor, masks: Tensor) -> Tensor:
        with torch.no_grad():
            distances = transform(masks)
        return (leaf * distances.to(leaf.dtype)).mean()

    return loss


def by_scipy(masks: Tensor) -> Tensor:
    """SciPy's transform, of each mask."""
    edt = import_module("scipy.ndimage").distance_transform_edt
    flat = masks.flatten(0, 1).cpu().numpy()
    return torch.stack([torch.from_numpy(edt(one)) for one in flat]).view(masks.shape).to(masks.device)


def by_monai(masks: Tensor) -> Tensor:
    """MONAI's transform: on CPUs SciPy's."""
    transform: Any = import_module("monai.transforms.utils").distance_transform_edt
    return torch.stack([torch.as_tensor(transform(one)) for one in masks])


def by_lossfold() -> LossFunction:
    """lossfold's, by its operator."""
    return far(import_module("lossfold").functional.distance_transform)


DISTANCE = Case(
    name="distance",
    title="Distance transform",
    truth=far(by_scipy),
    sample=mask_sample,
    passes=2,
    entries={
        "lossfold-cpp": Entry(by_lossfold),
        "scipy": Entry(lambda: far(by_scipy), note=ONE_BY_ONE),
        "monai": Entry(lambda: far(by_monai), note="distance_transform_edt, which calls SciPy's for each class on CPUs"),
    },
    lacking=LACKING,
    sizes=Sizes(full=(4, 19, 512, 512), quick=(1, 4, 128, 128), fewest_channels=1),
    leaf="scores",
    exponentials=0,
    most_repeats=5,
)

VOLUME = replace(
    DISTANCE,
    name="distance-3d",
    title="Distance transform of a volume",
    sizes=Sizes(full=(1, 1, 256, 256, 256), quick=(1, 1, 32, 32, 32), fewest_channels=1),
)

CASES = (DISTANCE, VOLUME)
