"""MMSegmentation's own configs: what they build with ``dialect="mmseg"`` gives its values, and works in its heads."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.migrate.python_config import read
from tests.migrate import oracles

pytestmark = pytest.mark.filterwarnings("ignore")  # what MMSegmentation says about its defaults


def losses_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if re.search("Loss|CrossEntropy", str(value.get("type"))):
            yield value
        value = list(value.values())
    for one in value if isinstance(value, (list, tuple)) else ():
        yield from losses_in(one)


@pytest.fixture(scope="module")
def entries() -> Counter[str]:
    """The loss entries of the wheel's configs, and how often each is there."""
    spec = importlib.util.find_spec("mmseg")
    if spec is None or spec.origin is None:
        pytest.skip("mmsegmentation is not installed")
    files = [file for file in Path(spec.origin).parent.glob(".mim/configs/**/*.py") if "_base_" not in file.parts]
    assert len(files) == 681
    return Counter(json.dumps(entry) for file in sorted(files) for entry in losses_in(read(file)[0]))


def theirs(entry: dict[str, Any]) -> nn.Module:
    scope, _, name = entry["type"].rpartition(".")
    return (oracles.mmdet() if scope == "mmdet" else oracles.mmseg())[name](**{k: v for k, v in entry.items() if k != "type"})  # type: ignore[no-any-return]


def classes_of(entry: dict[str, Any]) -> int:
    return len(entry.get("class_weight") or [0] * 4)


def arguments(entry: dict[str, Any], ignored: bool) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
    """What the head that such an entry stands in calls it with."""
    name, generator = entry["type"], torch.Generator().manual_seed(3)
    classes = classes_of(entry)
    logits = 3 * torch.randn(2, classes, 8, 12, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes - 1, (2, 8, 12), generator=generator)  # of the last there are none
    masks = (torch.rand(2, classes, 8, 12, generator=generator) < 0.4).double()
    if ignored:
        labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    if name == "BoundaryLoss":
        return (logits[:, :1], (labels % 255 > 1).double()), {}
    if name == "OhemCrossEntropy":
        return (logits, labels), {}
    if name.startswith("mmdet."):
        chosen = name == "mmdet.CrossEntropyLoss" and not entry.get("use_sigmoid")
        rows = logits.permute(0, 2, 3, 1).reshape(-1, classes)
        if chosen:
            return (rows, labels.flatten() % 255), {
                "weight": torch.rand(len(rows), generator=generator).double(),
                "avg_factor": 7.5,
            }
        if name == "mmdet.FocalLoss":
            return (rows[:, :1], (labels.flatten() % 255 > 1).long()), {"avg_factor": 9.0}
        return (logits.flatten(1), masks.flatten(1)), {"avg_factor": 3.0}
    return (logits, labels), {"weight": None, "ignore_index": 255}


