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
pred, target = (torch.rand(1, 3, 768, 768) for _ in range(2))
print(peak_growth(lf.SSIMLoss(engine="cpp"), Sample(pred.requires_grad_(), (target,))))
"""


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
@pytest.mark.skipif(not memory.measurable(), reason="this system tells no resettable peak")
def test_ssim_takes_5_bytes_a_pixel_and_channel() -> None:
    """Four are the gradient's; a thread's rows of filtered maps are the rest."""
    environment = os.environ | memory.PROMPT_RELEASE
    told = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True).stdout
    assert 4 <= int(told) / (3 * 768 * 768) <= 5
