"""OHEM keeps exactly the pixels that its definition names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lossfold as lf
from tests.cases import ENGINES

engines = pytest.mark.parametrize("engine", ENGINES)


def hard_pixels(nll: Tensor, counted: Tensor, thresh: float, min_kept: int, ratio: float | None) -> Tensor:
    """The definition, by sorting: p < thresh, or not easier than the k-th hardest of the counted."""
    values = np.sort(nll[counted].numpy())[::-1]
    k = math.ceil(ratio * len(values)) if ratio is not None else min(min_kept, len(values))
    bound = values[k - 1] if k else np.inf
    below = torch.exp(-nll) < thresh if ratio is None else torch.zeros_like(counted)
    return counted & (below | (nll >= bound))


def kept(logits: Tensor, labels: Tensor, weight: Tensor | None = None, **options: object) -> Tensor:
    """The pixels at which the map is not 0; every counted pixel has a positive nll here."""
    return lf.OhemCrossEntropyLoss(reduction="none", **options)(logits, labels, weight) != 0  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_keeps_what_the_definition_names(data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    batch, pixels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 40))
    logits = data.draw(st.sampled_from([1.0, 30.0])) * torch.randn(batch, 3, pixels, generator=generator, dtype=torch.float64)
    if data.draw(st.booleans()):
        logits = logits.round()  # ties
    labels = torch.randint(0, 3, (batch, pixels), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = -100
    thresh, min_kept = data.draw(st.floats(0, 0.99)), data.draw(st.integers(0, 60))
    ratio = data.draw(st.one_of(st.none(), st.floats(0.01, 1)))
    per_image = data.draw(st.booleans())
    counted = labels != -100
    nll = -logits.log_softmax(1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
    groups = [slice(b, b + 1) for b in range(batch)] if per_image else [slice(0, batch)]
    expected = torch.cat([hard_pixels(nll[g], counted[g], thresh, min_kept, ratio) for g in groups])
    # Where rounding decides (a tie in exact arithmetic, or p at thresh) either answer is right.
    for engine in ENGINES:
        found = kept(logits, labels, thresh=thresh, min_kept=min_kept, top_k_ratio=ratio, per_image=per_image, engine=engine)
        differ = found != expected
        edge = nll[expected].min() if expected.any() else torch.inf
        near = ((nll - edge).abs() < 1e-12) | ((torch.exp(-nll) - thresh).abs() < 1e-12) | (nll < 1e-15)
        assert (~differ | near).all()


@engines
@pytest.mark.parametrize("kind_of_float", [torch.float64, torch.float32])
def test_ties_at_the_last_are_all_kept(engine: str, kind_of_float: torch.dtype) -> None:
    logits = torch.zeros(1, 2, 12, dtype=kind_of_float)
    logits[0, 0, :3] = -4  # three hard pixels, the rest alike
    labels = torch.zeros(1, 12, dtype=torch.long)
    assert kept(logits, labels, thresh=0.0, min_kept=3, engine=engine).sum() == 3
    assert kept(logits, labels, thresh=0.0, min_kept=4, engine=engine).sum() == 12
    assert kept(logits, labels, top_k_ratio=3 / 12, engine=engine).sum() == 3
    assert kept(logits, labels, top_k_ratio=0.26, engine=engine).sum() == 12  # ceil: the fourth, and its equals


@engines
def test_the_threshold_is_strict(engine: str) -> None:
    logits, labels = torch.zeros(1, 2, 5), torch.zeros(1, 5, dtype=torch.long)
    assert kept(logits, labels, thresh=0.5, min_kept=0, engine=engine).sum() == 0
    assert kept(logits, labels, thresh=0.5 + 1e-6, min_kept=0, engine=engine).sum() == 5
    assert lf.OhemCrossEntropyLoss(thresh=0.5, min_kept=0, engine=engine)(logits, labels) == 0


@engines
def test_fewer_pixels_than_min_kept_are_all_kept(engine: str) -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    assert kept(logits, labels, thresh=0.0, min_kept=1000, engine=engine).all()
    close = torch.testing.assert_close
    close(lf.OhemCrossEntropyLoss(engine=engine)(logits, labels), lf.CrossEntropyLoss(engine=engine)(logits, labels))


@engines
def test_order_where_probabilities_vanish(engine: str) -> None:
    """p is 0 in float32 at both pixels; -log p still tells which is harder."""
    logits = torch.tensor([[[0.0, 0.0, 0.0], [1e4, 2e4, 3e4]]])
    labels = torch.zeros(1, 3, dtype=torch.long)
    found = kept(logits, labels, thresh=0.0, min_kept=1, engine=engine)
    assert found.tolist() == [[False, False, True]]


@engines
def test_weight_zero_is_not_counted_and_weights_do_not_select(engine: str) -> None:
    logits, labels = torch.randn(1, 3, 50), torch.randint(0, 3, (1, 50))
    weight = torch.rand(1, 50) + 0.1
    weight[0, :20] = 0
    alone = kept(logits[:, :, 20:], labels[:, 20:], thresh=0.0, min_kept=7, engine=engine)
    found = kept(logits, labels, weight, thresh=0.0, min_kept=7, engine=engine)
    assert not found[0, :20].any() and torch.equal(found[:, 20:], alone) and alone.sum() == 7


@engines
@pytest.mark.parametrize("options", [{}, {"top_k_ratio": 0.5}, {"per_image": True}], ids=str)
def test_nothing_counted(engine: str, options: dict[str, object]) -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    value = lf.OhemCrossEntropyLoss(engine=engine, **options)(logits, torch.full((2, 4), -100))  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0 and gradient.abs().max() == 0


@engines
def test_many_pixels(engine: str) -> None:
    """More than one block of the selection, at float32."""
    logits, labels = torch.randn(1, 4, 200_000), torch.randint(0, 4, (1, 200_000))
    assert kept(logits, labels, thresh=0.0, min_kept=70_001, engine=engine).sum() == 70_001
    nll = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    mean = nll.flatten().sort(descending=True).values[:70_001].mean()
    torch.testing.assert_close(lf.OhemCrossEntropyLoss(thresh=0.0, min_kept=70_001, engine=engine)(logits, labels), mean)


@engines
def test_a_pixel_that_is_not_a_number_is_hard(engine: str) -> None:
    logits = torch.randn(1, 3, 9)
    logits[0, 1, 4] = torch.nan
    value = lf.OhemCrossEntropyLoss(thresh=0.1, min_kept=2, engine=engine)(logits, torch.zeros(1, 9, dtype=torch.long))
    assert not value.isfinite()
