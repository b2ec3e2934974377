"""A sample of the contract, run by itself: ``python sample.py LEVEL``. It needs an installation and nothing else, not even pytest.

Every fold's kernels at one SIMD level: against a float64 truth they are no worse than the definition, in value and gradient, with
sizes that fill no vector; and they give the same bits on two threads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor

import lossfold as lf
from lossfold.engines import native

# What makes a loss on an engine, and what it is given: labels, targets in [0, 1] or another image; at a quarter of the resolution.
SAMPLES: dict[str, tuple[Callable[[str], torch.nn.Module], str]] = {
    "cross entropy": (lambda engine: lf.CrossEntropyLoss(label_smoothing=0.1, engine=engine), "labels"),
    "focal": (lambda engine: lf.FocalLoss(gamma=1.5, engine=engine), "labels"),
    "Dice": (lambda engine: lf.DiceLoss(engine=engine), "labels"),
    "Lovász": (lambda engine: lf.LovaszLoss(engine=engine), "labels"),
    "a map": (lambda engine: lf.CrossEntropyLoss(reduction="none", engine=engine), "labels"),
    "at label resolution": (lambda engine: lf.CrossEntropyLoss(engine=engine), "large labels"),
    "OHEM": (lambda engine: lf.OhemCrossEntropyLoss(min_kept=50, engine=engine), "labels"),
    "binary cross entropy": (lambda engine: lf.BinaryCrossEntropyLoss(engine=engine), "targets"),
    "Dice of masks": (lambda engine: lf.DiceLoss(link="sigmoid", engine=engine), "targets"),
    "Lovász of masks": (lambda engine: lf.LovaszLoss(link="hinge", engine=engine, exact=False), "masks"),
    "Charbonnier": (lambda engine: lf.CharbonnierLoss(engine=engine), "image"),
    "pyramid": (lambda engine: lf.LaplacianPyramidLoss(levels=3, engine=engine), "image"),
    "Sobel": (lambda engine: lf.GradientLoss(engine=engine), "image"),
    "SSIM": (lambda engine: lf.SSIMLoss(engine=engine), "image"),
    "SSIM of another window": (lambda engine: lf.SSIMLoss(window_size=7, engine=engine), "image"),
}
SHAPE = (2, 5, 37, 45)


def given(kind: str) -> tuple[Tensor, Tensor]:
    """Return what a loss is called with, in float64."""
    scores, generator = torch.randn(SHAPE, dtype=torch.float64), torch.Generator().manual_seed(1)
    if kind == "labels":
        return scores, torch.randint(0, SHAPE[1], (SHAPE[0], *SHAPE[2:]), generator=generator)
    if kind == "large labels":
        return scores, torch.randint(0, SHAPE[1], (SHAPE[0], 4 * SHAPE[2], 4 * SHAPE[3]), generator=generator)
    target = torch.rand(SHAPE, dtype=torch.float64, generator=generator)
    return (scores.sigmoid(), target) if kind == "image" else (scores, target.round() if kind == "masks" else target)


def evaluate(loss: torch.nn.Module, scores: Tensor, target: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Return the value and the gradient."""
    leaf = scores.to(dtype).requires_grad_()
    value = loss(leaf, target.to(dtype) if target.is_floating_point() else target)
    return [value.detach(), *torch.autograd.grad(value.sum(), leaf)]


def check(name: str, dtype: torch.dtype) -> None:
    """Hold one loss against the truth."""
    make, kind = SAMPLES[name]
    scores, target = (tensor.to(dtype).double() if tensor.is_floating_point() else tensor for tensor in given(kind))
    truth = evaluate(make("eager"), scores, target, torch.float64)
    definition = evaluate(make("eager"), scores, target, dtype)
    torch.set_num_threads(2)
    threaded = evaluate(make("cpp"), scores, target, dtype)
    torch.set_num_threads(1)
    kernels = evaluate(make("cpp"), scores, target, dtype)
    for what, true, plain, found, again in zip(("value", "gradient"), truth, definition, kernels, threaded, strict=True):
        errors = [(tensor.double() - true).abs().max().item() for tensor in (plain, found)]
        rounding = 64 * torch.finfo(found.dtype).eps * true.abs().max().item()
        if name.startswith("Lovász"):  # an error beside a bin's edge may be in the next one
            rounding = max(rounding, 0.02 * true.abs().max().item())
        told = f"{name}, {dtype}: the {what}"
        assert errors[1] <= 2 * errors[0] + rounding, f"{told} errs by {errors[1]:.1e}, the definition's by {errors[0]:.1e}"
        assert torch.equal(found, again), f"{told} depends on the number of threads"


def main(level: str) -> None:
    """Run the sample at the level that is expected; an empty word is the highest."""
    expected = level or native.simd_levels()[-1]
    assert native.simd_level().removeprefix("x86-64-") == expected, f"{native.simd_level()} runs, not {expected}"
    for name in SAMPLES:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            check(name, dtype)
    here = f"lossfold {lf.__version__} from {lf.__file__}, torch {torch.__version__}, Python {sys.version.split()[0]}"
    print(f"{len(SAMPLES)} losses hold at {native.simd_level()}: {here}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main(sys.argv[1])
