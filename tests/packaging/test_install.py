"""What users install: the source distribution and the wheel, in fresh environments, on the oldest torch and on this one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.packaging.tree import ROOT, build_sdist, copy, run

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).with_name("sample.py")
UV = Path(sys.executable).with_name("uv")
HERE = torch.__version__.split("+")[0]


def done(*command: str | Path, where: Path, **settings: str) -> str:
    made = run(*command, where=where, **settings)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout + made.stderr


def environment(folder: Path, version: str) -> Path:
    """Make an environment with this torch; uv links what it has fetched before."""
    done(UV, "venv", "--python", sys.executable, folder, where=folder.parent)
    python = folder / "bin" / "python"
    done(UV, "pip", "install", "--python", python, f"torch=={version}", "setuptools>=77", where=folder.parent)
    return python


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdist(copy(tmp_path_factory.mktemp("sdist") / "tree"))


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel that `make wheel` makes."""
    rough, folder = sdist.parent / "rough", sdist.parent / "wheel"
    done(UV, "build", "--wheel", "--python", sys.executable, "--no-build-isolation", "--out-dir", rough, sdist, where=sdist.parent)
    (built,) = rough.glob("*.whl")
    tools = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    repair = (sys.executable, "-m", "auditwheel", "repair", "--exclude", "libtorch*", "--exclude", "libc10*", "--wheel-dir", folder)
    done(*repair, built, where=sdist.parent, PATH=tools)
    (repaired,) = folder.glob("*.whl")
    return repaired


def test_the_make_target_repairs_as_this_does() -> None:
    assert "auditwheel repair --exclude 'libtorch*' --exclude 'libc10*'" in (ROOT / "Makefile").read_text()


def test_the_source_distribution_installs_with_the_engine(sdist: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "environment", HERE)
    done(UV, "pip", "install", "--python", python, "--no-build-isolation", "--no-cache", sdist, where=tmp_path)
    told = done(python, "-W", "error", "-W", "ignore:Failed to initialize NumPy", SAMPLE, "", where=tmp_path)
    assert "losses hold" in told and str(tmp_path / "environment") in told


@pytest.mark.parametrize("version", ["2.10.0", HERE])
def test_the_wheel_runs_on_every_torch(wheel: Path, version: str, tmp_path: Path) -> None:
    assert wheel.name.startswith("lossfold-") and "-py3-none-manylinux_2_" in wheel.name
    python = environment(tmp_path / "environment", version)
    done(UV, "pip", "install", "--python", python, wheel, where=tmp_path)
    told = done(python, "-W", "ignore", SAMPLE, "", where=tmp_path)
    assert "losses hold" in told and f"torch {version}" in told and str(tmp_path / "environment") in told
    told = done(python.with_name("lossfold"), "info", where=tmp_path)
    assert "kernels" in told and "not compiled" not in told
