"""What passes add to a process's memory: all in one fresh process, as the benchmark's workers are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from lossfold.bench import memory, results
from lossfold.bench.case import Sample
from tests.contract.case import ENGINES

pytestmark = pytest.mark.skipif(not memory.measurable(), reason="this system tells no resettable peak")

PROGRAM = """
import json
import torch
import lossfold as lf
from lossfold.bench.case import Sample
from lossfold.bench.memory import peak_growth
from lossfold.bench.worker import memory_task

torch.set_num_threads(1)
setting = {"size": [1, 8, 512, 512], "dtype": "float32", "labels": "int64", "logits": "random", "seed": 0}
found = {}
for case in ("ce", "ce-x4"):
    (found[case],) = memory_task({"case": case, "provider": "eager", "setting": setting})
if "cpp" in lf.engines.available():
    pred, target, region = (torch.rand(1, 1, 1024, 1024) for _ in range(3))
    criterion = lf.MattingLoss(engine="cpp")
    found["matting"] = peak_growth(lambda *given: criterion(*given).total, Sample(pred.requires_grad_(), (target, region)))
    pred, target = (torch.rand(1, 3, 768, 768) for _ in range(2))
    found["ssim"] = peak_growth(lf.SSIMLoss(engine="cpp"), Sample(pred.requires_grad_(), (target,)))
    logits, labels, criterion = torch.randn(1, 14, 24, 24, 24), torch.randint(14, (1, 96, 96, 96)), lf.CEDiceLoss(engine="cpp")
    found["volume"] = peak_growth(lambda *given: criterion(*given).total, Sample(logits.requires_grad_(), (labels,)))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def peaks() -> dict[str, Any]:
    environment = os.environ | memory.PROMPT_RELEASE
    told = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(told)
    return found


def test_memory_covers_the_gradient(peaks: dict[str, Any]) -> None:
    row = peaks["ce"]
    assert row["status"] == "ok" and row["bytes"] > 8 * 2**20
    assert 1.0 < row["units"] < 6.0
    assert row["bytes_per_pixel"] == pytest.approx(row["bytes"] / 2**18)


def test_memory_at_label_resolution_is_in_units_of_the_small_gradient(peaks: dict[str, Any]) -> None:
    """Interpolating and scoring builds several tensors of the labels' size: many times the gradient."""
    row = peaks["ce-x4"]
    gradient, scores = 4 * 8 * 128**2, 4 * 8 * 512**2
    assert 2 * scores < row["bytes"] < 6 * scores
    assert row["units"] == pytest.approx(row["bytes"] / gradient)
    assert results.beyond_gradient(row) == pytest.approx((row["bytes"] - gradient) / 512**2)


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_the_matting_criterion_takes_8_bytes_a_pixel(peaks: dict[str, Any]) -> None:
    """Four are the gradient's; signs of the coefficients and smaller images of the pyramid share the rest."""
    assert 4 <= peaks["matting"] / 2**20 <= 8


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_ssim_takes_5_bytes_a_pixel_and_channel(peaks: dict[str, Any]) -> None:
    """Four are the gradient's; a thread's rows of filtered maps are the rest."""
    assert 4 <= peaks["ssim"] / (3 * 768 * 768) <= 5


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_volumes_at_label_resolution_take_the_small_gradient_and_little_more(peaks: dict[str, Any]) -> None:
    """The logits at the labels' size would be 64 times as many: 47 MiB."""
    gradient = 4 * 14 * 24**3
    assert 0.5 * gradient < peaks["volume"] < 2 * gradient  # to some pages


class KeepsBytes(torch.autograd.Function):
    """Holds 4 bytes for each pixel of the second argument until the gradient of the first is written."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(leaf, torch.ones(pixels.shape))
        return leaf[0].clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.full(ctx.saved_tensors[0].shape, grad.item()), None


def test_peak_growth_is_what_was_allocated() -> None:
    """To a fraction of a byte a pixel, with a gradient that is smaller than the rest."""
    sample = Sample(torch.ones(1 << 19, requires_grad=True), (torch.zeros(1 << 21, dtype=torch.uint8),))
    growth = memory.peak_growth(KeepsBytes.apply, sample)
    assert growth / (1 << 21) == pytest.approx(4 + 1, abs=0.25)
