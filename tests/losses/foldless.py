"""How each loss that folds nothing is made and called: what the value and scaling contract runs over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import lossfold as lf
from tests import internals
from tests.losses.adversarial.critics import Patches, images
from tests.losses.adversarial.test_path_length import Pixel, latents
from tests.losses.features.test_amp import Layers
from tests.losses.features.test_clip import IDS, OpenClip
from tests.losses.features.test_identity import Stripes
from tests.losses.features.test_texture import levels

Given = tuple[Tensor, Callable[[Any], Any]]
"""What a call differentiates, and the call of a loss."""


def of(leaf: Tensor, *others: Any) -> Given:
    """A loss of a tensor that asks for a gradient, and of others."""
    leaf = leaf.clone().requires_grad_()
    return leaf, lambda loss: loss(leaf, *others)


def pictures(*shape: int) -> list[Tensor]:
    return [2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1 for seed in (0, 1)]


def penalised(*names: str) -> Given:
    """A penalty's gradient is the discriminator's."""
    critic = Patches().double()
    batches = {"real": images(), "fake": images(seed=1)}
    return critic.first.weight, lambda loss: loss(critic, *(batches[name] for name in names))


def regularised() -> Given:
    generator = Pixel()
    return generator.s, lambda loss: loss(generator, latents(6, 4))


def transferred() -> Given:
    maps, attention, textures = levels()
    leaf = maps[0].clone().requires_grad_()
    return leaf, lambda loss: loss((leaf, *maps[1:]), attention, textures)


def matched() -> Given:
    fake, real = ([images(2, 3, 5, 5, seed=seed), images(2, 4, 3, 3, seed=seed), images(2, 1, seed=seed)] for seed in (0, 1))
    leaf = fake[0].clone().requires_grad_()
    return leaf, lambda loss: loss([leaf, *fake[1:]], real)


def depths() -> list[Tensor]:
    """Of which some were not measured, but what is in the middle was."""
    pred, target = (1.5 + one for one in pictures(2, 1, 8, 9))
    target[:, :, :2, :3] = 0
    return [pred, target]


CALLS: dict[str, Callable[[], Given]] = {
    "GANLoss": lambda: of(images(4, 1, 5, 5)),
    "DiscShiftLoss": lambda: of(images(4, 1, 5, 5)),
    "GradientPenaltyLoss": lambda: penalised("real", "fake"),
    "R1GradientPenalty": lambda: penalised("real"),
    "R2GradientPenalty": lambda: penalised("fake"),
    "GeneratorPathRegularizer": regularised,
    "LeCamRegularizer": lambda: of(*(images(4, 1, 5, 5, seed=seed) for seed in (0, 1))),
    "FeatureMatchingLoss": lambda: matched(),
    "RobustLoss": lambda: of(*pictures(2, 3, 6, 7)),
    "FFTLoss": lambda: of(*pictures(2, 3, 6, 8)),
    "FocalFrequencyLoss": lambda: of(*pictures(2, 3, 6, 8)),
    "MSSSIML1Loss": lambda: of(*pictures(2, 3, 6, 7)),
    "SILogLoss": lambda: of(*depths()),
    "ScaleShiftInvariantLoss": lambda: of(*depths()),
    "EdgeAwareSmoothnessLoss": lambda: of(depths()[0], pictures(2, 3, 8, 9)[0]),
    "EPELoss": lambda: of(*(flow for flow in pictures(2, 2, 8, 9))),
    "DISTSLoss": lambda: of(*(0.5 + 0.4 * one for one in pictures(1, 3, 24, 24))),
    "PerceptualLoss": lambda: of(*pictures(1, 3, 32, 32)),
    "TransferalPerceptualLoss": transferred,
    "LPIPSLoss": lambda: of(*pictures(2, 3, 24, 24)),
    "FaceIdLoss": lambda: of(*pictures(2, 3, 112, 112)),
    "LightCNNFeatureLoss": lambda: of(*pictures(1, 3, 128, 128)),
    "CLIPLoss": lambda: of(pictures(2, 3, 16, 16)[0], IDS),
}
"""By the name of the loss; a component of MMagic's is called as the loss that it is of."""
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "LPIPSLoss": Layers,
    "DISTSLoss": Layers,
    "FaceIdLoss": Stripes,
    "CLIPLoss": OpenClip,
}
"""Small ones in place of those that take seconds to make."""


@dataclass(frozen=True)
class Foldless:
    """A registered loss that folds nothing, with one of its samples."""

    name: str
    options: dict[str, Any] = field(hash=False)

    @property
    def id(self) -> str:
        return f"{self.name}({','.join(f'{key}={value}' for key, value in self.options.items())})".replace(" ", "")

    @property
    def base(self) -> str:
        return self.name.removesuffix("Comps")

    @property
    def weighs(self) -> bool:
        """Whether it has a weight: a discriminator's loss has none of its own."""
        return not self.options.get("is_disc")

    @property
    def written(self) -> bool:
        """Whether all of it is in its options, so that it can be written down: not if its network is an object."""
        return self.base not in NETWORKS

    def build(self, **extra: Any) -> Any:
        network = {} if self.written else {"network": NETWORKS[self.base]()}
        own = {key: value for key, value in self.options.items() if self.written or key not in ("pretrained", "linear")}
        if self.base in ("LPIPSLoss", "DISTSLoss"):
            own["linear" if self.base == "LPIPSLoss" else "weights"] = None
        torch.manual_seed(0)  # of random features
        return lf.LOSSES[self.name](**(own | network | extra))

    def call(self) -> Given:
        assert self.base in CALLS, f"write down in tests/losses/foldless.py how {self.name} is called"
        return CALLS[self.base]()


def foldless_cases() -> list[Foldless]:
    """Every one with each of its samples; CLIP, which has none without a model, with one."""
    found = []
    for name in internals.foldless():
        for options in lf.LOSSES[name].samples or ({},):
            small = {"vgg_type": "vgg11", "layer_weights": {"4": 1.0}} if name == "PerceptualLoss" else {}
            found.append(Foldless(name, options | small))
    return found


def scalar(result: Any) -> Tensor:
    """A loss's value: the sum of its parts, where it has several."""
    if isinstance(result, Tensor):
        return result
    if isinstance(result, lf.LossOutput):
        return result.total
    return torch.stack([part for part in result if part is not None]).sum()
