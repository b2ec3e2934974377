"""Sets of losses of labels: one fold and one unfold for all that can share them, in halves too, nested, and as a preset."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import lossfold as lf
from tests.contract.case import ENGINES, Data, both_same, close, evaluate, same_bits
from tests.contract.cases import native
from tests.contract.test_sets import members
from tests.folds.label.cases import LabelCase
from tests.internals import Watch

LINKS = ("softmax", "identity")


def labelled(link: str, engine: str) -> dict[str, LabelCase]:
    """Every sample of every loss that reads `link`."""
    return {name: case for name, case in members("label", link, engine).items() if isinstance(case, LabelCase)}


def one_pass(link: str, engine: str) -> dict[str, LabelCase]:
    """Those of them that one pass can serve: it makes histograms of one size and one choice of the hardest pixels.

    Of maps it has one: see tests/shapes/test_maps.py.
    """
    chosen: dict[str, LabelCase] = {}
    for name, case in labelled(link, engine).items():
        bins = {c.bins for c in chosen.values()} | {case.bins}
        mined = [c for c in chosen.values() if c.name == "OhemCrossEntropyLoss"]
        if (
            case.pixelwise
            and not case.plain_sums
            and not case.sorts
            and len(bins - {0}) <= 1
            and not (mined and case.name == "OhemCrossEntropyLoss")
        ):
            chosen[name] = case
    return chosen


def data_for(link: str, dtype: torch.dtype = torch.float64, ignored: float = 0.15) -> Data:
    return LabelCase("DiceLoss", {"link": link}).make((7, 9), way=("int64", "float"), dtype=dtype, ignored=ignored)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype_name", ["float32", "float16"])
def test_a_set_of_half_logits(engine: str, dtype_name: str) -> None:
    dtype = getattr(torch, dtype_name)
    terms = labelled("softmax", engine)
    criterion = lf.LossSet({name: case.build() for name, case in terms.items()})
    data = data_for("softmax", dtype=dtype)
    for case in terms.values():
        data = case.settled(data)
    assert (data.truth >= 0).sum() > 30
    result, gradient = evaluate(criterion, data)
    truth, slope = evaluate(criterion, data.double())
    assert result.dtype == torch.float32 and gradient.dtype == dtype
    close(result.double(), truth, 1e-5, 1e-6)
    close(gradient.double(), slope, 4 * torch.finfo(dtype).eps, 4 * torch.finfo(dtype).eps * slope.abs().max().item())


@native
@pytest.mark.parametrize("link", LINKS)
def test_a_set_costs_one_fold_and_one_unfold(link: str) -> None:
    """However many terms: another exponent is another sum of the same pass."""
    terms = one_pass(link, "cpp")
    assert {case.name for case in terms.values()} == {
        case.name for case in labelled(link, "cpp").values() if case.pixelwise and not case.plain_sums
    }
    criterion = lf.LossSet({name: case.build() for name, case in terms.items()})
    with Watch() as watch:
        evaluate(criterion, data_for(link))
    assert watch.names == ["label_fold", "label_unfold"]


@native
def test_another_ignore_label_is_another_fold() -> None:
    ours, theirs = lf.CrossEntropyLoss(engine="cpp"), lf.DiceLoss(ignore_index=1, engine="cpp")
    data = data_for("softmax", ignored=0.0)
    with Watch() as watch:
        out = lf.LossSet(ce=ours, dice=theirs)(*data.call)
    assert len(watch.names) == 2
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


def test_a_set_survives_pickle_deepcopy_and_repr() -> None:
    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(class_weight=[1.0, 2, 3, 4, 5]), dice=0.5 * lf.DiceLoss())
    data = data_for("softmax")
    truth = evaluate(criterion, data)
    names = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")}
    for twin in (pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion), eval(repr(criterion), names)):
        both_same(evaluate(twin, data), truth)
        assert list(twin(*data.call).terms) == ["ce", "dice"]


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
    data = LabelCase("CEDiceLoss", {"ignore_index": 1}).make((7, 9), way=("int64", "float"))
    out = loss(*data.call)
    assert list(out.terms) == ["ce", "dice"]
    ce = lf.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1)(*data.call)
    dice = lf.DiceLoss(smooth=0.5, ignore_index=1)(*data.call)
    close(out.terms["ce"], ce)
    close(out.terms["dice"], dice)
    close(out.total, 0.7 * ce + 1.3 * dice)


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
