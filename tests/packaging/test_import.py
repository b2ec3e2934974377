"""What the first import says: that the C++ engine is not there, once, or that torch is too old."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.packaging.tree import copy, run

USE = """\
import lossfold, lossfold.metrics, torch
print(lossfold.engines.available(), lossfold.CrossEntropyLoss()(torch.zeros(1, 2, 1), torch.zeros(1, 1, dtype=torch.long)))
"""


@pytest.fixture(scope="module")
def without_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, on which nothing was compiled."""
    return copy(tmp_path_factory.mktemp("import") / "tree") / "src"


def test_an_engine_that_was_not_built_is_told_once_with_what_to_do(without_library: Path) -> None:
    made = run(sys.executable, "-c", USE, where=without_library, PYTHONPATH=str(without_library))
    assert made.returncode == 0, made.stderr
    assert "('eager',) tensor(0.6931)" in made.stdout
    assert made.stderr.count("the C++ engine is not in this installation: it was not compiled") == 1
    assert made.stderr.count("UserWarning") == 1 and "LOSSFOLD_REQUIRE_NATIVE=1 pip install" in made.stderr
    meant = {"PYTHONPATH": str(without_library), "LOSSFOLD_ENGINE": "eager"}
    silent = run(sys.executable, "-W", "error", "-c", USE, where=without_library, **meant)
    assert silent.returncode == 0 and silent.stderr == "", silent.stderr


def test_a_torch_that_is_too_old_is_named(without_library: Path) -> None:
    old = "import torch; torch.__version__ = '2.9.1+cpu'; import lossfold"
    made = run(sys.executable, "-c", old, where=without_library, PYTHONPATH=str(without_library))
    last = made.stderr.splitlines()[-1]
    assert made.returncode != 0 and last.startswith("ImportError: lossfold needs torch 2.10 or newer, and 2.9.1+cpu is here")
