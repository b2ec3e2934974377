"""The path-length regulariser of generators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from lossfold.errors import LossError, is_number, naming, python_scalar, wrong
from lossfold.folds.arithmetic import buffers_apart
from lossfold.folds.checks import SCORE_DTYPES
from lossfold.folds.fold import describe
from lossfold.losses.adversarial.slopes import differentiating, outside_graphs, root, slope
from lossfold.losses.base import Loss
from lossfold.options import configured, option
from lossfold.registry import LOSSES

Generator = Callable[[Tensor], Any]


@LOSSES.register
@configured
class GeneratorPathRegularizer(Loss):
    """The mean of (‖Jᵀy‖ − a)²: a generator moves its image as far wherever a style w moves, and in whatever direction.

    Jᵀy = ∇_w Σ g(w)·y, with y normal noise over √(H·W), and a the moving mean of these path lengths,
    a ← a + decay·(mean − a). The mean is that of the batch over all ranks, where torch.distributed runs.

    Args:
        decay: how much of the batch's mean goes into the moving one, from 0 to 1.
        batch_shrink: the first of so many parts of the batch is used, at least one sample.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Attributes:
        mean_path_length: the moving mean, a buffer that ``state_dict`` keeps; it starts at 0, and moves at each call in training
            mode that records a graph.

    Raises:
        LossError: for options out of range, latents that are no floats, and a generator that returns no images, or images that do
            not depend on the styles.

    Gradient:
        Exact, to any order, for the generator's parameters and for latents that require one, through the new moving mean too, as in
        the authors' code; 0 where a path length is.

    Example:
        >>> loss = GeneratorPathRegularizer(batch_shrink=1)
        >>> value = loss(torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Unflatten(1, (1, 8, 8))), torch.randn(8, 4))
        >>> bool(loss.mean_path_length > 0)
        True

    Reference:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020.
    """

    decay: float = option(0.01, between=(0, 1))
    batch_shrink: int = option(2, at_least=1)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"decay": 0.1, "batch_shrink": 1})

    def settle(self) -> None:
        """Refuse wrong options."""
        super().settle()
        if "mean_path_length" not in self._buffers:
            with torch.inference_mode(False):
                self.register_buffer("mean_path_length", torch.zeros((), dtype=torch.float64))

    def evaluate(self, generator: Generator, latents: Tensor) -> Tensor:
        """Return the loss before ``loss_weight``."""
        mean = self.get_buffer("mean_path_length")
        options = self.decay, self.batch_shrink
        value, moved = regularizer(generator, latents, mean, *options, all_ranks=self.training)
        if self.training and torch.is_grad_enabled():
            mean.copy_(torch.where(moved.isfinite(), moved, mean))  # GradScaler skips a step that overflows: so does the mean
        return value

    def forward(self, generator: Generator, latents: Tensor) -> Tensor:
        """Return the regulariser.

        Args:
            generator: a module, or any function of latents, that returns images ``[B, C, *S]``; or images and styles, as a tuple or
                as a dict with "fake_img" and "latent" (MMagic). Without styles the gradient is with respect to the latents.
            latents: ``[B, ...]``.

        Returns:
            A scalar, float32 (float64 where the generator's gradient is).
        """
        return self.weigh(self.evaluate(generator, latents))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        with buffers_apart(self, fn, "mean_path_length"):
            super()._apply(fn, recurse)
        return self


def generator_path_regularizer(
    generator: Generator, latents: Tensor, mean_path_length: Tensor | float, *, decay: float = 0.01, batch_shrink: int = 2
) -> tuple[Tensor, Tensor]:
    """Return the regulariser of :class:`GeneratorPathRegularizer` and the moving mean after it, without a graph.

    Args:
        generator, latents, decay, batch_shrink: as for :class:`GeneratorPathRegularizer`.
        mean_path_length: the moving mean before; 0 at the start.

    Raises:
        LossError: as for :class:`GeneratorPathRegularizer`.

    Example:
        >>> mean = torch.zeros(())
        >>> for step in range(3):
        ...     value, mean = generator_path_regularizer(torch.nn.Unflatten(1, (1, 8, 8)), torch.randn(8, 64), mean)
    """
    checked = GeneratorPathRegularizer(decay=decay, batch_shrink=batch_shrink)  # refuses wrong options
    if not isinstance(mean_path_length, Tensor):
        mean_path_length = python_scalar(mean_path_length)
        if not is_number(mean_path_length):
            raise LossError("generator_path_regularizer", "mean_path_length", "a number or a scalar", describe(mean_path_length))
        mean_path_length = torch.tensor(float(mean_path_length), dtype=torch.float64)
    if mean_path_length.dim():
        raise LossError("generator_path_regularizer", "mean_path_length", "a number or a scalar", describe(mean_path_length))
    with naming("generator_path_regularizer"):
        return regularizer(generator, latents, mean_path_length, checked.decay, checked.batch_shrink, all_ranks=True)


def regularizer(
    generator: Generator, latents: Tensor, moving: Tensor, decay: float, batch_shrink: int, *, all_ranks: bool
) -> tuple[Tensor, Tensor]:
    """Return the regulariser, and the moving mean after it."""
    check_latents(latents)
    lengths: Tensor = paths(generator, latents[: max(1, len(latents) // batch_shrink)])
    mean = lengths.mean()
    if all_ranks and torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.nn import functional as ranks  # a torch built without distributed has none

        mean = ranks.all_reduce(mean) / torch.distributed.get_world_size()  # type: ignore[no-untyped-call]
    moved = moving + decay * (mean - moving)
    return (lengths - moved).square().mean(), moved.detach()


def path_lengths(generator: Generator, latents: Tensor) -> Tensor:
    """Return the path lengths ‖Jᵀy‖ of :class:`GeneratorPathRegularizer`, ``[B]``, each with noise y of its own.

    Args:
        generator, latents: as for :class:`GeneratorPathRegularizer`.

    Raises:
        LossError: as for :class:`GeneratorPathRegularizer`.

    Example:
        >>> path_lengths(torch.nn.Unflatten(1, (1, 8, 8)), torch.randn(4, 64)).shape  # ‖y‖, about 1
        torch.Size([4])
    """
    with naming("path_lengths"):
        check_latents(latents)
        lengths: Tensor = paths(generator, latents)
    return lengths


def check_latents(latents: object) -> None:
    """Refuse what is no batch of latents."""
    if not isinstance(latents, Tensor) or latents.dtype not in SCORE_DTYPES or latents.dim() < 2 or not len(latents):
        raise wrong("latents", "a tensor of floats [B, ...]", describe(latents))


@outside_graphs  # which can't follow a gradient in the forward pass
def paths(generator: Generator, latents: Tensor) -> Tensor:
    """Return the path lengths of checked latents, ``[B]``."""
    if not callable(generator):
        raise wrong("generator", "a module, or a function of latents", describe(generator))
    with differentiating(generator, latents) as (latents, graph):
        images, styles = images_and_styles(generator(latents), latents)
        noise = torch.randn_like(images) / math.sqrt(math.prod(images.shape[2:]))
        gradient = slope((images * noise).sum(), styles, graph)
        if gradient is None:
            hint = "a generator of styles returns (images, styles)"
            raise wrong("generator", "one whose images depend on the styles", "images without a gradient", hint)
        squares = gradient.square()
        if squares.dim() == 3:  # a style [D] for each of L layers
            return root(squares.sum(2).mean(1))
        return root(squares.flatten(1).sum(1))


def images_and_styles(returned: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a generator returned; the latents are the styles where it says nothing of them."""
    styles: object = latents
    if isinstance(returned, Mapping) and {"fake_img", "latent"} <= returned.keys():
        returned, styles = (returned[name] for name in ("fake_img", "latent"))
    elif isinstance(returned, (list, tuple)) and len(returned) == 2:
        returned, styles = returned
    elif isinstance(returned, Mapping):
        hint = "MMagic's generators return both with return_latents=True"
        raise wrong("generator", "one whose dict has 'fake_img' and 'latent'", f"only {list(returned)}", hint)
    expected = "one that returns images [B, C, *S], or (images, styles)"
    for found in (returned, styles):
        if not isinstance(found, Tensor) or found.dtype not in SCORE_DTYPES or found.dim() < 2 or len(found) != len(latents):
            raise wrong("generator", expected, f"one that returns {describe(found)}", f"B is {len(latents)}")
    assert isinstance(returned, Tensor) and isinstance(styles, Tensor)
    return returned, styles
