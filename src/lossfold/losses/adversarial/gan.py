"""Adversarial losses: what a discriminator's outputs cost it, and the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import python_scalar, wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe
from lossfold.losses.base import Loss
from lossfold.losses.reduce import REDUCTIONS, Addends, Last, divide, mean_of
from lossfold.options import KIND, Word, configured, option
from lossfold.registry import LOSSES

Outputs = Tensor | Sequence[Tensor]

TAPS, SIGMA = 71, 10.0  # of the blur between a hole and the rest


def cross_entropy(x: Tensor, label: float, real: bool) -> Tensor:
    """Return the binary cross entropy of logits against a label."""
    return functional.binary_cross_entropy_with_logits(x, torch.full_like(x, label), reduction="none")


COSTS: dict[str, Callable[[Tensor, float, bool], Tensor]] = {
    "vanilla": cross_entropy,
    "lsgan": lambda x, label, real: (x - label).square(),
    "l1": lambda x, label, real: (x - label).abs(),
    "wgan": lambda x, label, real: -x if real else x,
    "wgan-logistic-ns": lambda x, label, real: -functional.logsigmoid(x if real else -x),  # softplus, without its threshold
    "hinge": lambda x, label, real: functional.relu(1 - x if real else 1 + x),
    "smgan": lambda x, label, real: (x - label).square(),
    "ragan": cross_entropy,
    "ragan-ls": lambda x, label, real: (x - 1 if real else x + 1).square(),
    "rpgan": lambda x, label, real: -functional.logsigmoid(x if real else -x),
}
"""What an output x costs by itself: of x, the label's value, and whether the target is real."""

RELATIVISTIC = ("ragan", "ragan-ls", "rpgan")
"""Types whose x is the output less what the discriminator says of the other kind."""


