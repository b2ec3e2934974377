"""The scripts in examples/ run."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_point_prompted_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "masks.png"
    monkeypatch.setattr(sys, "argv", ["point_prompted_masks.py", "--steps", "3", "--masks", "4", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "point_prompted_masks.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert "before" in told and "after" in told and "nan" not in told
    assert Image.open(out).size == (12 * 80, 3 * 80)


def test_query_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    out = tmp_path / "queries.png"
    monkeypatch.setattr(sys, "argv", ["query_head.py", "--steps", "2", "--crops", "2", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / "query_head.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert "before" in told and "after" in told and "nan" not in told
    assert Image.open(out).size == (10 * 96, 3 * 96)
