"""Presets of several outputs: deep supervision, candidate masks; and matching queries."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold import presets
from tests.contract.refusals import refused


def heads(*sizes: tuple[int, ...], classes: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, classes, *size, generator=generator, dtype=torch.float64).requires_grad_() for size in sizes]


@pytest.mark.parametrize("space", [(8, 12), (8, 4, 12)])
def test_deep_supervision(space: tuple[int, ...]) -> None:
    """nnU-Net's weights, at the heads' own resolution and at that of the labels; weights, sets, single losses, configs."""
    outputs = heads(*(tuple(side // 2**i for side in space) for i in range(3)))
    y, w = torch.randint(0, 3, (2, *space)), torch.rand(2, *space, dtype=torch.float64)
    y[0, 0] = 255
    loss = lf.CEDiceLoss(ignore_index=255, smooth=1e-5)
    criterion = presets.deep_supervision(loss, 3, skip_last=True, at="heads")
    out = criterion(outputs, y, weight=w)
    small = outputs[1].shape[2:]
    halved = [functional.interpolate(x[:, None].double(), small, mode="nearest-exact")[:, 0].to(x.dtype) for x in (y, w)]
    each = [lf.LossSet(one=loss)(head, *given).total for head, given in zip(outputs, ([y, w], halved), strict=False)]
    torch.testing.assert_close(out.total, (each[0] + each[1] / 2) / 1.5)
    assert list(out.terms) == ["head0.ce", "head0.dice", "head1.ce", "head1.dice"]
    out.backward()
    assert outputs[1].grad is not None and outputs[1].grad.abs().sum() > 0 and outputs[2].grad is None
    at_labels = presets.deep_supervision(lf.DiceLoss(ignore_index=255), 3, decay=0.3, normalize=False)
    mode = {4: "bilinear", 5: "trilinear"}[outputs[0].dim()]
    whole = [functional.interpolate(head, space, mode=mode) for head in outputs]
    parts = [0.3**i * lf.DiceLoss(ignore_index=255)(head, y) for i, head in enumerate(whole)]
    torch.testing.assert_close(at_labels(outputs, y).total, sum(parts[1:], parts[0]))
    again = lf.build(lf.to_config(criterion))
    torch.testing.assert_close(copy.deepcopy(again)(outputs, y, w).total, out.total)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["CLDiceLoss", "BoundaryLoss", "HausdorffDTLoss", "SkeletonRecallLoss", "StructureLoss"])
@pytest.mark.parametrize("at", ["labels", "heads"])
def test_losses_that_take_less_beside_logits(name: str, at: str) -> None:
    """Alone and in a set with one that takes more; what none of them takes is refused."""
    outputs, y = heads((8, 12), (4, 6)), torch.randint(0, 3, (2, 8, 12))
    loss = getattr(lf, name)(link="sigmoid" if name == "StructureLoss" else "softmax")
    target = torch.nn.functional.one_hot(y, 3).movedim(-1, 1) if name == "StructureLoss" else y
    criterion = presets.deep_supervision(loss, 2, at=at)
    small = functional.interpolate(target.double() if target.dim() == 4 else target[:, None].double(), (4, 6), mode="nearest-exact")
    near = (small if target.dim() == 4 else small[:, 0]).to(target.dtype)
    truth = loss(outputs[0], target) + 0.5 * loss(outputs[1], target if at == "labels" else near)
    torch.testing.assert_close(criterion(outputs, target).total, truth / 1.5)
    if name == "CLDiceLoss":
        refused(lambda: criterion(outputs, y, normalizer=3.0), "arguments", "normalizer=")
    if name != "StructureLoss":
        both = presets.deep_supervision(lf.LossSet(a=loss, dice=lf.DiceLoss()), 2, at=at)
        torch.testing.assert_close(both(outputs, y).terms["head0.a"], loss(outputs[0], y))


def test_bad_heads_are_refused() -> None:
    criterion = presets.deep_supervision(lf.DiceLoss(), 2)
    outputs, y = heads((4, 4), (2, 2)), torch.zeros(2, 4, 4, dtype=torch.int64)
    refused(lambda: criterion(outputs[0], y), "logits", "a list of 2 heads")
    refused(lambda: criterion(outputs[:1], y), "logits", "1 of them")
    refused(lambda: criterion(outputs, y, images=3), "arguments", "images=")
    refused(lambda: presets.deep_supervision(lf.L1Loss(), 2), "loss", "L1Loss")
    refused(lambda: presets.deep_supervision(lf.DiceLoss(), 1, skip_last=True), "skip_last", "no head would be left")
    refused(lambda: presets.deep_supervision(lf.DiceLoss(), 2, at="images"), "at", "'labels', 'heads'")


def dice(p: Tensor, t: Tensor) -> Tensor:
    return 1 - (2 * (p * t).flatten(1).sum(1) + 1) / (p.flatten(1).sum(1) + t.flatten(1).sum(1) + 1)


def focal(z: Tensor, t: Tensor) -> Tensor:
    ce = functional.binary_cross_entropy_with_logits(z, t, reduction="none")
    p = z.sigmoid()
    miss = p * (1 - t) + (1 - p) * t
    return ((0.25 * t + 0.75 * (1 - t)) * miss**2 * ce).flatten(1).mean(1)


@pytest.mark.parametrize("every", [True, False])
def test_the_best_candidate_is_trained(every: bool) -> None:
    """SAM 2's losses, object by object, written from its paper's description."""
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(4, 3, 9, 8, generator=generator, dtype=torch.float64)
    masks = torch.rand(4, 9, 8, generator=generator) > 0.6
    masks[2] = False
    z[:, 1] += torch.where(masks, 1.0, -1.0)
    z.requires_grad_()
    ious = torch.rand(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    there = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    criterion = presets.multimask_losses(every_quality=every)
    out = criterion(z, masks, ious, there, normalizer=7)
    truth = z.new_zeros(())
    for n in range(4):
        t = masks[n].double().expand(3, 9, 8)
        costs = 20 * focal(z[n], t) + dice(z[n].sigmoid(), t)
        best = int(costs.argmin())
        hard = z[n] > 0
        real = (hard & masks[n]).flatten(1).sum(1) / (hard | masks[n]).flatten(1).sum(1).clamp_min(1)
        errors = (ious[n] - real).abs()
        present = float(masks[n].any())
        truth = truth + present * (costs[best] + (errors.mean() if every else errors[best]))
        truth = truth + functional.binary_cross_entropy_with_logits(there[n], torch.tensor(present, dtype=torch.float64))
    torch.testing.assert_close(out.total, (truth / 7).float().double(), rtol=1e-6, atol=1e-7)
    for leaf in (z, ious, there):
        ours, theirs = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in (out.total, truth / 7))
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=1e-7)
    assert set(presets.multimask_losses(objects=0, iou=0)(z, masks).terms) == {"focal", "dice"}
    refused(lambda: criterion(z, masks), "ious", r"float \[4, 3\]")
    refused(lambda: criterion(z, masks[:, :4], ious, there), "masks", r"\[4, 9, 8\]")
    with_ignored = torch.where(masks, 1, 0)
    torch.testing.assert_close(criterion(z, with_ignored, ious, there, normalizer=7).total, out.total)
    with_ignored[0, 0] = 255
    for wrong in (with_ignored, 0.3 * masks):
        refused(lambda wrong=wrong: criterion(z, wrong, ious, there), "masks", "no ignored label")  # type: ignore[misc]


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16])
def test_costs_of_all_pairs(kind: torch.dtype) -> None:
    """Are the losses of each pair, without a tensor of all of them."""
    generator = torch.Generator().manual_seed(0)
    z, t = (3 * torch.randn(6, 5, 10, generator=generator)).to(kind), torch.rand(4, 5, 10, generator=generator) > 0.5
    costs = lf.functional.mask_costs(z.requires_grad_(), t, bce=2.0, dice=3.0, focal=4.0)
    exact = z.detach().double()
    for n, m in [(0, 0), (2, 3), (5, 1)]:
        one, other = exact[n : n + 1], t[m : m + 1].double()
        truth = 2 * functional.binary_cross_entropy_with_logits(one, other) + 3 * dice(one.sigmoid(), other) + 4 * focal(one, other)
        torch.testing.assert_close(costs[n, m].double(), truth[0], rtol=1e-5 if kind != torch.float64 else 1e-12, atol=1e-6)
    assert not costs.requires_grad and costs.dtype == (torch.float64 if kind == torch.float64 else torch.float32)
    assert lf.functional.mask_costs(z, t[:0]).shape == (6, 0)
    soft = lf.functional.mask_costs(z, t.double(), focal=0.0, dice=0.0)
    torch.testing.assert_close(soft, lf.functional.mask_costs(z, t, focal=0.0, dice=0.0))
    refused(lambda: lf.functional.mask_costs(z, t[:, :4]), "masks", r"\[M, 5, 10\]")


def test_matching() -> None:
    """As SciPy assigns each image, also where costs are NaN or there is nothing to match."""
    optimize = pytest.importorskip("scipy.optimize")
    tables = [torch.rand(5, 3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    tables[1] = tables[1][:2]
    pairs = lf.functional.match([*tables, torch.zeros(4, 0)])
    for table, (rows, columns) in zip(tables, pairs, strict=False):
        expected = optimize.linear_sum_assignment(table.double().numpy())
        assert (rows.tolist(), columns.tolist()) == tuple(one.tolist() for one in expected)
    assert [len(one) for one in pairs[3]] == [0, 0] and lf.functional.match([]) == []
    holes = torch.tensor([[torch.nan, 1.0], [2.0, torch.inf]])
    assert [one.tolist() for one in lf.functional.match(holes)] == [[0, 1], [1, 0]]
    refused(lambda: lf.functional.match([torch.zeros(3)]), "match", r"\[N, M\]")


def test_costs_under_autocast() -> None:
    """Are those without it: matching is done within a training step's autocast."""
    z, t = torch.randn(6, 50), torch.rand(4, 50) > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        costs = lf.functional.mask_costs(z, t, focal=2.0)
    torch.testing.assert_close(costs, lf.functional.mask_costs(z, t, focal=2.0), rtol=0, atol=0)


def test_matching_beside_infinite_costs() -> None:
    """Is the cheapest of the rest, whatever the number of those that can't be avoided; costs in float64 are not rounded."""
    for seed in range(20):
        costs = torch.rand(6, 6, generator=torch.Generator().manual_seed(seed))
        costs[2], costs[:, 4] = torch.nan, torch.inf
        rows, columns = lf.functional.match(costs)
        free = torch.where(costs.isfinite(), costs, 0.0)
        least = min(
            sum(free[r, c].item() for r, c in zip((0, 1, 3, 4, 5), order, strict=True))
            for order in itertools.permutations((0, 1, 2, 3, 5))
        )
        assert free[rows, columns].sum().item() <= least + 1e-5
    close = torch.tensor([[1.0, 1.0 + 1e-12], [1.0, 1.0 + 2e-12]], dtype=torch.float64)
    assert lf.functional.match(close)[1].tolist() == [1, 0]
    assert lf.functional.match(torch.tensor([[1.0, -torch.inf], [5.0, 2.0]]))[1].tolist() == [1, 0]
