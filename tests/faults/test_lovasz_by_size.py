"""Lovász sorts where the errors are fewer than a histogram's bins: never slower or larger than sorting."""

from __future__ import annotations

import resource
import time

import pytest
import torch

import lossfold as lf
from lossfold.folds.collect import collect


def found(loss: torch.nn.Module, x: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.clone().requires_grad_()
    value = loss(leaf, *given)
    value = getattr(value, "total", value)
    return value.detach(), torch.autograd.grad(value, leaf)[0]


def targets(x: torch.Tensor, link: str) -> torch.Tensor:
    return (
        (torch.rand_like(x) > 0.5).float() if link in ("hinge", "sigmoid") else torch.randint(0, x.shape[1], (len(x), *x.shape[2:]))
    )


@pytest.mark.parametrize("link", ["softmax", "hinge", "sigmoid"])
@pytest.mark.parametrize("per_image", [False, True])
def test_few_pixels_are_sorted_and_many_are_not(link: str, per_image: bool) -> None:
    few, many = torch.randn(2, 3, 20, 20), torch.randn(2, 3, 80, 80)
    for x, sorts in ((few, True), (many, False)):
        y, w = targets(x, link), torch.rand(2, *x.shape[2:])
        options = {"link": link, "per_image": per_image}
        by_size, sorting, binning = (found(lf.LovaszLoss(exact=exact, **options), x, y, w) for exact in (None, True, False))
        assert torch.equal(by_size[0], (sorting if sorts else binning)[0]) and torch.equal(
            by_size[1], (sorting if sorts else binning)[1]
        )
        assert not torch.equal(sorting[1], binning[1])
        torch.testing.assert_close(sorting[0], binning[0], rtol=0.01, atol=1e-3)
        few_bins = lf.LovaszLoss(bins=128, **options)  # fewer than the pixels
        assert torch.equal(few_bins(x, y, w), lf.LovaszLoss(bins=128, exact=False, **options)(x, y, w))


@pytest.mark.parametrize("exact", [None, True, False])
def test_in_sets_behind_gates_and_in_parts(exact: bool | None) -> None:
    x, y, w = torch.randn(4, 3, 9, 9), torch.randint(0, 3, (4, 9, 9)), torch.rand(4, 9, 9)
    loss, gate = lf.LovaszLoss(exact=exact), torch.tensor([True, False, True, False])
    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), lovasz=loss)
    assert criterion.plan().count("fold") == 1
    value, _ = found(criterion, x, y, w)
    alone = found(loss, x, y, w)
    torch.testing.assert_close(value - lf.CrossEntropyLoss()(x, y, w), alone[0])
    gated = lf.LossSet(lovasz=lf.Term(loss, when="has"), other=lf.Term(lf.LovaszLoss(exact=exact, per_image=True), when="has"))
    terms = gated(x, y, w, has=gate).terms
    torch.testing.assert_close(terms["lovasz"], loss(x[gate], y[gate], w[gate]))
    torch.testing.assert_close(terms["other"], lf.LovaszLoss(exact=exact, per_image=True)(x[gate], y[gate], w[gate]))
    given = loss.check(x, y, w)
    if exact:
        with pytest.raises(lf.LossError, match="exact must be left out where folds"):
            collect(loss.needs(given), given, lambda fold: fold)
    else:  # histograms add up
        assert collect(loss.needs(given), given, lambda fold: fold).table is not None
    if exact is not False:
        halves = [collect(loss.needs(part), part) for part in (loss.check(x[i], y[i], w[i]) for i in (slice(2), slice(2, 4)))]
        whole = halves[0].sum_images() + halves[1].sum_images()
        torch.testing.assert_close(loss.reduce(whole, given), loss(x, y, w))


def test_a_forced_engine_and_other_sizes_keep_the_histogram() -> None:
    x, y = torch.randn(2, 3, 9, 9), torch.randint(0, 3, (2, 9, 9))
    for engine in lf.engines.available():
        forced, binning = lf.LovaszLoss(engine=engine), lf.LovaszLoss(engine=engine, exact=engine == "eager")
        assert torch.equal(found(forced, x, y)[1], found(binning, x, y)[1])
    low = x[..., ::2, ::2]
    assert torch.equal(lf.LovaszLoss()(low, y), lf.LovaszLoss(exact=False)(low, y))


def test_never_slower_or_larger_than_sorting() -> None:
    """At the sizes that were reported: 14 s and 1.9 GB for the first; histograms would need 700 MB and 530 MB."""
    for shape, options in (((64, 80, 14, 14), {"link": "hinge"}), ((1, 2000, 8, 8), {})):
        x = torch.randn(*shape)
        y = targets(x, options.get("link", "softmax"))
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        value, _ = found(lf.LovaszLoss(**options), x, y)
        assert time.perf_counter() - start < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
        assert torch.equal(value, lf.LovaszLoss(exact=True, **options)(x, y))
