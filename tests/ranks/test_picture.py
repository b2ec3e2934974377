"""A picture larger than memory, in tiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks.picture import run

ROOT = Path(__file__).parents[2]


def test_tiles_are_the_picture() -> None:
    """Value and gradient, on a picture that memory holds."""
    (values, slope), (truth, expected) = run(256, "tiles"), run(256, "whole")
    for name, value in truth.items():
        assert values[name] == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(torch.tensor(slope), torch.tensor(expected), rtol=1e-5, atol=1e-7)


def peak(side: int, way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.ranks.picture", str(side), way]
    allocator = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}  # what is freed goes back, and is not counted
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **allocator}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_picture_of_16384_pixels_a_side() -> None:
    """At most the memory of a step with one of its 64 tiles, and 200 MB."""
    tile, tiles = peak(16384, "tile"), peak(16384, "tiles")
    print(f"one tile {tile['peak']:.0f} MB, all of them {tiles['peak']:.0f} MB", tiles["terms"])
    assert tiles["peak"] < tile["peak"] + 200
    assert torch.tensor(tiles["slope"]).isfinite().all() and all(0 < value < 5 for value in tiles["terms"].values())
