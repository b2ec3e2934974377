"""Maps of the targets' side in the folds, and the losses that read them."""

from __future__ import annotations

import itertools
from typing import Any

import monai
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.functional import signed_distance, tubed_skeleton
from tests.contract.case import ENGINES, close, same_bits
from tests.internals import Watch

engines = pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "triton"])


def given(
    space: tuple[int, ...] = (13, 11), batch: int = 2, classes: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Logits and labels, some of them ignored."""
    labels = torch.randint(0, classes, (batch, *space))
    labels[torch.rand(labels.shape) < 0.2] = 255
    return torch.randn(batch, classes, *space, dtype=dtype).requires_grad_(), labels


def criterion(engine: str | None, **options: Any) -> lf.LossSet:
    common: dict[str, Any] = {"ignore_index": 255, "engine": engine}
    return lf.LossSet(ce=lf.CrossEntropyLoss(**common), dice=lf.DiceLoss(**common), boundary=lf.BoundaryLoss(**common, **options))


def by_hand(logits: Tensor, labels: Tensor, m: Tensor, weight: Tensor | None = None) -> Tensor:
    """Boundary loss with every class counted, from its formula."""
    w = (labels != 255).to(logits.dtype) * (1 if weight is None else weight)
    return ((w[:, None] * logits.softmax(1)).nan_to_num(0) * m.nan_to_num(0)).sum() / w.sum() / logits.shape[1]


def value_and_slope(result: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    return result.detach(), torch.autograd.grad(result, logits)[0]


@engines
@pytest.mark.parametrize("space", [(13, 11), (3, 3), (37, 41)], ids=str)
def test_maps_of_every_kind(space: tuple[int, ...], engine: str) -> None:
    """Given in any dtype and layout, side by side in small images, with numbers that are none where nothing counts."""
    batch = 40 if space == (3, 3) else 2
    for dtype, weighted in itertools.product(
        (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8), (False, True)
    ):
        logits, labels = given(space, batch)
        weight = torch.rand(labels.shape, dtype=torch.float64) if weighted else None
        m = torch.randint(0, 5, (batch, *space, 4)).to(dtype).movedim(-1, 1)
        truth = value_and_slope(by_hand(logits, labels, m.double(), weight), logits)
        if m.is_floating_point():
            m = m.masked_fill((labels == 255)[:, None], torch.nan)
        loss = lf.BoundaryLoss(ignore_index=255, absent="count", engine=engine)
        for found, expected in zip(value_and_slope(loss(logits, labels, weight, distance=m), logits), truth, strict=True):
            close(found, expected)


@engines
def test_one_pass_serves_all(engine: str) -> None:
    """With CE, Dice and Lovász, at the logits' resolution and at the labels'; each term is what it is alone."""
    for low in (False, True):
        logits, labels = given((16, 16))
        logits = logits.detach()[..., ::4, ::4].clone().requires_grad_() if low else logits
        loss = criterion(engine)
        alone = [one(logits, labels) for one in loss.members]
        with Watch() as watch:
            out = loss(logits, labels)
            found = torch.autograd.grad(out.total, logits)[0]
        folds = [name for name in watch.names if name != "distance"]
        assert folds == (["label_fold", "label_unfold"] if engine == "cpp" else [])
        for term, own in zip(out.terms.values(), alone, strict=True):
            close(term, own.detach())
        close(found, torch.autograd.grad(sum(alone), logits)[0])
        large = functional.interpolate(logits, labels.shape[1:], mode="bilinear") if low else logits
        m = signed_distance(labels, 4, ignore_index=255, boundary="inner").double()
        close(alone[2].detach(), by_hand(large, labels, m).detach())
    masks = functional.one_hot(torch.randint(0, 3, (2, 8, 8)), 3).movedim(-1, 1)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    both = lf.LossSet(bce=lf.BinaryCrossEntropyLoss(engine=engine), boundary=lf.BoundaryLoss(link="sigmoid", engine=engine))
    with Watch() as watch:
        both(x, masks).total.backward()
    assert [name for name in watch.names if name != "distance"] == (["dense_fold", "dense_unfold"] if engine == "cpp" else [])


def test_a_set_called_again_has_the_new_map() -> None:
    """What a set remembers of a call is not its map."""
    loss, (logits, labels) = criterion(None), given()
    first = loss(logits, labels).total
    other = labels.roll(1, 2)
    assert not torch.equal(first, loss(logits, other).total)
    assert torch.equal(loss(logits, labels).total, first)
    named = {"logits": logits, "labels": labels, "distance": torch.zeros(logits.shape)}
    assert loss(named).terms["boundary"] == 0


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_the_same_bits_on_any_number_of_threads() -> None:
    logits, labels = given((150, 131), classes=19, dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(value_and_slope(criterion("cpp")(logits, labels).total, logits))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        same_bits(one, other)


def test_what_is_ignored_moves_no_distance() -> None:
    """Whatever class it had: and the loss of its pixels alone is nothing. A given map may have a gradient."""
    logits, labels = given()
    loss = lf.BoundaryLoss(ignore_index=255)
    truth = value_and_slope(loss(logits, labels), logits)
    shown = torch.where((labels == 255)[:, None], torch.nan, logits.detach()).requires_grad_()
    for found, expected in zip(value_and_slope(loss(shown, labels), shown), truth, strict=True):
        same_bits(found, expected)
    masks = torch.stack([torch.where(labels == 255, 255, (labels == c).long()) for c in range(4)], 1)
    dense = lf.BoundaryLoss(ignore_index=255, link="softmax")(logits, masks)
    close(dense.detach(), truth[0])
    m = torch.zeros(logits.shape, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(logits, labels, distance=m), m)
    assert slope.abs().max() > 0 and slope[(labels == 255)[:, None].expand_as(slope)].abs().max() == 0


def test_absent_and_full_classes_and_each_samples_spacing() -> None:
    logits = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    labels = torch.zeros(2, 6, 5, dtype=torch.long)
    assert lf.BoundaryLoss()(logits, labels) == 0  # one covers all, two are absent
    assert lf.BoundaryLoss()(logits[..., :1, :1], labels[:, :1, :1]) == 0
    labels[1, 2:4, 1:] = 2
    steps = [[1.0, 2.0], [0.5, 3.0]]
    loss = lf.BoundaryLoss(boundary="both", per_image=True)
    m = signed_distance(labels, 3, spacing=steps).double()
    p = logits[1].softmax(0)
    own = (p * m[1]).mean((1, 2))
    close(loss(logits, labels, spacings=torch.tensor(steps)), (own[0] + own[2]) / 2 / 1)
    whole = lf.BoundaryLoss(boundary="both", normalize="extent", absent="count", reduction="none", spacing=[2.0, 1.0])
    expected = (logits.softmax(1) * signed_distance(labels, 3, spacing=[2.0, 1.0]).double()).mean((0, 2, 3)) / np.hypot(12, 5)
    close(whole(logits, labels), expected, rtol=1e-6)


def test_equals_monais() -> None:
    """Which has neither ignored labels nor weights, and counts absent classes; with and without class 0, in 2-D and 3-D."""
    for space, background in itertools.product([(9, 12), (5, 6, 7)], (True, False)):
        logits, labels = torch.randn(2, 3, *space), torch.randint(0, 3, (2, *space))
        labels[0][labels[0] == 2] = 0
        theirs = monai.losses.BoundaryLoss(include_background=background, softmax=True, to_onehot_y=True)(logits, labels[:, None])
        ours = lf.BoundaryLoss(include_background=background, absent="count")(logits, labels)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        masks = torch.rand(2, 3, *space) < 0.3
        theirs = monai.losses.BoundaryLoss(sigmoid=True)(logits, masks.float())
        torch.testing.assert_close(lf.BoundaryLoss(link="sigmoid", absent="count")(logits, masks), theirs, rtol=1e-5, atol=1e-6)


def published_structure(x: Tensor, t: Tensor, broken: bool) -> Tensor:
    u = 1 + 5 * (functional.avg_pool2d(t, 31, 1, 15) - t).abs()
    each = functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    cross = each.mean() if broken else (u * each).sum((2, 3)) / u.sum((2, 3))
    p = x.sigmoid()
    both, either = (p * t * u).sum((2, 3)), ((p + t) * u).sum((2, 3))
    return (cross + 1 - (both + 1) / (either - both + 1)).mean()


def test_structure_loss_as_meant_and_as_published() -> None:
    x = torch.randn(3, 2, 40, 37, dtype=torch.float64, requires_grad=True)
    t = (torch.rand(3, 2, 40, 37) < 0.3).double()
    for compat in (None, "published"):
        loss = lf.StructureLoss(compat=compat)
        truth = value_and_slope(published_structure(x, t, bool(compat)), x)
        for found, expected in zip(value_and_slope(loss(x, t), x), truth, strict=True):
            close(found, expected)
    for name, engine in itertools.product(("published", None), (one for one in ENGINES if one != "triton")):
        loss = lf.StructureLoss(compat=name, ignore_index=7, engine=engine)
        marked = t.long()
        marked[:, :, 5:9] = 7
        poisoned = x.detach().clone()
        poisoned[:, :, 5:9] = torch.nan
        assert loss(poisoned, marked).isfinite()


def test_skeletons_and_their_recall() -> None:
    """A given skeleton of any kind is the one that is found; ignored labels belong to none, and 3-D has them too."""
    logits, labels = given((24, 20), classes=3)
    labels[0, 4:12, 2:18] = 2
    skeleton = tubed_skeleton(labels, 3, ignore_index=255)
    assert not skeleton[(labels == 255)[:, None].expand_as(skeleton)].any() and skeleton[:, 1:].any()
    thin = tubed_skeleton(labels, 3, ignore_index=255, do_tube=False)
    assert (skeleton | ~thin).all() and thin.sum() < skeleton.sum()
    truth = lf.SkeletonRecallLoss(ignore_index=255)(logits, labels)
    p, s = logits.softmax(1), skeleton.double()
    recall = ((p * s).sum((0, 2, 3)) + 1) / (s.sum((0, 2, 3)) + 1)
    close(truth, 1 - recall[1:].mean())
    for ready in (skeleton, skeleton.half(), skeleton.byte()):
        close(lf.SkeletonRecallLoss(ignore_index=255)(logits, labels, skeleton=ready), truth)
    volume = torch.zeros(1, 1, 9, 9, 9, dtype=torch.bool)
    volume[0, 0, 3:6, 3:6] = True
    assert 0 < tubed_skeleton(volume).sum() <= volume.sum()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another size": ({"distance": torch.zeros(2, 4, 13, 12)}, r"distance.*\[2, 4, 13, 11\]"),
    "whole numbers": ({"distance": torch.zeros(2, 4, 13, 11).long()}, "distance.*float"),
    "both": ({"distance": torch.zeros(2, 4, 13, 11), "spacings": [[1, 1]] * 2}, "spacings.*left out"),
    "spacings of one sample": ({"spacings": [[1, 1]]}, "spacing.*2 samples"),
    "labels that are none": ({"labels": torch.full((2, 13, 11), 9)}, r"labels.*\[0, 4\).*9"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused(what: str) -> None:
    named, words = BAD[what]
    logits, labels = given()
    with pytest.raises(lf.LossError, match=f"BoundaryLoss.*{words}"):
        lf.BoundaryLoss(ignore_index=255)(**{"logits": logits, "labels": labels, **named})
    with pytest.raises(lf.LossError, match=r"StructureLoss.*compat"):
        lf.StructureLoss(compat="published", reduction="sum")
