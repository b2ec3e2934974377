"""Options and channels under which a loss would be 0 in silence are refused, whatever the labels are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lossfold as lf

OF_LABELS = ["CrossEntropyLoss", "FocalLoss", "DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss", "LovaszLoss"]
OF_LABELS += ["OhemCrossEntropyLoss", "CEDiceLoss"]
OVERLAPS = ["DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss", "CEDiceLoss"]


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("space", [(), (7,), (4, 5), (2, 3, 4)], ids=str)
def test_one_channel(name: str, space: tuple[int, ...]) -> None:
    labels = torch.zeros(2, *space, dtype=torch.long)
    for target in (labels, labels + 1, labels - 100):
        with pytest.raises(lf.LossError, match=r"link='sigmoid'"):
            getattr(lf, name)()(torch.randn(2, 1, *space), target)
    probabilities, masks = torch.rand(2, 1, *space), torch.randint(0, 2, (2, *space))
    if name in ("CrossEntropyLoss", "OhemCrossEntropyLoss", "CEDiceLoss"):
        with pytest.raises(lf.LossError, match="BinaryCrossEntropyLoss"):
            getattr(lf, name)(link="identity")(probabilities, labels)
    else:  # one mask, not the probability of class 0
        loss = getattr(lf, name)(link="identity")
        assert loss(probabilities, masks) == loss(probabilities, masks[:, None]) == loss(probabilities, masks.bool())


@pytest.mark.parametrize("name", OVERLAPS)
def test_no_background_of_one_channel(name: str) -> None:
    if name != "CEDiceLoss":
        with pytest.raises(lf.LossError, match="include_background"):
            getattr(lf, name)(link="sigmoid", include_background=False)(torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4))
    with pytest.raises(lf.LossError, match="class_weight must be such that a class counts"):
        getattr(lf, name)(include_background=False, class_weight=[1, 0, 0])
    loss = getattr(lf, name)(include_background=False, ignore_index=1)
    with pytest.raises(lf.LossError, match="ignore_index=1 leaves out"):
        loss(torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 4, 4)))
    value = loss(torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)))
    assert getattr(value, "total", value) > 0


@pytest.mark.parametrize("name", [*OF_LABELS, "BinaryCrossEntropyLoss"])
def test_all_class_weights_0(name: str) -> None:
    for zeros in ([0, 0, 0], torch.zeros(3)):
        with pytest.raises(lf.LossError, match="class_weight"):
            getattr(lf, name)(class_weight=zeros)
    loss = getattr(lf, name)(class_weight=[0, 1, 0])
    with pytest.raises(lf.LossError, match="class_weight"):
        loss.class_weight = [0, 0, 0]
    assert loss.class_weight == (0, 1, 0)


CONSTANT: list[tuple[str, dict[str, Any]]] = [
    ("CrossEntropyLoss", {"class_weight": [1, 0], "ignore_index": 0}),
    ("LovaszLoss", {"class_weight": [1, 0], "ignore_index": 0}),
    ("LovaszLoss", {"class_weight": [1, 0], "classes": [1]}),
    ("FocalLoss", {"alpha": 0}),
    ("FocalLoss", {"alpha": [0, 0]}),
    ("OhemCrossEntropyLoss", {"thresh": 0, "min_kept": 0}),
    ("TverskyLoss", {"alpha": 0, "beta": 0}),
]


@pytest.mark.parametrize(("name", "options"), CONSTANT, ids=str)
def test_options_that_make_a_loss_constant(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(lf.LossError, match=f"{name}: ({'|'.join(options)}) must be"):
        getattr(lf, name)(**options)(torch.randn(2, 2, 4), torch.randint(0, 2, (2, 4)))


def test_what_still_counts() -> None:
    x, y = torch.randn(2, 2, 4), torch.tensor([[0, 1, 1, 0]] * 2)
    for loss in (
        lf.FocalLoss(link="sigmoid", alpha=0.0),
        lf.BinaryCrossEntropyLoss(pos_weight=[0.0, 0.0]),
        lf.DiceLoss(include_background=False, class_weight=[0, 1]),
    ):
        assert loss(x, torch.stack([y, 1 - y], 1) if loss.link == "sigmoid" else y) > 0
    assert lf.DiceLoss(ignore_index=1, include_background=False, absent="count")(x, y) > 0
