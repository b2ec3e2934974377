"""Does a provider compute what the case asks for? Judged against the float64 truth, before any timing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .case import Case, LossFunction, Sample, Tolerance

Options = tuple[tuple[str, object], ...]

VALUE_TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.bfloat16: 3e-2,
    torch.float16: 5e-3,
}
GRADIENT_TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 3e-2,
    torch.float16: 2e-2,
}

EXACT = Tolerance()

IMPRECISION = 0.05
"""The right formula is still ranked with errors up to this, which are then told."""


@dataclass(frozen=True)
class Agreement:
    """A provider's value and gradient beside the truth.

    Args:
        value: what the provider gave.
        expected: the truth.
        value_error: their distance relative to the truth.
        gradient_error: the norm of the gradients' difference relative to the norm of the true gradient.
        status: "ok", or "refused" if it is not to be timed.
        reason: what is wrong, in words; empty where nothing is.
    """

    value: float
    expected: float
    value_error: float
    gradient_error: float
    status: str = "ok"
    reason: str = ""

    def within(self, value: float, gradient: float) -> bool:
        """Whether both errors are within the given ones; NaN never is."""
        return self.value_error <= value and self.gradient_error <= gradient


@dataclass(frozen=True)
class Truth:
    """The value and the gradient of the definition in float64."""

    value: float
    gradient: Tensor


def find_truth(definition: Callable[..., Tensor], sample: Sample) -> Truth:
    """Run the definition on the leaf in float64."""
    leaf = sample.leaf.detach().double().requires_grad_()
    value = definition(leaf, *sample.rest)
    (gradient,) = torch.autograd.grad(value, leaf)
    return Truth(value.item(), gradient)


def judge(function: LossFunction, sample: Sample, truth: Truth, tolerance: Tolerance = EXACT) -> Agreement:
    """Run a provider and say whether it may be timed; its first run is also the first part of its warm-up.

    Where it misses the tolerance of the leaf's dtype, but not the case's own, its errors are told. Where it misses
    both, its formula is tried in float64: rounding is told, a different formula is refused.
    """
    found = compare(function, sample, truth)
    dtype = sample.leaf.dtype
    if found.within(VALUE_TOLERANCE[dtype], GRADIENT_TOLERANCE[dtype]):
        return found
    errors = f"{found.value:.6g}, expected {found.expected:.6g}, gradient off by {found.gradient_error:.1e}"
    if found.within(*_widened(dtype, tolerance)):
        return replace(found, reason=errors)
    exact = Sample(sample.leaf.detach().double().requires_grad_(), sample.rest)
    try:
        right = compare(function, exact, truth).within(*_widened(torch.float64, tolerance))
    except (RuntimeError, ValueError):  # it mixes dtypes, or has no float64: its formula can't be told from its rounding
        right = False
    if not right:
        return replace(found, status="refused", reason=f"computes something else: {errors}")
    status = "ok" if found.within(IMPRECISION, IMPRECISION) else "refused"
    return replace(found, status=status, reason=f"right in float64, imprecise in {str(dtype).removeprefix('torch.')}: {errors}")


def compare(function: LossFunction, sample: Sample, truth: Truth) -> Agreement:
    """Run a provider once and measure its errors."""
    value = function(sample.leaf, *sample.rest)
    (gradient,) = torch.autograd.grad(value, sample.leaf)
    found = value.item()
    return Agreement(
        value=found,
        expected=truth.value,
        value_error=abs(found - truth.value) / max(abs(truth.value), 1e-12),
        gradient_error=_relative_distance(gradient, truth.gradient),
    )


def truth_key(case: Case, provider: str) -> tuple[Options, Options]:
    """Entries with equal keys share inputs and truth."""
    entry = case.entries[provider]
    return tuple(sorted(entry.inputs.items())), tuple(sorted(entry.options.items()))


def _widened(dtype: torch.dtype, tolerance: Tolerance) -> tuple[float, float]:
    return max(VALUE_TOLERANCE[dtype], tolerance.value), max(GRADIENT_TOLERANCE[dtype], tolerance.gradient)


def _relative_distance(gradient: Tensor, truth: Tensor) -> float:
    distance = torch.linalg.vector_norm(gradient.double() - truth)
    return float(distance / torch.linalg.vector_norm(truth).clamp_min(1e-300))
