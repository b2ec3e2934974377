"""Losses that find their arguments in one dict of a network's outputs, alone and as terms of a set."""

from __future__ import annotations

import collections
import copy
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests import internals
from tests.contract.case import ENGINES, close, same_bits, value
from tests.internals import Watch

MAIN, AUX = {"logits": "heads.0"}, {"logits": "heads.1"}
NAMES = {name: getattr(lf, name) for name in dir(lf) if not name.startswith("_")}
LOSSES = internals.folded("label")


def outputs(low: tuple[int, int] = (9, 11)) -> dict[str, Any]:
    """What a network with two heads gives, the second at half the resolution, and what the data loader adds."""
    heads = [torch.randn(2, 5, *low, dtype=torch.float64), torch.randn(2, 5, low[0] // 2, low[1] // 2, dtype=torch.float64)]
    labels = torch.randint(0, 5, (2, 36, 44))
    labels[:, :5] = 255
    return {
        "heads": [head.requires_grad_() for head in heads],
        "labels": labels,
        "weight": 0.5 + torch.rand(2, 36, 44),
        "batch": {"truth": labels, "seen": torch.rand(2, 36, 44) < 0.8},
        "features": torch.zeros(3),
    }


def gradients(total: Tensor, out: dict[str, Any]) -> list[Tensor]:
    return [torch.zeros_like(h) if g is None else g for h, g in zip(out["heads"], slopes(total, out), strict=True)]


def slopes(total: Tensor, out: dict[str, Any]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(total, out["heads"], allow_unused=True, retain_graph=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", LOSSES)
def test_a_single_loss(name: str, engine: str) -> None:
    """Given positionally or as outputs_dict; an argument that the mapping does not name stands under its own name, if at all."""
    out = outputs()
    options: dict[str, Any] = {"ignore_index": 255, "engine": engine}
    routed = lf.LOSSES[name](inputs=MAIN, **options)
    by_hand = value(lf.LOSSES[name](**options)(out["heads"][0], out["labels"], out["weight"]))
    for result in (value(routed(out)), value(routed(outputs_dict=out))):
        same_bits(result, by_hand)
        for actual, expected in zip(gradients(result, out), gradients(by_hand, out), strict=True):
            same_bits(actual, expected)
    del out["weight"]
    same_bits(value(routed(out)), value(lf.LOSSES[name](**options)(out["heads"][0], out["labels"])))


@pytest.mark.parametrize("name", LOSSES)
def test_every_argument_can_be_mapped(name: str) -> None:
    out = outputs()
    mapping = {"logits": "heads.1", "labels": "batch.truth", "weight": "batch.seen"}
    result = value(lf.LOSSES[name](inputs=mapping, ignore_index=255)(out))
    same_bits(result, value(lf.LOSSES[name](ignore_index=255)(out["heads"][1], out["labels"], out["batch"]["seen"])))
    assert not torch.equal(result, value(lf.LOSSES[name](ignore_index=255)(out["heads"][1], out["labels"])))


def test_paths_through_containers() -> None:
    """Dicts, lists, tuples, named tuples, and keys that have dots themselves, which come first."""
    x, y = torch.randn(1, 3, 4), torch.randint(0, 3, (1, 4))
    expected = lf.DiceLoss()(x, y)
    head = collections.namedtuple("head", "scores boxes")
    found: list[tuple[str, dict[str, Any]]] = [
        ("x", {"x": x}),
        ("net.decoder.0.out", {"net": {"decoder": [{"out": x}]}}),
        ("net.1.2", {"net": (None, (None, None, x))}),
        ("heads.0.0", {"heads": [head(x, None)]}),
        ("a.b", {"a.b": x, "a": {"b": None}}),
        ("out.10", {"out": [None] * 10 + [x]}),
        ("by.0", {"by": {"0": x}}),
        ("d", collections.OrderedDict(d=x)),
    ]
    for path, given in found:
        given["labels"] = y
        same_bits(lf.DiceLoss(inputs={"logits": path})(given), expected)


BAD: dict[str, tuple[dict[str, str], Any, list[str]]] = {
    # what is wrong: (inputs, the outputs or what is given in their place, words of the message)
    "a missing key": ({"logits": "haeds.0"}, None, ["logits", "haeds", "heads", "labels"]),
    "a missing index": ({"logits": "heads.2"}, None, ["logits", "heads.2", "list of 2"]),
    "no index": ({"logits": "heads.main"}, None, ["logits", "heads.main", "main", "list of 2"]),
    "a negative index": ({"logits": "heads.-3"}, None, ["logits", "heads.-3", "list of 2"]),
    "a missing inner key": ({"logits": "heads.0", "labels": "batch.lables"}, None, ["labels", "batch.lables", "truth", "seen"]),
    "a path into a tensor": ({"logits": "features.0"}, None, ["logits", "features.0", "Tensor"]),
    "a list of heads for logits": ({"logits": "heads"}, None, ["logits", "float tensor", "list"]),
    "no dict": (MAIN, "a tensor", ["outputs", "dict", "Tensor"]),
    "two tensors": (MAIN, "two tensors", ["outputs", "dict"]),
    "labels nowhere": (MAIN, {"heads": [torch.zeros(1, 2, 3)]}, ["labels"]),
}


def call(loss: nn.Module, given: Any) -> Any:
    x = torch.randn(1, 3, 4)
    if given == "a tensor":
        return loss(x)
    return loss(x, torch.zeros(1, 4).long()) if given == "two tensors" else loss(outputs() if given is None else given)


@pytest.mark.parametrize("what", BAD)
def test_what_is_missing_is_named_with_what_there_is(what: str) -> None:
    mapping, given, words = BAD[what]
    term = lf.CrossEntropyLoss(inputs=mapping, ignore_index=255)
    for loss, who in ((term, "CrossEntropyLoss"), (lf.LossSet(main=term), "main")):
        with pytest.raises(lf.LossError) as caught:
            call(loss, given)
        for word in (who, *words):
            assert re.search(word, str(caught.value)), f"{word!r} is not in: {caught.value}"


@pytest.mark.parametrize("inputs", ["logits", ["logits"], {"logits": 0}, {"logits": ""}, {0: "heads"}, 3])
def test_inputs_that_are_no_mapping_of_names(inputs: Any) -> None:
    with pytest.raises(lf.LossError, match=r"DiceLoss: inputs.*dict"):
        lf.DiceLoss(inputs=inputs)
    with pytest.raises(lf.LossError, match=r"CEDiceLoss: inputs.*dict"):
        lf.CEDiceLoss(inputs=inputs)


def two_heads(engine: str | None = None) -> lf.LossSet:
    options: dict[str, Any] = {"ignore_index": 255, "engine": engine}
    return lf.LossSet(
        ohem=lf.OhemCrossEntropyLoss(thresh=0.7, min_kept=100, inputs=MAIN, **options),
        lovasz=0.5 * lf.LovaszLoss(inputs=MAIN, **options),
        aux=0.4 * lf.CrossEntropyLoss(inputs=AUX, **options),
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("low", [(9, 11), (36, 44)], ids=str)
def test_main_and_auxiliary_head_in_balance(engine: str, low: tuple[int, int]) -> None:
    """As HRNet and PSPNet are trained: the weighted sum is the one that is written by hand, in value and gradient."""
    out = outputs(low)
    result = two_heads(engine)(out)
    options: dict[str, Any] = {"ignore_index": 255, "engine": engine}
    main, aux = ((head, out["labels"], out["weight"]) for head in out["heads"])
    ohem = lf.OhemCrossEntropyLoss(thresh=0.7, min_kept=100, **options)(*main)
    lovasz, ce = lf.LovaszLoss(**options)(*main), lf.CrossEntropyLoss(**options)(*aux)
    for name, term in {"ohem": ohem, "lovasz": lovasz, "aux": ce}.items():
        close(result.terms[name], term)
    total = ohem + 0.5 * lovasz + 0.4 * ce
    close(result.total, total)
    for actual, expected in zip(gradients(result.total, out), gradients(total, out), strict=True):
        close(actual, expected)
        assert actual.any()


def test_terms_share_a_pass_where_their_inputs_are_equal() -> None:
    criterion = two_heads("cpp" if "cpp" in ENGINES else "eager")
    plan = criterion.plan().splitlines()
    assert len(plan) == 2
    assert "ohem, lovasz" in plan[0] and "logits='heads.0'" in plan[0]
    assert "aux" in plan[1] and "logits='heads.1'" in plan[1]
    if "cpp" in ENGINES:
        with Watch() as watch:
            criterion(outputs()).total.backward()
        assert watch.names == ["label_fold", "label_once", "label_unfold"]
    same_order = {"labels": "batch.truth", "logits": "heads.0"}
    other_order = {"logits": "heads.0", "labels": "batch.truth"}
    shared = lf.LossSet(ce=lf.CrossEntropyLoss(inputs=same_order), dice=lf.DiceLoss(inputs=other_order))
    assert len(shared.plan().splitlines()) == 1
    weighted = {"logits": "heads.0", "weight": "batch.seen"}
    apart = lf.LossSet(ce=lf.CrossEntropyLoss(inputs=MAIN), dice=lf.DiceLoss(inputs=weighted))
    assert len(apart.plan().splitlines()) == 2


def test_terms_with_other_labels_and_weights() -> None:
    """One dict may hold several tasks."""
    out = outputs()
    out["depth"] = {"logits": torch.randn(2, 3, 36, 44, dtype=torch.float64), "labels": torch.randint(0, 3, (2, 36, 44))}
    criterion = lf.LossSet(
        seg=lf.CrossEntropyLoss(inputs={"logits": "heads.0", "weight": "batch.seen"}, ignore_index=255),
        depth=2.0 * lf.DiceLoss(inputs={"logits": "depth.logits", "labels": "depth.labels"}),
    )
    result = criterion(outputs_dict=out)
    seg = lf.CrossEntropyLoss(ignore_index=255)(out["heads"][0], out["labels"], out["batch"]["seen"])
    depth = lf.DiceLoss()(out["depth"]["logits"], out["depth"]["labels"], out["weight"])
    close(result.total, seg + 2 * depth)


def test_nested_sets_and_presets() -> None:
    out = outputs()
    criterion = lf.LossSet(main=lf.CEDiceLoss(inputs=MAIN, ignore_index=255), aux=0.4 * two_heads())
    result = criterion(out)
    assert list(result.terms) == ["main.ce", "main.dice", "aux.ohem", "aux.lovasz", "aux.aux"]
    preset = lf.CEDiceLoss(ignore_index=255)(out["heads"][0], out["labels"], out["weight"])
    close(result.total, preset.total + 0.4 * two_heads()(out).total)
    assert len(criterion.plan().splitlines()) == 2, "the preset's terms and the others on the first head share a pass"


def test_a_module_that_is_no_loss_takes_the_dict_itself() -> None:
    class Penalty(nn.Module):
        def forward(self, out: dict[str, Any]) -> Tensor:
            return out["heads"][0].square().mean()

    out = outputs()
    result = lf.LossSet(ce=lf.CrossEntropyLoss(inputs=MAIN, ignore_index=255), decay=Penalty())(out)
    close(result.terms["decay"], out["heads"][0].detach().square().mean())
    assert result.weighted["decay"].requires_grad


def test_repr_pickle_deepcopy_and_build() -> None:
    out = outputs()
    criterion = two_heads()
    truth = criterion(out).total
    config = {
        "type": "LossSet",
        "ohem": {"type": "OhemCrossEntropyLoss", "min_kept": 100, "inputs": MAIN, "ignore_index": 255},
        "lovasz": {"type": "LovaszLoss", "loss_weight": 0.5, "inputs": {"logits": "heads.0"}, "ignore_index": 255},
        "aux": {"type": "CrossEntropyLoss", "loss_weight": 0.4, "inputs": AUX, "ignore_index": 255},
    }
    before = copy.deepcopy(config)
    built = lf.build(config)
    assert config == before and repr(built) == repr(criterion)
    assert "inputs={'logits': 'heads.0'}" in repr(criterion)
    for twin in (built, eval(repr(criterion), NAMES), pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion)):
        same_bits(twin(out).total, truth)
        assert repr(twin) == repr(criterion)
    single = lf.DiceLoss(inputs=MAIN, ignore_index=255)
    for twin in (eval(repr(single), NAMES), pickle.loads(pickle.dumps(single)), copy.deepcopy(single), 1.0 * single):
        same_bits(twin(out), single(out))


def test_the_mapping_is_a_copy_and_can_be_changed() -> None:
    mapping = {"logits": "heads.0"}
    loss = lf.CrossEntropyLoss(inputs=mapping, ignore_index=255)
    mapping["logits"] = "nowhere"
    out = outputs()
    first = loss(out)
    loss.inputs = AUX
    assert not torch.equal(loss(out), first)
    loss.inputs = None
    close(loss(out["heads"][0], out["labels"], out["weight"]), first)
    with pytest.raises(lf.LossError, match="inputs"):
        loss.inputs = {"logits": 3}


def test_compiled() -> None:
    torch._dynamo.reset()
    out = outputs((36, 44))
    criterion = two_heads()
    run = torch.compile(lambda given: criterion(given).total, fullgraph=True, backend="aot_eager")
    result, truth = run(out), criterion(out).total
    close(result, truth)
    for actual, expected in zip(gradients(result, out), gradients(truth, out), strict=True):
        close(actual, expected)


def test_a_function_takes_tensors() -> None:
    out = outputs()
    with pytest.raises((lf.LossError, TypeError)):
        lf.functional.dice_loss(out["heads"][0], out["labels"], inputs=MAIN)
