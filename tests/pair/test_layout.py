"""Strides, threads and repetition change no bit of a loss of a pair."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ENGINES, close, same_bits
from tests.contract.test_layout import LAYOUTS, channels_last
from tests.pair.cases import PairCase, PairData, evaluate, every_pair_case, make_pair, one_case_a_loss, run

SAMPLES = [*one_case_a_loss(), PairCase("MattingLoss", {"alpha_link": "sigmoid"}), PairCase("L1Loss", {"link": "sigmoid"})]


@every_pair_case(among=SAMPLES)
def test_strides_change_no_bit(case: PairCase, dtypes: list[torch.dtype]) -> None:
    """Predictions, targets and regions each in another layout, in every dtype."""
    loss = case.build()
    for i, dtype in enumerate(dtypes):
        data = make_pair(case, (37, 23), dtype=dtype, channels=3, region=("channels", "bool")[i % 2])
        assert data.region is not None
        truth, slope = evaluate(loss, data)
        for j, layout in enumerate(LAYOUTS):
            leaf = layout(data.pred)
            assert torch.equal(leaf, data.pred)
            leaf.requires_grad_()
            others = tuple(LAYOUTS[(i + j + k) % len(LAYOUTS)](one) for k, one in enumerate(data.others))
            result = run(loss, PairData(leaf, others, LAYOUTS[(i + 2 * j) % len(LAYOUTS)](data.region)))
            (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
            same_bits(result.detach(), truth)
            same_bits(gradient.contiguous(), slope)


@every_pair_case(among=SAMPLES)
def test_expanded_inputs(case: PairCase) -> None:
    """One image read four times through stride 0, and one region for all."""
    data = make_pair(case, (12, 9), batch=1, dtype=torch.float32)
    loss = case.build()
    leaf = data.pred.clone().requires_grad_()
    wide = PairData(leaf, data.others, data.region).each(lambda one: one.expand(4, *one.shape[1:]))
    truth, slope = evaluate(loss, wide.each(lambda one: one.detach().contiguous()))
    result = run(loss, wide)
    same_bits(result.detach(), truth)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
    torch.testing.assert_close(gradient, slope.sum(0, keepdim=True))


@every_pair_case(among=SAMPLES)
def test_a_strided_incoming_gradient(case: PairCase) -> None:
    data = make_pair(case, (9, 9), dtype=torch.float32)
    loss = case.build()
    seed = torch.randn(evaluate(loss, data)[0].shape)
    _, slope = evaluate(loss, data, seed)
    _, gradient = evaluate(loss, data, seed.mT.contiguous().mT if seed.dim() > 1 else seed)
    same_bits(gradient, slope)


@every_pair_case(among=SAMPLES)
def test_threads_and_repetition_change_no_bit(case: PairCase) -> None:
    """Bands of 65536 pixels, several of them where threads share them.

    In torch a float32 sigmoid takes another function for the last elements of each thread's share: to rounding.
    """
    data = make_pair(case, (290, 480) if case.options["engine"] == "cpp" else (71, 61), dtype=torch.float32)
    results = []
    for threads in (2, 2, 1):
        torch.set_num_threads(threads)
        results.append(evaluate(case.build(), data))
    for found, truth in zip(results[1], results[0], strict=True):
        same_bits(found, truth)
    by_torch = case.options["engine"] == "eager" and case.link == "sigmoid"
    for found, truth in zip(results[2], results[0], strict=True):
        close(found, truth, 1e-5, 1e-7) if by_torch else same_bits(found, truth)


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@every_pair_case(engines=["cpp"], among=SAMPLES)
def test_channels_last_changes_no_bit_of_large_images(case: PairCase) -> None:
    """Engines may walk channels one by one or together: bands and tiles must be the same.

    An alpha's gradient is added up over the channels by PyTorch, whose order follows the layout.
    """
    for space, channels in (((96, 1097), 3), ((200, 64), 7)):
        data = make_pair(case, space, channels=channels, batch=1, dtype=torch.float32, region="channels")
        truth, slope = evaluate(case.build(), data)
        result, gradient = evaluate(case.build(), data.each(channels_last))
        same_bits(result, truth)
        size = slope.abs().max().item()
        close(gradient, slope, 0, 1e-6 * size) if case.composes else same_bits(gradient.contiguous(), slope)
