"""Metrics against loops written from the definition, over any split of the data, and on bad input."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from torch import Tensor

from lossfold import metrics as m
from lossfold.errors import LossError
from tests.metrics.data import C, close, maps

OPTIONS = [
    {"ignore": ignore, "empty": empty, "per_image": per_image, "fraction": fraction}
    for ignore in (None, 255, -100, 2)
    for empty in (0.0, 1.0, "skip")
    for per_image in (False, True)
    for fraction in (False, True)
]


def overlap(p: Any, t: Any, c: int, ignore: int | None, dice: bool) -> float | None:
    hits = sizes = union = 0
    for a, b in zip(p.ravel().tolist(), t.ravel().tolist(), strict=True):
        if b == ignore:
            continue
        hits += a == c and b == c
        union += a == c or b == c
        sizes += (a == c) + (b == c)
    if union == 0:
        return None
    return 2 * hits / sizes if dice else hits / union


def expected(preds: Tensor, labels: Tensor, classes: list[int], dice: bool, o: dict[str, Any]) -> list[float]:
    p, t = preds.numpy(), labels.numpy()
    images = list(zip(p, t, strict=True)) if o["per_image"] else [(p, t)]
    out = []
    for c in classes:
        found = [overlap(a, b, c, o["ignore"], dice) for a, b in images]
        values = [o["empty"] if v is None else v for v in found if v is not None or o["empty"] != "skip"]
        value = np.mean(values) if values and c != o["ignore"] else np.nan
        out.append(float(value) * (1 if o["fraction"] else 100))
    return out


@pytest.mark.parametrize("o", OPTIONS, ids=str)
def test_overlap_is_the_definition(o: dict[str, Any]) -> None:
    preds, labels = maps(o["ignore"])
    for function, module, dice in ((m.iou, m.IoU, False), (m.dice, m.Dice, True)):
        wanted = expected(preds, labels, list(range(C)), dice, o)
        close(function(preds, labels, C, **o), wanted)
        metric = module(C, **o)
        for i in (2, 0, 1):
            metric.update(preds[i : i + 1], labels[i : i + 1])
        close(metric.compute(), wanted)
    if o["ignore"] == 2:
        return
    preds, labels = maps(o["ignore"], most=2)
    for function, module, dice in ((m.iou_binary, m.BinaryIoU, False), (m.dice_binary, m.BinaryDice, True)):
        wanted = expected(preds, labels, [1], dice, o)[0]
        close(function(preds, labels, **o), wanted)
        metric = module(**o)
        metric.update(preds, labels)
        close(metric.compute(), wanted)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("average", ["pixels", "classes"])
@pytest.mark.parametrize("ignore", [None, 255, 2])
def test_accuracy_and_confusion(ignore: int | None, average: str, per_image: bool) -> None:
    preds, labels = maps(ignore)
    if ignore is not None:
        labels[0] = ignore  # an image in which nothing counts
    tables = np.zeros((3, C, C), dtype=np.int64)
    for i in range(3):
        for a, b in zip(preds[i].flatten().tolist(), labels[i].flatten().tolist(), strict=True):
            if b != ignore:
                tables[i, b, a] += 1
    assert m.confusion(preds, labels, C, ignore, per_image=True).tolist() == tables.tolist()
    assert m.confusion(preds, labels, C, ignore).tolist() == tables.sum(0).tolist()
    values = []
    for table in tables if per_image else [tables.sum(0)]:
        if average == "pixels":
            values += [np.trace(table) / table.sum()] if table.sum() else []
        else:
            recalls = [table[c, c] / table[c].sum() for c in range(C) if table[c].sum()]
            values += [np.mean(recalls)] if recalls else []
    options: dict[str, Any] = {"ignore": ignore, "average": average, "per_image": per_image}
    close(m.accuracy(preds, labels, C, **options), 100 * np.mean(values))
    metric, table = m.Accuracy(C, fraction=True, **options), m.Confusion(C, ignore)
    for part in (slice(1), slice(1, 3)):
        metric.update(preds[part], labels[part])
        table.update(preds[part], labels[part])
    close(metric.compute(), np.mean(values))
    assert table.compute().tolist() == tables.sum(0).tolist()


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_dtypes(kind: torch.dtype) -> None:
    preds, labels = maps()
    labels[0, 0, 0] = 3
    assert torch.equal(m.iou(preds.to(kind), labels.to(kind), C), m.iou(preds, labels, C))
    preds, labels = maps(most=2)
    assert torch.equal(m.iou_binary(preds.bool(), labels.to(kind)), m.iou_binary(preds, labels))


def test_an_ignored_label_does_not_wrap_in_uint8() -> None:
    with pytest.raises(LossError, match="labels must be in"):
        m.iou(torch.zeros(1, 2).byte(), torch.full((1, 2), 156, dtype=torch.uint8), 2, ignore=-100)


def test_empty_batches() -> None:
    none = torch.zeros(0, 3, 3).long()
    assert m.iou(none, none, 2).tolist() == [100, 100]
    assert m.iou(none, none, 2, per_image=True).isnan().all()
    assert m.accuracy(none, none, 2).isnan()
    assert m.confusion(none, none, 2, per_image=True).shape == (0, 2, 2)


def test_tiles_sums_and_state() -> None:
    preds, labels = maps(255)
    whole, left, right = (m.IoU(C, ignore=255) for _ in range(3))
    whole.update(preds, labels)
    left.update(preds[..., :2], labels[..., :2])
    right.update(preds[..., 2:], labels[..., 2:])
    assert torch.equal((left + right).compute(), whole.compute())
    assert not torch.equal(left.compute(), whole.compute())
    loaded = m.IoU(C, ignore=255)
    loaded.load_state_dict(whole.state_dict())
    for other in (loaded, copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)), left.merge(right), whole.sync()):
        assert torch.equal(other.compute(), whole.compute())
    assert repr(eval(repr(whole), vars(m))) == repr(whole)
    whole.reset()
    assert torch.equal(whole.compute(), m.IoU(C).compute())
    mean = m.BinaryIoU().half()
    assert mean.numerator.dtype == torch.float64


def test_peer() -> None:
    preds, labels = torch.randint(0, C, (2, 9, 9)), torch.randint(0, C, (2, 9, 9))
    labels[:, 0] = 255
    peer = torchmetrics.functional.jaccard_index(preds, labels, "multiclass", num_classes=C, average="none", ignore_index=255)
    torch.testing.assert_close(m.iou(preds, labels, C, ignore=255, fraction=True), peer.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per_image", [False, True])
def test_compiles(per_image: bool) -> None:
    def call(preds: Tensor, labels: Tensor) -> Tensor:
        return m.iou(preds, labels, C, ignore=255, per_image=per_image)

    preds, labels = maps(255)
    close(torch.compile(call, fullgraph=True, backend="aot_eager")(preds, labels), call(preds, labels))


P = torch.zeros(2, 3, 3).long()
BAD: list[tuple[Any, str]] = [
    (lambda: m.iou(torch.zeros(2, 4, 3, 3), P, 4), r"iou: preds .*argmax\(1\)"),
    (lambda: m.iou_binary(P.float(), P), "iou_binary: preds .*> 0"),
    (lambda: m.iou(P, P.float(), 4), "iou: labels"),
    (lambda: m.iou(P.bool(), P, 4), "iou: preds"),
    (lambda: m.iou(P.numpy(), P, 4), "iou: preds .*ndarray"),
    (lambda: m.dice(P, P[:, None], 4), "dice: labels .*shape"),
    (lambda: m.iou(P[0, 0], P[0, 0], 4), "preds .*batch dimension"),
    (lambda: m.iou_binary(P[0, 0], P[0, 0]), "preds .*batch dimension"),
    (lambda: m.iou(P, P + 4, 4), "iou: labels must be in .*ignore"),
    (lambda: m.iou(P - 1, P, 4), "iou: preds must be in .*-1"),
    (lambda: m.iou(P, P, 0), "iou: C"),
    (lambda: m.iou(P, P, 4, empty="no"), "iou: empty"),
    (lambda: m.iou(P, P, 4, ignore=1.5), "iou: ignore"),
    (lambda: m.iou_binary(P, P, ignore=1), "iou_binary: ignore"),
    (lambda: m.IoU(4, per_image=1), "IoU: per_image"),
    (lambda: m.accuracy(P, P, 4, average="class"), "accuracy: average"),
    (lambda: m.IoU(4) + m.IoU(5), "IoU: other"),
    (lambda: m.IoU(4) + m.Dice(4), "IoU: other"),
]


@pytest.mark.parametrize("case", BAD, ids=[words for _, words in BAD])
def test_bad_input(case: tuple[Any, str]) -> None:
    with pytest.raises(LossError, match=case[1]):
        case[0]()
