"""The triton engine without a GPU: in the interpreter, compiled for GPUs that are not here, and in the dispatcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import lossfold as lf
from lossfold import engines
from tests import internals

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(engines.triton.problem()), reason="Triton is not here")
INTERPRETED = {"TRITON_INTERPRET": "1", "LOSSFOLD_ENGINE": "triton"}


def run(*arguments: str, **environment: str) -> str:
    """Run Python in a process of its own, because Triton decides once whether it interprets; return what it prints."""
    variables = {k: v for k, v in os.environ.items() if k not in INTERPRETED} | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def contract(*arguments: str) -> str:
    return run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments, **INTERPRETED)


def test_interpreted() -> None:
    """At each dtype no worse than plain PyTorch; any number of classes; any order of programs; layouts; refusals."""
    told = contract("tests/engines/interpreted.py", "-m", "not slow")
    assert " passed" in told and "skipped" not in told and "failed" not in told


@pytest.mark.slow
@pytest.mark.parametrize("file", ["interpreted", "interpreted_classes"])
def test_interpreted_at_length(file: str) -> None:
    """Every loss, those of pairs and windows included; and those of scores with any number of classes."""
    contract(f"tests/engines/{file}.py", "-m", "slow")


@pytest.mark.slow
@pytest.mark.parametrize("fold", ["label", "dense"])  # pairs and windows at length are in interpreted.py, on smaller images
def test_interpreted_contract(fold: str) -> None:
    """Every loss with every sample, in every space, at every dtype; and NaN stays visible."""
    chosen = f"(no_worse or nan_stays) and {fold}"
    contract("tests/contract/test_dtypes.py", "-W", "ignore::RuntimeWarning", "-k", chosen, "--dtype", "float32,bfloat16,float16")


def compiled(*arguments: str) -> list[dict[str, object]]:
    told = run("-m", "tests.engines.compiled", *arguments)
    return [json.loads(line) for line in told.splitlines() if line.startswith("{")]


def assert_lean(kernels: list[dict[str, object]]) -> None:
    """No spills; every score is loaded once; no atomics of floats, which would add in any order."""
    for one in kernels:
        assert one["spills"] == 0, one
        assert not one["float_atomics"], one
        if one["scores"]:
            assert one["scores"] <= one["loaded"] <= one["scores"] + one["beside"], one  # type: ignore[operator]


def test_compiled() -> None:
    """For sm_80, sm_90, sm_120 and gfx942: the folds that most people run."""
    kernels = compiled("short")
    assert {one["target"] for one in kernels} == {"sm_80", "sm_90", "sm_120", "gfx942"}
    assert_lean(kernels)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_120", "gfx942"])
def test_everything_compiled(target: str) -> None:
    assert_lean(compiled("full", target))


LAUNCHES = {
    "L1": 4, "Sobel": 4, "steps": 4, "Laplacian": 19, "matting": 19, "SSIM": 5,
    "CE": 4, "CE at once": 4, "BCE at once": 5, "L1 at once": 3,
}  # fmt: skip
"""Forward and backward, beside PyTorch's own; of one pass with the factor that comes later."""


def test_launches() -> None:
    """Those of the folds, at full size, on tensors without data; these numbers may only fall."""
    from tests.engines import compiled
    from tests.engines.offline import launches_of

    calls = {name: compiled.of_pairs(sums, levels=levels) for name, (sums, levels) in compiled.SETS.items()}
    calls |= {"SSIM": compiled.of_windows(), "CE": compiled.of_labels(19, compiled.CE, maps=False)}
    calls |= {f"{name} at once": compiled.of_one_pass(*given) for name, given in compiled.AT_ONCE.items()}
    assert {name: len(launches_of(call, "sm_90")) for name, call in calls.items()} == LAUNCHES


@pytest.mark.parametrize("fold", internals.FOLDS)
@pytest.mark.parametrize("key", ["CUDA", "XPU"])
def test_operators_are_there(fold: str, key: str) -> None:
    """Whatever this build of PyTorch was made for, and with or without the compiled library."""
    for name in internals.registered(fold) - {f"{internals.NAMESPACE}::window_once"}:  # which CPUs alone have
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, key)


def test_what_serves_gpus() -> None:
    """By tensors that are not there: the triton engine what it has, the definitions the rest."""
    with FakeTensorMode():

        def serving(scores: Tensor, lacks: str = "") -> str:
            return engines.select(None, scores, lacks=lambda engine: lacks * (engine == "triton")).name

        scores = torch.empty(2, 3, 4, 4, device="cuda")
        assert serving(scores) == "triton"
        assert serving(scores, "this") == "eager"
        assert serving(scores.double()) == "eager"


def test_cpus_are_not_its_own() -> None:
    scores, labels = torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(lf.LossError, match="the triton engine runs on CUDA, ROCm and XPU devices and the scores are on cpu"):
        lf.CrossEntropyLoss(engine="triton")(scores, labels)
    assert "triton" not in engines.available() or torch.cuda.is_available() or torch.xpu.is_available()
