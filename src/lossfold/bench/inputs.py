"""Logits and labels, alphas and regions, images to measure with: noise, and what a trained network gives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .case import DTYPES, LABEL_DTYPES, Sample, Setting
from .definitions import IGNORED, INTERPOLATION

COARSENESS = 16
"""Side in pixels of the patches that trained-like scenes vary over."""

GRAIN = 0.01
"""Noise on what is trained-like: smooth scenes repeat themselves, and the gradient of a sorted loss is not unique at ties."""

OBJECTS = 8
"""Nodes along a side that the edges of alphas wind between."""

UNKNOWN = 0.15
"""The share of an image in which alpha is unknown."""


def on_its_device(make: Callable[..., Sample]) -> Callable[..., Sample]:
    """Make inputs on the device of their setting: nothing is copied there."""

    @functools.wraps(make)
    def made(setting: Setting, **options: Any) -> Sample:
        with torch.device(setting.device):
            return make(setting, **options)

    return made


@on_its_device
def label_sample(setting: Setting, *, ignored: bool = True, stride: int = 1) -> Sample:
    """Make logits `[B,C,*S]` and labels `[B,*S]` in which every image has every class.

    Args:
        setting: size, dtypes, kind of logits and seed.
        ignored: False leaves out the ignored pixels (a stripe of an eighth of the last axis), for providers
            that have no ignore label. Everything else stays the same.
        stride: label pixels to a logit along every axis; above 1 the logits are smaller than the labels.

    Returns:
        The logits, with `requires_grad`, and the labels.
    """
    generator = torch.Generator(setting.device).manual_seed(setting.seed)
    make = {"random": _random_scene, "trained": _trained_scene}[setting.logits]
    if stride > 1 and len(setting.size) not in (4, 5):
        raise ValueError(f"scoring at label resolution needs a size B,C,H,W or B,C,D,H,W, got {setting.size}")
    logits, labels = make(setting.size, stride, generator)
    batch, classes = setting.size[:2]
    flat = labels.view(batch, -1)
    # Absent classes are where libraries differ; the benchmark compares speed, so no class is absent.
    flat[:, :classes] = torch.arange(classes)[: flat.shape[1]]
    if ignored:
        width = setting.size[-1]
        stripe = labels[..., width - width // 8 :]
        protected = flat[:, :classes].clone()
        stripe.fill_(IGNORED)
        flat[:, :classes] = protected
    leaf = logits.to(DTYPES[setting.dtype]).requires_grad_()
    return Sample(leaf, (labels.to(LABEL_DTYPES[setting.labels]),))


@on_its_device
def dense_sample(setting: Setting) -> Sample:
    """Make logits `[B,C,*S]` and targets of the same shape, 0 or 1, of which every channel of every image has some.

    Returns:
        The logits, with `requires_grad`, and the targets, float32 (float64 for float64 logits).
    """
    generator = torch.Generator(setting.device).manual_seed(setting.seed)
    if setting.logits == "random":
        logits = torch.randn(setting.size, generator=generator)
        targets = torch.rand(setting.size, generator=generator) < 0.3
    else:
        coarse = [max(2, length // COARSENESS) for length in setting.size[2:]]
        logits = _resize(torch.randn(*setting.size[:2], *coarse, generator=generator), list(setting.size[2:])).mul_(8.0)
        logits += GRAIN * torch.randn(setting.size, generator=generator)
        targets = (logits > 0) ^ (torch.rand(setting.size, generator=generator) < 0.02)
    targets.flatten(2)[..., 0] = True
    leaf = logits.to(DTYPES[setting.dtype]).requires_grad_()
    return Sample(leaf, (targets.to(torch.float64 if leaf.dtype == torch.float64 else torch.float32),))


@on_its_device
def alpha_sample(setting: Setting, *, region: bool = True) -> Sample:
    """Make predicted alphas `[B,C,H,W]` and true ones: a few objects with soft edges, opaque within and clear around.

    Args:
        setting: size, dtype, kind of prediction (uniform, or the truth with a little noise) and seed.
        region: also give the map of the unknown, 1 along the edges, of the size `[B,1,H,W]`.

    Returns:
        The predictions, with `requires_grad`, the true alphas and the map, float32 (float64 for float64 predictions).
    """
    if len(setting.size) != 4:
        raise ValueError(f"alphas need a size B,C,H,W, got {setting.size}")
    generator = torch.Generator(setting.device).manual_seed(setting.seed)
    batch, _, *lengths = setting.size
    nodes = torch.randn(batch, 1, OBJECTS, OBJECTS, generator=generator)
    heights = functional.interpolate(nodes, size=lengths, mode="bicubic", align_corners=False)
    distances = heights.abs().flatten(1)
    band = distances.kthvalue(max(1, round(UNKNOWN * distances.shape[1]))).values.view(-1, 1, 1, 1)
    # A trimap's band is somewhat wider than the soft edge in it.
    truth = (0.5 + heights / (1.5 * band)).clamp(0, 1).expand(setting.size)
    if setting.logits == "random":
        alphas = torch.rand(setting.size, generator=generator)
    else:
        alphas = (truth + GRAIN * torch.randn(setting.size, generator=generator)).clamp(0, 1)
    leaf = alphas.to(DTYPES[setting.dtype]).requires_grad_()
    others = torch.float64 if leaf.dtype == torch.float64 else torch.float32
    rest = (truth.to(others).contiguous(), (heights.abs() <= band).to(others))
    return Sample(leaf, rest if region else rest[:1])


@on_its_device
def image_sample(setting: Setting) -> Sample:
    """Make predicted images `[B,C,H,W]` or volumes `[B,C,D,H,W]` and true ones: smooth scenes with some texture, in [0, 1].

    Args:
        setting: size, dtype, kind of prediction (a third of it noise, or the truth with a little noise) and seed.

    Returns:
        The predictions, with `requires_grad`, and the true images, float32 (float64 for float64 predictions).
    """
    if len(setting.size) not in (4, 5):
        raise ValueError(f"images need a size B,C,H,W or B,C,D,H,W, got {setting.size}")
    generator = torch.Generator(setting.device).manual_seed(setting.seed)
    coarse = [max(2, length // COARSENESS) for length in setting.size[2:]]
    scene = _resize(torch.rand(*setting.size[:2], *coarse, generator=generator), list(setting.size[2:]))
    truth = (0.8 * scene + 0.2 * torch.rand(setting.size, generator=generator)).clamp(0, 1)
    noise = torch.rand(setting.size, generator=generator)
    share = 1 / 3 if setting.logits == "random" else GRAIN
    leaf = ((1 - share) * truth + share * noise).to(DTYPES[setting.dtype]).requires_grad_()
    return Sample(leaf, (truth.to(torch.float64 if leaf.dtype == torch.float64 else torch.float32),))


def _random_scene(size: tuple[int, ...], stride: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Normal logits and unrelated labels: what a network gives before training."""
    logits = torch.randn(*size[:2], *_shrunk(size[2:], stride), generator=generator)
    labels = torch.randint(size[1], (size[0], *size[2:]), generator=generator)
    return logits, labels


def _trained_scene(size: tuple[int, ...], stride: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Smooth logits, sure of the right class nearly everywhere: what a network gives after training."""
    coarse = [max(2, length // COARSENESS) for length in size[2:]]
    patches = torch.randn(*size[:2], *coarse, generator=generator)
    logits = _resize(patches, _shrunk(size[2:], stride)).mul_(8.0)
    logits += GRAIN * torch.randn(logits.shape, generator=generator)
    labels = (logits if stride == 1 else _resize(logits, list(size[2:]))).argmax(1)
    mistakes = torch.rand(labels.shape, generator=generator) < 0.02
    noise = torch.randint(size[1], labels.shape, generator=generator)
    return logits, torch.where(mistakes, noise, labels)


def _shrunk(lengths: tuple[int, ...], stride: int) -> list[int]:
    return [-(-length // stride) for length in lengths]


def _resize(scene: Tensor, lengths: list[int]) -> Tensor:
    return functional.interpolate(scene, size=lengths, mode=INTERPOLATION[len(lengths)], align_corners=False)
