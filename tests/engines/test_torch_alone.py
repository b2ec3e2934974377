"""Without the compiled library, as pip leaves lossfold where there is no compiler: the operators are there, and GPUs are served."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lossfold import engines

PROGRAM = """
import json, pathlib, warnings
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path, **options: path.name != "_native.so" and exists(path, **options)
warnings.simplefilter("ignore")
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
import lossfold as lf
from lossfold.engines.native import NAMESPACE, OPERATORS

torch.cuda.current_device = lambda: 0
criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss(), lovasz=lf.LovaszLoss(bins=64))
scores, labels = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randint(0, 3, (2, 8, 8))
criterion(scores, labels).backward()
names = {f"{NAMESPACE}::{fold}_{what}" for fold in ("label", "dense") for what in ("fold", "unfold", "map")}
found = {
    "engines": lf.engines.available(),
    "keys": [key for key in ("CUDA", "XPU") if all(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for name in names)],
    "gradient": bool(scores.grad.abs().sum() > 0),
}
with FakeTensorMode():
    z, y = torch.empty(2, 3, 8, 8, device="cuda", requires_grad=True), torch.empty(2, 8, 8, dtype=torch.int64, device="cuda")
    found["plan"] = criterion.plan(z, y)
    total = criterion(z, y).total
    found["total"] = [str(total.device), total.requires_grad, total.dim()]
print(json.dumps(found))
"""


@pytest.mark.skipif(bool(engines.triton.problem()), reason="Triton is not here")
def test_operators_exist_and_dispatch() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("LOSSFOLD_ENGINE", "TRITON_INTERPRET")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert "cpp" not in found["engines"] and "eager" in found["engines"]
    assert found["keys"] == ["CUDA", "XPU"] and found["gradient"]
    assert ", triton): ce, dice, lovasz" in found["plan"]
    assert found["total"] == ["cuda:0", True, 0]
