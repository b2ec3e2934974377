"""Accumulation over micro-batches and tiles: value and gradient are those of the whole, for every loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.contract.case import Case, Data
from tests.contract.cases import CASES, first_of
from tests.contract.refusals import refused
from tests.ranks.rounds import Unsaid
from tests.ranks.splits import ALL, FOLDLESS, Rows, Split, of_case, rows_of
from tests.ranks.work import close

COUNTS = ((3, 0, 2), (2, 3))
REFUSED = ("path", "gan-ragan", "gan-ragan-ls", "lecam")
Part = Callable[[Any], Any]
"""Calls a criterion, or a method of a whole, with the arguments of a part."""


def accumulated(criterion: Any, leaf: Tensor, parts: Iterable[Part], blind: Iterable[Part] = ()) -> tuple[Tensor, Tensor]:
    """Total and gradient, from parts in two passes; ``blind`` are those of the first, without scores."""
    parts, blind = list(parts), list(blind)
    whole = criterion.accumulate()
    assert not (blind and whole.needs_scores)
    for part in blind or parts:
        with torch.no_grad():
            part(whole.add)
    leaf.grad = None
    for part in parts:
        part(whole.backward)
    assert leaf.grad is not None
    return whole.output.total, leaf.grad


def compare(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor]) -> None:
    double = truth[0].dtype == torch.float64
    assert found[0].dtype == truth[0].dtype and not found[0].requires_grad
    close(found[0], truth[0], 1e-10 if double else 1e-6, "value")
    close(found[1], truth[1], 1e-9 if double else 1e-5, "gradient")


def one_process(criterion: Any, leaf: Tensor, call: Part) -> tuple[Tensor, Tensor]:
    total = call(criterion).total
    (slope,) = torch.autograd.grad(total, leaf)
    return total.detach(), slope


def in_micro_batches(split: Split) -> None:
    torch.manual_seed(0)
    criterion = lf.LossSet({"term": split.build()}).eval()
    leaf, call = split.make()
    leaf.requires_grad_()
    truth = one_process(copy.deepcopy(criterion), leaf, lambda one: call(one, slice(None)))
    for counts in COUNTS:
        if 0 in counts and not split.empty:
            continue
        cuts = [rows_of(counts, number) for number in range(len(counts))]
        parts = [lambda one, rows=rows: call(one, rows) for rows in cuts]
        compare(accumulated(criterion, leaf, parts), truth)


def chosen(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if f"{case.fold}-{case.id}" in ALL]


SAMPLE = [of_case(case) for case in chosen(first_of(lambda case: (case.fold, case.name)))]
QUICK = [
    *SAMPLE,
    *(split for split in FOLDLESS if split.id in ("gan-hinge-False", "gan-smgan-gen", "shift", "R1GradientPenalty-pixel")),
]


@pytest.mark.parametrize("split", QUICK, ids=lambda split: split.id)
def test_micro_batches(split: Split) -> None:
    in_micro_batches(split)


@pytest.mark.slow
@pytest.mark.parametrize("split", [s for s in ALL.values() if s.id not in REFUSED], ids=lambda split: split.id)
def test_micro_batches_of_every_loss(split: Split) -> None:
    in_micro_batches(split)


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_accumulated_says_why(name: str) -> None:
    refused(lambda: lf.LossSet({"term": ALL[name].build()}).accumulate(), "term", "accumulate()")
    refused(lambda: lf.LossSet(mse=nn.MSELoss()).accumulate(), "mse", "nobody knows")
    whole = lf.LossSet(term=Unsaid()).accumulate()  # which does not say it beforehand
    whole.add(torch.rand(2, 3), torch.rand(2, 3))
    refused(whole.close, "term", "accumulate()", "mean over the whole batch")


def test_a_step_without_terms_in_parts() -> None:
    """As a call: 0, with a graph, and also where the first pass sees no scores."""
    criterion = lf.LossSet(ce=lf.Term(lf.CrossEntropyLoss(), every=2))
    criterion.advance()
    scores, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    for first in ((scores, labels), ()):
        whole = criterion.accumulate()
        for rows in (slice(0, 1), slice(1, 2)):
            whole.add(*(one[rows] for one in first), **({} if first else {"labels": labels[rows]}))
        for rows in (slice(0, 1), slice(1, 2)):
            whole.backward(scores[rows], labels[rows])
        assert whole.output.total == 0 and scores.grad is not None and not scores.grad.any()


def test_a_part_without_tiles() -> None:
    criterion = lf.LossSet(dice=lf.DiceLoss(per_image=True))
    scores, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
    parts = [lambda one, n=n: one(scores[:n], labels[:n], images=list(range(n))) for n in (0, 2)]
    compare(accumulated(criterion, scores, parts), one_process(criterion, scores, lambda one: one(scores, labels)))


def tiles(case: Case) -> tuple[Data, list[Part]]:
    """A batch, and its left and right halves, of which the second comes as two parts that share an image."""
    data = case.make((6, 8), batch=3, way=case.rich).leaf()
    columns = (slice(0, 5), slice(5, 8))
    places: list[tuple[Rows, Rows, list[int]]] = [
        (slice(0, 3), columns[0], [7, 3, 5]),
        (slice(0, 2), columns[1], [7, 3]),
        (slice(2, 3), columns[1], [5]),
    ]
    parts = []
    for rows, here, images in places:
        part = data.each(lambda one, rows=rows, here=here: one[rows][..., here])
        parts.append(lambda call, part=part, images=images: call(*part.call, images=images))
    return data, parts


def splits_into_tiles(case: Case) -> bool:
    hard = case.name == "OhemCrossEntropyLoss" and case.options.get("per_image")
    sorts = getattr(case, "sorts", False)
    plain = not case.is_set or case.fold == "label"
    return (
        case.pixelwise
        and plain
        and not case.plain_sums
        and not case.scales_with_area
        and not hard
        and not sorts
        and case.fold != "window"
    )


TILED = [case for case in CASES if case.reduction != "none" and splits_into_tiles(case)]


def in_tiles(case: Case) -> None:
    criterion = lf.LossSet({"term": case.build()})
    data, parts = tiles(case)
    truth = one_process(criterion, data.pred, lambda one: one(*data.call))
    compare(accumulated(criterion, data.pred, parts), truth)


@pytest.mark.parametrize("case", first_of(lambda case: (case.fold, case.name), TILED), ids=lambda case: case.id)
def test_tiles(case: Case) -> None:
    in_tiles(case)
    if case.reduction == "mean" and not case.is_set and case.name not in ("LovaszLoss", "OhemCrossEntropyLoss"):
        in_tiles(case.apart())


@pytest.mark.slow
@pytest.mark.parametrize("case", TILED, ids=lambda case: f"{case.fold}-{case.id}")
def test_tiles_of_every_loss(case: Case) -> None:
    in_tiles(case)


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lf.SSIMLoss(window_size=3), "neighbours"),
        (lf.GradientLoss(), "neighbours"),
        (lf.LaplacianPyramidLoss(), "neighbours"),
        (lf.UnknownL1Loss(reference_area=100), "reference_area"),
        (lf.GANLoss("hinge", target_is_real=True), "no sum over pixels"),
        (lf.OhemCrossEntropyLoss(per_image=True), "all of it"),
        (lf.Term(lf.DiceLoss(), when=lambda logits, labels: labels.flatten(1).eq(0).any(1)), "whole images"),
        (lf.LovaszLoss(exact=True, per_image=True), "sorted all together"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_tiles_of_what_has_neighbours_are_refused(loss: nn.Module, why: str) -> None:
    inner = loss.loss if isinstance(loss, lf.Term) else loss
    scores = torch.rand(2, 3, 16, 16)
    held: tuple[Any, ...] = (torch.rand(2, 3, 16, 16), torch.rand(2, 1, 16, 16))
    if "labels" in inner.arguments:  # type: ignore[operator]
        held = (torch.randint(0, 3, (2, 16, 16)),)
    held = () if isinstance(inner, lf.GANLoss) else held
    refused(lambda: lf.LossSet(term=loss).accumulate().add(scores, *held, images=[0, 0]), "term", "images", why)


def test_small_scores_are_refused_as_tiles() -> None:
    whole = lf.LossSet(ce=lf.CrossEntropyLoss()).accumulate()
    refused(lambda: whole.add(torch.rand(2, 3, 4, 4), torch.zeros(2, 8, 8).long(), images=[0, 1]), "images", "interpolated")


def test_labels_alone_in_the_first_pass() -> None:
    """Losses whose denominators are labels' and weights' take these alone in the first pass; the others say so."""
    torch.manual_seed(0)
    scores = torch.randn(5, 4, 3, 6, dtype=torch.float64, requires_grad=True)
    labels, weight = torch.randint(0, 4, (5, 3, 6)), torch.rand(5, 3, 6).double()
    labels[0, 0] = labels[4] = 255
    options: dict[str, Any] = {"ignore_index": 255}
    known = {
        "ce": lf.CrossEntropyLoss(class_weight=[1.0, 2.0, 0.5, 3.0], **options),
        "focal": lf.FocalLoss(**options),
        "images": lf.CrossEntropyLoss(per_image=True, **options),
        "sum": lf.CrossEntropyLoss(reduction="sum", **options),
    }
    criterion = lf.LossSet(known)
    truth = one_process(criterion, scores, lambda one: one(scores, labels, weight))
    rows = [rows_of(COUNTS[0], number) for number in range(3)]
    parts = [lambda one, here=here: one(scores[here], labels[here], weight[here]) for here in rows]
    blind = [lambda one, here=here: one(labels=labels[here], weight=weight[here]) for here in rows]
    compare(accumulated(criterion, scores, parts, blind), truth)
    pictures = torch.rand(5, 2, 3, 6, dtype=torch.float64).requires_grad_(), torch.rand(5, 2, 3, 6, dtype=torch.float64)
    pairs = lf.LossSet(l1=lf.L1Loss(), mse=lf.MSELoss(sample_wise=True))
    truth = one_process(pairs, pictures[0], lambda one: one(*pictures, weight))
    parts = [lambda one, here=here: one(pictures[0][here], pictures[1][here], weight[here]) for here in rows]
    blind = [lambda one, here=here: one(target=pictures[1][here], weight=weight[here]) for here in rows]
    compare(accumulated(pairs, pictures[0], parts, blind), truth)
    masks = torch.rand(5, 4, 3, 6).double()
    binary = lf.LossSet(bce=lf.BinaryCrossEntropyLoss(), focal=lf.FocalLoss(link="sigmoid"))
    truth = one_process(binary, scores, lambda one: one(scores, masks))
    parts = [lambda one, here=here: one(scores[here], masks[here]) for here in rows]
    blind = [lambda one, here=here: one(labels=masks[here]) for here in rows]
    compare(accumulated(binary, scores, parts, blind), truth)
    for loss in (lf.DiceLoss(), lf.FocalLoss(normalize="focal"), lf.OhemCrossEntropyLoss(), lf.LovaszLoss()):
        whole = lf.LossSet(ce=lf.CrossEntropyLoss(), other=loss).accumulate()
        assert whole.needs_scores
        refused(lambda whole=whole: whole.add(labels=labels), "logits", "other")


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 1), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(self.drop(x))
        return result


def test_dropout_falls_alike() -> None:
    torch.manual_seed(0)
    network, criterion = Dropping(), lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())
    parts = [(torch.randn(2, 3, 8, 8), torch.randint(0, 4, (2, 8, 8))) for _ in range(3)]
    truth, slope = [], torch.zeros(())
    for turn in range(2):
        torch.manual_seed(7)
        whole = criterion.accumulate(rng=bool(turn), parts=3 if turn else None)
        if not turn:  # what the first pass sees, in one piece
            logits = torch.cat([network(x) for x, _ in parts])
            out = criterion(logits, torch.cat([labels for _, labels in parts]))
            out.backward()
        else:
            for x, labels in parts:
                with torch.no_grad():
                    whole.add(network(x), labels)
            for x, labels in parts:
                whole.backward(network(x), labels)
            out = whole.output
        truth.append(out.total.detach())
        slope, before = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]), slope
        network.zero_grad()
    close(truth[1], truth[0], 1e-6, "value")
    close(slope, before, 1e-5, "gradient")
    refused(lambda: criterion.accumulate(rng=True), "parts", "rng=True")
    whole = criterion.accumulate()
    with torch.no_grad():
        whole.add(network(parts[0][0]), parts[0][1])
    refused(lambda: whole.backward(network(parts[0][0]), parts[0][1]), "part", "rng=True")


def test_another_part_than_in_the_first_pass() -> None:
    criterion = lf.LossSet(dice=lf.DiceLoss(), ohem=lf.OhemCrossEntropyLoss(min_kept=3))
    scores, labels = torch.randn(4, 3, 5, 5, requires_grad=True), torch.randint(0, 3, (4, 5, 5))
    whole = criterion.accumulate()
    refused(lambda: whole.backward(scores, labels), "backward()", "no part")
    for rows in (slice(0, 2), slice(2, 4)):
        whole.add(scores[rows], labels[rows])
    refused(lambda: whole.add(scores[:2, :2], labels[:2].clamp(0, 1)), "add()")
    refused(lambda: whole.backward(scores[2:], labels[2:]), "part", "number 1", "order")
    refused(lambda: whole.backward(scores[:2] * 1.01, labels[:2]), "part", "number 1")
    whole.backward(scores[:2], labels[:2])
    refused(lambda: whole.output, "output", "2 parts")
    whole.backward(scores[2:], labels[2:])
    refused(lambda: whole.backward(scores[:2], labels[:2]), "backward()", "part 3")
    refused(lambda: whole.add(scores[:2], labels[:2]), "add()", "second pass")
    torch.testing.assert_close(whole.output.total, criterion(scores, labels).total.detach())


def test_terms_of_all_kinds_in_one_set() -> None:
    """Schedules, intervals, conditions, sets in sets, dicts of outputs, and functions of people's own."""
    from tests.ranks.scripts import batch, network, terms

    criterion = lf.LossSet(terms())
    pictures, labels = batch(slice(None))
    for step in range(2):
        model = network()
        out = criterion(model(pictures), labels)
        out.backward()
        truth = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        rows = [rows_of(COUNTS[0], number) for number in range(3)]
        whole = criterion.accumulate()
        for here in rows:
            whole.add(model(pictures[here]), labels[here])
        for here in rows:
            whole.backward(model(pictures[here]), labels[here])
        assert whole.output.terms.keys() == out.terms.keys()
        for name, value in out.terms.items():
            close(whole.output.terms[name], value, 1e-10, name)
        close(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), truth, 1e-9, f"step {step}")
        criterion.advance()
