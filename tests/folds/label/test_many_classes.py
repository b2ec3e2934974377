"""Scores whose classes lie side by side, and are enough to be transposed by vectors: the bits of those that lie apart."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.cases import native

SHAPES = [(40, 16), (100, 33), (17, 150), (3, 19, 7, 9), (2, 40, 33, 20), (64, 40, 2, 2)]


@native
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_classes_side_by_side(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    labels = torch.randint(shape[1], (shape[0], *shape[2:]))
    labels.view(-1)[::7] = 255
    apart = torch.randn(shape[1], shape[0], *shape[2:]).to(dtype).transpose(0, 1)
    side_by_side = apart.movedim(1, -1).contiguous().movedim(-1, 1)
    assert side_by_side.stride(1) == 1 < apart.stride(1)
    for loss in (lf.CrossEntropyLoss, lf.DiceLoss, lf.LovaszLoss):
        made = loss(ignore_index=255, engine="cpp")
        first, second = (_both(made, scores, labels) for scores in (apart, side_by_side))
        assert all(map(torch.equal, first, second)), loss.__name__


def _both(loss: torch.nn.Module, scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = scores.detach().requires_grad_()
    result = loss(leaf, labels)
    return result.detach(), torch.autograd.grad(result, leaf)[0]
