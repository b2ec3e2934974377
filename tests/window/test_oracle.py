"""SSIM and MS-SSIM against float64 NumPy in the textbook's form, and against plain PyTorch at each dtype."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES, WINDOW_LOSSES, close
from tests.truth import no_worse
from tests.window import oracles, plain
from tests.window.cases import WEIGHTS, WindowCase, WindowData, evaluate, every_window_case, make_images, window_cases

OPTIONS: dict[str, list[Any]] = {
    "window_size": [11, 1, 3, 7],
    "sigma": [1.5, 0.5, 8.0],
    "k1": [0.01, 0.1],
    "k2": [0.03, 0.2],
    "data_range": [1.0, 2.0, 255.0],
    "padding": ["valid", "reflect", "zeros"],
    "reduction": ["mean", "sum", "none", "sample_wise"],
}
SPECIFIC: dict[str, dict[str, list[Any]]] = {"MSSSIMLoss": {"betas": [(1.0,), (0.3, 0.7), (0.1, 2.0, 0.4)]}}


def product(name: str, limit: int) -> list[WindowCase]:
    """The product of the options, thinned to `limit` by a seeded draw that has each value."""
    options = OPTIONS | SPECIFIC.get(name, {})
    rows = [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]
    for row in rows:
        if row["reduction"] == "sample_wise":
            row.update(reduction="mean", sample_wise=True)
    chosen = [rows[i] for i in np.random.default_rng(7).choice(len(rows), limit, replace=False)]
    for key, values in options.items():
        for value in values:
            if value != "sample_wise":
                assert any(row[key] == value for row in chosen), f"draw another seed: none has {key}={value}"
    return [WindowCase(name, row) for row in chosen]


PRODUCTS = [case for name in WINDOW_LOSSES for case in product(name, 12)]


def truth_of(case: WindowCase, data: WindowData, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Value and gradient of plain PyTorch in float64."""
    leaf = data.double().leaf()
    truth = plain.evaluate(case.name, leaf, case.options)
    seed = torch.ones_like(truth) if cotangent is None else cotangent
    return truth.detach(), torch.autograd.grad(truth, leaf.pred, seed)[0]


def against_oracle(case: WindowCase, data: WindowData) -> None:
    """The oracle's value; the gradient of plain PyTorch, which has the oracle's value as well."""
    truth = torch.from_numpy(oracles.evaluate(case.name, data, case.options))
    cotangent = torch.from_numpy(np.random.default_rng(1).standard_normal(truth.shape))
    value, slope = truth_of(case, data, cotangent)
    close(value, truth)
    for engine in case.engines:
        result, gradient = evaluate(case.changed(engine=engine).build(), data, cotangent)
        assert result.dtype == torch.float64
        close(result, truth)
        close(gradient, slope, 1e-9, 1e-12)


@pytest.mark.parametrize("case", window_cases(), ids=lambda case: case.id)
def test_samples_equal_the_oracle(case: WindowCase) -> None:
    for channels, (seed, weight) in itertools.product((1, 3), enumerate((None, *WEIGHTS))):
        against_oracle(case, make_images(case, channels=channels, weight=weight, seed=seed))


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: case.id)
def test_options_equal_the_oracle(case: WindowCase) -> None:
    for weight in (None, "channels"):
        against_oracle(case, make_images(case, weight=weight, seed=5))


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
        against_oracle(case, make_images(case, space, batch=1, channels=1, weight="soft", seed=sum(space)))


@pytest.mark.parametrize("side", range(44, 60))
def test_scales_of_any_size(side: int) -> None:
    """Odd sides are cut at each scale."""
    case = WindowCase("MSSSIMLoss", {"betas": (0.2, 0.5, 0.3)})
    against_oracle(case, make_images(case, (side, 103 - side), batch=1, weight="flat", seed=side))


@pytest.mark.parametrize("size", [31, 63])
def test_large_windows(size: int) -> None:
    case = WindowCase("SSIMLoss", {"window_size": size, "sigma": size / 6})
    for space in ((size, size + 1), (size + 130, size + 3), (size + 3, size + 520)):
        against_oracle(case, make_images(case, space, batch=1, channels=1, weight="soft", seed=size))


def judge(case: WindowCase, data: WindowData, *, by_definition: bool = True, factor: float = 2.0) -> None:
    """An engine is no further from the float64 truth than plain PyTorch at that dtype, nor than the definition.

    In float64 the truth's own variances are differences of squares: they round by eps, and count in units of c2.
    """
    cotangent = torch.randn(truth_of(case, data)[0].shape, dtype=torch.float64)
    truth, slope = truth_of(case, data, cotangent)
    leaf = data.leaf()
    naive = plain.evaluate(case.name, leaf, case.options)
    (naive_slope,) = torch.autograd.grad(naive, leaf.pred, cotangent.to(naive))
    reference, reference_slope = evaluate(case.changed(engine="eager").build(), data, cotangent)
    if not by_definition:
        reference, reference_slope = naive.detach(), naive_slope
    result, gradient = evaluate(case.build(), data, cotangent)
    assert result.dtype == (torch.float64 if data.pred.dtype == torch.float64 else torch.float32)
    assert gradient.dtype == data.pred.dtype
    exact = data.pred.dtype == torch.float64
    own = 2 * torch.finfo(torch.float64).eps / case.options.get("k2", 0.03) ** 2 if exact else 0.0
    for found, right, naively, defined in (
        (result, truth, naive.detach(), reference),
        (gradient, slope, naive_slope, reference_slope),
    ):
        no_worse(found, right, naively, defined, factor, grain=own * right.abs().max().item())


