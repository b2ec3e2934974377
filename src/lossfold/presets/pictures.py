"""Sets of losses as papers on images, mattes of video and depth have them, ready to call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.compose.arguments import Handed
from lossfold.compose.loss_set import LossSet
from lossfold.errors import wrong
from lossfold.folds.fold import describe
from lossfold.folds.pair.needs import check_pair
from lossfold.losses.depth.invariant import ScaleShiftInvariantLoss
from lossfold.losses.depth.silog import SILogLoss
from lossfold.losses.images.pixel import L1Loss, MSELoss
from lossfold.losses.images.ssim import SSIMLoss
from lossfold.losses.matting.pyramid import LaplacianPyramidLoss
from lossfold.options import Number, Truth, Word
from lossfold.registry import preset
from lossfold.routing import is_one_dict, one_dict

WEIGHT = Number()


class PreparedSet(LossSet):
    """A set whose terms take what is made of one dict of outputs.

    Args:
        terms: losses by name.
        prepare: makes the dict that the terms read of the one that the set is called with.
        keys: what the latter has to hold.
    """

    def __init__(self, terms: Mapping[str, nn.Module], prepare: Callable[..., dict[str, Tensor]], keys: tuple[str, ...]) -> None:
        super().__init__(terms)
        self.prepare, self.keys = prepare, keys

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return what the terms are given, made of what the set is."""
        outputs: Any = one_dict(inputs, named) if is_one_dict(inputs, named) else named
        if inputs and outputs is named:
            raise wrong("arguments", f"one dict with {', '.join(self.keys)}", f"{len(inputs)} by position")
        for key in self.keys:
            if key not in outputs:
                raise wrong(key, f"in the dict, which holds {', '.join(self.keys)}", f"only {list(outputs)}")
            if not isinstance(outputs[key], Tensor):
                raise wrong(key, "a tensor", describe(outputs[key]))
        return (self.prepare(**{key: outputs[key] for key in self.keys}),), {}


def reads(pred: str, target: str) -> dict[str, str]:
    """Return where a loss of two maps finds them."""
    return {"pred": pred, "target": target}


@preset(ssim=Number(at_least=0, at_most=1), padding=Word(among=("valid", "reflect", "zeros")))
def gaussian_splatting(*, ssim: float = 0.2, padding: str = "zeros", **options: Any) -> LossSet:
    """Return the loss of 3-D Gaussian splatting as two terms, (1 − λ)·L1 + λ·(1 − SSIM); :class:`L1SSIMLoss` is both in one.

    The result is called ``(pred, target, weight=None)``, images ``[B, 3, H, W]`` in [0, 1].

    Args:
        ssim: λ.
        padding: "zeros" as the authors' code has it, "valid" as gsplat.
        options: further options of both losses, such as ``engine``.

    Raises:
        LossError: for options out of range.

    Example:
        >>> out = gaussian_splatting()(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))
        >>> sorted(out.terms)
        ['l1', 'ssim']

    Reference:
        Kerbl et al., 3D Gaussian Splatting for Real-Time Radiance Field Rendering, ACM TOG 2023.
    """
    return LossSet(l1=L1Loss(loss_weight=1 - ssim, **options), ssim=SSIMLoss(loss_weight=ssim, padding=padding, **options))


@preset(metric=Truth(), gradients=WEIGHT, trim=ScaleShiftInvariantLoss.kinds["trim"])
def depth_anything_v2(*, metric: bool = False, gradients: float = 2.0, trim: float = 0.1) -> LossSet:
    """Return Depth Anything V2's objective, called ``(pred, target, weight=None)``, ``[B, 1, H, W]``.

    Of disparities that are known but for scale and shift: the mean of |R| with medians and mean deviations aligned, plus the
    gradients of R at four scales. Of metric depth, as in the authors' fine-tuning: SILog with λ = 0.5.

    Args:
        metric: the latter.
        gradients: the weight of the gradients beside 1 of the differences, 2 in the paper.
        trim: the share of each image's largest differences that is left out, 0.1 in the paper for pseudo labels.

    Raises:
        LossError: for options out of range.

    Example:
        >>> out = depth_anything_v2(metric=True)(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))
        >>> list(out.terms)
        ['silog']

    Reference:
        Yang et al., Depth Anything V2, NeurIPS 2024.
    """
    if metric:
        return LossSet(silog=SILogLoss(variance_focus=0.5))
    # The loss halves the differences, as MiDaS does: twice the whole has them once, and the gradients with twice their weight.
    return LossSet(
        invariant=ScaleShiftInvariantLoss(
            data="l1", align="median", trim=trim, gradient_weight=gradients / 2, loss_weight=2.0, per_image=True
        )
    )


