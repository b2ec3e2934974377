"""What permuting images and channels does, and what a mean over samples is."""

from __future__ import annotations

from typing import Any

import torch

import lossfold as lf
from tests.contract.case import Case, both_close, close, evaluate, run, slope_of
from tests.contract.cases import every
from tests.folds.label.cases import ScoreCase


@every()
def test_the_order_of_images_is_of_no_account(case: Case) -> None:
    data = case.make(batch=3, way=case.rich)
    order = torch.tensor([2, 0, 1])
    truth, slope = evaluate(case.build(), data)
    found = evaluate(case.build(), data.each(lambda one: one[order]))
    both_close(found, (truth[order] if case.tables else truth, slope[order]), grain=case.grain)


@every(among=lambda case: not case.is_set or case.fold == "label")
def test_means_of_samples(case: Case) -> None:
    """Over the images in which something counts, or (with sample_wise) over all of them."""
    case = case.apart()
    loss = case.build()
    data = case.make(batch=4, way=case.rich)
    assert data.weight is not None
    empty = case.blank(data).weight
    assert empty is not None
    data.weight[2] = empty[2]
    result, gradient = evaluate(loss, data)
    singles = [evaluate(loss, data.each(lambda one, i=i: one[i : i + 1])) for i in (0, 1, 3)]
    count = 4 if case.empty_share < 1 else 3
    close(result, torch.stack([single for single, _ in singles]).sum() / count, grain=case.grain)
    close(gradient[[0, 1, 3]], torch.cat([slope for _, slope in singles]) / count)
    assert gradient[2].abs().max() == 0


@every(among=lambda case: case.fold in ("label", "dense"))
def test_permuting_classes_with_their_numbers(case: Case) -> None:
    """And with their labels; a background that is told apart, and an ignored label among the classes, stay where they are."""
    assert isinstance(case, ScoreCase)
    data = case.make(way=case.rich)
    fixed = {case.ignore_index} if case.fold == "label" else set()
    background = getattr(lf.LOSSES[case.name], "include_background", True)
    fixed |= {0} if case.background_apart or not case.options.get("include_background", background) else set()
    free = torch.tensor([c for c in range(case.classes) if c not in fixed])
    order = torch.arange(case.classes)
    order[free] = free.roll(1)
    inverse = order.argsort()
    options: dict[str, Any] = {k: [v[i] for i in order] for k, v in case.per_class.items()}
    if "distances" in options:
        options["distances"] = [[case.options["distances"][i][j] for j in order] for i in order]
    if isinstance(case.options.get("classes"), list | tuple):
        options["classes"] = [int(inverse[c]) for c in case.options["classes"]]
    if case.fold == "label":
        counted = (data.truth >= 0) & (data.truth < case.classes)
        target = torch.where(counted, inverse[data.truth.clamp(0, case.classes - 1)], data.truth)
        permuted = data.with_pred(data.pred[:, order]).with_target(target)
    else:
        permuted = data.each(lambda one: one[:, order] if one.dim() == data.pred.dim() else one)
    truth, slope = evaluate(case.build(), data)
    result, gradient = evaluate(case.changed(**options).build(), permuted)
    if truth.dim() == data.pred.dim():  # a map of elements
        truth = truth[:, order]
    elif truth.dim() > 0 and not case.maps and truth.shape[-1] == case.classes:
        truth = truth[..., order]
    both_close((result, gradient), (truth, slope[:, order]), grain=case.grain)


@every(among=lambda case: case.fold in ("pair", "window"))
def test_the_order_of_channels_is_of_no_account(case: Case) -> None:
    data = case.make(channels=3, way=case.rich)
    leaf = data.leaf()
    truth = run(case.build(), leaf)
    slope = slope_of(truth, leaf.pred)
    result, gradient = evaluate(case.build(), data.each(lambda one: one.flip(1) if one.shape[1] == 3 else one))
    expected = truth.detach()
    if expected.dim() > 1:
        expected = expected.flip(1)
    both_close((result, gradient), (expected, slope.flip(1) if slope.shape[1] == 3 else slope))
