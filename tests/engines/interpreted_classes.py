"""Every loss of scores in Triton's interpreter with 1 to 300 classes, what does not count holding NaN: run by `test_triton.py`."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from lossfold.engines.triton import SERVES_CPUS
from tests.contract.case import Case, evaluate
from tests.contract.cases import A_LOSS
from tests.contract.truth import no_worse

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SERVES_CPUS, reason="the triton engine does not serve CPUs in this process"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of what kernels compute and then leave out
]
CLASSES = (1, 2, 3, 19, 21, 150, 300)
SCORES = [case for case in A_LOSS if case.fold in ("label", "dense") and "triton" in case.engines and case.any_channels]


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.fold}-{case.id}") for case in SCORES])
def test_every_loss_with_any_number_of_classes(case: Case, classes: int) -> None:
    data = case.make((2, 3), channels=classes, dtype=torch.float32, way=case.rich)
    assert data.weight is not None
    weight, pred = data.weight.clone(), data.pred.clone()
    weight[..., 0], pred[..., 0] = 0, torch.nan
    clean = data.with_weight(weight)
    try:
        found, slope = evaluate(case.build(engine="triton"), clean.with_pred(pred))
    except lf.LossError as error:
        assert classes == 1 and "for one channel" in str(error), error
        return
    truth = evaluate(case.build(engine="eager"), clean.double())
    defined = evaluate(case.build(engine="eager"), clean)
    no_worse("value", found, truth[0], defined[0], defined[0], grain=case.grain, unit=1.0)
    no_worse("gradient", slope, truth[1], defined[1], defined[1], grain=case.grain)
