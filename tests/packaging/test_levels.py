"""Each SIMD level that this processor has serves when LOSSFOLD_SIMD names it; `make test-levels` runs the contract so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import lossfold
from lossfold.engines import native
from tests.packaging.tree import run

SOURCES = str(Path(lossfold.__file__).parents[1])
SAMPLE = Path(__file__).with_name("sample.py")


def test_the_library_is_there() -> None:
    assert native.PROBLEM == "" and native.simd_levels()[0] == "baseline"


@pytest.mark.parametrize("level", native.simd_levels())
def test_a_level_by_its_name(level: str, tmp_path: Path) -> None:
    made = run(sys.executable, SAMPLE, level, where=tmp_path, PYTHONPATH=SOURCES, LOSSFOLD_SIMD=level)
    assert made.returncode == 0, made.stderr
    assert "losses hold" in made.stdout


def test_a_level_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = run(sys.executable, "-c", "import lossfold", where=tmp_path, PYTHONPATH=SOURCES, LOSSFOLD_SIMD="v5")
    assert made.returncode != 0
    last = made.stderr.splitlines()[-1]
    assert last.startswith("ImportError") and "LOSSFOLD_SIMD is 'v5'" in last and last.endswith(" ".join(native.simd_levels()))
