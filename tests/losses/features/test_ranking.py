"""With real features blur is further than a brightness shift of equal MSE; with random ones it is not much."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("feature_ranking", Path(__file__).parents[3] / "tools/feature_ranking.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_blur_and_shift_have_one_mse(tool: ModuleType) -> None:
    image = tool.photograph("coffee", 96)
    blurred, shifted = tool.degraded(image, 2.0)
    errors = [float((x - image).square().mean()) for x in (blurred, shifted)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4) and errors[0] > 1e-3


@pytest.mark.slow
def test_real_features_see_blur_and_random_ones_do_not(tool: ModuleType) -> None:
    torch.manual_seed(0)
    found = tool.rankings({name: tool.photograph(name, 128) for name in tool.PHOTOGRAPHS[:3]})
    print("\n" + tool.table(found))
    real = found.pop("hed")
    assert len(found) == 5 and len(real) == 3
    assert min(real.values()) > 20
    assert max(max(ratios.values()) for ratios in found.values()) < 3
