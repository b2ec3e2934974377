"""Distance transforms equal SciPy's and their definition, in every dimension, spacing and boundary."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import lossfold as lf
from lossfold.functional import distance_transform, signed_distance
from tests.contract.case import ENGINES

SPACES = [(1,), (7,), (50,), (5, 7), (1, 9), (9, 1), (64, 64), (3, 4, 5), (9, 17, 21), (6, 1, 1)]
engines = pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "triton"])


def spacings(space: tuple[int, ...]) -> list[Any]:
    return [None, 2.5, [0.7 * (axis + 1) for axis in range(len(space))]]


def along(spacing: Any, axes: int) -> list[float]:
    return [spacing or 1.0] * axes if not isinstance(spacing, list) else spacing


def near(ours: Tensor, truth: NDArray[np.float64]) -> None:
    torch.testing.assert_close(ours.double(), torch.from_numpy(truth), rtol=2e-7, atol=1e-12)


@engines
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_equal_scipys(space: tuple[int, ...], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSFOLD_ENGINE", engine)
    for share, spacing in itertools.product((0.0, 0.05, 0.5, 0.95, 1.0), spacings(space)):
        masks = torch.rand(2, 2, *space) < share
        found = distance_transform(masks, spacing)
        squares = distance_transform(masks, spacing, squared=True)
        assert found.dtype == torch.float32 and squares.dtype == torch.float64
        for mask, own, square in zip(masks.flatten(0, 1), found.flatten(0, 1), squares.flatten(0, 1), strict=True):
            if mask.all():
                assert own.isinf().all() and square.isinf().all()
                continue
            truth = distance_transform_edt(mask.numpy(), sampling=along(spacing, len(space)))
            near(own, truth)
            torch.testing.assert_close(square, torch.from_numpy(truth**2), rtol=1e-13, atol=0)


@engines
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_signed_distances_of_labels(space: tuple[int, ...], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignored pixels are no boundary and have none; a class that is absent, or all, has none either."""
    monkeypatch.setenv("LOSSFOLD_ENGINE", engine)
    for spacing, (boundary, inner, outer) in itertools.product(spacings(space), [("both", 0, 0), ("inner", 1, 0), ("outer", 0, 1)]):
        labels = torch.randint(0, 4, (2, *space))
        labels[torch.rand(labels.shape) < 0.2] = 255
        steps = along(spacing, len(space))
        found = signed_distance(labels, 5, ignore_index=255, spacing=spacing, boundary=boundary)
        for image, c in itertools.product(range(2), range(5)):
            inside, counts = (labels[image] == c).numpy(), (labels[image] != 255).numpy()
            truth = np.zeros(space)
            if inside.any() and (counts & ~inside).any():
                within, without = (distance_transform_edt(~to, sampling=steps) for to in (counts & ~inside, inside))
                truth = np.where(inside, inner * min(steps) - within, without - outer * min(steps)) * counts
            near(found[image, c], truth)
    masks = torch.stack([labels == c for c in range(4)], 1)
    labels = labels.where(labels != 255, 4)
    assert torch.equal(signed_distance(masks), signed_distance(labels, 5)[:, :4])


@engines
@pytest.mark.parametrize("space", [(150, 211), (170, 9, 19), (5, 300), (20, 150, 33)], ids=str)
def test_near_and_far(space: tuple[int, ...], engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources side by side in one corner, and one far away: some pixels of a line look around, others can't."""
    monkeypatch.setenv("LOSSFOLD_ENGINE", engine)
    masks = torch.ones(3, 1, *space, dtype=torch.bool)
    masks[0][(0, *(slice(0, side // 3) for side in space))] = torch.rand([side // 3 for side in space]) < 0.8
    masks[1][(0, *(side - 2 for side in space))] = False
    masks[2] = torch.rand(1, *space) < 0.9997
    masks[2][(0, *(0 for _ in space))] = False
    for spacing in (None, 0.5, [0.5 + axis for axis in range(len(space))]):
        for mask, found in zip(masks, distance_transform(masks, spacing), strict=True):
            near(found[0], distance_transform_edt(mask[0].numpy(), sampling=along(spacing, len(space))))


def test_large_squares_are_exact() -> None:
    """Beyond 2^24, where float32 has no place for every integer; each sample has its spacing."""
    mask = torch.ones(2, 1, 5, 6007, dtype=torch.bool)
    mask[:, :, 3, 0] = False
    y, x = torch.meshgrid(torch.arange(5.0, dtype=torch.float64), torch.arange(6007.0, dtype=torch.float64), indexing="ij")
    found = distance_transform(mask, [[1, 1], [2, 3]], squared=True)
    assert torch.equal(found[0, 0], (y - 3) ** 2 + x**2)
    assert torch.equal(found[1, 0], 4 * (y - 3) ** 2 + 9 * x**2)


@pytest.mark.skipif("cpp" not in ENGINES, reason="no compiled engine here")
def test_the_same_on_any_number_of_threads() -> None:
    """One volume is shared out, many are not."""
    masks = torch.rand(7, 1, 40, 33, 70) < 0.97
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append([distance_transform(masks), *(distance_transform(mask[None]) for mask in masks[:2])])
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *found))
    assert torch.equal(found[0][0][:2], torch.cat(found[0][1:]))


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "labels without their number": (torch.zeros(1, 4, dtype=torch.long), {}, "num_classes.*how many"),
    "masks with a number": (torch.zeros(1, 1, 4, dtype=torch.bool), {"num_classes": 2}, "num_classes.*left out"),
    "scores": (torch.zeros(1, 4), {"num_classes": 2}, "target.*integers"),
    "no class": (torch.full((1, 4), 3), {"num_classes": 3}, "target.*0 to 2.*got 3"),
    "a negative spacing": (torch.zeros(1, 4, dtype=torch.long), {"num_classes": 3, "spacing": -1}, "spacing.*positive"),
    "too many spacings": (torch.zeros(1, 4, dtype=torch.long), {"num_classes": 3, "spacing": [1, 2]}, "spacing.*positive"),
    "another word": (torch.zeros(1, 4, dtype=torch.long), {"num_classes": 3, "boundary": "middle"}, "boundary.*both.*middle"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused(what: str) -> None:
    target, options, words = BAD[what]
    with pytest.raises(lf.LossError, match=words):
        signed_distance(target, **options)
    with pytest.raises(lf.LossError, match=r"mask.*bool"):
        distance_transform(target.float())
