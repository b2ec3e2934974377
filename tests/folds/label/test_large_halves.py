"""Gradients of half precision that are written around the caches: those of float32, rounded once."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.cases import native


@native
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [512, 509])
def test_large_gradients_of_halves(width: int, half: torch.dtype) -> None:
    """Of rows that begin where vectors may, and of such that don't."""
    scores = (2 * torch.randn(1, 19, 1024, width)).to(half)  # 20 MB, above what the caches hold
    labels = torch.randint(0, 19, (1, 1024, width))
    loss, found = lf.DiceLoss(reduction="sum", engine="cpp"), []
    for leaf in (scores.requires_grad_(), scores.detach().float().requires_grad_()):
        (slope,) = torch.autograd.grad(1e4 * loss(leaf, labels), leaf)
        found.append(slope)
    assert found[1].abs().max() > 0.01
    assert torch.equal(found[0], found[1].to(half))