def slope(loss: nn.Module, given: tuple[Tensor, Tensor], named: dict[str, Any]) -> tuple[Tensor, Tensor]:
    leaf = given[0].clone().requires_grad_()
    value = loss(leaf, given[1], **named)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def same(entry: dict[str, Any], given: tuple[Tensor, Tensor], named: dict[str, Any]) -> None:
    """Check value and gradient; where they compute in float32, within that."""
    ours = slope(lf.build(entry, dialect="mmseg"), given, named)
    given = (given[0].float(), given[1]) if "ovasz" in entry["type"] else given  # it takes no other dtype
    for value, expected in zip(ours, slope(theirs(entry), given, named), strict=True):
        tolerance = 2e-5 if expected.dtype == torch.float32 else 1e-6
        torch.testing.assert_close(value, expected.to(value), rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def test_its_configs_build_and_give_its_values(entries: Counter[str]) -> None:
    """Of 1,418 entries 1,395 build (98.4 %); the others are costs of matching, which are no losses, and are told so."""
    built, refused = 0, 0
    for text, times in entries.items():
        entry = json.loads(text)
        if entry["type"].endswith("Cost"):
            with pytest.raises(lf.LossError, match="a cost that predictions are matched by"):
                lf.build(entry, dialect="mmseg")
            refused += times
            continue
        built += times
        for ignored in (False, True):
            if not ignored or not entry.get("class_weight") or entry["type"] != "CrossEntropyLoss":  # which fails there
                same(entry, *arguments(entry, ignored))
    assert (built, refused) == (1395, 23)
    assert built / entries.total() > 0.95


OTHERS: list[dict[str, Any]] = [
    {"type": "CrossEntropyLoss", "avg_non_ignore": True},
    {"type": "CrossEntropyLoss", "use_sigmoid": True, "avg_non_ignore": True},
    {"type": "CrossEntropyLoss", "reduction": "sum", "loss_weight": 0.5},
    {"type": "CrossEntropyLoss", "reduction": "none"},
    {"type": "CrossEntropyLoss", "use_sigmoid": True, "reduction": "none"},
    {"type": "mmseg.DiceLoss", "use_sigmoid": False, "ignore_index": 1},
    {"type": "DiceLoss", "naive_dice": True, "reduction": "none"},
    {"type": "LovaszLoss", "per_image": True},
    {"type": "LovaszLoss", "reduction": "none", "loss_weight": 2.0},
    {"type": "LovaszLoss", "reduction": "none", "classes": [0, 2]},
    {"type": "OhemCrossEntropy", "thres": 0.3, "min_kept": 20},
    {"type": "TverskyLoss", "alpha": 0.4, "beta": 0.6, "class_weight": [1.0, 2.0, 0.5, 1.0]},
]


@pytest.mark.parametrize("entry", OTHERS, ids=str)
def test_other_options(entry: dict[str, Any]) -> None:
    given, named = arguments({**entry, "type": entry["type"].removeprefix("mmseg.")}, True)
    named = {} if "Tversky" in entry["type"] else named
    if "Lovasz" in entry["type"]:
        named = {"ignore_index": 255}
    entry_there = {**entry, "type": entry["type"].removeprefix("mmseg.")}
    same(entry_there, given, named)
    assert repr(lf.build(entry, dialect="mmseg")) == repr(lf.build(entry_there, dialect="mmseg"))


@pytest.mark.parametrize("reduction", [None, "none", "sum"])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_what_a_call_says(sigmoid: bool, reduction: str | None) -> None:
    """Pixel weights, ``avg_factor`` and ``reduction_override``."""
    entry = {"type": "CrossEntropyLoss", "use_sigmoid": sigmoid}
    (logits, labels), _ = arguments(entry, True)
    weight = torch.rand(labels.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    factor = {} if reduction == "sum" else {"avg_factor": 11.0}
    same(entry, (logits, labels), {"weight": weight, "reduction_override": reduction, "ignore_index": 255, **factor})
    focal = {"type": "FocalLoss", "alpha": 0.3, "class_weight": [1.0, 2.0, 0.5, 1.0]}
    one_hot = (labels[:, None] == torch.arange(4).view(1, -1, 1, 1)).long()
    same(focal, (logits, one_hot), {"reduction_override": reduction})


def test_what_is_refused() -> None:
    """Its own rules, what would read a file, and what is no loss."""
    for entry, message in {
        "LovaszLoss": ({}, "reduction must be 'none' with per_image=False"),
        "CrossEntropyLoss": ({"use_mask": True}, "use_mask must be False"),
        "TverskyLoss": ({"class_weight": "weights.npy"}, "class_weight must be a list of numbers"),
        "FocalLoss": ({"gama": 2.0}, "did you mean 'gamma'"),
        "SiLogLoss": ({}, "not here yet"),
        "BoundaryLoss": ({"loss_weight": "1"}, "cfg.loss_weight must be a number"),
        "OhemCrossEntropy": ({"thres": 2.0}, "cfg.thresh must be a number from 0 to 1, got 2.0"),
        "mmdet.CrossEntropyLoss": ({"reduction": "avg"}, "cfg.reduction must be one of"),
        "mmdet.FocalLoss": ({"gamma": -1.0}, "cfg.gamma must be"),
        "OHEMPixelSampler": ({"thresh": 0.7, "min_kept": 10}, "'OhemCrossEntropyLoss', 'thresh': 0.7"),
        "DiceLos": ({}, "did you mean 'DiceLoss'"),
    }.items():
        with pytest.raises(lf.LossError, match=re.escape(message[1])):
            lf.build({"type": entry, **message[0]}, dialect="mmseg")
    with pytest.raises(lf.LossError, match="dialect must be None, or one of mmseg"):
        lf.build({"type": "DiceLoss"}, dialect="mmsegmentation")


def test_sets_of_entries() -> None:
    """A list is a set whose terms go by the names that the losses have there; the objects copy and pickle."""
    heads = [
        {"type": "CrossEntropyLoss", "loss_weight": 0.4},
        {"type": "DiceLoss", "loss_name": "loss_overlap"},
        {"type": "lossfold.JaccardLoss"},
    ]
    criterion = lf.build(heads, dialect="mmseg")
    assert criterion.names == ["loss_ce", "loss_overlap", "jaccard_loss"]
    (logits, labels), _ = arguments(heads[0], False)
    out = criterion(logits, labels)
    again = pickle.loads(pickle.dumps(copy.deepcopy(criterion)))
    assert torch.equal(again(logits, labels).total, out.total)
    torch.testing.assert_close(out.terms["loss_ce"], 0.4 * nn.functional.cross_entropy(logits, labels))
