"""A set is the sum of its terms at the price of one fold, and folds add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf
from tests import internals
from tests.cases import ENGINES, Case, Data, cases, close, evaluate, make, same_bits, value
from tests.operators import Watch
from tests.steps import settled

CLASSES = 5
LINKS = sorted({case.link for case in cases()})


def members(link: str, engine: str | None) -> dict[str, Case]:
    """Every sample of every loss that reads `link` with five classes, under one ignore label."""
    fit = [c for c in cases() if c.link == link and c.classes == CLASSES and c.options.get("reduction") != "none"]
    fit = [c for c in fit if not isinstance(c.build(), lf.LossSet)]
    return {f"{c.name}_{i}": c.changed(engine=engine, ignore_index=-100) for i, c in enumerate(fit) if engine in (None, *c.engines)}


def one_pass(link: str, engine: str | None) -> dict[str, Case]:
    """Those of them that one pass can serve: it makes histograms of one size and one choice of the hardest pixels."""
    chosen: dict[str, Case] = {}
    for name, case in members(link, engine).items():
        bins = {c.bins for c in chosen.values()} | {case.bins}
        mined = [c for c in chosen.values() if c.name == "OhemCrossEntropyLoss"]
        if not case.sorts and len(bins - {0}) <= 1 and not (mined and case.name == "OhemCrossEntropyLoss"):
            chosen[name] = case
    return chosen


def data_for(link: str, **options: Any) -> Data:
    return make(Case("", {"link": link}), (7, 9), classes=CLASSES, weight="float", **options)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("link", LINKS)
def test_a_set_is_the_sum_of_its_terms(link: str, engine: str) -> None:
    terms = members(link, engine)
    assert len({case.name for case in terms.values()}) >= 5
    weights = {name: 0.25 + 0.5 * i for i, name in enumerate(terms)}
    criterion = lf.LossSet({name: weights[name] * case.build() for name, case in terms.items()})
    data = data_for(link).leaf()
    out = criterion(*data.call)
    assert isinstance(out, lf.LossOutput)
    assert list(out.terms) == list(out.weighted) == list(terms)
    total, slope = torch.zeros((), dtype=torch.float64), torch.zeros_like(data.scores)
    for name, case in terms.items():
        own = weights[name] * case.options.get("loss_weight", 1.0)
        raw, gradient = evaluate(case.build(loss_weight=1.0), data)
        close(out.terms[name], raw)
        close(out.weighted[name].detach(), own * raw)
        (term,) = torch.autograd.grad(out.weighted[name], data.scores, retain_graph=True)
        close(term, own * gradient)
        assert not out.terms[name].requires_grad and out.weighted[name].requires_grad
        total, slope = total + own * raw, slope + own * gradient
    close(out.total.detach(), total)
    out.backward()
    assert data.scores.grad is not None
    close(data.scores.grad, slope)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype_name", ["float32", "float16"])
def test_a_set_of_half_logits(engine: str, dtype_name: str) -> None:
    dtype = getattr(torch, dtype_name)
    terms = members("softmax", engine)
    criterion = lf.LossSet({name: case.build() for name, case in terms.items()})
    data = data_for("softmax", dtype=dtype)
    for case in terms.values():
        data = settled(case, data)
    assert (data.labels >= 0).sum() > 30
    result, gradient = evaluate(criterion, data)
    truth, slope = evaluate(criterion, data.to(torch.float64))
    assert result.dtype == torch.float32 and gradient.dtype == dtype
    close(result.double(), truth, 1e-5, 1e-6)
    close(gradient.double(), slope, 4 * torch.finfo(dtype).eps, 4 * torch.finfo(dtype).eps * slope.abs().max().item())


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@pytest.mark.parametrize("link", LINKS)
def test_a_set_costs_one_fold_and_one_unfold(link: str) -> None:
    """However many terms: another exponent is another sum of the same pass."""
    terms = one_pass(link, "cpp")
    assert {case.name for case in terms.values()} == {case.name for case in members(link, "cpp").values()}
    criterion = lf.LossSet({name: case.build() for name, case in terms.items()})
    with Watch() as watch:
        evaluate(criterion, data_for(link))
    assert watch.names == ["label_fold", "label_unfold"]


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_another_ignore_label_is_another_fold() -> None:
    ours, theirs = lf.CrossEntropyLoss(engine="cpp"), lf.DiceLoss(ignore_index=1, engine="cpp")
    data = data_for("softmax", ignored=0.0)
    with Watch() as watch:
        out = lf.LossSet(ce=ours, dice=theirs)(*data.call)
    assert watch.count("label_fold") == 2
    close(out.total, ours(*data.call) + theirs(*data.call))
    plan = str(lf.LossSet(ce=ours, dice=theirs).plan())
    assert "ce" in plan and "dice" in plan and "-100" in plan


def test_sets_nest() -> None:
    inner = lf.LossSet(dice=lf.DiceLoss(), jaccard=0.5 * lf.JaccardLoss())
    outer = lf.LossSet(ce=lf.CrossEntropyLoss(), overlap=inner)
    data = data_for("softmax")
    out = outer(*data.call)
    assert list(out.terms) == ["ce", "overlap.dice", "overlap.jaccard"]
    flat = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss(), jaccard=0.5 * lf.JaccardLoss())(*data.call)
    close(out.total, flat.total)
    halved = lf.LossSet(ce=lf.CrossEntropyLoss(), overlap=0.5 * inner)(*data.call)
    close(halved.total, flat.weighted["ce"] + 0.5 * (flat.weighted["dice"] + flat.weighted["jaccard"]))
    close(halved.terms["overlap.jaccard"], flat.terms["jaccard"])
    if "cpp" in ENGINES:
        with Watch() as watch:
            evaluate(outer, data)
        assert watch.names == ["label_fold", "label_unfold"]


def test_a_set_survives_pickle_deepcopy_repr_and_compile() -> None:
    import copy
    import pickle

    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(class_weight=[1.0, 2, 3, 4, 5]), dice=0.5 * lf.DiceLoss())
    data = data_for("softmax")
    truth, slope = evaluate(criterion, data)
    names = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")}
    for twin in (pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion), eval(repr(criterion), names)):
        result, gradient = evaluate(twin, data)
        same_bits(result, truth)
        same_bits(gradient, slope)
        assert list(twin(*data.call).terms) == ["ce", "dice"]
    torch._dynamo.reset()
    run = torch.compile(lambda *call: value(criterion(*call)), fullgraph=True, backend="aot_eager")
    leaf = data.leaf()
    result = run(*leaf.call)
    close(result.detach(), truth)
    close(torch.autograd.grad(result, leaf.scores)[0], slope)


def test_keywords_and_a_dict_are_the_same_set() -> None:
    data = data_for("softmax")
    one = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())(*data.call)
    other = lf.LossSet({"ce": lf.CrossEntropyLoss(), "dice": lf.DiceLoss()})(*data.call)
    same_bits(one.total, other.total)
    assert list(one.terms) == list(other.terms)
    with pytest.raises(lf.LossError, match="ce"):
        lf.LossSet({"ce": lf.CrossEntropyLoss()}, ce=lf.CrossEntropyLoss())


def test_ce_dice_is_a_preset_set() -> None:
    loss = lf.CEDiceLoss(ce_weight=0.7, dice_weight=1.3, smooth=0.5, label_smoothing=0.1, ignore_index=1)
    data = make(Case("CEDiceLoss", {"ignore_index": 1}), (7, 9), weight="float")
    out = loss(*data.call)
    assert list(out.terms) == ["ce", "dice"]
    ce = lf.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1)(*data.call)
    dice = lf.DiceLoss(smooth=0.5, ignore_index=1)(*data.call)
    close(out.terms["ce"], ce)
    close(out.terms["dice"], dice)
    close(out.total, 0.7 * ce + 1.3 * dice)


def additive() -> list[Case]:
    """Losses that a fold settles, which is all but maps."""
    return [c for c in cases() if c.options.get("reduction") != "none" and c.adds_up]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", additive(), ids=lambda case: case.id)
def test_folds_of_tiles_add_up(case: Case, engine: str) -> None:
    """The left and the right part of every image, folded apart, give value and gradient of the whole."""
    loss = case.build(engine=engine)
    data = make(case, (7, 9), weight="float")
    truth, slope = evaluate(loss, data)
    leaf = data.leaf()
    parts = [[None if t is None else t[..., cut] for t in leaf.call] for cut in (slice(0, 4), slice(4, 9))]
    folds, (given, _) = zip(*(internals.collected(loss, *part) for part in parts), strict=True)
    result = internals.settled(loss, folds[0] + folds[1], given)
    (gradient,) = torch.autograd.grad(result, leaf.scores)
    close(result.detach(), truth)
    close(gradient, slope)
    alone = internals.settled(loss, folds[0], given)
    assert not torch.equal(alone.detach(), truth)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", additive(), ids=lambda case: case.id)
def test_folds_of_batches_add_up(case: Case, engine: str) -> None:
    """Micro-batches of a loss over the batch: one image and two."""
    loss = case.build(engine=engine, per_image=False)
    data = make(case, (7, 9), batch=3, weight="float")
    truth, slope = evaluate(loss, data)
    leaf = data.leaf()
    parts = [[None if t is None else t[cut] for t in leaf.call] for cut in (slice(0, 1), slice(1, 3))]
    folds, (given, _) = zip(*(internals.collected(loss, *part) for part in parts), strict=True)
    result = internals.settled(loss, folds[0].sum_images() + folds[1].sum_images(), given)
    (gradient,) = torch.autograd.grad(result, leaf.scores)
    close(result.detach(), truth)
    close(gradient, slope)


def test_per_image_and_per_batch_share_a_fold() -> None:
    terms = {"batch": lf.DiceLoss(), "image": lf.DiceLoss(per_image=True)}
    data = data_for("softmax")
    out = lf.LossSet(terms)(*data.call)
    for name, loss in terms.items():
        close(out.terms[name], loss(*data.call))
    assert not torch.equal(out.terms["batch"], out.terms["image"])
    if "cpp" in ENGINES:
        with Watch() as watch:
            evaluate(lf.LossSet(terms), data)
        assert watch.names == ["label_fold", "label_unfold"]
