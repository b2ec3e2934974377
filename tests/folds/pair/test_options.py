"""Options of losses of a pair that are changed later, and the terms that criteria have by default."""

from __future__ import annotations

import pytest

import lossfold as lf
from tests.contract.case import ENGINES, close
from tests.folds.pair.cases import PairCase
from tests.folds.pair.oracles import DEFAULTS


def test_the_default_terms_by_their_published_names() -> None:
    for criterion in (lf.MattingLoss(), lf.MattingLoss(losses=DEFAULTS)):
        assert set(criterion.names) == set(DEFAULTS)
    assert set(lf.MixedMattingLoss().names) == {*DEFAULTS, "known_smooth_l1_loss"}


@pytest.mark.parametrize("engine", ENGINES)
def test_options_can_be_changed(engine: str) -> None:
    """Of a set they reach its terms; a wrong one leaves it as it was."""
    data = PairCase("MattingLoss", {}).make((16, 12))
    criterion = lf.MattingLoss(engine=engine)
    criterion.losses = ["unknown_l1_loss"]
    criterion.reference_area = 1920
    close(criterion(*data.call).total, 10 * lf.UnknownL1Loss()(*data.call))
    with pytest.raises(lf.LossError, match="unknown_l1_loss"):
        criterion.losses = ["unknown_l2_loss"]
    close(criterion(*data.call).total, 10 * lf.UnknownL1Loss()(*data.call))
    loss = lf.HuberLoss(engine=engine)
    loss.delta = 0.1
    close(loss(data.pred, data.target), lf.HuberLoss(delta=0.1)(data.pred, data.target))
    with pytest.raises(lf.LossError, match="delta"):
        loss.delta = 0
    assert loss.delta == 0.1
