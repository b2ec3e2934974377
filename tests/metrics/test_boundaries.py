"""Boundary F1 and Boundary IoU against their definitions with scipy, over parts of an image, and off the CPU's way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from lossfold import metrics as m
from lossfold.errors import LossError
from lossfold.metrics import boundaries

CROSS = ndimage.generate_binary_structure(2, 1)
SQUARE = np.ones((3, 3), bool)


def maps(seed: int, size: tuple[int, int] = (60, 83), classes: int = 3, ignore: int = 255) -> tuple[Any, Any]:
    """Class maps that mostly agree, with ignored parts in the truth."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.random((classes + 2, *size)), (0, 4, 4))
    truth = fields[:classes].argmax(0)
    pred = (fields[:classes] + 0.02 * rng.random(fields[:classes].shape)).argmax(0)
    truth[fields[-1] > np.quantile(fields[-1], 0.9)] = ignore
    return pred, truth


def definition(pred: Any, truth: Any, label: int, ignore: int, tolerance: float, width: int) -> list[int]:
    """The six counts as the papers' code finds them: erosions and distances of whole masks."""
    counted = truth != ignore
    masks = [(x == label) & counted for x in (pred, truth)]
    lines = [mask & ndimage.binary_dilation(counted & ~mask, CROSS) for mask in masks]
    far = [ndimage.distance_transform_edt(~line) if line.any() else np.full(line.shape, np.inf) for line in lines]
    # ~mask where counted: what is ignored takes nothing away from the mask
    bands = []
    for mask in masks:
        solid = np.pad(mask | ~counted, 1)
        bands.append(mask & ~ndimage.binary_erosion(solid, SQUARE, width, border_value=1)[1:-1, 1:-1])
    found = [lines[0], lines[0] & (far[1] <= tolerance), lines[1], lines[1] & (far[0] <= tolerance)]
    return [int(x.sum()) for x in (*found, bands[0] & bands[1], bands[0] | bands[1])]


@pytest.mark.parametrize(("tolerance", "width"), [(0, 1), (1, 2), (2.5, 3), (40, 30), (0.0075, 0.02)])
def test_counts_are_those_of_the_papers(tolerance: float, width: float) -> None:
    pred, truth = maps(0)
    diagonal = math.hypot(*pred.shape)
    reach = tolerance if tolerance >= 1 else math.ceil(tolerance * diagonal)
    pixels = width if width >= 1 else round(width * diagonal)
    expected = [definition(pred, truth, k, 255, reach, int(pixels)) for k in range(4)]
    both = torch.from_numpy(pred)[None], torch.from_numpy(truth)[None]
    found = m.boundary_counts(*both, 4, tolerance, width, 255)
    assert found.tolist() == [expected]
    sums = np.array(expected, float)
    with np.errstate(invalid="ignore"):
        precision, recall = sums[:, 1] / sums[:, 0], sums[:, 3] / sums[:, 2]
        f1, iou = 2 * precision * recall / (precision + recall), sums[:, 4] / sums[:, 5]
    f1[3] = iou[3] = 0.5  # a class that is nowhere
    torch.testing.assert_close(m.boundary_f1(*both, 4, tolerance, 0.5, 255), torch.from_numpy(100 * f1)[None])
    torch.testing.assert_close(m.boundary_iou(*both, 4, width, 0.5, 255, True), torch.from_numpy(iou)[None])


def test_parts_with_halos_add_up_to_the_whole() -> None:
    pred, truth = maps(1, (70, 90))
    masks = [torch.from_numpy(x)[None] for x in (pred == 1, truth == 1, truth != 255)]
    tolerance, width = 3.5, 4
    whole = boundaries.count_boundaries(*masks, tolerance, width)
    halo, total = boundaries.halo(tolerance, width), torch.zeros_like(whole)
    for y in range(0, 70, 16):
        for x in range(0, 90, 16):
            top, left = max(0, y - halo), max(0, x - halo)
            window = [mask[:, top : y + 16 + halo, left : x + 16 + halo] for mask in masks]
            total += boundaries.count_boundaries(
                *window, tolerance, width, (slice(y - top, y - top + 16), slice(x - left, x - left + 16))
            )
    assert total.tolist() == whole.tolist()


def test_devices_that_are_not_waited_for_find_the_same() -> None:
    rng = torch.Generator().manual_seed(0)
    points, others = (torch.rand(2, 40, 50, generator=rng) > share for share in (0.8, 0.99))
    others[1] = False
    for reach in (0.0, 1.0, 2.9, 7.0, 60.0):
        dense = points & (boundaries.squared_distance(others, int(reach)) <= reach * reach)
        assert torch.equal(boundaries.near(points, others, reach), dense)


def test_nothing_and_wrong_arguments() -> None:
    labels = torch.zeros(1, 5, 6, dtype=torch.uint8)
    labels[:, 2] = 1
    assert m.boundary_f1(torch.zeros_like(labels), labels, 2, 1).tolist() == [[0, 0]]  # a boundary in one of the two only
    assert m.boundary_f1(labels, labels, 3, 1, "skip")[0, 2].isnan()
    assert m.boundary_iou(labels, labels, 2, ignore=0).isnan().tolist() == [[True, False]]
    nothing = torch.full_like(labels, 255)
    assert m.boundary_iou(labels, nothing, 2, ignore=255).tolist() == [[100, 100]]
    for wrong in ({"tolerance": -1}, {"tolerance": "2"}, {"empty": None}, {"C": 0}):
        with pytest.raises(LossError, match=next(iter(wrong))):
            m.boundary_f1(labels, labels, **{"C": 2} | wrong)
    with pytest.raises(LossError, match="width"):
        m.boundary_iou(labels, labels, 2, width=0)
    with pytest.raises(LossError, match="preds"):
        m.boundary_iou(labels.float(), labels, 2)


def test_they_compile() -> None:
    pred, truth = (torch.from_numpy(x)[None] for x in maps(2, (20, 30)))
    compiled = torch.compile(m.boundary_counts, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(pred, truth, 3, ignore=255), m.boundary_counts(pred, truth, 3, ignore=255))
    masks = pred == 1, truth == 1
    torch.library.opcheck(boundaries.near_in_graphs, (*masks, 2.0))
