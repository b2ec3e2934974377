"""Build the C++ engine when torch and a compiler are here; install without it, on the eager engine, when they are not.

CXX (with a launcher, if you like: ``CXX="ccache g++"``), CPPFLAGS, CXXFLAGS and LDFLAGS are honoured, and MAX_JOBS, which bounds
how many compilers run at a time. LOSSFOLD_REQUIRE_NATIVE=1 turns a missing compiler, a missing torch or a compile error into a
failed installation; missing sources always are one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

CSRC = Path(__file__).resolve().parent / "csrc"
OLDEST_TORCH = (2, 10)
"""The library takes nothing from a newer one, and so runs on all from there on."""
JOB_MEMORY = 600 << 20
"""Bytes that the largest unit takes to compile."""
LONGEST_FIRST = ("dense_kernels", "label_kernels", "pair_kernels")
"""Units in the order in which they start, so that no core is left with a long one at the end."""

# Not -ffast-math: with gcc before 13 it sets flush-to-zero for the whole process, and NaN must stay visible.
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
GCC_FLAGS = ["-fno-unswitch-loops", "-fno-split-loops", "-fno-split-paths", "-fno-ipa-cp-clone"]
"""Copies of loops and functions that -O3 makes in gcc: a fifth of its time, and no kernel is faster for them (seen with AVX2)."""
X86_LEVELS = {"v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"], "v3": ["-march=x86-64-v3"], "baseline": ["-O2"]}
"""What each level adds. Processors without AVX2 are rare: their kernels are compiled in two thirds of the time."""


class BuildError(Exception):
    """What was asked for can't be done, whether or not the C++ engine is required."""


def required() -> bool:
    """Whether an installation without the C++ engine is a failure."""
    return os.environ.get("LOSSFOLD_REQUIRE_NATIVE", "0") not in ("", "0")


def flags(variable: str) -> list[str]:
    """Return the words of an environment variable as a shell reads them."""
    return shlex.split(os.environ.get(variable, ""))


def compiler() -> list[str] | None:
    """Return the command that compiles and links; None if there is none."""
    chosen = flags("CXX")
    if chosen and shutil.which(chosen[0]) is None:
        raise BuildError(f"CXX is {os.environ['CXX']!r}, and there is no command {chosen[0]!r}")
    found = shutil.which("g++") or shutil.which("clang++")
    return chosen or ([found] if found else None)


def torch_folder() -> Path | None:
    """Return where torch is installed, without importing it."""
    found = importlib.util.find_spec("torch")
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def why_not() -> str | None:
    """What keeps the C++ engine from being built here, or None."""
    if sys.platform not in ("linux", "darwin"):
        return f"the C++ engine is not built on {sys.platform}"
    if torch_folder() is None:
        return "torch is not importable here (install torch first, then use --no-build-isolation)"
    version = importlib.metadata.version("torch")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH:
        return f"torch {'.'.join(map(str, OLDEST_TORCH))} or newer is needed, and {version} is here"
    if compiler() is None:
        return "no C++ compiler was found (set CXX)"
    return None


def sources(pattern: str) -> list[Path]:
    """Return the files of csrc that a pattern names."""
    found = sorted(CSRC.glob(pattern))
    if not found:
        raise BuildError(f"there is no {CSRC.name}/{pattern}: these sources are not complete")
    return found