@LOSSES.register
@configured
class GANLoss(Loss):
    """An adversarial loss: the mean cost of a discriminator's outputs x against "real" or "fake", for either network.

    ========================  =====================================================================================
    ``gan_type``              cost of x, with the label value t of real or fake
    ========================  =====================================================================================
    ``"vanilla"``             binary cross entropy of the logit x against t
    ``"lsgan"``, ``"l1"``     (x − t)², abs(x − t)
    ``"wgan"``                −x if real, x if fake
    ``"wgan-logistic-ns"``    softplus(−x) if real, softplus(x) if fake
    ``"hinge"``               relu(1 − x) if real, relu(1 + x) if fake; for the generator −x
    ``"ragan"``               as "vanilla", of x − mean(``other``), the outputs of the other kind
    ``"ragan-ls"``            (x − mean(``other``) − 1)² if real, (x − mean(``other``) + 1)² if fake
    ``"rpgan"``               softplus(``other`` − x) if real, softplus(x − ``other``) if fake: each output against its own
                              other, so that one call is the whole loss of either network
    ``"smgan"``               inpainting: (x − t)² with t = real·(1 − b) + fake·b for fakes, b the blurred mask of the
                              hole; for the generator Σ m·(x − t)² / Σ m over the hole m
    ========================  =====================================================================================

    Args:
        gan_type: one of the above; it may be given by position.
        real_label_val, fake_label_val: the label values of "vanilla", "lsgan", "l1", "ragan" and "smgan".
        target_is_real: the call's, where the call does not say it, as in configs.
        is_disc: the same; False where neither says it.
        reduction: "mean"; "sum" adds the costs up; "none" returns them, of a single tensor of outputs (of "smgan" times the mask).
        polarity: of "smgan": "paper" is the above; "inverted" exchanges real and fake in the target of fakes, as published code
            does.
        padding: of "smgan": what the blur finds beyond the mask's border: "replicate" the border again, so that a hole that reaches
            it goes on; "zeros" no hole, as MMagic does.
        loss_weight: a factor on the generator's loss; the discriminator's has none.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options and arguments out of range, and for a mask or ``other`` that the type does not take, or misses.

    Gradient:
        Exact, for ``other`` too; 0 behind relu's and outside of the hole.

    Example:
        >>> loss = GANLoss("hinge", loss_weight=0.1)
        >>> loss(torch.tensor([0.5, 2.0]), True, is_disc=True), loss(torch.tensor([0.5, 2.0]), True)
        (tensor(0.2500), tensor(-0.1250))

    Reference:
        Goodfellow et al., Generative Adversarial Nets, NeurIPS 2014 (vanilla, wgan-logistic-ns); Mao et al., LSGAN, ICCV 2017;
        Arjovsky et al., Wasserstein GAN, ICML 2017; Lim and Ye, Geometric GAN, 2017 (hinge); Jolicoeur-Martineau, The
        relativistic discriminator, ICLR 2019; rpgan: the same, On Relativistic f-Divergences, ICML 2020, and Huang et al., R3GAN,
        NeurIPS 2024; Zeng et al., AOT-GAN, TVCG 2022 (smgan).
    """

    gan_type: str = field(kw_only=False, metadata={KIND: Word(among=tuple(COSTS))})
    real_label_val: float = option(1.0)
    fake_label_val: float = option(0.0)
    target_is_real: bool | None = option(None, of=bool)
    is_disc: bool | None = option(None, of=bool)
    polarity: str = option("paper", words=("paper", "inverted"))
    padding: str = option("replicate", words=("replicate", "zeros"))
    reduction: str = option("mean", words=REDUCTIONS)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"gan_type": "vanilla", "target_is_real": True},
        {"gan_type": "hinge", "target_is_real": False, "is_disc": True},
    )

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        self.require("polarity", self.polarity == "paper" or self.gan_type == "smgan", "'paper' unless gan_type='smgan'")
        self.require("padding", self.padding == "replicate" or self.gan_type == "smgan", "'replicate' unless gan_type='smgan'")
        hint = "weigh the discriminator's terms by a set around them, or a schedule"
        self.require("loss_weight", not self.is_disc or self.loss_weight == 1, "1 with is_disc=True", hint)

    @property
    def rounds(self) -> int:  # type: ignore[override]
        """In how many rounds parts of a batch add up: of relativistic averages the mean of the others comes first."""
        return 2 if self.gan_type in ("ragan", "ragan-ls") else 1

    def given(self, name: str, value: bool | None) -> bool | None:
        """Return an argument of the call, or the option in its place."""
        if value is None:
            return getattr(self, name)  # type: ignore[no-any-return]
        value = value if isinstance(value, Tensor) else python_scalar(value)
        if not isinstance(value, bool):
            raise wrong(name, "True or False", describe(value))
        return value

    def check(self, input: Outputs, mask: Tensor | None, other: Outputs | None) -> tuple[list[Tensor], list[Tensor]]:
        """Refuse what does not fit the type; return the outputs and the others as lists."""
        kind = f"gan_type={self.gan_type!r}"
        outputs = as_list("input", input)
        for name, value, wanted in (("mask", mask, ("smgan",)), ("other", other, RELATIVISTIC)):
            if value is not None and self.gan_type not in wanted:
                raise wrong(name, f"left out with {kind}", describe(value), f"it is for gan_type={' or '.join(map(repr, wanted))}")
            if value is None and self.gan_type in wanted:
                meant = "the hole, [B, 1, H, W]" if name == "mask" else "the outputs of the other kind"
                raise wrong(name, f"given with {kind}", "None", meant)
        others = [] if other is None else as_list("other", other)
        if others and len(others) != len(outputs):
            raise wrong("other", f"{len(outputs)} outputs, as in input", str(len(others)))
        if others and others[0].device != outputs[0].device:
            raise wrong("other", f"on input's device {outputs[0].device}", str(others[0].device))
        if self.gan_type == "rpgan":
            for output, pair in zip(outputs, others, strict=True):
                if pair.shape != output.shape:
                    raise wrong("other", f"of input's shape {list(output.shape)}, each output's own other", str(list(pair.shape)))
        if mask is not None:
            for output in outputs:
                check_hole(mask, output)
        if self.reduction == "none" and isinstance(input, (list, tuple)):
            raise wrong("reduction", "'mean' or 'sum' of a list of outputs", "'none'")
        return outputs, others

    def addends(
        self,
        input: Outputs,
        target_is_real: bool | None = None,
        is_disc: bool | None = None,
        mask: Tensor | None = None,
        other: Outputs | None = None,
    ) -> Addends:
        """Return what adds up over parts of a batch; "ragan" has to know the mean of the others first."""
        real, for_disc = self.given("target_is_real", target_is_real), bool(self.given("is_disc", is_disc))
        if real is None:
            hint = "or GANLoss(..., target_is_real=True) says it for every call"
            raise wrong("target_is_real", "True or False", "None", hint)
        outputs, others = self.check(input, mask, other)
        outputs, others = list(map(wide, outputs)), list(map(wide, others))
        if self.gan_type == "rpgan":
            with exactly(outputs[0]):
                return self.added([self.cost(x - y, real) for x, y in zip(outputs, others, strict=True)])
        if others:
            sums, counts = torch.stack([y.sum() for y in others]), torch.stack([y.new_full((), y.numel()) for y in others])
            return Addends((sums, counts), lambda sums, counts: self.against(outputs, divide(sums, counts), real))
        with exactly(outputs[0]):
            if mask is not None:
                return self.in_hole(outputs, real, for_disc, mask)
            if self.gan_type == "hinge" and not for_disc:
                return self.added([-x for x in outputs])
            return self.added([self.cost(x, real) for x in outputs])

    def against(self, outputs: list[Tensor], means: Tensor, real: bool) -> Addends:
        """Return what adds up of outputs from which the means of the others are taken."""
        with exactly(outputs[0]):
            return self.added([self.cost(x - mean.to(x.dtype), real) for x, mean in zip(outputs, means, strict=True)])

    def added(self, costs: list[Tensor], shown: list[Tensor] | None = None) -> Addends:
        """Return what adds up of the outputs' costs, which a hole has been multiplied with where something is shown."""
        if self.reduction == "none":
            return Addends((costs[0],), lambda values: values)
        if self.reduction == "mean" and shown is None:
            return mean_of(costs)
        above = torch.stack([cost.sum() for cost in costs]) / len(costs)
        below = None if shown is None or self.reduction == "sum" else torch.stack([one.sum() for one in shown])
        return Last(above, below).addends(above.dtype)

    def cost(self, x: Tensor, real: bool) -> Tensor:
        """Return what every output costs."""
        return COSTS[self.gan_type](x, self.real_label_val if real else self.fake_label_val, real)

    def in_hole(self, outputs: list[Tensor], real: bool, for_disc: bool, mask: Tensor) -> Addends:
        """Return what adds up of inpainting."""
        hole = (mask if mask.dim() == 4 else mask.unsqueeze(1)).detach().to(outputs[0].dtype)
        size = hole.shape[2:]
        outputs = [
            x if x.shape[2:] == size else functional.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in outputs
        ]
        if not for_disc:
            shown = [hole.expand_as(x) for x in outputs]
            costs = [self.cost(torch.where(one > 0, x, 0.0), real) * one for x, one in zip(outputs, shown, strict=True)]
            return self.added(costs, shown)
        if real:
            return self.added([self.cost(x, real) for x in outputs])
        labels = self.real_label_val, self.fake_label_val
        intact, filled = labels if self.polarity == "paper" else labels[::-1]
        wanted = torch.lerp(torch.full_like(hole, intact), torch.full_like(hole, filled), blurred(hole, self.padding))
        return self.added([(x - wanted).square() for x in outputs])

    def weight_in(
        self, input: object, target_is_real: bool | None = None, is_disc: bool | None = None, *others: object, **named: object
    ) -> float:
        """Return the weight that a call with these arguments has: 1 for the discriminator."""
        return 1.0 if self.given("is_disc", is_disc) else self.loss_weight

    def forward(
        self,
        input: Outputs,
        target_is_real: bool | None = None,
        is_disc: bool | None = None,
        mask: Tensor | None = None,
        other: Outputs | None = None,
    ) -> Tensor:
        """Return the loss.

        Args:
            input: the discriminator's outputs (logits, scores), of any shape; or a list of them, as of several scales, which is
                averaged. For "smgan" ``[B, C, h, w]``, brought to the mask's size (bilinear, ``align_corners=True``).
            target_is_real: what the outputs are held against.
            is_disc: whether the loss is the discriminator's, and not the generator's.
            mask: for "smgan", ``[B, 1, H, W]`` or ``[B, H, W]``, bool or from 0 to 1; 1 is the hole. For real images too, whose
                outputs are brought to its size.
            other: for "ragan" and "ragan-ls", the outputs for the images of the other kind, of any number, of which the mean
                counts; for "rpgan" as many as ``input`` has, in pairs.

        Returns:
            A scalar, float32 (float64 for float64 outputs); 0 where nothing counts. With ``reduction="none"`` each output's cost.
        """
        return self.weight_in(input, target_is_real, is_disc) * self.evaluate(input, target_is_real, is_disc, mask, other)


