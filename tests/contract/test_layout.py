"""Strides, threads and repetition change no bit of the result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.cases import ENGINES, Case, Data, evaluate, every_case, make, same_bits, value


def channels_last(x: Tensor) -> Tensor:
    """Channels innermost in memory, whatever the rank."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.ndim > 3 else x.mT.contiguous().mT


def sliced(x: Tensor) -> Tensor:
    """Every second element along the last dimension of a wider tensor, at an odd offset."""
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7, dtype=x.dtype)
    wide[..., 1::2] = x
    return wide[..., 1::2]


def transposed(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT


def batch_innermost(x: Tensor) -> Tensor:
    return x.movedim(0, -1).contiguous().movedim(-1, 0)


def offset(x: Tensor) -> Tensor:
    """Contiguous, but not aligned to a vector."""
    flat = torch.empty(x.numel() + 1, dtype=x.dtype)[1:]
    return flat.copy_(x.reshape(-1)).view(x.shape)


LAYOUTS = [channels_last, sliced, transposed, batch_innermost, offset]


@every_case()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_change_no_bit(case: Case, layout: Callable[[Tensor], Tensor], dtypes: list[torch.dtype]) -> None:
    for dtype in dtypes:
        data = make(case, (17, 23), dtype=dtype, weight="float")
        assert data.weight is not None
        loss = case.build()
        truth, slope = evaluate(loss, data)
        strided = layout(data.scores)
        assert torch.equal(strided, data.scores)
        assert not strided.is_contiguous() or layout is offset
        labels = data.labels if layout is channels_last else layout(data.labels)
        weight = data.weight if layout is channels_last else layout(data.weight)
        leaf = strided.requires_grad_()
        result = value(loss(leaf, labels, weight))
        (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
        same_bits(result.detach(), truth)
        same_bits(gradient.contiguous(), slope)


@every_case()
def test_expanded_inputs(case: Case) -> None:
    """One image read four times through stride 0, and one weight for all."""
    data = make(case, (5, 6), batch=1, dtype=torch.float32, weight="float")
    assert data.weight is not None
    loss = case.build()
    shared = [tensor.expand(4, *tensor.shape[1:]) for tensor in (data.scores, data.labels, data.weight)]
    full = [tensor.contiguous() for tensor in shared]
    truth, slope = evaluate(loss, Data(*full))
    leaf = data.scores.clone().requires_grad_()
    result = value(loss(leaf.expand(4, -1, -1, -1), shared[1], shared[2]))
    same_bits(result.detach(), truth)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
    torch.testing.assert_close(gradient, slope.sum(0, keepdim=True))
    one = torch.ones((), dtype=torch.float32).expand(data.labels.shape)
    result, gradient = evaluate(loss, Data(data.scores, data.labels, one))
    truth, slope = evaluate(loss, Data(data.scores, data.labels, one.contiguous()))
    same_bits(result, truth)
    same_bits(gradient, slope)


@every_case()
def test_a_strided_incoming_gradient(case: Case) -> None:
    """`out.sum()` hands an expanded gradient to a map; a random one, transposed, must mean what it says."""
    data = make(case, (9, 9), dtype=torch.float32)
    loss = case.build()
    shape = evaluate(loss, data)[0].shape
    seed = torch.randn(shape)
    _, slope = evaluate(loss, data, seed)
    strided = seed.mT.contiguous().mT if len(shape) > 1 else seed
    _, gradient = evaluate(loss, data, strided)
    same_bits(gradient, slope)


@every_case()
@pytest.mark.parametrize("space", [(211, 307), (40_000,)], ids=str)
def test_threads_change_no_bit(case: Case, space: tuple[int, ...]) -> None:
    data = make(case, space, dtype=torch.float32, weight="float")
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(evaluate(case.build(), data))
    for result, gradient in results[1:]:
        same_bits(result, results[0][0])
        same_bits(gradient, results[0][1])


@every_case()
def test_repetition_changes_no_bit(case: Case) -> None:
    data = make(case, (211, 107), dtype=torch.float32)
    loss = case.build()
    truth, slope = evaluate(loss, data)
    for _ in range(3):
        result, gradient = evaluate(loss, data)
        same_bits(result, truth)
        same_bits(gradient, slope)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "eager"])
@pytest.mark.parametrize("gamma", [0.5, 1.5, 2.0])
def test_threads_change_no_bit_of_a_power(engine: str, gamma: float) -> None:
    """In torch `tensor ** 1.5` takes another function for the last elements of each thread's share, so eager may."""
    case = Case("FocalLoss", {"gamma": gamma, "engine": engine})
    for size in range(100_000, 100_032):
        data = make(case, (size,), batch=1, classes=2, dtype=torch.float32)
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(evaluate(case.build(), data))
        same_bits(results[1][0], results[0][0])
        same_bits(results[1][1], results[0][1])