def free_memory() -> int:
    """Return the bytes that compilers may take, as far as the system says."""
    limits = []
    for path, word in (("/proc/meminfo", "MemAvailable:"), ("/sys/fs/cgroup/memory.max", "")):
        try:
            text = Path(path).read_text()
        except OSError:
            continue
        if word:
            limits += [int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(word)]
        elif text.strip().isdigit():
            limits.append(int(text))
    return min(limits, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def jobs_at_once() -> int:
    """Return how many units to compile at a time: MAX_JOBS, else one a core while there is memory."""
    chosen = os.environ.get("MAX_JOBS", "")
    if chosen:
        if not chosen.isdecimal() or int(chosen) == 0:
            raise BuildError(f"MAX_JOBS is {chosen!r}, and must be a number from 1 on")
        return int(chosen)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, free_memory() // JOB_MEMORY))


def is_gcc(command: list[str]) -> bool:
    """Whether a compiler is GNU's, and takes its flags."""
    return "Free Software Foundation" in subprocess.run([*command, "--version"], capture_output=True, text=True).stdout


def units(torch: Path, gcc: bool) -> dict[str, list[str]]:
    """Return what compiles each object file, less the compiler and the file: the kernels once per SIMD level, longest first."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    levels: dict[str, list[str]] = X86_LEVELS if x86 else {"baseline": []}
    # What the environment says comes first: a -march or -O there must not undo the levels and what was measured.
    ours = [*FLAGS, *(GCC_FLAGS if gcc else []), *(["-DLOSSFOLD_X86_LEVELS"] if x86 else [])]
    common = [*flags("CPPFLAGS"), *flags("CXXFLAGS"), *ours]
    made = {
        f"{kernel.stem}_{level}.o": [*common, *extra, f"-DLOSSFOLD_LEVEL={kernel.stem}_{level}", "-c", str(kernel)]
        for kernel in sources("*_kernels.cpp")
        for level, extra in levels.items()
    }
    include = ["-isystem", str(torch / "include"), "-isystem", str(torch / "include/torch/csrc/api/include")]
    target = "-DTORCH_TARGET_VERSION=0x{:02x}{:02x}000000000000".format(*OLDEST_TORCH)
    made |= {f"{unit.stem}.o": [*common, target, *include, "-c", str(unit)] for unit in sources("*_operators.cpp")}
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    return dict(sorted(made.items(), key=lambda unit: min((rank[n] for n in rank if unit[0].startswith(n)), default=len(rank))))


class BuildNative(build_ext):
    """Compile csrc with plain compiler calls, no Python headers."""

    def get_ext_filename(self, fullname: str) -> str:
        """Name the library without an interpreter tag: it does not use Python's ABI."""
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link, or say why the eager engine will have to serve."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # one of other sources must not stay where this build fails
        try:
            self._compile(target)
        except subprocess.CalledProcessError as error:
            if required():
                raise RuntimeError(f"lossfold: compiling the C++ engine failed:\n{error.stderr}") from error
            print(f"lossfold: the C++ engine was not built, eager serves:\n{error.stderr}", file=sys.stderr)

    def _compile(self, target: Path) -> None:
        torch, command = torch_folder(), compiler()
        assert torch is not None and command is not None  # why_not() has seen them
        objects = Path(self.build_temp)
        objects.mkdir(parents=True, exist_ok=True)
        jobs = units(torch, is_gcc(command))
        with ThreadPoolExecutor(jobs_at_once()) as pool:
            list(pool.map(lambda unit: self._run([*command, *unit[1], "-o", str(objects / unit[0])]), jobs.items()))
        shared = ["-dynamiclib", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared", "-s"]
        libraries = [f"-L{torch / 'lib'}", "-ltorch_cpu"]
        self._run([*command, *shared, *flags("LDFLAGS"), *(str(objects / name) for name in jobs), *libraries, "-o", str(target)])

    @staticmethod
    def _run(command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True)


class PlatformWheel(bdist_wheel):
    """One wheel a platform for every Python: py3-none-<platform>, or py3-none-any without the C++ engine."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the wheel's tag."""
        _, _, plat = super().get_tag()
        return "py3", "none", plat


def main() -> None:
    """Run setuptools, with the C++ engine where it can be built."""
    try:
        reason = why_not()
        if reason and required():
            raise BuildError(f"LOSSFOLD_REQUIRE_NATIVE is set, but {reason}")
        if reason:
            print(f"lossfold: the C++ engine is not built, eager serves: {reason}", file=sys.stderr)
        setup(
            ext_modules=[] if reason else [Extension("lossfold._native", sources=[])],
            cmdclass={"build_ext": BuildNative, "bdist_wheel": PlatformWheel},
        )
    except BuildError as error:
        raise SystemExit(f"lossfold: {error}") from error


if __name__ == "__main__":
    main()
