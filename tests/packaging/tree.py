"""A copy of the sources to build from, as a user has them, and what is run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("csrc", "src", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
SETTINGS = ("CXX", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "MAX_JOBS", "PYTHONPATH")


def copy(target: Path) -> Path:
    """Copy what a distribution is made of, without what was built."""
    unwanted = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=unwanted)
        else:
            target.mkdir(exist_ok=True)
            shutil.copy(source, target / part)
    return target


def run(*command: str | Path, where: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these settings and none of this process's."""
    environment = {
        name: value for name, value in os.environ.items() if name not in SETTINGS and not name.startswith("LOSSFOLD_")
    } | settings
    return subprocess.run(list(map(str, command)), cwd=where, env=environment, capture_output=True, text=True)


def build_extension(tree: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py's build of the C++ engine alone."""
    return run(sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "objects", where=tree, **settings)


def build_sdist(tree: Path) -> Path:
    """Make the source distribution as pip and build do."""
    made = run(sys.executable, "-c", "from setuptools import build_meta; print(build_meta.build_sdist('dist'))", where=tree)
    assert made.returncode == 0, made.stderr
    return tree / "dist" / made.stdout.splitlines()[-1]