def as_list(argument: str, outputs: object) -> list[Tensor]:
    """Refuse what a discriminator can't have returned; return its outputs as a list."""
    found: list[Any] = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    expected = "a discriminator's outputs: a tensor of floats, or a list of them"
    if not found:
        raise wrong(argument, expected, "an empty list")
    for one in found:
        if not isinstance(one, Tensor):
            hint = "of outputs and features give the outputs alone" if isinstance(outputs, (list, tuple)) else ""
            raise wrong(argument, expected, f"a {type(one).__name__}", hint)
        if one.dtype not in SCORE_DTYPES:
            raise wrong(argument, expected, describe(one))
        if one.device != found[0].device:
            raise wrong(argument, f"on one device, {found[0].device}", str(one.device))
    return found


def check_hole(mask: object, output: Tensor) -> None:
    """Refuse a mask that is not the batch's."""
    if output.dim() != 4:
        raise wrong("input", "[B, C, h, w] with gan_type='smgan'", describe(output))
    batch = len(output)
    expected = f"[{batch}, 1, H, W] or [{batch}, H, W], bool or float, 1 = hole"
    fits = isinstance(mask, Tensor) and (mask.dim() == 3 or (mask.dim() == 4 and mask.shape[1] == 1)) and len(mask) == batch
    if not fits or not (mask.dtype == torch.bool or mask.dtype in SCORE_DTYPES):  # type: ignore[attr-defined]
        whole = isinstance(mask, Tensor) and not mask.is_floating_point()
        raise wrong("mask", expected, describe(mask), "mask > 0" if whole else "")
    if mask.device != output.device:  # type: ignore[attr-defined]
        raise wrong("mask", f"on input's device {output.device}", str(mask.device))  # type: ignore[attr-defined]


def blurred(hole: Tensor, padding: str) -> Tensor:
    """Return a mask ``[B, 1, H, W]`` under a Gaussian, its border repeated, or zeros beyond it."""
    steps = torch.arange(TAPS, dtype=hole.dtype, device=hole.device) - TAPS // 2
    taps = torch.softmax(-0.5 * (steps / SIGMA).square(), 0)  # exp(-s²/2σ²) over its sum
    padded = functional.pad(hole, (TAPS // 2,) * 4, mode="constant" if padding == "zeros" else padding)
    return functional.conv2d(functional.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
