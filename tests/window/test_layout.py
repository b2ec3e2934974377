"""Strides, threads and repetition change no bit of a window loss."""

from __future__ import annotations

import pytest
import torch

from tests.cases import ENGINES, same_bits
from tests.contract.test_layout import LAYOUTS, channels_last
from tests.window.cases import WindowCase, WindowData, evaluate, every_window_case, make_images, run, samples

native = pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")


@every_window_case(among=samples())
def test_strides_change_no_bit(case: WindowCase, dtypes: list[torch.dtype]) -> None:
    """Predictions, targets and weights each in another layout, in every dtype."""
    loss = case.build()
    for i, dtype in enumerate(dtypes):
        data = make_images(case, (37, 29), dtype=dtype, channels=3, weight=("channels", "bool")[i % 2])
        assert data.weight is not None
        truth, slope = evaluate(loss, data)
        for j, layout in enumerate(LAYOUTS):
            leaf = layout(data.pred)
            assert torch.equal(leaf, data.pred)
            leaf.requires_grad_()
            target, weight = LAYOUTS[(i + j) % len(LAYOUTS)](data.target), LAYOUTS[(i + 2 * j) % len(LAYOUTS)](data.weight)
            result = run(loss, WindowData(leaf, target, weight))
            (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
            same_bits(result.detach(), truth)
            same_bits(gradient.contiguous(), slope)


@every_window_case(among=samples())
def test_expanded_inputs(case: WindowCase) -> None:
    """One image read four times through stride 0, and one weight for all."""
    data = make_images(case, batch=1, dtype=torch.float32, weight="soft")
    loss = case.build()
    leaf = data.pred.clone().requires_grad_()
    wide = WindowData(leaf, data.target, data.weight).each(lambda one: one.expand(4, *one.shape[1:]))
    truth, slope = evaluate(loss, wide.each(lambda one: one.detach().contiguous()))
    result = run(loss, wide)
    same_bits(result.detach(), truth)
    (gradient,) = torch.autograd.grad(result, leaf, torch.ones_like(result))
    torch.testing.assert_close(gradient, slope.sum(0, keepdim=True))


@every_window_case(among=samples())
def test_threads_and_repetition_change_no_bit(case: WindowCase) -> None:
    """Tiles of 128 by 512 places, several of them where threads share them."""
    data = make_images(case, (290, 61) if case.options["engine"] == "cpp" else (51, 45), dtype=torch.float32, weight="soft")
    results = []
    for threads in (2, 2, 1):
        torch.set_num_threads(threads)
        results.append(evaluate(case.build(), data))
    for again in results[1:]:
        for found, truth in zip(again, results[0], strict=True):
            same_bits(found, truth)


@native
@pytest.mark.parametrize("space", [(300, 40), (30, 1100), (139, 523)], ids=str)
def test_channels_last_changes_no_bit_of_large_images(space: tuple[int, int]) -> None:
    case = WindowCase("SSIMLoss", {"engine": "cpp"})
    data = make_images(case, space, channels=3, batch=1, dtype=torch.float32, weight="channels")
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), data.each(channels_last))
    same_bits(result, truth)
    same_bits(gradient.contiguous(), slope)


@native
@pytest.mark.parametrize("half", [False, True])
def test_many_large_images_are_each_its_own(half: bool) -> None:
    """Gradients of 4 MB and more are written past the caches: the same bits as those of one image alone."""
    case = WindowCase("SSIMLoss", {"engine": "cpp", "reduction": "sum"})
    data = make_images(case, (700, 523), channels=1, batch=6, dtype=torch.float16 if half else torch.float32)
    _, slope = evaluate(case.build(), data)
    _, alone = evaluate(case.build(), data.each(lambda one: one[5:]))
    same_bits(slope[5:], alone)
