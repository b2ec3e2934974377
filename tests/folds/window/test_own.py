"""What is the window fold's own: large images, options that change, malformed calls of its operators, an image against itself."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES, both_same, close, evaluate, same_bits
from tests.contract.cases import native
from tests.contract.layouts import channels_last
from tests.folds.window.cases import WindowCase
from tests.internals import NAMESPACE


@native
@pytest.mark.parametrize("space", [(300, 40), (30, 1100), (139, 523)], ids=str)
def test_channels_last_changes_no_bit_of_large_images(space: tuple[int, int]) -> None:
    case = WindowCase("SSIMLoss", {"engine": "cpp"})
    data = case.make(space, channels=3, batch=1, dtype=torch.float32, way=("", "channels"))
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), data.each(channels_last))
    both_same((result, gradient.contiguous()), (truth, slope))


@native
@pytest.mark.parametrize("half", [False, True])
def test_many_large_images_are_each_its_own(half: bool) -> None:
    """Gradients of 4 MB and more are written past the caches: the same bits as those of one image alone."""
    case = WindowCase("SSIMLoss", {"engine": "cpp", "reduction": "sum"})
    data = case.make((700, 523), channels=1, batch=6, dtype=torch.float16 if half else torch.float32)
    _, slope = evaluate(case.build(), data)
    _, alone = evaluate(case.build(), data.each(lambda one: one[5:]))
    same_bits(slope[5:], alone)


@pytest.mark.parametrize("engine", ENGINES)
def test_options_can_be_changed(engine: str) -> None:
    data = WindowCase("MSSSIMLoss", {"betas": (1, 1, 1)}).make()
    loss, scales = lf.SSIMLoss(engine=engine), lf.MSSSIMLoss(engine=engine)
    loss.padding, loss.window_size, scales.betas = "zeros", 7, [1, 2]
    close(loss(*data.call), lf.SSIMLoss(padding="zeros", window_size=7)(*data.call))
    close(scales(*data.call), lf.MSSSIMLoss(betas=(1.0, 2.0))(*data.call))
    for wrong in (8, "7"):
        with pytest.raises(lf.LossError, match="window_size"):
            loss.window_size = wrong  # type: ignore[assignment]
    with pytest.raises(lf.LossError, match="betas"):
        scales.betas = []
    assert loss.window_size == 7 and scales.betas == (1.0, 2.0)


@native
def test_malformed_calls_of_the_operators_are_refused() -> None:
    """Whoever calls them by hand gets an error, not another tensor's memory."""
    ops = getattr(torch.ops, NAMESPACE)
    image, window = torch.rand(1, 2, 9, 9), [0.25, 0.5, 0.25]
    sums = torch.zeros(1, 3, 2, dtype=torch.float64)
    for given in (
        (image, image[..., 1:], None, window),
        (image, image, torch.rand(1, 1, 9, 9), window),
        (image, image, torch.rand(1, 3, 7, 7), window),
        (image, image, None, [0.01] * 65),
        (image, image, None, []),
        (image, image, None, [0.1] * 10),
        (image.long(), image, None, window),
    ):
        with pytest.raises(RuntimeError, match="lossfold"):
            ops.window_fold(*given, 1e-4, 9e-4)
    with pytest.raises(RuntimeError, match="lossfold"):
        ops.window_unfold(sums[:, :2], image, image, None, window, 1e-4, 9e-4)
    with pytest.raises(lf.LossError):
        lf.SSIMLoss(window_size=65)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_prediction_that_is_its_own_target(engine: str) -> None:
    """The same tensor twice, with a gradient: the definition serves, and both sides cancel."""
    leaf = torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True)
    if engine == "cpp":
        with pytest.raises(lf.LossError, match="gradient"):
            lf.SSIMLoss(engine=engine)(leaf, leaf)
        return
    result = lf.SSIMLoss()(leaf, leaf)
    (gradient,) = torch.autograd.grad(result, leaf)
    assert result == 0 and gradient.abs().max() == 0
