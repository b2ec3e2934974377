"""Losses of images' spectra. Frequencies have no place in an image, so there is nothing that pixel weights could leave out."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from lossfold.errors import naming, wrong
from lossfold.folds.arithmetic import exactly, total
from lossfold.folds.checks import result_dtype
from lossfold.folds.fold import describe
from lossfold.folds.pair.needs import check_pair
from lossfold.losses.base import Loss
from lossfold.losses.reduce import Addends, Last
from lossfold.options import configured, option
from lossfold.registry import LOSSES

NORMS = ("ortho", "backward")  # as torch.fft has them


@configured
class SpectrumLoss(Loss):
    """A loss of ``(pred, target)`` that is a mean over the frequencies of their difference's spectrum, or of theirs."""

    reduction: str = option("mean", words=("mean", "sum"))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the loss; a weight is refused."""
        if len(inputs) > 2 or "weight" in named:
            hint = "mask both images, so that they are equal where nothing is to count"
            with naming(type(self).__name__):
                raise wrong(
                    "weight", "left out: a frequency is of the whole image", describe([*inputs[2:], *named.values()][0]), hint
                )
        return super().__call__(*inputs, **named)

    def checked(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse what has no spectrum; return images in the dtype that is computed in."""
        pred, target = check_pair(pred, target)
        if pred.dim() < 3:
            raise wrong("pred", "[B, C, *S] with a space", f"a tensor {list(pred.shape)}")
        dtype = result_dtype(pred)  # no FFT is made in half: its sums overflow
        return pred.to(dtype), target.to(dtype)

    def reduced(self, values: Tensor, count: int) -> Addends:
        """Return what adds up of frequencies' values, and of how many."""
        above = total(values.flatten(1)).sum()
        return Last(above, None if self.reduction == "sum" else above.new_full((), count)).addends(values.dtype)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            pred: ``[B, C, *S]``; float16, bfloat16, float32 or float64, computed in float32 or float64.
            target: of the same shape.

        Returns:
            A scalar, float32 (float64 for float64 predictions).
        """
        return self.weigh(self.evaluate(pred, target))


@LOSSES.register
@configured
class FocalFrequencyLoss(SpectrumLoss):
    """The squared error of the spectrum, where hard frequencies weigh most: the mean of w·|F(p) − F(t)|² over frequencies.

    F is the Fourier transform of each channel, with ``patch_factor`` of each of its patches. w = |F(p) − F(t)|^alpha over its
    largest value in the patch, without gradient.

    Args:
        alpha: how much the weight grows with the error; 0: it is 1 everywhere.
        patch_factor: each side is cut into so many patches, each with a spectrum of its own; sides have to be multiples.
        log_weight: w is log(1 + |F(p) − F(t)|^alpha) before it is divided.
        batch_weight: divide by the largest value of the batch, not of each patch.
        mean_spectrum: compare the batch's mean spectra.
        norm: of the transform: "ortho", which keeps the squares' sum, or "backward", without a factor.
        reduction: "mean" or "sum" over frequencies, channels, patches and samples.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range, for a weight, and for sides that ``patch_factor`` does not
            divide.

    Gradient:
        Exact, with w held fixed; 0 where the spectra are equal.

    Example:
        >>> FocalFrequencyLoss()(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.25))
        tensor(0.0625)

    Reference:
        Jiang et al., Focal Frequency Loss for Image Reconstruction and Synthesis, ICCV 2021.
    """

    alpha: float = option(1.0, at_least=0)
    patch_factor: int = option(1, at_least=1)
    log_weight: bool = option(False)
    batch_weight: bool = option(False)
    mean_spectrum: bool = option(False)
    norm: str = option("ortho", words=NORMS)

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"patch_factor": 2, "log_weight": True, "alpha": 0.5})

    @property
    def in_one_part(self) -> str:
        """Why it can't be split."""
        whole = self.batch_weight or self.mean_spectrum
        return "batch_weight and mean_spectrum are of the whole batch" if whole else super().in_one_part

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        pred, target = self.checked(pred, target)
        patches = self.patches(pred - target)  # the transform is linear, and so is the mean of spectra
        if self.mean_spectrum and len(patches):
            patches = patches.mean(0, keepdim=True)
        space = tuple(range(3, patches.dim()))
        with exactly(patches):
            squares = spectrum(patches, space, self.norm).abs().square()
        hard = squares.detach() ** (self.alpha / 2)
        hard = hard.log1p() if self.log_weight else hard
        largest = hard.amax(tuple(range(hard.dim())) if self.batch_weight else space, keepdim=True) if hard.numel() else hard
        share = torch.where(largest > 0, hard / torch.where(largest > 0, largest, 1.0), torch.zeros_like(hard))
        share = torch.where(hard.isnan(), hard, share)
        return self.reduced(share * squares * twice(squares, patches.shape[-1]), patches.numel())

    def patches(self, images: Tensor) -> Tensor:
        """Return patches ``[B, patches, C, *S]``."""
        if self.patch_factor == 1:
            return images.unsqueeze(1)
        size = list(images.shape[2:])
        if any(side % self.patch_factor for side in size):
            raise wrong("pred", f"of sides that patch_factor={self.patch_factor} divides", str(size))
        cut = images
        for axis in range(len(size)):  # each side as (patch, place in it)
            cut = cut.unflatten(2 + 2 * axis, (self.patch_factor, -1))  # type: ignore[no-untyped-call]
        order = [0, *range(2, cut.dim(), 2), 1, *range(3, cut.dim(), 2)]
        return cut.permute(order).flatten(1, len(size))


