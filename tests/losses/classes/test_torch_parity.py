"""torch.nn.CrossEntropyLoss on every option, values and gradients, in float64 and in the dtypes torch has on CPU."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf

ENGINES = lf.engines.available()
CLASSES = 6
WEIGHTS = [0.5, 2.0, 0.0, 1.0, 0.25, 3.0]
SPACES = [(), (7,), (4, 5), (2, 3, 4)]


def data(space: tuple[int, ...], ignore_index: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(space))
    scores = 3 * torch.randn(3, CLASSES, *space, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (3, *space), generator=generator)
    labels.view(-1)[::4] = ignore_index
    return scores.to(dtype).requires_grad_(), labels


def run(loss: nn.Module, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    result = loss(scores, labels)
    seed = torch.linspace(0.5, 1.5, result.numel(), dtype=torch.float64).reshape(result.shape)
    (gradient,) = torch.autograd.grad(result, scores, seed.to(result))
    return result.detach(), gradient


OPTIONS = list(itertools.product([None, WEIGHTS], [-100, 255, 0, 3], [0.0, 0.1, 1.0]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("space", SPACES[1:], ids=str)
def test_every_option(reduction: Any, space: tuple[int, ...], engine: Any) -> None:
    for class_weight, ignore_index, smoothing in OPTIONS:
        compare(class_weight, ignore_index, smoothing, reduction, space, engine)


def compare(
    class_weight: list[float] | None, ignore_index: int, smoothing: float, reduction: Any, space: tuple[int, ...], engine: Any
) -> None:
    tensor = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float64)
    theirs = nn.CrossEntropyLoss(weight=tensor, ignore_index=ignore_index, label_smoothing=smoothing, reduction=reduction)
    ours = lf.CrossEntropyLoss(
        class_weight=class_weight,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
        engine=engine,
    )
    scores, labels = data(space, ignore_index)
    expected, slope = run(theirs, scores, labels)
    actual, gradient = run(ours, scores, labels)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_lower_dtypes_are_as_close_to_the_truth_as_torch(name: str, reduction: Any, engine: Any) -> None:
    dtype = getattr(torch, name)
    options: dict[str, Any] = {"ignore_index": 255, "label_smoothing": 0.1, "reduction": reduction}
    scores, labels = data((31, 29), 255, dtype)
    exact = scores.detach().double().requires_grad_()
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    truth, slope = run(nn.CrossEntropyLoss(weight, **options), exact, labels)
    theirs, their_slope = run(nn.CrossEntropyLoss(weight.to(dtype), **options), scores, labels)
    ours, our_slope = run(lf.CrossEntropyLoss(class_weight=WEIGHTS, engine=engine, **options), scores, labels)

    def error(tensor: Tensor, reference: Tensor) -> float:
        return (tensor.double() - reference).abs().max().item()

    assert ours.dtype == torch.float32 and our_slope.dtype == dtype
    rounding = 2 * torch.finfo(torch.float32).eps * truth.abs().max().item()
    assert error(ours, truth) <= error(theirs, truth) + rounding
    rounding = torch.finfo(dtype).eps * slope.abs().max().item()
    assert error(our_slope, slope) <= error(their_slope, slope) + rounding


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("keep", [{}, {"min_kept": 0, "thresh": 1.0}, {"top_k_ratio": 1.0}], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mining_that_keeps_all_is_cross_entropy(keep: dict[str, Any], reduction: Any, engine: Any) -> None:
    scores, labels = data((4, 5), 255)
    theirs = nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64), ignore_index=255, reduction=reduction)
    ours = lf.OhemCrossEntropyLoss(class_weight=WEIGHTS, ignore_index=255, reduction=reduction, engine=engine, **keep)
    for actual, expected in zip(run(ours, scores, labels), run(theirs, scores, labels), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_at_label_resolution_it_is_interpolation_before(corners: bool, smoothing: float, engine: Any) -> None:
    """What the networks of the HRNet kind are trained with."""
    scores, _ = data((4, 5), 255)
    _, labels = data((16, 20), 255)
    options: dict[str, Any] = {"ignore_index": 255, "label_smoothing": smoothing}
    actual = run(lf.CrossEntropyLoss(class_weight=WEIGHTS, align_corners=corners, engine=engine, **options), scores, labels)
    theirs = nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64), **options)
    large = nn.functional.interpolate(scores, (16, 20), mode="bilinear", align_corners=corners)
    expected = theirs(large, labels)
    (slope,) = torch.autograd.grad(expected, scores, torch.tensor(0.5, dtype=torch.float64))  # as `run` does
    torch.testing.assert_close(actual[0], expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(actual[1], slope, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_without_space(engine: Any) -> None:
    """[B, C] logits with [B] labels, torch's plain classification case."""
    scores, labels = data((), -100)
    expected, slope = run(nn.CrossEntropyLoss(), scores, labels)
    actual, gradient = run(lf.CrossEntropyLoss(engine=engine), scores, labels)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(gradient, slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_ignored_is_zero_where_torch_gives_nan(engine: Any) -> None:
    scores, labels = data((7,), 255)
    labels.fill_(255)
    assert nn.CrossEntropyLoss(ignore_index=255)(scores, labels).isnan()
    actual, gradient = run(lf.CrossEntropyLoss(ignore_index=255, engine=engine), scores, labels)
    assert actual == 0 and gradient.abs().max() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_class_weight_does_not_index_with_the_ignore_label(engine: Any) -> None:
    scores, labels = data((7,), 255)
    kept = labels != 255
    actual, _ = run(lf.CrossEntropyLoss(class_weight=WEIGHTS, ignore_index=255, engine=engine), scores, labels)
    rows = scores.detach().movedim(1, -1)[kept]
    expected = nn.CrossEntropyLoss(torch.tensor(WEIGHTS, dtype=torch.float64))(rows, labels[kept])
    torch.testing.assert_close(actual, expected)
