"""Batches that are split: every loss with each of its samples, what it is called with, and which rows each rank or part has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import lossfold as lf
from tests import internals
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.losses.adversarial.critics import Patches, images
from tests.losses.adversarial.test_path_length import Pixel, latents
from tests.losses.features.test_amp import Layers
from tests.losses.features.test_clip import IDS, OpenClip
from tests.losses.features.test_identity import Stripes

Rows = slice
BATCH = 5
SPLITS: tuple[tuple[int, ...], ...] = ((3, 0, 2), (4, 1), (1, 2, 2))
"""How many images each rank has: uneven, none, and two ranks."""


@dataclass(frozen=True)
class Split:
    """A loss, and a batch of which any rows can be taken.

    Attributes:
        id: of the case.
        build: the loss.
        make: a leaf that is differentiated, and a call of a criterion with some rows of the batch.
        blank: whether images without anything that counts are among the batch's last.
        empty: whether a rank may have no image.
    """

    id: str
    build: Callable[[], nn.Module]
    make: Callable[[], tuple[Tensor, Callable[[Any, Rows], Any]]]
    empty: bool = True


def of_case(case: Case) -> Split:
    """A loss of the contract: the last two images count nothing, if there is a weight that can say so."""

    def make() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
        data = case.make(batch=BATCH, way=case.rich)
        if data.weight is not None:
            blank = case.blank(data).weight
            assert blank is not None
            data = data.with_weight(torch.cat([data.weight[:3], blank[3:]]))
        leaf = data.leaf()
        return leaf.pred, lambda criterion, rows: criterion(*leaf.each(lambda one: one[rows]).call)

    return Split(f"{case.fold}-{case.id}", case.build, make)


def of_tensors(*tensors: Tensor, **named: Any) -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    leaf = tensors[0].clone().requires_grad_()
    return leaf, lambda criterion, rows: criterion(*(one[rows] for one in (leaf, *tensors[1:])), **named)


def pictures(*shape: int) -> list[Tensor]:
    return [2 * torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(seed)) - 1 for seed in (0, 1)]


def penalised(*seeds: int) -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    critic = Patches().double()
    batches = [images(BATCH, 2, 6, 6, seed=seed) for seed in seeds]
    return critic.first.weight, lambda criterion, rows: criterion(critic, *(batch[rows] for batch in batches))


def regularised() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    generator, styles = Pixel(), latents(BATCH, 4)

    def call(criterion: Any, rows: Rows) -> Any:
        with mock.patch("torch.randn_like", torch.ones_like):  # the same noise, however it is split
            return criterion(generator, styles[rows])

    return generator.s, call


def relativistic() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    leaf, other = images(BATCH, 1, 5, 5).clone().requires_grad_(), images(BATCH, 1, 3, 3, seed=1)

    def call(criterion: Any, rows: Rows) -> Any:
        x = leaf[rows]
        return criterion([x, 2 * x], True, other=[other[rows], (x - 1).square()])

    return leaf, call


def generated() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    """The generator's term, whose gradient goes through the other outputs alone; of which there are more."""
    real, leaf = images(BATCH, 1, 3, 3), images(BATCH, 1, 5, 5, seed=1).clone().requires_grad_()
    return leaf, lambda criterion, rows: criterion(real[rows].square(), False, other=leaf[rows])


def paired() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    leaf, other = images(BATCH, 1, 5, 5).clone().requires_grad_(), images(BATCH, 1, 5, 5, seed=1)
    return leaf, lambda criterion, rows: criterion([leaf[rows], 2 * leaf[rows]], True, other=[other[rows], -other[rows]])


def inpainted() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    leaf, mask = images(BATCH, 1, 5, 5).clone().requires_grad_(), torch.rand(BATCH, 1, 9, 9).round()
    return leaf, lambda criterion, rows: criterion([leaf[rows], 2 * leaf[rows]], True, mask=mask[rows])


def transferred() -> tuple[Tensor, Callable[[Any, Rows], Any]]:
    maps = [torch.rand(BATCH, 4, size, size) for size in (4, 8)]
    textures = [torch.rand(BATCH, 4, size, size) for size in (4, 8)]
    attention, leaf = torch.rand(BATCH, 1, 4, 4), maps[0].clone().requires_grad_()

    def call(criterion: Any, rows: Rows) -> Any:
        return criterion((leaf[rows], maps[1][rows]), attention[rows], [one[rows] for one in textures])

    return leaf, call


