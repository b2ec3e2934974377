"""What removing, weighting, repeating and permuting pixels, images and channels does to a dense loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.cases import Data, close, evaluate
from tests.dense.cases import DenseCase, call, dense_cases, every_dense_case, make_dense, samples

SIZE = 12


def outcome(case: DenseCase, data: Data) -> tuple[Tensor, Tensor]:
    """Value and gradient; a map is summed, so that maps of different sizes can be compared."""
    leaf = data.leaf()
    result = call(case.build(), leaf)
    total = result.sum() if case.maps else result
    cotangent = torch.linspace(0.5, 1.5, max(total.numel(), 1), dtype=torch.float64).reshape(total.shape)
    (gradient,) = torch.autograd.grad(total, leaf.scores, cotangent)
    return total.detach(), gradient


def line(case: DenseCase, target: str = "soft", weight: str | None = None) -> Data:
    return make_dense(case, (SIZE,), target=target, batch=3, ignored=0.0, weight=weight)


def spots() -> tuple[Tensor, Tensor]:
    """For each image 5 positions to drop and the 7 to keep."""
    order = torch.stack([torch.randperm(SIZE) for _ in range(3)])
    return order[:, :5].sort(1).values, order[:, 5:].sort(1).values


def at(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1)) if x.dim() == 3 else x.gather(1, index)


def put(x: Tensor, index: Tensor, number: Any) -> Tensor:
    return x.scatter(2, index[:, None].expand(-1, x.shape[1], -1), number) if x.dim() == 3 else x.scatter(1, index, number)


def pick(data: Data, index: Tensor) -> Data:
    return Data(at(data.scores, index), at(data.labels, index), None if data.weight is None else at(data.weight, index))


def spread(gradient: Tensor, index: Tensor) -> Tensor:
    """The gradient of `pick`: zero where nothing was picked."""
    whole = gradient.new_zeros(*gradient.shape[:2], SIZE)
    return whole.scatter_add(2, index[:, None].expand_as(gradient), gradient)


def same(case: DenseCase, data: Data, other: Data, index: Tensor) -> None:
    """`data` costs what the picked `other` costs, and the same scores have the gradient."""
    result, gradient = outcome(case, data)
    truth, slope = outcome(case, pick(other, index))
    close(result, truth, grain=case.grain)
    close(gradient, spread(slope, index))
    assert slope.abs().max() > 0


@every_dense_case(among=samples())
@pytest.mark.parametrize("weight", [None, "element"])
def test_ignoring_is_removing(case: DenseCase, weight: str | None) -> None:
    data = line(case, "int", weight)
    drop, keep = spots()
    same(case, Data(data.scores, put(data.labels, drop, case.ignore_index), data.weight), data, keep)


@every_dense_case(among=samples())
@pytest.mark.parametrize(("target", "weight"), [("soft", "element"), ("bool", "pixel")])
def test_weight_zero_is_removing(case: DenseCase, target: str, weight: str) -> None:
    data = line(case, target, weight)
    assert data.weight is not None
    drop, keep = spots()
    same(case, Data(data.scores, data.labels, put(data.weight, drop, 0.0)), data, keep)


@every_dense_case(among=samples())
@pytest.mark.parametrize(("how", "poison"), [("ignored", float("nan")), ("weight", float("nan")), ("mask", float("inf"))])
def test_what_does_not_count_is_not_read(case: DenseCase, how: str, poison: float) -> None:
    """NaN and infinity in scores and targets that do not count reach neither the value nor the gradient."""
    data = line(case, "int" if how == "ignored" else "soft", "bool" if how == "mask" else "element")
    assert data.weight is not None
    drop, keep = spots()
    targets = put(data.labels, drop, case.ignore_index if how == "ignored" else torch.nan)
    weight = data.weight if how == "ignored" else put(data.weight, drop, 0)
    same(case, Data(put(data.scores, drop, poison), targets, weight), data, keep)


@every_dense_case(among=samples())
def test_one_element_that_does_not_count_is_not_read(case: DenseCase) -> None:
    """Its weight is 0 in one channel alone; with softmax an ignored channel takes its pixel along."""
    data = make_dense(case, weight="element")
    if case.together:
        data = make_dense(case, target="int", ignored=0.0)
        data.labels[0, 1, 2, 2] = case.ignore_index
        pixel = data.labels.clone()
        pixel[0, :, 2, 2] = case.ignore_index
        twin = Data(data.scores.clone(), pixel)
        data.scores[0, :, 2, 2] = torch.nan
    else:
        assert data.weight is not None
        data.weight[0, 1, 2, 2] = 0
        twin = Data(data.scores.clone(), data.labels.clone(), data.weight)
        data.scores[0, 1, 2, 2], data.labels[0, 1, 2, 2] = torch.inf, torch.nan
    result, gradient = outcome(case, data)
    truth, slope = outcome(case, twin)
    close(result, truth, grain=case.grain)
    close(gradient, slope)
    assert gradient[0, 1, 2, 2] == 0


@every_dense_case(among=samples())
@pytest.mark.parametrize("target", ["soft", "bool"])
def test_weight_two_is_the_pixel_twice(case: DenseCase, target: str) -> None:
    data = line(case, target)
    twice, _ = spots()
    index = torch.cat([torch.arange(SIZE).expand(3, -1), twice], 1)
    same(case, Data(data.scores, data.labels, torch.ones(3, SIZE).scatter(1, twice, 2.0)), data, index)


@every_dense_case(among=samples())
def test_ways_to_write_the_same_weights(case: DenseCase) -> None:
    """Ones are none; masks are 0 and 1; a channel of its own, or the same for all channels, changes nothing."""
    data = make_dense(case, weight="bool")
    assert data.weight is not None and 0 < data.weight.sum() < data.weight.numel()
    masked, full = outcome(case, data), outcome(case, Data(data.scores, data.labels))
    assert not torch.equal(masked[0], full[0])
    ones = torch.ones_like(data.weight)
    ways = [(full, ones), (full, ones.double()), (masked, data.weight.float()), (masked, data.weight[:, None])]
    if not case.together:
        ways += [(full, ones[:, None].expand(data.scores.shape)), (masked, data.weight[:, None].expand(data.scores.shape))]
    for (truth, slope), weight in ways:
        result, gradient = outcome(case, Data(data.scores, data.labels, weight))
        close(result, truth, grain=case.grain)
        close(gradient, slope)


@every_dense_case(among=samples())
def test_weights_and_targets_of_every_dtype(case: DenseCase) -> None:
    data = make_dense(case, weight="element")
    assert data.weight is not None
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = data.weight.to(dtype)
        truth, slope = outcome(case, Data(data.scores, data.labels, weight.double()))
        result, gradient = outcome(case, Data(data.scores, data.labels.to(dtype), weight))  # the targets are exact in all
        close(result, truth, grain=case.grain)
        close(gradient, slope)
    data = make_dense(case, target="int", ignored=0.0)
    truth, slope = outcome(case, data)
    for dtype in (torch.int32, torch.uint8, torch.bool):
        result, gradient = outcome(case, Data(data.scores, data.labels.to(dtype)))
        close(result, truth, 0, 0)
        close(gradient, slope, 0, 0)
    data = make_dense(case.changed(ignore_index=255), target="int")
    assert (data.labels == 255).any()
    truth, slope = outcome(case.changed(ignore_index=255), data)
    for dtype in (torch.int32, torch.uint8):
        result, gradient = outcome(case.changed(ignore_index=255), Data(data.scores, data.labels.to(dtype)))
        close(result, truth, 0, 0)
        close(gradient, slope, 0, 0)


@every_dense_case(among=samples())
def test_hard_targets_cost_the_same_however_they_are_written(case: DenseCase) -> None:
    """Floats 0 and 1 take the form for soft targets, which equals the other there."""
    data = make_dense(case, target="bool")
    truth, slope = outcome(case, data)
    result, gradient = outcome(case, Data(data.scores, data.labels.double()))
    close(result, truth, grain=case.grain)
    close(gradient, slope)


@every_dense_case(among=samples())
def test_permuting_pixels_and_images(case: DenseCase) -> None:
    data = line(case, "soft", "element")
    assert data.weight is not None
    same(case, data, data, torch.stack([torch.randperm(SIZE) for _ in range(3)]))
    order = torch.tensor([2, 0, 1])
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.build(), Data(data.scores[order], data.labels[order], data.weight[order]))
    images = truth.ndim > 0 and (case.maps or case.by_image)
    close(result, truth[order] if images else truth, grain=case.grain)
    close(gradient, slope[order])


@every_dense_case(among=samples())
def test_permuting_channels(case: DenseCase) -> None:
    """With the options that list a number for each; a background that is left out stays the first."""
    data = line(case, "soft", "element")
    assert data.weight is not None
    fixed = 0 if case.options.get("include_background", True) else 1
    order = torch.cat([torch.arange(fixed), torch.arange(fixed, case.classes).roll(2)])
    options: dict[str, Any] = {k: [v[i] for i in order] for k, v in case.per_class.items()}
    if isinstance(case.options.get("classes"), list):
        options["classes"] = [int(order.argsort()[c]) for c in case.options["classes"]]
    weight = data.weight[:, order] if data.weight.dim() == 3 else data.weight
    permuted = Data(data.scores[:, order], data.labels[:, order], weight)
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.changed(**options).build(), permuted)
    if case.maps and not case.together:
        truth = truth[:, order]
    elif truth.ndim > 0 and not case.maps and truth.shape[-1] == case.classes:
        truth = truth[..., order]
    close(result, truth, grain=case.grain)
    close(gradient, slope[:, order])


@every_dense_case(among=samples())
def test_per_image_is_the_mean_of_each_image(case: DenseCase) -> None:
    """The mean of each image's own loss, over the images in which something counts."""
    if case.options.get("reduction", "mean") != "mean":
        case = case.changed(reduction="mean")
    case = case.changed(per_image=True)
    data = make_dense(case, (SIZE,), target="int", batch=4, weight="element")
    assert data.weight is not None
    data.labels[2] = case.ignore_index
    result, gradient = evaluate(case.build(), data)
    singles = [
        evaluate(case.build(), Data(data.scores[i : i + 1], data.labels[i : i + 1], data.weight[i : i + 1])) for i in (0, 1, 3)
    ]
    close(result, torch.stack([single for single, _ in singles]).mean(0), grain=case.grain)
    close(gradient[[0, 1, 3]], torch.cat([slope for _, slope in singles]) / 3)
    assert gradient[2].abs().max() == 0


@every_dense_case(among=[case for case in dense_cases() if not case.reads_labels])
def test_one_channel_may_be_left_out_of_targets(case: DenseCase) -> None:
    options: dict[str, Any] = {k: v[:1] for k, v in case.per_class.items()} | (
        {"classes": [0]} if "classes" in case.options else {}
    )
    case = case.changed(**options)
    data = make_dense(case, classes=1, target="soft")
    weight = torch.rand(data.labels[:, 0].shape) + 0.5
    truth, slope = outcome(case, Data(data.scores, data.labels, weight))
    without = Data(data.scores, data.labels[:, 0], weight)
    result, gradient = outcome(case, without)
    close(result, truth, 0, 0)
    close(gradient, slope, 0, 0)
