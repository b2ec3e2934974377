"""The build without compiling: what the source distribution holds, what a compiler is asked, what fails and how."""

from __future__ import annotations

import importlib.util
import shlex
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

import lossfold
from tests.packaging.tree import ROOT, build_extension, build_sdist, copy

# Takes part as a compiler: it writes down what it was asked, and makes the file.
RECORDER = """\
if [ "$2" = --version ]; then echo {maker}; exit; fi
echo "$@" >> {log}
while [ "$1" != -o ]; do shift; done
echo made > "$2"
"""


@pytest.fixture
def build() -> ModuleType:
    """setup.py, without a build."""
    found = importlib.util.spec_from_file_location("lossfold_setup", ROOT / "setup.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def recorder(folder: Path, maker: str = "Free Software Foundation") -> tuple[str, Path]:
    """Return a command for CXX, of a launcher and a maker's compiler with a space in its path, and the file it writes to."""
    tool, log = folder / "a compiler.sh", folder / "asked"
    tool.write_text(RECORDER.format(log=shlex.quote(str(log)), maker=maker))
    return shlex.join(["sh", str(tool), "launched"]), log


def test_the_source_distribution_builds_the_engine(tmp_path: Path) -> None:
    tree = copy(tmp_path / "tree")
    (tree / "src/lossfold/_native.so").write_text("of this machine")
    archive = build_sdist(tree)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    held = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    for part in ("csrc", "src/lossfold"):
        wanted = {str(path.relative_to(tree)) for path in (tree / part).rglob("*") if path.is_file() and path.suffix != ".so"}
        assert wanted <= held
    assert {"README.md", "LICENSE", "CHANGELOG.md", "setup.py", "pyproject.toml"} <= held
    assert not [name for name in held if name.endswith(".so")]
    told = (unpacked / "PKG-INFO").read_text()
    assert f"Version: {lossfold.__version__}" in told and "Author: The lossfold developers" in told
    command, log = recorder(tmp_path)
    made = build_extension(unpacked, CXX=command, LOSSFOLD_REQUIRE_NATIVE="1")
    assert made.returncode == 0, made.stderr
    assert (unpacked / "lib/lossfold/_native.so").read_text() == "made\n"
    compiled = [word for line in log.read_text().splitlines() for word in line.split() if word.endswith(".cpp")]
    assert {Path(name).name for name in compiled} == {path.name for path in (ROOT / "csrc").glob("*.cpp")}


def test_sources_that_are_missing_fail(tmp_path: Path) -> None:
    tree = copy(tmp_path / "tree")
    for kind in ("_operators", "_kernels"):
        for path in (tree / "csrc").glob(f"*{kind}.cpp"):
            path.unlink()
        command, _ = recorder(tmp_path)
        made = build_extension(tree, CXX=command)
        assert made.returncode != 0
        assert "there is no csrc/" in made.stderr and "not complete" in made.stderr
        assert not (tree / "lib/lossfold/_native.so").exists()


@pytest.mark.parametrize(("maker", "gcc"), [("Free Software Foundation", True), ("Apple clang", False)])
def test_the_environment_reaches_the_compiler(build: ModuleType, tmp_path: Path, maker: str, gcc: bool) -> None:
    tree, (command, log) = copy(tmp_path / "tree"), recorder(tmp_path, maker)
    made = build_extension(
        tree, CXX=command, CPPFLAGS="-DONE -DTWO=2", CXXFLAGS="-g -O1 -march=of-the-user", LDFLAGS="-Wl,-z,now", MAX_JOBS="1"
    )
    assert made.returncode == 0, made.stderr
    *compiled, linked = (line.split() for line in log.read_text().splitlines())
    units = [Path(words[-1]).stem for words in compiled]
    stages = [next((stage for stage, name in enumerate(build.LONGEST_FIRST) if unit.startswith(name)), 9) for unit in units]
    assert stages == sorted(stages) and set(stages) == {0, 1, 2, 9}
    marches = {"v3": "-march=x86-64-v3", "v4": "-march=x86-64-v4"}
    for unit, words in zip(units, compiled, strict=True):
        assert words[0] == "launched" and {"-DONE", "-DTWO=2", "-g"} <= set(words) and "-Wl,-z,now" not in words
        assert gcc == (set(build.GCC_FLAGS) <= set(words)) and gcc == ("-fno-split-loops" in words)  # an error with clang
        assert words.index("-O3") > words.index("-O1")  # the kernels were measured with it
        assert [word for word in words if word.startswith("-march=")][-1] == marches.get(unit.split("_")[-1], "-march=of-the-user")
    assert linked[0] == "launched" and {"-Wl,-z,now", "-ltorch_cpu"} <= set(linked)
    assert {f"objects/{unit}.o" for unit in units} <= set(linked)


def test_a_compiler_that_is_not_there_is_named(tmp_path: Path) -> None:
    made = build_extension(copy(tmp_path / "tree"), CXX="ccache-of-nowhere g++")
    assert made.returncode != 0 and "CXX" in made.stderr and "ccache-of-nowhere" in made.stderr


def test_a_compile_error_leaves_no_library_and_is_told(tmp_path: Path) -> None:
    tree, tool = copy(tmp_path / "tree"), tmp_path / "broken.sh"
    tool.write_text("echo a strange template >&2; exit 1\n")
    (tree / "lib/lossfold").mkdir(parents=True)
    (tree / "lib/lossfold/_native.so").write_text("of earlier sources")
    made = build_extension(tree, CXX=f"sh {tool}")
    assert made.returncode == 0 and "eager serves" in made.stderr and "a strange template" in made.stderr
    assert not (tree / "lib/lossfold/_native.so").exists()
    made = build_extension(tree, CXX=f"sh {tool}", LOSSFOLD_REQUIRE_NATIVE="1")
    assert made.returncode != 0 and "a strange template" in made.stderr


def test_jobs_are_bounded_by_cores_memory_and_the_user(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAX_JOBS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert build.free_memory() > 0
    for free, jobs in ((1 << 40, 64), (build.JOB_MEMORY * 5 + 1, 5), (1 << 20, 1)):
        monkeypatch.setattr(build, "free_memory", lambda free=free: free)
        assert build.jobs_at_once() == jobs
    monkeypatch.setenv("MAX_JOBS", "7")
    assert build.jobs_at_once() == 7
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv("MAX_JOBS", wrong)
        with pytest.raises(build.BuildError, match="MAX_JOBS"):
            build.jobs_at_once()


def test_a_torch_that_is_too_old_is_named(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.why_not() is None
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.9.1")
    assert "torch 2.10 or newer" in build.why_not() and "2.9.1" in build.why_not()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "install torch first" in build.why_not()


def test_the_oldest_torch_is_the_same_everywhere(build: ModuleType) -> None:
    oldest = ".".join(map(str, build.OLDEST_TORCH))
    assert f'"torch>={oldest}"' in (ROOT / "pyproject.toml").read_text()
    assert lossfold.engines.native.OLDEST_TORCH == build.OLDEST_TORCH