@preset(semantic=WEIGHT, detail=WEIGHT, matte=WEIGHT, boundary=WEIGHT)
def modnet(*, semantic: float = 10.0, detail: float = 10.0, matte: float = 1.0, boundary: float = 4.0) -> LossSet:
    """Return MODNet's objective, for one dict of a training step.

    It holds ``semantic`` ``[B, 1, h, w]``, ``detail`` and ``matte`` ``[B, 1, H, W]``, the three branches' alphas;
    ``semantic_target`` (the reduced and blurred alpha), ``alpha``, ``unknown`` (1 where alpha is unknown) and ``image``
    ``[B, 3, H, W]``. The mean of the squared semantic error; of the absolute error of details in the unknown; and of the matte's
    and its composition's, each plus ``boundary`` times that in the unknown. All means are over whole images.

    Args:
        semantic, detail, matte: the weights of the three branches.
        boundary: how much more the unknown counts for the matte.

    Raises:
        LossError: for options out of range.

    Example:
        >>> names = ("detail", "matte", "alpha", "unknown")
        >>> step = {name: torch.rand(1, 1, 32, 32) for name in names} | {"image": torch.rand(1, 3, 32, 32)}
        >>> out = modnet()(step | {"semantic": torch.rand(1, 1, 2, 2), "semantic_target": torch.rand(1, 1, 2, 2)})
        >>> len(out.terms)
        6

    Reference:
        Ke et al., MODNet: Real-Time Trimap-Free Portrait Matting via Objective Decomposition, AAAI 2022.
    """
    losses = {
        "semantic": MSELoss(loss_weight=semantic, inputs=reads("semantic", "semantic_target")),
        "detail": L1Loss(loss_weight=detail, inputs=reads("detail", "alpha_unknown")),
        "matte": L1Loss(loss_weight=matte, inputs=reads("matte", "alpha")),
        "boundary": L1Loss(loss_weight=matte * boundary, inputs=reads("matte_unknown", "alpha_unknown")),
        "composition": L1Loss(loss_weight=matte, inputs=reads("composition", "composition_target")),
        "boundary_composition": L1Loss(
            loss_weight=matte * boundary, inputs=reads("composition_unknown", "composition_target_unknown")
        ),
    }
    return PreparedSet(losses, parts_of_modnet, ("semantic", "semantic_target", "detail", "matte", "alpha", "unknown", "image"))


def parts_of_modnet(
    semantic: Tensor, semantic_target: Tensor, detail: Tensor, matte: Tensor, alpha: Tensor, unknown: Tensor, image: Tensor
) -> dict[str, Tensor]:
    """Return what MODNet's terms compare: what is known is 0 in what they compare of the unknown alone."""
    for name, one in (("detail", detail), ("matte", matte), ("unknown", unknown)):
        check_pair(alpha, one, ("alpha", name))
    mask = unknown.to(alpha.dtype)
    return {
        "semantic": semantic,
        "semantic_target": semantic_target,
        "detail": mask * detail,
        "matte": matte,
        "alpha": alpha,
        "matte_unknown": mask * matte,
        "alpha_unknown": mask * alpha,
        "composition": image * matte,
        "composition_target": image * alpha,
        "composition_unknown": image * (mask * matte),
        "composition_target_unknown": image * (mask * alpha),
    }


@preset(alpha=WEIGHT, laplacian=WEIGHT, foreground=WEIGHT, coherence=WEIGHT)
def rvm(*, alpha: float = 1.0, laplacian: float = 1.0, foreground: float = 1.0, coherence: float = 5.0) -> LossSet:
    """Return Robust Video Matting's objective, for one dict of a training step.

    It holds ``alpha`` and ``alpha_target`` ``[B, T, 1, H, W]``, ``foreground`` and ``foreground_target`` ``[B, T, 3, H, W]``, T
    frames. The absolute error of alphas and of their Laplacian pyramids, the absolute error of foregrounds where the true alpha is
    above 0, and the squared error of both's changes from frame to frame. All means are over whole images.

    Args:
        alpha, laplacian, foreground: the weights of the single frames' losses.
        coherence: the weight of the changes.

    Raises:
        LossError: for options out of range, and for less than two frames.

    Example:
        >>> kinds = (("alpha", 1), ("alpha_target", 1), ("foreground", 3), ("foreground_target", 3))
        >>> step = {name: torch.rand(1, 2, channels, 32, 32) for name, channels in kinds}
        >>> sorted(rvm()(step).terms)
        ['alpha', 'alpha_coherence', 'foreground', 'foreground_coherence', 'laplacian']

    Reference:
        Lin et al., Robust High-Resolution Video Matting with Temporal Guidance, WACV 2022.
    """
    losses = {
        "alpha": L1Loss(loss_weight=alpha, inputs=reads("alpha", "alpha_target")),
        "laplacian": LaplacianPyramidLoss(loss_weight=laplacian, inputs=reads("alpha", "alpha_target")),
        "alpha_coherence": MSELoss(loss_weight=coherence, inputs=reads("alpha_steps", "alpha_target_steps")),
        "foreground": L1Loss(loss_weight=foreground, inputs=reads("foreground", "foreground_target")),
        "foreground_coherence": MSELoss(loss_weight=coherence, inputs=reads("foreground_steps", "foreground_target_steps")),
    }
    return PreparedSet(losses, parts_of_rvm, ("alpha", "alpha_target", "foreground", "foreground_target"))


def parts_of_rvm(alpha: Tensor, alpha_target: Tensor, foreground: Tensor, foreground_target: Tensor) -> dict[str, Tensor]:
    """Return what RVM's terms compare: frames as a batch, and their changes; foregrounds are 0 where nothing of them shows."""
    for name, one, target in (("alpha", alpha, alpha_target), ("foreground", foreground, foreground_target)):
        check_pair(one, target, (name, f"{name}_target"))
        if one.dim() != 5 or one.shape[1] < 2 or one.shape[:2] != alpha.shape[:2] or one.shape[3:] != alpha.shape[3:]:
            raise wrong(name, "[B, T, C, H, W] of at least two frames, as alpha", f"a tensor {list(one.shape)}")
    seen = alpha_target > 0
    both = {
        "alpha": alpha,
        "alpha_target": alpha_target,
        "foreground": torch.where(seen, foreground, 0.0),
        "foreground_target": torch.where(seen, foreground_target, 0.0),
    }
    frames = {name: one.flatten(0, 1) for name, one in both.items()}
    return frames | {f"{name}_steps": one.diff(dim=1).flatten(0, 1) for name, one in both.items()}