@LOSSES.register
@configured
class FFTLoss(SpectrumLoss):
    """The absolute error of the Fourier transform of each channel, over its real and its imaginary parts.

    Args:
        compare: "parts" is the mean of |Re d| and |Im d|, d = F(p) − F(t); "modulus" the mean of |d|; "amplitude" that of
            ||F(p)| − |F(t)||, which shifts do not change.
        norm: of the transform: "backward", without a factor, or "ortho", which keeps the squares' sum.
        reduction: "mean" or "sum" over frequencies, channels and samples (and parts).
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options, shapes or dtypes that are out of range, and for a weight.

    Gradient:
        Exact; 0 for a part, modulus or amplitude that is 0.

    Example:
        >>> FFTLoss(compare="modulus")(torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.25))
        tensor(0.2500)

    Reference:
        Cho et al., Rethinking Coarse-to-Fine Approach in Single Image Deblurring (MIMO-UNet), ICCV 2021.
    """

    compare: str = option("parts", words=("parts", "modulus", "amplitude"))
    norm: str = option("backward", words=NORMS[::-1])

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"compare": "amplitude", "norm": "ortho"})

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        pred, target = self.checked(pred, target)
        space = tuple(range(2, pred.dim()))
        with exactly(pred):
            if self.compare == "amplitude":
                found = (spectrum(pred, space, self.norm).abs() - spectrum(target, space, self.norm).abs()).abs()
            else:
                found = spectrum(pred - target, space, self.norm)
                found = found.abs() if self.compare == "modulus" else found.real.abs() + found.imag.abs()
        return self.reduced(found * twice(found, pred.shape[-1]), pred.numel() * (2 if self.compare == "parts" else 1))


def spectrum(images: Tensor, space: tuple[int, ...], norm: str) -> Tensor:
    """Return the half of real images' spectra that says all of it; of images without pixels, nothing."""
    if not images.numel():
        return images[..., : images.shape[-1] // 2 + 1].to(torch.complex128 if images.dtype == torch.float64 else torch.complex64)
    return torch.fft.rfftn(images, dim=space, norm=norm)  # type: ignore[no-any-return]


def twice(half: Tensor, side: int) -> Tensor:
    """Return how often each column of a half spectrum stands in the whole one, of images with this last side."""
    places = torch.arange(half.shape[-1], device=half.device)
    return torch.where((places == 0) | (2 * places == side), 1.0, 2.0).to(half.dtype)
