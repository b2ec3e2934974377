"""Strides, threads and repetition change no bit of the result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.contract.case import Case, Space, both_same, close, evaluate, run, same_bits, slope_of
from tests.contract.cases import A_LOSS, CASES, every, first_of, native
from tests.contract.layouts import LAYOUTS, channels_last

A_PASS = first_of(lambda case: (case.fold, case.passes, case.maps, case.engines, case.name in ("LovaszLoss", "PSNRLoss")))
"""One case for each combination of sums, histogram, mining and map that is asked of an engine."""
COMPILED = [case.changed(engine="cpp") for case in A_PASS if "cpp" in case.engines]
SERVED = [*(case.changed(engine="eager") for case in A_LOSS), *COMPILED]
"""What the definition leaves to PyTorch's own operators is looked at once a loss."""
SCATTERING = ("LovaszLoss", "OhemCrossEntropyLoss", "FocalLoss", "MSSSIMLoss")
"""Whose definitions do more than add up what each pixel has."""
served = pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.fold}-{case.id}") for case in SERVED])


@served
def test_strides_change_no_bit(case: Case, dtypes: list[torch.dtype]) -> None:
    """Predictions, targets and weights each in another layout, in every dtype: in float32 each way, in others by turns."""
    loss = case.build()
    space = case.spaces[0] if case.fold == "window" else (17, 23)
    for i, dtype in enumerate(dtypes):
        ways = [way for way in case.ways if way[1] is not None]
        data = case.make(space, dtype=dtype, way=ways[i % len(ways)], channels=3 if case.fold == "pair" else None)
        truth = evaluate(loss, data)
        turns = range(len(LAYOUTS)) if dtype is torch.float32 else [(len(case.id) + i) % len(LAYOUTS)]
        for j in turns:
            layout = LAYOUTS[j]
            turn = iter(range(9))
            others = data.each(lambda one, i=i, j=j, turn=turn: LAYOUTS[(i + j + next(turn)) % len(LAYOUTS)](one))
            leaf = layout(data.pred)
            assert torch.equal(leaf, data.pred)
            result = run(loss, others.with_pred(leaf.requires_grad_()))
            both_same((result.detach(), slope_of(result, leaf).contiguous()), truth)


@every(A_LOSS)
def test_expanded_inputs(case: Case) -> None:
    """One image read four times through stride 0, with one target and one weight for all, and one number for all weights."""
    data = case.make(batch=1, dtype=torch.float32, way=case.rich)
    assert data.weight is not None
    loss = case.build()
    leaf = data.leaf()
    wide = leaf.each(lambda one: one.expand(4, *one.shape[1:]))
    truth, slope = evaluate(loss, wide.each(lambda one: one.detach().contiguous()))
    result = run(loss, wide)
    same_bits(result.detach(), truth)
    torch.testing.assert_close(slope_of(result, leaf.pred), slope.sum(0, keepdim=True))
    one = data.weight.new_ones(()).expand(data.weight.shape)
    both_same(evaluate(loss, data.with_weight(one)), evaluate(loss, data.with_weight(one.contiguous())))


def with_threads(case: Case, space: Space, *numbers: int) -> list[tuple[Tensor, Tensor]]:
    data = case.make(space, dtype=torch.float32, way=case.rich)
    found = []
    for threads in numbers:
        torch.set_num_threads(threads)
        found.append(evaluate(case.build(), data))
    return found


@native
@pytest.mark.parametrize("case", COMPILED, ids=lambda case: f"{case.fold}-{case.id}")
def test_threads_and_repetition_change_no_bit(case: Case) -> None:
    first, *others = with_threads(case, case.threaded, 2, 2, 3, 1)
    for found in others:
        both_same(found, first)


OF_TORCH = first_of(lambda case: (case.fold, case.link, case.name if case.name in SCATTERING else ""), A_LOSS)


@pytest.mark.parametrize("case", OF_TORCH, ids=lambda case: f"{case.fold}-{case.id}")
def test_threads_and_repetition_change_no_bit_of_the_definition(case: Case) -> None:
    """In torch a float32 sigmoid or power takes another function for the last elements of each thread's share: to rounding."""
    first, again, alone = with_threads(case.changed(engine="eager"), (71, 61), 2, 2, 1)
    both_same(again, first)
    if case.link == "sigmoid" or case.name == "FocalLoss":
        close(alone[0], first[0], 1e-5, 1e-7)
        close(alone[1], first[1], 1e-5, 1e-7)
    else:
        both_same(alone, first)


@native
@every(A_LOSS, engines=["cpp"], among=lambda case: bool(case.large) and case.any_channels)
def test_channels_last_changes_no_bit_of_large_images(case: Case) -> None:
    """Engines may walk channels one by one or together: blocks, bands and chunks must be the same.

    An alpha's gradient is added up over the channels by PyTorch, whose order follows the layout.
    """
    for space, channels in case.large:
        data = case.make(space, channels=channels, batch=1, dtype=torch.float32, way=case.rich)
        truth, slope = evaluate(case.build(), data)
        result, gradient = evaluate(case.build(), data.each(channels_last))
        same_bits(result, truth)
        if data.images:
            close(gradient, slope, 0, 1e-6 * slope.abs().max().item())
        else:
            same_bits(gradient.contiguous(), slope)


@native
@pytest.mark.parametrize("gamma", [0.5, 1.5, 2.0])
def test_threads_change_no_bit_of_a_power(gamma: float) -> None:
    """In torch `tensor ** 1.5` takes another function for the last elements of each thread's share, so eager may."""
    case = next(case for case in CASES if case.name == "FocalLoss").changed(gamma=gamma, engine="cpp")
    for size in range(100_000, 100_032):
        data = case.make((size,), batch=1, channels=2, dtype=torch.float32)
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(evaluate(case.build(), data))
        both_same(found[1], found[0])


def test_the_layouts_differ() -> None:
    """Each leaves the numbers as they are, and no two lie alike in memory."""
    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    laid: list[Callable[[Tensor], Tensor]] = list(LAYOUTS)
    assert all(torch.equal(layout(x), x) for layout in laid)
    assert len({(layout(x).stride(), layout(x).storage_offset()) for layout in laid}) == len(laid)