@every_window_case(among=[case for case in window_cases() if case.options.get("reduction") != "sum"])
def test_no_worse_than_plain_pytorch(case: WindowCase, dtype: torch.dtype, device: torch.device) -> None:
    for weight in (None, "soft"):
        judge(case, make_images(case, (71, 53), dtype=dtype, weight=weight, device=device))


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
@every_window_case(among=[case for case in window_cases() if case.name == "SSIMLoss" and "reduction" not in case.options])
def test_no_worse_where_it_is_hard(case: WindowCase, what: str, dtypes: list[torch.dtype]) -> None:
    """Not in float64: there the truth itself, in the textbook's form, is what cancels.

    Of a flat image the definition's variance is the same few bits everywhere, and whether they cancel in the gradient is luck.
    """
    case = case.changed(data_range=255.0 if what == "range 255" else 1.0)
    for dtype in dtypes:
        if dtype != torch.float64:
            data = make_images(case.changed(data_range=1.0), (71, 53), dtype=torch.float64)
            images = WindowData(*(image.to(dtype) for image in HARD[what](data.pred, data.target)))
            judge(case, images, by_definition=not what.startswith("flat"))


@every_window_case(among=[case for case in window_cases() if case.name == "SSIMLoss" and "reduction" not in case.options])
def test_a_mean_far_above_the_range_costs_nothing(case: WindowCase) -> None:
    """Images are shifted before they are squared."""
    data = make_images(case.changed(data_range=1.0), (71, 53), dtype=torch.float32)
    judge(case.changed(data_range=1.0), WindowData(30 + data.pred, 30 + data.target), factor=2.0)


@every_window_case(among=[case for case in window_cases() if case.options.get("reduction") != "sum"])
def test_identical_images_cost_exactly_nothing(case: WindowCase, dtypes: list[torch.dtype]) -> None:
    for dtype, weight in itertools.product(dtypes, (None, "channels")):
        data = make_images(case, (50, 61), dtype=dtype, weight=weight)
        for image in (data.pred, torch.full_like(data.pred, 0.3), torch.zeros_like(data.pred), 40 * data.pred):
            result, gradient = evaluate(case.build(), WindowData(image, image.clone(), data.weight))
            assert result.abs().max() == 0 and gradient.abs().max() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_nearly_equal_images_keep_their_digits(engine: str) -> None:
    """1 - SSIM of a difference of 1e-4 is about 1e-7: the textbook's form in float32 has no digit of it left."""
    case = WindowCase("SSIMLoss", {"engine": engine})
    data = make_images(case, (64, 64), dtype=torch.float32)
    data = WindowData(data.target + 1e-4 * (data.pred - data.target), data.target)
    truth, slope = truth_of(case, data)
    result, gradient = evaluate(case.build(), data)
    close(result.double(), truth, 1e-4, 0)
    close(gradient.double(), slope, 1e-3, 1e-4 * slope.abs().max().item())
    leaf = data.leaf()
    naive = plain.evaluate(case.name, leaf, case.options)
    assert (naive - truth).abs() > 0.05 * truth


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1e8, 1e10, 1e15])
def test_images_far_out_of_range(size: float, engine: str) -> None:
    """A prediction that has run away costs about 1, whatever its size; products of squares would overflow."""
    case = WindowCase("SSIMLoss", {"engine": engine})
    data = make_images(case, (20, 20), dtype=torch.float32)
    data = WindowData(size * data.pred, data.target)
    truth, slope = truth_of(case, data)
    result, gradient = evaluate(case.build(), data)
    close(result.double(), truth, 1e-4, 0)
    assert gradient.isfinite().all() and gradient.abs().max() <= 2 * slope.abs().max() + 1e-6 / size


@pytest.mark.parametrize("engine", ENGINES)
def test_a_million_pixels_in_float32(engine: str) -> None:
    """Sums in float32 alone would be off in the fifth digit."""
    case = WindowCase("SSIMLoss", {"engine": engine})
    data = make_images(case, (1000, 1050), batch=1, channels=1, dtype=torch.float32, weight="soft")
    close(case.build()(*data.call).double(), torch.from_numpy(oracles.evaluate("SSIMLoss", data, {})), 1e-6, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_and_weights_of_other_dtypes(engine: str) -> None:
    """Boolean targets are 0 and 1, and a weight's dtype is not the prediction's."""
    for case in window_cases():
        if engine not in case.engines:
            continue
        loss = case.changed(engine=engine).build()
        data = make_images(case, dtype=torch.float32, weight="bool")
        assert data.weight is not None
        hard = WindowData(data.pred, data.target > 0.5, data.weight)
        numbers = WindowData(data.pred, hard.target.half(), data.weight.bfloat16())
        for found, truth in zip(evaluate(loss, hard), evaluate(loss, numbers), strict=True):
            close(found, truth, 0, 0)


def test_every_window_loss_has_an_oracle() -> None:
    for name in WINDOW_LOSSES:
        assert lf.LOSSES[name].samples and name in oracles.ORACLES and name in plain.PLAIN, f"write {name} into tests/window"
