"""What a pass adds to a process's memory, measured as the benchmark does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lossfold.bench import memory
from tests.cases import ENGINES

PROGRAM = """
import torch
import lossfold as lf
from lossfold.bench.case import Sample
from lossfold.bench.memory import peak_growth

torch.set_num_threads(1)
pred, target, region = (torch.rand(1, 1, 1024, 1024) for _ in range(3))
criterion = lf.MattingLoss(engine="cpp")
print(peak_growth(lambda *given: criterion(*given).total, Sample(pred.requires_grad_(), (target, region))))
"""


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@pytest.mark.skipif(not memory.measurable(), reason="this system tells no resettable peak")
def test_the_matting_criterion_takes_8_bytes_a_pixel() -> None:
    """Four are the gradient's; signs of the coefficients and smaller images of the pyramid share the rest."""
    environment = os.environ | memory.PROMPT_RELEASE
    told = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True).stdout
    assert 4 <= int(told) / 2**20 <= 8
