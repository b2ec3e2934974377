"""The triton engine on a GPU, by `make test-gpu`: right, repeatable, in CUDA graphs, without waits, and lean.

Without one these tests are skipped; what is proved then, `tests/engines/test_triton.py` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import Case, both_same, evaluate
from tests.contract.cases import CASES, each
from tests.contract.truth import judge
from tests.internals import Watch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SERVED = [case for case in CASES if case.elsewhere and case.engines != ("eager",) and not getattr(case, "sorts", False)]


def is_pixelwise_sum(case: Case) -> bool:
    """Sums over pixels of images are compared by their means."""
    return case.fold in ("pair", "window") and case.reduction == "sum"


@each(among=lambda case: case.elsewhere and not is_pixelwise_sum(case))
def test_no_worse_than_plain_pytorch(case: Case) -> None:
    """By whatever engine serves, in every space and with every kind of targets and weights, at each dtype."""
    for turn, dtype in enumerate(DTYPES):
        for place, space in enumerate(case.wide_spaces):
            way = case.ways[(turn + place) % len(case.ways)]
            judge(case, case.make(space, dtype=dtype, way=way, device="cuda"), engines=(None,))


@each(SERVED)
def test_the_operators_run(case: Case) -> None:
    data = case.make(case.wide_spaces[0], dtype=torch.float32, way=case.rich, device="cuda")
    with Watch() as watch:
        evaluate(case.build(), data)
    assert {f"{case.fold}_unfold", f"{case.fold}_once"} & set(watch.names)


def scores_and_labels(classes: int = 19, stride: int = 1) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, classes, (2, 512, 1024), device="cuda")
    labels[..., -128:] = 255
    return torch.randn(2, classes, 512 // stride, 1024 // stride, device="cuda"), labels


def images() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, 512, 1024, device="cuda"), torch.rand(2, 3, 512, 1024, device="cuda")


def given_to(name: str) -> tuple[Tensor, Tensor]:
    return images() if name in ("edges", "ssim") else scores_and_labels()


def sets() -> dict[str, Callable[[], lf.LossSet]]:
    options: dict[str, Any] = {"ignore_index": 255}
    three = {"ce": lf.CrossEntropyLoss(**options), "dice": lf.DiceLoss(**options), "focal": lf.FocalLoss(**options)}
    return {
        "ce": lambda: lf.LossSet(ce=lf.CrossEntropyLoss(**options)),
        "three": lambda: lf.LossSet(three),
        "lovasz": lambda: lf.LossSet(lovasz=lf.LovaszLoss(**options)),
        "ohem": lambda: lf.LossSet(ohem=lf.OhemCrossEntropyLoss(**options)),
        "edges": lambda: lf.LossSet(l1=lf.L1Loss(), edges=lf.GradientLoss(), pyramid=lf.LaplacianPyramidLoss()),
        "ssim": lambda: lf.LossSet(ssim=lf.SSIMLoss(), l1=lf.L1Loss()),
    }


@pytest.mark.parametrize("name", sets())
def test_the_same_bits_every_time(name: str) -> None:
    scores, labels = given_to(name)
    criterion = sets()[name]()

    def run() -> tuple[Tensor, Tensor]:
        leaf = scores.clone().requires_grad_()
        total = criterion(leaf, labels).total
        return total.detach(), torch.autograd.grad(total, leaf)[0]

    truth = run()
    for _ in range(5):
        both_same(run(), truth)


@pytest.mark.parametrize("name", sets())
def test_cuda_graphs_replay_with_new_inputs(name: str) -> None:
    criterion = sets()[name]()
    scores, labels = given_to(name)
    leaf = scores.clone().requires_grad_()

    def step() -> tuple[Tensor, Tensor]:
        total = criterion(leaf, labels).total
        return total, torch.autograd.grad(total, leaf)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total, slope = step()
    fresh, others = given_to(name)
    with torch.no_grad():
        leaf.copy_(fresh)
    labels.copy_(others)
    graph.replay()
    both_same((total.detach(), slope), tuple(one.detach() for one in step()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sets())
def test_the_host_never_waits(name: str) -> None:
    criterion = sets()[name]()
    scores, labels = given_to(name)
    leaf = scores.requires_grad_()
    torch.autograd.grad(criterion(leaf, labels).total, leaf)
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad(criterion(leaf, labels).total, leaf)
    finally:
        torch.cuda.set_sync_debug_mode("default")


MEMORY = [("ce", 1, 1.1), ("three", 1, 1.1), ("three", 4, 6.0), ("ohem", 1, 1.3), ("edges", 1, 2.2), ("ssim", 1, 2.3)]


@pytest.mark.parametrize(("name", "stride", "extra"), MEMORY)
def test_memory(name: str, stride: int, extra: float) -> None:
    """The gradient and a little: sums of programs, labels' own numbers; at label resolution what cells owe their nodes.

    The pyramid keeps a byte for each coefficient and makes images of a third of the pixels; two folds have two gradients.
    """
    criterion = sets()[name]()
    scores, labels = scores_and_labels(stride=stride) if stride > 1 else given_to(name)
    leaf = scores.requires_grad_()
    torch.autograd.grad(criterion(leaf, labels).total, leaf)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.autograd.grad(criterion(leaf, labels).total, leaf)
    assert torch.cuda.max_memory_allocated() - before <= extra * scores.numel() * 4 + 4e6


def test_labels_out_of_range_stop_the_device() -> None:
    """A device-side assertion ends the process's use of the GPU, so it is a process of its own."""
    import subprocess
    import sys

    code = "import torch, lossfold as lf; z = torch.randn(1, 3, 8, device='cuda'); y = torch.full((1, 8), 3, device='cuda')\n"
    code += "lf.CrossEntropyLoss()(z, y); torch.cuda.synchronize()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and "assert" in done.stderr.lower()
