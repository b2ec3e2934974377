"""A dense loss is a sum over counted pixels: what removing, weighting, repeating and permuting them must do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.cases import Case, Data, cases, close, evaluate, every_case, is_map, make, value

SIZE = 12


def outcome(case: Case, data: Data) -> tuple[Tensor, Tensor]:
    """Value and gradient; a map is summed, so that maps of different sizes can be compared."""
    loss = case.build()
    leaf = data.leaf()
    result = value(loss(*leaf.call))
    total = result.sum() if is_map(result, data.labels) else result
    cotangent = torch.linspace(0.5, 1.5, max(total.numel(), 1), dtype=torch.float64).reshape(total.shape)
    (gradient,) = torch.autograd.grad(total, leaf.scores, cotangent)
    return total.detach(), gradient


def line(case: Case, weight: str | None = None, **options: Any) -> Data:
    """One-dimensional data with no ignored pixel; SIZE is no number of classes, so a map is known by its shape."""
    return make(case, (SIZE,), batch=3, ignored=0.0, weight=weight, **options)


def spots(batch: int = 3) -> tuple[Tensor, Tensor]:
    """For each image 5 positions to drop and the 7 to keep, [B, 5] and [B, 7]."""
    order = torch.stack([torch.randperm(SIZE) for _ in range(batch)])
    return order[:, :5].sort(1).values, order[:, 5:].sort(1).values


def pick(data: Data, index: Tensor) -> Data:
    scores = data.scores.gather(2, index.unsqueeze(1).expand(-1, data.scores.shape[1], -1))
    weight = None if data.weight is None else data.weight.gather(1, index)
    return Data(scores, data.labels.gather(1, index), weight)


def spread(gradient: Tensor, index: Tensor) -> Tensor:
    """The gradient of `pick`: zero where nothing was picked."""
    whole = gradient.new_zeros(*gradient.shape[:2], SIZE)
    return whole.scatter_add(2, index.unsqueeze(1).expand_as(gradient), gradient)


@every_case()
@pytest.mark.parametrize("weight", [None, "float"])
def test_ignoring_is_removing(case: Case, weight: str | None) -> None:
    data = line(case, weight)
    drop, keep = spots()
    labels = data.labels.scatter(1, drop, case.ignore_index)
    result, gradient = outcome(case, Data(data.scores, labels, data.weight))
    truth, slope = outcome(case, pick(data, keep))
    close(result, truth, grain=case.grain)
    close(gradient, spread(slope, keep))
    assert gradient.gather(2, drop.unsqueeze(1).expand(-1, case.classes, -1)).abs().max() == 0
    assert slope.abs().max() > 0


@every_case()
def test_weight_zero_is_removing(case: Case) -> None:
    data = line(case, "float")
    assert data.weight is not None
    drop, keep = spots()
    result, gradient = outcome(case, Data(data.scores, data.labels, data.weight.scatter(1, drop, 0.0)))
    truth, slope = outcome(case, pick(data, keep))
    close(result, truth, grain=case.grain)
    close(gradient, spread(slope, keep))


@every_case()
@pytest.mark.parametrize(
    ("how", "poison"), [("ignored", float("nan")), ("weight 0", float("nan")), ("mask", float("inf")), ("ignored", 1e30)]
)
def test_what_does_not_count_is_not_read(case: Case, how: str, poison: float) -> None:
    """NaN and infinity at pixels that don't count reach neither the value nor the gradient."""
    data = line(case, "bool" if how == "mask" else "float")
    assert data.weight is not None
    drop, keep = spots()
    scores = data.scores.scatter(2, drop.unsqueeze(1).expand(-1, case.classes, -1), poison)
    labels = data.labels.scatter(1, drop, case.ignore_index) if how == "ignored" else data.labels
    weight = data.weight if how == "ignored" else data.weight.scatter(1, drop, 0)
    result, gradient = outcome(case, Data(scores, labels, weight))
    truth, slope = outcome(case, pick(data, keep))
    close(result, truth, grain=case.grain)
    close(gradient, spread(slope, keep))


@every_case(among=[case for case in cases() if not case.counts_pixels])
def test_weight_two_is_the_pixel_twice(case: Case) -> None:
    data = line(case)
    twice, _ = spots()
    weight = torch.ones(3, SIZE).scatter(1, twice, 2.0)
    result, gradient = outcome(case, Data(data.scores, data.labels, weight))
    index = torch.cat([torch.arange(SIZE).expand(3, -1), twice], 1)
    truth, slope = outcome(case, pick(data, index))
    close(result, truth, grain=case.grain)
    close(gradient, spread(slope, index))


@every_case()
def test_unit_weights_are_no_weights(case: Case) -> None:
    data = make(case)
    truth, slope = outcome(case, data)
    for weight in (torch.ones(data.labels.shape), torch.ones(data.labels.shape, dtype=torch.bool)):
        result, gradient = outcome(case, Data(data.scores, data.labels, weight))
        close(result, truth, grain=case.grain)
        close(gradient, slope)


