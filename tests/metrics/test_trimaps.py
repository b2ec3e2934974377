"""Trimaps against morphology written with scipy, and the region strict about what a trimap may hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from lossfold import functional as F  # noqa: N812
from lossfold.errors import LossError


def shapes(size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Alphas with opaque and transparent blocks, touching the borders, and something between."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, (*size[:-2], -(-size[-2] // 4), -(-size[-1] // 6)), generator=generator) / 2
    fine = coarse.repeat_interleave(4, -2).repeat_interleave(6, -1)[..., : size[-2], : size[-1]]
    return torch.where(fine == 0.5, torch.rand(fine.shape, generator=generator).clamp(0.01, 0.99), fine)


def defined(alpha: Tensor, erode: float, dilate: float) -> Tensor:
    """Erosion and dilation by a disc, as scipy does them, of one map."""

    def disc(radius: float) -> Any:
        reach = np.arange(-int(radius), int(radius) + 1)
        return reach[:, None] ** 2 + reach**2 <= radius**2

    a = alpha.float().numpy()
    foreground = ndimage.binary_erosion(a >= 1, disc(erode), border_value=1)
    reached = ndimage.binary_dilation(a > 0, disc(dilate))
    return torch.from_numpy(np.where(foreground, 1.0, np.where(reached, 0.5, 0.0)))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 1, 1.5, 2, 3.7, 6, 11]), st.sampled_from([0, 1, 2.3, 5, 60]))
def test_trimap_is_the_morphology(height: int, width: int, erode: float, dilate: float) -> None:
    alpha = shapes((2, 1, height, width), height * 41 + width)
    trimap = F.trimap_from_alpha(alpha, erode, dilate)
    for index in range(2):
        assert torch.equal(trimap[index, 0].double(), defined(alpha[index, 0], erode, dilate))


def test_trimap_default_width_and_corners() -> None:
    alpha = torch.ones(41, 41)
    alpha[20, 20] = 0.5
    trimap = F.trimap_from_alpha(alpha)
    rows, columns = torch.meshgrid(torch.arange(-20, 21), torch.arange(-20, 21), indexing="ij")
    assert torch.equal(trimap == 0.5, rows**2 + columns**2 <= 100)
    assert (trimap[trimap != 0.5] == 1).all()  # the image's border takes nothing from the foreground
    assert (F.trimap_from_alpha(torch.zeros(5, 5)) == 0).all() and (F.trimap_from_alpha(torch.ones(5, 5)) == 1).all()


def test_trimap_shapes_and_dtypes(dtype: torch.dtype) -> None:
    alpha = shapes((3, 1, 30, 33)).to(dtype)
    trimap = F.trimap_from_alpha(alpha, 2, 3)
    assert trimap.dtype == dtype and trimap.shape == alpha.shape
    assert torch.equal(F.trimap_from_alpha(alpha[:, 0], 2, 3), trimap[:, 0])
    assert torch.equal(F.trimap_from_alpha(alpha[1, 0], 2, 3), trimap[1, 0])
    assert torch.equal(F.trimap_from_alpha(alpha.mT, 2, 3), trimap.mT)
    mask = F.trimap_from_alpha(alpha == 1, 2, 3)
    assert mask.dtype == torch.float32 and torch.equal(mask, F.trimap_from_alpha((alpha == 1).float(), 2, 3))
    assert F.trimap_from_alpha(alpha[:0]).shape == (0, 1, 30, 33)
    assert not F.trimap_from_alpha(alpha.clone().requires_grad_()).requires_grad


def test_random_trimaps_have_widths_of_their_own() -> None:
    alpha = shapes((1, 1, 40, 40)).expand(60, 1, 40, 40)
    trimaps = F.random_trimap(alpha, (2, 4), torch.Generator().manual_seed(3))
    pairs = list(itertools.product((2, 3, 4), repeat=2))
    wanted = [F.trimap_from_alpha(alpha[:1], *pair) for pair in pairs]
    drawn = [pairs[[torch.equal(trimap[None], one) for one in wanted].index(True)] for trimap in trimaps]
    assert set(drawn) == set(pairs)  # 60 draws of 9 equally likely pairs
    again = F.random_trimap(alpha, (2, 4), torch.Generator().manual_seed(3))
    other = F.random_trimap(alpha, (2, 4), torch.Generator().manual_seed(4))
    assert torch.equal(trimaps, again) and not torch.equal(trimaps, other)
    assert torch.equal(F.random_trimap(alpha, (5, 5)), F.trimap_from_alpha(alpha, 5, 5))
    torch.manual_seed(1)
    first = F.random_trimap(alpha[0, 0])
    torch.manual_seed(1)
    assert torch.equal(F.random_trimap(alpha[0, 0]), first) and first.shape == (40, 40)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_region_from_integers(kind: torch.dtype) -> None:
    region = F.region_from_trimap(torch.tensor([[0, 128], [255, 128]]).to(kind))
    assert region.dtype == torch.float32 and region.tolist() == [[0, 1], [0, 1]]


def test_region_from_floats(dtype: torch.dtype) -> None:
    region = F.region_from_trimap(torch.tensor([[[0, 0.5, 1]]]).to(dtype))
    assert region.dtype == dtype and region.tolist() == [[[0, 1, 0]]]


def test_compiles_and_asserts_there() -> None:
    alpha = shapes((2, 1, 20, 20))

    def call(alpha: Tensor) -> Tensor:
        return F.region_from_trimap(F.trimap_from_alpha(alpha, 2, 3))

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(alpha), call(alpha))
    with pytest.raises(RuntimeError, match="alpha of trimap_from_alpha out of range"):
        compiled(alpha * 255)
    region = torch.compile(F.region_from_trimap, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match="trimap of region_from_trimap has values"):
        region(torch.tensor([0, 127, 255]))
    drawn = torch.compile(lambda a: F.random_trimap(a, (2, 2)), fullgraph=True, backend="aot_eager")
    assert torch.equal(drawn(alpha), F.trimap_from_alpha(alpha, 2, 2))


A = torch.rand(1, 1, 4, 4)
BAD: list[tuple[Any, str]] = [
    (lambda: F.region_from_trimap(torch.tensor([0, 127, 255], dtype=torch.uint8)), "trimap must be .* 128.*values 127 .*JPEG"),
    (lambda: F.region_from_trimap(torch.arange(20)), r"values 1, 2, 3, 4, 5, \.\.\."),
    (lambda: F.region_from_trimap(torch.tensor([0, 1, 2])), "values 1, 2 .*classes"),
    (lambda: F.region_from_trimap(torch.tensor([-128, 0], dtype=torch.int8)), "values -128"),
    (lambda: F.region_from_trimap(torch.tensor([0, 128, 255]).float()), r"values 128, 255 .*uint8"),
    (lambda: F.region_from_trimap(torch.tensor([0, 128, 255]) / 255), "values 0.501961 .*as integers"),
    (lambda: F.region_from_trimap(torch.tensor([0, float("nan")])), "values nan"),
    (lambda: F.region_from_trimap(torch.tensor([True])), "trimap must be .*bool.*region already"),
    (lambda: F.region_from_trimap(np.zeros(3)), "trimap must be .*ndarray"),
    (lambda: F.trimap_from_alpha(A * 255), "trimap_from_alpha: alpha must be in .*255"),
    (lambda: F.trimap_from_alpha(A + 0.5), "alpha must be in .*clamp"),
    (lambda: F.trimap_from_alpha(A * float("nan")), "alpha must be in .*16 values that are NaN"),
    (lambda: F.trimap_from_alpha((A * 255).byte()), "alpha must be a float .*255.*bool"),
    (lambda: F.trimap_from_alpha(A[0, 0, 0]), r"alpha must be a dense tensor \[..., H, W\]"),
    (lambda: F.trimap_from_alpha(A, erode=-1), "erode must be .*from 0 to"),
    (lambda: F.trimap_from_alpha(A, dilate=float("inf")), "dilate must be"),
    (lambda: F.trimap_from_alpha(A, dilate="3"), "dilate must be"),
    (lambda: F.random_trimap(A, (3, 2)), "random_trimap: widths must be two integers"),
    (lambda: F.random_trimap(A, (-1, 2)), "widths"),
    (lambda: F.random_trimap(A, (1.0, 2)), "widths"),
    (lambda: F.random_trimap(A, 5), "widths"),
    (lambda: F.random_trimap(A * 3), "random_trimap: alpha must be in"),
]


@pytest.mark.parametrize("case", BAD, ids=[words for _, words in BAD])
def test_bad_input(case: tuple[Any, str]) -> None:
    with pytest.raises(LossError, match=case[1]):
        case[0]()
