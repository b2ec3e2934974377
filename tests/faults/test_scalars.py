"""Scalars of NumPy and 0-d tensors are options like Python's numbers, and are kept as these."""

from __future__ import annotations

import enum
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy
import pytest
import torch

import lossfold as lf
from lossfold import metrics
from lossfold.losses.features.frozen import FrozenLoss
from lossfold.options import Number, Truth, Word
from lossfold.registry import LOSSES
from tests import internals

SCALARS: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "bool": (numpy.bool_, torch.tensor),
    "int": (numpy.int64, numpy.uint16, torch.tensor, numpy.asarray),
    "float": (numpy.float32, numpy.float64, Fraction, torch.tensor, numpy.asarray),
    "str": (numpy.str_, enum.Enum("Words", {"mean": "mean", "sum": "sum", "none": "none"}, type=str)),
}


@pytest.mark.parametrize(
    "name", [name for name, cls in LOSSES.items() if getattr(cls, "samples", ()) and not issubclass(cls, (lf.LossSet, FrozenLoss))]
)
def test_every_option_of_every_loss(name: str) -> None:
    cls = LOSSES[name]
    base = internals.of_two_classes(cls.samples[0])
    tried = 0
    for option, kind in cls.kinds.items():
        default = base.get(option, getattr(cls, option, None))
        if not isinstance(kind, (Number, Truth, Word)) or default is None or option in ("engine", "pretrained"):
            continue
        for scalar in SCALARS[type(default).__name__]:
            try:
                given = scalar(default)
            except (ValueError, OverflowError):  # an enumeration without the word, an unsigned -100
                continue
            if isinstance(default, float) and float(given) != default:
                continue  # float32 has no 0.1
            built = cls(**{**base, option: given})
            assert type(getattr(built, option)) is type(default)
            assert getattr(built, option) == default
            assert repr(built) == repr(cls(**{**base, option: default}))
            tried += 1
    assert tried


@pytest.mark.parametrize("scalar", SCALARS["float"])
def test_weights_schedules_and_numbers_elsewhere(scalar: Callable[[Any], Any]) -> None:
    assert repr(lf.DiceLoss() * scalar(0.5)) == repr(scalar(0.5) * lf.DiceLoss()) == "DiceLoss(loss_weight=0.5)"
    assert type(lf.LossSet(a=lf.L1Loss(), loss_weight=scalar(0.5)).loss_weight) is float
    assert repr(lf.LinearSchedule(start=scalar(0.0), end=scalar(1.0), steps=4)) == repr(
        lf.LinearSchedule(start=0.0, end=1.0, steps=4)
    )
    assert repr(lf.StepSchedule({0: scalar(0.5)})) == "StepSchedule(values={0: 0.5})"
    assert lf.DiceLoss(class_weight=[scalar(0.5), scalar(2.0)]).class_weight == (0.5, 2.0)
    assert lf.Term(lf.L1Loss(), schedule=lambda step: scalar(0.5)).factor == 0.5
    assert lf.MattingLoss(losses={"known_l1_loss": scalar(0.5)}).members[0].loss_weight == 0.5
    x, y = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(metrics.psnr(x, y, scalar(2.0)), metrics.psnr(x, y, 2.0))
    assert lf.functional.trimap_from_alpha(x[0], erode=scalar(1.0)).shape == x[0].shape


@pytest.mark.parametrize("scalar", SCALARS["int"])
def test_integers_elsewhere(scalar: Callable[[Any], Any]) -> None:
    term = lf.Term(lf.L1Loss(), every=scalar(4))
    assert type(term.every) is int
    lf.LossSet(a=term).advance(scalar(2))
    assert term.step == 2
    assert lf.LovaszLoss(classes=[scalar(0), scalar(2)]).classes == (0, 2)
    maps = torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 0, 1, 2]])
    assert metrics.iou(*maps, C=scalar(3), ignore=scalar(2)).isnan().tolist() == [False, False, True]
    assert repr(metrics.IoU(C=scalar(3), ignore=scalar(2))) == repr(metrics.IoU(C=3, ignore=2))
    assert lf.functional.sample_uncertain_points(torch.randn(1, 1, 8, 8), scalar(5)).shape == (1, 5, 2)


def test_what_is_no_number_is_still_refused() -> None:
    for wrong in (numpy.ones(2), torch.ones(2), "0.5", numpy.float64("nan"), torch.tensor(-1.0), 1j, numpy.complex64(1)):
        with pytest.raises(lf.LossError, match="smooth"):
            lf.DiceLoss(smooth=wrong)
    with pytest.raises(lf.LossError, match="reduction"):
        lf.DiceLoss(reduction=numpy.str_("average"))
    assert lf.GANLoss("hinge")(torch.zeros(2), numpy.bool_(True), is_disc=numpy.bool_(True)) == 1
