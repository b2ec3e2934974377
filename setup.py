"""Build the C++ engine when torch and a compiler are here; install without it, on the eager engine, when they are not.

LOSSFOLD_REQUIRE_NATIVE=1 turns a missing compiler, a missing torch or a compile error into a failed installation.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
REQUIRED = os.environ.get("LOSSFOLD_REQUIRE_NATIVE", "0") not in ("", "0")
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
TORCH = importlib.util.find_spec("torch")
SUPPORTED = sys.platform in ("linux", "darwin")

# Not -ffast-math: with gcc before 13 it sets flush-to-zero for the whole process, and NaN must stay visible.
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
X86_LEVELS = {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}


def why_not() -> str | None:
    """What keeps the C++ engine from being built here, or None."""
    if not SUPPORTED:
        return f"the C++ engine is not built on {sys.platform}"
    if TORCH is None or TORCH.origin is None:
        return "torch is not importable here (install torch first, then use --no-build-isolation)"
    if COMPILER is None:
        return "no C++ compiler was found (set CXX)"
    return None


class BuildNative(build_ext):
    """Compile csrc with plain compiler calls: the kernels once per SIMD level, no Python headers."""

    def get_ext_filename(self, fullname: str) -> str:
        """Name the library without an interpreter tag: it does not use Python's ABI."""
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link, or say why the eager engine will have to serve."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._compile(target)
        except subprocess.CalledProcessError as error:
            if REQUIRED:
                raise RuntimeError(f"lossfold: compiling the C++ engine failed:\n{error.stderr}") from error
            print(f"lossfold: the C++ engine was not built, eager serves:\n{error.stderr}", file=sys.stderr)

    def _compile(self, target: Path) -> None:
        assert TORCH is not None and TORCH.origin is not None and COMPILER is not None
        torch = Path(TORCH.origin).parent
        csrc, objects = ROOT / "csrc", Path(self.build_temp)
        objects.mkdir(parents=True, exist_ok=True)
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        levels = {"baseline": [], **(X86_LEVELS if x86 else {})}
        common = [COMPILER, *FLAGS, *(["-DLOSSFOLD_X86_LEVELS"] if x86 else [])]
        jobs = {
            objects / f"{kernel.stem}_{level}.o": [*common, *extra, f"-DLOSSFOLD_LEVEL={kernel.stem}_{level}", "-c", str(kernel)]
            for kernel in sorted(csrc.glob("*_kernels.cpp"))
            for level, extra in levels.items()
        }
        include = ["-isystem", str(torch / "include"), "-isystem", str(torch / "include/torch/csrc/api/include")]
        stable = ["-DTORCH_TARGET_VERSION=0x020a000000000000"]
        for unit in sorted(csrc.glob("*_operators.cpp")):
            jobs[objects / f"{unit.stem}.o"] = [*common, *stable, *include, "-c", str(unit)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job: self._run([*job[1], "-o", str(job[0])]), jobs.items()))
        shared = ["-dynamiclib", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared", "-s"]
        libraries = [f"-L{torch / 'lib'}", "-ltorch_cpu"]
        self._run([COMPILER, *shared, *map(str, jobs), *libraries, "-o", str(target)])

    @staticmethod
    def _run(command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True)


class PlatformWheel(bdist_wheel):
    """One wheel a platform for every Python: py3-none-<platform>, or py3-none-any without the C++ engine."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the wheel's tag."""
        _, _, plat = super().get_tag()
        return "py3", "none", plat


reason = why_not()
if reason and REQUIRED:
    raise SystemExit(f"lossfold: LOSSFOLD_REQUIRE_NATIVE is set, but {reason}")
if reason:
    print(f"lossfold: the C++ engine is not built, eager serves: {reason}", file=sys.stderr)
setup(
    ext_modules=[] if reason else [Extension("lossfold._native", sources=[])],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": PlatformWheel},
)
