"""Strides, threads and repetition change no bit of a dense loss."""

from __future__ import annotations

import torch

from tests.cases import Data, close, evaluate, same_bits
from tests.contract.test_layout import LAYOUTS
from tests.dense.cases import DenseCase, call, every_dense_case, make_dense, one_case_a_loss

SAMPLES = one_case_a_loss()


@every_dense_case(among=SAMPLES)
def test_strides_change_no_bit(case: DenseCase, dtypes: list[torch.dtype]) -> None:
    """Scores, targets and weights each in another layout, in every dtype."""
    loss = case.build()
    for i, dtype in enumerate(dtypes):
        data = make_dense(case, (17, 23), target=("soft", "int")[i % 2], dtype=dtype, weight="element")
        assert data.weight is not None
        truth, slope = evaluate(loss, data)
        for j, layout in enumerate(LAYOUTS):
            strided = layout(data.scores)
            assert torch.equal(strided, data.scores)
            leaf = strided.requires_grad_()
            targets = LAYOUTS[(i + j) % len(LAYOUTS)](data.labels)
            weight = LAYOUTS[(i + 2 * j) % len(LAYOUTS)](data.weight) if data.weight.dim() == 4 else data.weight.mT.contiguous().mT
            result = call(loss, Data(leaf, targets, weight))
            (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
            same_bits(result.detach(), truth)
            same_bits(gradient.contiguous(), slope)


@every_dense_case(among=SAMPLES)
def test_expanded_inputs(case: DenseCase) -> None:
    """One image read four times through stride 0, with one weight for all, and a target for all channels."""
    data = make_dense(case, (5, 6), batch=1, dtype=torch.float32, weight="element")
    assert data.weight is not None
    loss = case.build()
    shared = [tensor.expand(4, *tensor.shape[1:]) for tensor in (data.scores, data.labels, data.weight)]
    shared[1] = shared[1][:, :1].expand_as(shared[0])
    truth, slope = evaluate(loss, Data(*(tensor.contiguous() for tensor in shared)))
    leaf = data.scores.clone().requires_grad_()
    result = call(loss, Data(leaf.expand(4, -1, -1, -1), shared[1], shared[2]))
    same_bits(result.detach(), truth)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
    torch.testing.assert_close(gradient, slope.sum(0, keepdim=True))


@every_dense_case(among=SAMPLES)
def test_a_strided_incoming_gradient(case: DenseCase) -> None:
    data = make_dense(case, (9, 9), dtype=torch.float32)
    loss = case.build()
    seed = torch.randn(evaluate(loss, data)[0].shape)
    _, slope = evaluate(loss, data, seed)
    _, gradient = evaluate(loss, data, seed.mT.contiguous().mT if seed.dim() > 1 else seed)
    same_bits(gradient, slope)


@every_dense_case(among=SAMPLES)
def test_threads_and_repetition_change_no_bit(case: DenseCase) -> None:
    """In torch a float32 sigmoid or power takes another function for the last elements of each thread's share: to rounding."""
    data = make_dense(case, (71, 61), target="soft", dtype=torch.float32, weight="element")
    results = []
    for threads in (2, 2, 1):
        torch.set_num_threads(threads)
        results.append(evaluate(case.build(), data))
    for found, truth in zip(results[1], results[0], strict=True):
        same_bits(found, truth)
    by_torch = case.options["engine"] == "eager" and case.link == "sigmoid"
    for found, truth in zip(results[2], results[0], strict=True):
        close(found, truth, 1e-5, 1e-7) if by_torch else same_bits(found, truth)


@every_dense_case(engines=["cpp"], among=SAMPLES)
def test_channels_last_changes_no_bit_of_large_images(case: DenseCase) -> None:
    """Engines may walk channels one by one or together: blocks and chunks must be the same."""
    for space, classes in (((96, 97), 19), ((64, 64), 70)):
        if case.per_class or "classes" in case.options:
            continue
        scores, targets = torch.randn(2, classes, *space), torch.rand(2, classes, *space)
        scores = scores.sigmoid() if case.link == "identity" else scores
        loss = case.build()
        truth, slope = evaluate(loss, Data(scores, targets))
        result, gradient = evaluate(loss, Data(scores.to(memory_format=torch.channels_last), targets))
        same_bits(result, truth)
        same_bits(gradient.contiguous(), slope)
