"""What `import lossfold` and `lossfold --help` bring in beside torch: little, and nothing that a lean torch lacks."""

from __future__ import annotations

import subprocess
import sys

HEAVY = [
    "torch._dynamo",
    "torch._inductor",
    "torch.fx.experimental.symbolic_shapes",
    "sympy",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torchvision",
    "lightning",
    "jsonargparse",
    "matplotlib",
    "PIL",
    "skimage",
    "sklearn",
    "scipy",
    "jinja2",
    "rich",
    "yaml",
    "jsonschema",
    "transformers",
    "h5py",
    "kornia",
    "monai",
]

SCRIPT = f"""
import sys, types, torch
# A torch that was built without distributed has this much of it.
lean = types.ModuleType("torch.distributed")
lean.is_available = lambda: False
for name in [name for name in sys.modules if name.startswith("torch.distributed.")]:
    sys.modules[name] = None
sys.modules["torch.distributed"] = torch.distributed = lean
sys.modules["torch.distributed.nn"] = None
sys.modules["numpy"] = None  # which torch imports where it is, and does without
before = set(sys.modules)

import lossfold as lf
logits, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 4, 4))
lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())(logits, labels).backward()
lf.functional.dice_loss(logits, labels)
lf.R1GradientPenalty()(lambda x: x.square().sum((1, 2, 3)), torch.rand(2, 3, 4, 4))
lf.GeneratorPathRegularizer(batch_shrink=1)(lambda z: (z[:, :, None, None] * torch.rand(2, 3, 4, 4), z), torch.rand(2, 3))
lf.metrics.IoU(3).update(logits.argmax(1), labels)
lf.build({{"type": "DiceLoss"}})
from lossfold.cli.__main__ import main
try:
    main(["--help"])
except SystemExit as ended:
    assert ended.code == 0
print("HEAVY", *(name for name in {HEAVY!r} if name in sys.modules and name not in before))
"""


def test_nothing_heavy_is_imported_and_a_torch_without_distributed_will_do() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["HEAVY"]
    assert "train" in done.stdout and "bench" in done.stdout
