"""Windows, scales and tiles of any size; images where the textbook's form loses its digits, and others that are hard."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tests.contract.case import ENGINES, Case, Data, close, evaluate
from tests.contract.cases import CASES, each, every
from tests.contract.test_oracle import against_oracle
from tests.contract.truth import judge, plainly, truth_of
from tests.folds.window import oracles
from tests.folds.window.cases import WindowCase

WINDOWS = [case for case in CASES if case.fold == "window"]
SSIM = [case for case in WINDOWS if case.name == "SSIMLoss" and "reduction" not in case.options]


@pytest.mark.parametrize("padding", ["valid", "reflect", "zeros"])
@pytest.mark.parametrize("size", [11, 5])
def test_images_of_any_size(size: int, padding: str) -> None:
    """As large as the window and a little larger, tall, wide, and around the tiles' 128 rows and 512 columns."""
    case = WindowCase("SSIMLoss", {"window_size": size, "padding": padding})
    side, reach = case.side, size - 1
    spaces = [(side, side + more) for more in range(18)] + [(side + more, side) for more in range(1, 18)]
    spaces += [(side + 1, 300), (300, side + 1)]
    spaces += [(rows + reach, 14 + reach) for rows in (127, 128, 129, 256, 257)]
    spaces += [(9 + reach, columns + reach) for columns in (511, 512, 513, 1024, 1025)]
    spaces += [(129, 17), (128, 17), (17, 513), (17, 512), (128 + reach // 2, 513 + reach // 2)]
    for space in spaces:
        against_oracle(case, case.make(space, batch=1, channels=1, way=("", "soft"), seed=sum(space)))


@pytest.mark.parametrize("side", range(44, 60))
def test_scales_of_any_size(side: int) -> None:
    """Odd sides are cut at each scale."""
    case = WindowCase("MSSSIMLoss", {"betas": (0.2, 0.5, 0.3)})
    against_oracle(case, case.make((side, 103 - side), batch=1, way=("", "flat"), seed=side))


@pytest.mark.parametrize("size", [31, 63])
def test_large_windows(size: int) -> None:
    case = WindowCase("SSIMLoss", {"window_size": size, "sigma": size / 6})
    for space in ((size, size + 1), (size + 130, size + 3), (size + 3, size + 520)):
        against_oracle(case, case.make(space, batch=1, channels=1, way=("", "soft"), seed=size))


HARD: dict[str, Any] = {
    "range 255": lambda p, t: (255 * p, 255 * t),
    "nearly equal": lambda p, t: (t + 1e-3 * (p - t), t),
    "as nearly equal as can be": lambda p, t: (t * (1 + 1e-6), t),
    "flat": lambda p, t: (torch.full_like(p, 0.25), torch.full_like(t, 0.75)),
    "flat against noise": lambda p, t: (torch.full_like(p, 0.25), t),
    "dark": lambda p, t: (1e-3 * p, 1e-3 * t),
    "an offset": lambda p, t: (3 + p, 3 + t),
    "an offset between them": lambda p, t: (p + 8, t),
    "negative": lambda p, t: (p - 0.5, t - 0.5),
}


@pytest.mark.parametrize("what", HARD)
@each(SSIM)
def test_no_worse_where_it_is_hard(case: Case, what: str, dtypes: list[torch.dtype]) -> None:
    """Not in float64: there the truth itself, in the textbook's form, is what cancels.

    Of a flat image the definition's variance is the same few bits everywhere, and whether they cancel in the gradient is luck.
    """
    case = case.changed(data_range=255.0 if what == "range 255" else 1.0)
    for dtype in dtypes:
        if dtype != torch.float64:
            data = case.changed(data_range=1.0).make((71, 53), dtype=torch.float64)
            images = Data(*(image.to(dtype) for image in HARD[what](data.pred, data.target)))
            judge(case, images, by_definition=not what.startswith("flat"))


@each(SSIM)
def test_a_mean_far_above_the_range_costs_nothing(case: Case) -> None:
    """Images are shifted before they are squared."""
    data = case.changed(data_range=1.0).make((71, 53), dtype=torch.float32)
    judge(case.changed(data_range=1.0), Data(30 + data.pred, 30 + data.target))


@every(WINDOWS, among=lambda case: case.reduction != "sum")
def test_identical_images_cost_exactly_nothing(case: Case, dtypes: list[torch.dtype]) -> None:
    for dtype, weight in itertools.product(dtypes, (None, "channels")):
        data = case.make((50, 61), dtype=dtype, way=("", weight))
        for image in (data.pred, torch.full_like(data.pred, 0.3), torch.zeros_like(data.pred), 1.4 * data.pred):
            result, gradient = evaluate(case.build(), Data(image, image.clone(), data.weight))
            assert result.abs().max() == 0 and gradient.abs().max() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_nearly_equal_images_keep_their_digits(engine: str) -> None:
    """1 - SSIM of a difference of 1e-4 is about 1e-7: the textbook's form in float32 has no digit of it left."""
    case = WindowCase("SSIMLoss", {"engine": engine})
    data = case.make((64, 64), dtype=torch.float32)
    data = Data(data.target + 1e-4 * (data.pred - data.target), data.target)
    truth, slope = truth_of(case, data)
    result, gradient = evaluate(case.build(), data)
    close(result.double(), truth, 1e-4, 0)
    close(gradient.double(), slope, 1e-3, 1e-4 * slope.abs().max().item())
    naive, _ = plainly(case, data)
    assert (naive - truth).abs() > 0.05 * truth


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1e8, 1e10, 1e15])
def test_images_far_out_of_range(size: float, engine: str) -> None:
    """A prediction that has run away costs about 1, whatever its size; products of squares would overflow."""
    case = WindowCase("SSIMLoss", {"engine": engine})
    data = case.make((20, 20), dtype=torch.float32)
    data = Data(size * data.pred, data.target)
    truth, slope = truth_of(case, data)
    result, gradient = evaluate(case.build(), data)
    close(result.double(), truth, 1e-4, 0)
    assert gradient.isfinite().all() and gradient.abs().max() <= 2 * slope.abs().max() + 1e-6 / size


@pytest.mark.parametrize("engine", ENGINES)
def test_a_million_pixels_in_float32(engine: str) -> None:
    """Sums in float32 alone would be off in the fifth digit."""
    case = WindowCase("SSIMLoss", {"engine": engine})
    data = case.make((1000, 1050), batch=1, channels=1, dtype=torch.float32, way=("", "soft"))
    close(case.build()(*data.call).double(), torch.from_numpy(oracles.evaluate("SSIMLoss", data, {})), 1e-6, 0)