@every_case()
def test_a_mask_is_zero_one_weights(case: Case) -> None:
    data = make(case, weight="bool")
    assert data.weight is not None and 0 < data.weight.sum() < data.weight.numel()
    truth, slope = outcome(case, Data(data.scores, data.labels, data.weight.double()))
    result, gradient = outcome(case, data)
    close(result, truth, grain=case.grain)
    close(gradient, slope)
    full, _ = outcome(case, Data(data.scores, data.labels))
    assert not torch.equal(full, result)


@every_case()
@pytest.mark.parametrize("weight", ["float", "bool"])
def test_a_weight_may_have_a_channel(case: Case, weight: str) -> None:
    data = make(case, (3, 4), weight=weight)
    assert data.weight is not None
    truth, slope = outcome(case, data)
    result, gradient = outcome(case, Data(data.scores, data.labels, data.weight.unsqueeze(1)))
    close(result, truth, 0, 0)
    close(gradient, slope, 0, 0)


@every_case()
def test_weights_of_every_float_dtype(case: Case) -> None:
    data = make(case, weight="float")
    assert data.weight is not None
    for weight_dtype in (torch.float32, torch.bfloat16, torch.float16):
        rounded = data.weight.to(weight_dtype)
        assert not torch.equal(rounded.double(), data.weight)
        truth, slope = outcome(case, Data(data.scores, data.labels, rounded.double()))
        result, gradient = outcome(case, Data(data.scores, data.labels, rounded))
        close(result, truth, grain=case.grain)
        close(gradient, slope)


@every_case()
def test_permuting_pixels(case: Case) -> None:
    data = line(case, "float")
    order = torch.stack([torch.randperm(SIZE) for _ in range(3)])
    truth, slope = outcome(case, data)
    result, gradient = outcome(case, pick(data, order))
    close(result, truth, grain=case.grain)
    close(spread(gradient, order), slope)


@every_case()
def test_permuting_images(case: Case) -> None:
    data = line(case, "float")
    assert data.weight is not None
    order = torch.tensor([2, 0, 1])
    loss = case.build()
    truth, slope = evaluate(loss, data)
    result, gradient = evaluate(loss, Data(data.scores[order], data.labels[order], data.weight[order]))
    images = truth.ndim > 0 and (is_map(truth, data.labels) or bool(case.options.get("per_image")))
    close(result, truth[order] if images else truth, grain=case.grain)
    close(gradient, slope[order])


@every_case()
def test_permuting_classes_with_their_labels(case: Case) -> None:
    """The background, where it is told apart, and an ignore label among the classes stay where they are."""
    data = line(case, "float")
    fixed = {case.ignore_index} | ({0} if not case.options.get("include_background", True) else set())
    free = torch.tensor([c for c in range(case.classes) if c not in fixed])
    order = torch.arange(case.classes)
    order[free] = free.roll(1)
    inverse = order.argsort()
    options: dict[str, Any] = {k: [v[i] for i in order] for k, v in case.per_class.items()}
    if isinstance(case.options.get("classes"), list):
        options["classes"] = [int(inverse[c]) for c in case.options["classes"]]
    truth, slope = outcome(case, data)
    permuted = case.changed(**options)
    result, gradient = outcome(permuted, Data(data.scores[:, order], inverse[data.labels], data.weight))
    by_class = truth.ndim > 0 and truth.shape[-1] == case.classes
    if by_class:
        # The cotangent of `outcome` names classes by position: compare values class by class, gradients by their sum.
        close(result, truth[..., order], grain=case.grain)
        truth, slope = evaluate(case.build(), data)
        result, gradient = evaluate(permuted.build(), Data(data.scores[:, order], inverse[data.labels], data.weight))
        close(gradient, slope[:, order])
    else:
        close(result, truth, grain=case.grain)
        close(gradient, slope[:, order])


@every_case()
def test_per_image_is_the_mean_of_each_image(case: Case) -> None:
    """The mean of each image's own loss, over the images in which something counts."""
    if case.options.get("reduction", "mean") != "mean":
        case = case.changed(reduction="mean")
    case = case.changed(per_image=True)
    data = make(case, (SIZE,), batch=4, weight="float")
    assert data.weight is not None
    data.labels[2] = case.ignore_index
    result, gradient = evaluate(case.build(), data)
    singles = [
        evaluate(case.build(), Data(data.scores[i : i + 1], data.labels[i : i + 1], data.weight[i : i + 1])) for i in (0, 1, 3)
    ]
    close(result, torch.stack([single for single, _ in singles]).mean(0), grain=case.grain)
    close(gradient[[0, 1, 3]], torch.cat([slope for _, slope in singles]) / 3)
    assert gradient[2].abs().max() == 0