VGG: dict[str, Any] = {"layer_weights": {"4": 1.0, "2": 0.5}, "vgg_type": "vgg11", "pretrained": "random"}
FOLDLESS: tuple[Split, ...] = (
    *(
        Split(
            f"gan-{kind}-{disc}",
            lambda kind=kind, disc=disc: lf.GANLoss(kind, target_is_real=True, is_disc=disc),  # type: ignore[misc]
            lambda: of_tensors(images(BATCH, 1, 5, 5)),
        )
        for kind in ("vanilla", "lsgan", "l1", "wgan", "wgan-logistic-ns", "hinge")
        for disc in (False, True)
    ),
    Split("gan-ragan", lambda: lf.GANLoss("ragan"), relativistic),
    Split("gan-ragan-ls", lambda: lf.GANLoss("ragan-ls"), generated),
    Split("gan-rpgan", lambda: lf.GANLoss("rpgan"), paired),
    Split("lecam", lambda: lf.LeCamRegularizer(decay=0.5), lambda: of_tensors(*(images(BATCH, 1, 5, 5, seed=s) for s in (0, 1)))),
    Split("matching", lambda: lf.FeatureMatchingLoss(), lambda: of_tensors(*(images(BATCH, 1, 5, 5, seed=s) for s in (0, 1)))),
    *(
        Split(name, lambda name=name, options=options: lf.LOSSES[name](**options), lambda: of_tensors(*pictures(2, 8, 8)))  # type: ignore[misc]
        for name, options in (
            ("RobustLoss", {"alpha": 0.5}),
            ("FFTLoss", {}),
            ("FocalFrequencyLoss", {"patch_factor": 2}),
            ("MSSSIML1Loss", {"sigmas": (0.5, 1.0), "window_size": 5}),
            ("ScaleShiftInvariantLoss", {"scales": 2}),
            ("ScaleShiftInvariantLoss", {"align": "median", "per_image": True}),
            ("EdgeAwareSmoothnessLoss", {}),
            ("EPELoss", {"max_flow": 1.0}),
        )
    ),
    *(
        Split(
            f"silog-{each}", lambda each=each: lf.SILogLoss(per_image=each), lambda: of_tensors(*(2 + x for x in pictures(1, 8, 8)))
        )  # type: ignore[misc]
        for each in (False, True)
    ),
    Split("dists", lambda: lf.DISTSLoss(network=Layers(), weights=None), lambda: of_tensors(*pictures(3, 24, 24)), False),
    Split("gan-smgan-gen", lambda: lf.GANLoss("smgan"), inpainted),
    Split("gan-smgan-disc", lambda: lf.GANLoss("smgan", is_disc=True), inpainted),
    Split("shift", lambda: lf.DiscShiftLoss(), lambda: of_tensors(images(BATCH, 1, 5, 5))),
    *(
        Split(f"{name}-{mode}", lambda name=name, mode=mode: lf.LOSSES[name](norm_mode=mode), lambda: penalised(0), False)  # type: ignore[misc]
        for name in ("R1GradientPenalty", "R2GradientPenalty")
        for mode in ("pixel", "HWC")
    ),
    Split("path", lambda: lf.GeneratorPathRegularizer(batch_shrink=1, decay=0.25), regularised, False),
    Split("perceptual", lambda: lf.PerceptualLoss(**VGG), lambda: of_tensors(*pictures(3, 32, 32)), False),
    Split("lpips", lambda: lf.LPIPSLoss(network=Layers(), linear=None), lambda: of_tensors(*pictures(3, 24, 24)), False),
    Split("face", lambda: lf.FaceIdLoss(network=Stripes()), lambda: of_tensors(*pictures(3, 112, 112)), False),
    Split("lightcnn", lambda: lf.LightCNNFeatureLoss(pretrained="random"), lambda: of_tensors(*pictures(3, 32, 32)), False),
    Split(
        "clip",
        lambda: lf.CLIPLoss(network=OpenClip()),
        lambda: (lambda x: (x[0], lambda c, rows: x[1](lambda one: c(one, IDS[:1]), rows)))(of_tensors(pictures(3, 16, 16)[0])),
        False,
    ),
    Split("transferal", lambda: lf.TransferalPerceptualLoss(), transferred, False),
)
COVERED = {
    "GANLoss", "DiscShiftLoss", "R1GradientPenalty", "R2GradientPenalty", "GradientPenaltyLoss", "GeneratorPathRegularizer",
    "PerceptualLoss", "LPIPSLoss", "FaceIdLoss", "LightCNNFeatureLoss", "CLIPLoss", "TransferalPerceptualLoss", "DISTSLoss",
    "LeCamRegularizer", "FeatureMatchingLoss", "RobustLoss", "FFTLoss", "FocalFrequencyLoss", "MSSSIML1Loss", "SILogLoss",
    "ScaleShiftInvariantLoss", "EdgeAwareSmoothnessLoss", "EPELoss",
}  # fmt: skip
"""Foldless losses that are above; the gradient penalty between images, which draws between which, is tested by itself."""
assert {name.removesuffix("Comps") for name in internals.foldless()} == COVERED, "write down how a new loss is split"

FOLDED = tuple(
    of_case(case) for case in CASES if case.reduction != "none" and not (getattr(case, "sorts", False) and not case.by_image)
)
ALL = {split.id: split for split in (*FOLDED, *FOLDLESS)}


def rows_of(counts: tuple[int, ...], number: int) -> Rows:
    """Which images a part has."""
    start = sum(counts[:number])
    return slice(start, start + counts[number])
