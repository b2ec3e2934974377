"""What the eager engine launches, moves and keeps alive for every case of the benchmark: never more than recorded.

Everything is counted forward and backward, formulas included, at the benchmark's full sizes, on tensors without data. Plain PyTorch
that looks at its data (boolean indexing) is counted at the short sizes instead: it has the same operations.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import pytest

from lossfold.bench import cases
from lossfold.bench.case import Setting
from tests.engines.counter import Count, count, enlarged

CASES = {name: case for name, case in cases.CASES.items() if "lossfold-eager" in case.entries}
"""Those that have a definition beside the operators: not distances."""


class Cost(NamedTuple):
    """Operations launched; and, in units of the bytes of what gets the gradient, what is moved and what is alive at most."""

    kernels: int
    moved: float
    peak: float


RECORDED = {
    "ce": Cost(49, 5.93, 1.22),
    "dice": Cost(79, 15.67, 2.27),
    "focal": Cost(67, 8.14, 1.33),
    "lovasz": Cost(155, 55.47, 6.12),
    "ohem": Cost(126, 9.72, 1.62),
    "ce-dice": Cost(91, 16.67, 2.38),
    "ce-dice-focal": Cost(118, 19.51, 2.38),
    "four": Cost(246, 65.26, 6.17),
    "ce-x4": Cost(51, 128.8, 34.8),
    "ce-x8": Cost(51, 509.0, 139.0),
    "ce-dice-x4": Cost(93, 300.6, 39.4),
    "bce": Cost(42, 22.01, 2.01),
    "bce-dice-focal": Cost(136, 109.1, 7.01),
    "lovasz-hinge": Cost(184, 63.3, 5.32),
    "matting": Cost(301, 172.3, 13.1),
    "laplacian": Cost(187, 40.7, 6.8),
    "matting-large": Cost(300, 171.9, 13.1),
    "ssim": Cost(83, 155.9, 11.8),
    "ms-ssim": Cost(426, 147.7, 11.8),
    "l1-ssim": Cost(106, 187.3, 15.3),
    "ce-dice-3d": Cost(90, 18.14, 2.51),
    "ce-dice-3d-x4": Cost(92, 1291.0, 170.0),
    "ssim-3d": Cost(83, 99.6, 9.68),
    "ms-ssim-l1": Cost(1003, 1129.0, 80.1),
}
"""These numbers may only fall. (Those of cross entropies of targets rose once, so that 0 times infinity is 0 and NaN is NaN.)"""

LOOKS = ("lovasz", "ohem", "four")
"""Cases whose plain PyTorch looks at its data."""
DEARER = {
    "bce": "plain PyTorch does not check that targets lie in [0, 1], which reads them once more, "
    "makes NaN of infinite logits that are right, and has one sum in place of two",
    "ohem": "plain PyTorch waits for the device, twice, and moves only the pixels that count from there on",
}
"""Cases that move a little more than plain PyTorch, and why."""
MORE_KERNELS = (
    "bce",
    "bce-dice-focal",
    "ce",
    "ce-dice",
    "ce-dice-3d",
    "ce-dice-3d-x4",
    "ce-dice-focal",
    "ce-dice-x4",
    "ce-x4",
    "ce-x8",
    "dice",
    "focal",
)
"""Cases that launch more: labels are checked, sums are each class's own, the same bits on every run, and formulas float64."""
NO_FOLD = ("ms-ssim-l1",)
"""Plain PyTorch itself, along each side in place of two-dimensional windows: 1.3 times the traffic, a tenth of the arithmetic."""
MORE_KERNELS_THAN_SORTING = ("lovasz-hinge", "ohem")


@functools.cache
def cost(name: str, provider: str) -> tuple[Cost, Count]:
    """Count a case."""
    case = CASES[name]
    sample = case.sample(Setting(size=case.sizes.quick))
    leaf, rest = sample.leaf, sample.rest
    if provider == "lossfold-eager" or name not in LOOKS:
        factor = case.sizes.full[-1] // case.sizes.quick[-1]
        leaf, rest = enlarged(leaf, factor), tuple(enlarged(tensor, factor) for tensor in rest)
    counter = count(case.entries[provider].build(), leaf, rest)
    unit = leaf.numel() * leaf.element_size()
    return Cost(counter.kernels.total(), counter.bytes / unit, counter.peak / unit), counter


def test_every_case_is_recorded() -> None:
    assert set(RECORDED) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_no_more_than_recorded(name: str) -> None:
    found, counter = cost(name, "lossfold-eager")
    assert all(now <= before for now, before in zip(found, RECORDED[name], strict=True)), (found, counter.kernels, counter.moved)
    assert not counter.waits and not counter.copies


@pytest.mark.parametrize("name", [name for name in CASES if name not in NO_FOLD])
def test_no_more_than_plain_pytorch(name: str) -> None:
    found, plain = cost(name, "lossfold-eager")[0], cost(name, "eager")[0]
    assert found.peak <= 1.0001 * plain.peak  # the sums themselves
    assert found.moved <= (1.15 if name in DEARER else 1.0) * plain.moved
    assert (found.kernels > plain.kernels) == (name in (*MORE_KERNELS, *MORE_KERNELS_THAN_SORTING))


def test_counting() -> None:
    """Of a function whose figures are known by heart."""
    import torch

    x = torch.empty(256, 4, dtype=torch.float32, device="meta", requires_grad=True)
    counter = count(lambda x: (x.exp() + x.detach()).sum(), x, ())
    # exp, add, sum; ones_like, expand, mul: 2 + 3 + 1 and 1 (the gradient of the sum has one element) + 1 units
    assert counter.kernels == {"exp": 1, "add": 1, "sum": 1, "ones_like": 1, "mul": 1}
    assert counter.bytes == 4096 * (2 + 3 + 1 + 2) + 3 * 4
    assert counter.peak == 2 * 4096 + 2 * 4  # and the sum and its seed
