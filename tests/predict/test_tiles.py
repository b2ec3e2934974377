"""Windows cover an image and fade into each other, and what is said of them is what would be said of the whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from lossfold.train.errors import TrainError
from lossfold.train.tiles import Span, blended, spans


@given(st.integers(1, 3000), st.integers(5, 12), st.integers(0, 48))
def test_windows_cover_the_axis_and_inform_beyond_what_counts(length: int, tiles: int, overlap: int) -> None:
    tile = 32 * tiles
    if tile < 3 * overlap + 64:
        return
    found = spans(length, tile, overlap)
    assert found[0].begin == 0 and found[-1].end == length
    total = torch.zeros(length)
    for span in found:
        assert span.start % 32 == span.size % 32 == 0 and span.size <= tile
        assert span.start <= span.begin < span.end <= min(span.stop, length)
        assert (span.begin - span.start >= overlap // 4 or span.begin == 0) and (
            span.stop - span.end >= overlap // 4 or span.end == length
        )
        total[span.begin : span.end] += span.weights(1)
    assert torch.allclose(total, torch.ones(length))
    for one, other in pairwise(found):
        assert one.fall == other.rise == one.end - other.begin
    assert all(two.begin >= one.end for one, two in zip(found, found[2:], strict=False))  # no more than two meet


@pytest.mark.parametrize(("height", "width", "scale"), [(1, 1, 2), (161, 300, 1), (400, 97, 2), (330, 331, 1)])
def test_blended_windows_are_the_whole(height: int, width: int, scale: int) -> None:
    image = torch.rand(2, height, width)

    def evaluate(row: Span, column: Span) -> torch.Tensor:
        window = image[:, row.start : row.stop, column.start : column.stop]
        return functional.interpolate(window[None], scale_factor=scale, mode="nearest")[0]

    whole, seen = torch.full((2, scale * height, scale * width), torch.nan), torch.zeros(scale * height, scale * width)
    for top, left, part in blended(spans(height, 160, 24), spans(width, 160, 24), scale, evaluate):
        whole[:, top : top + part.shape[1], left : left + part.shape[2]] = part
        seen[top : top + part.shape[1], left : left + part.shape[2]] += 1
    assert (seen == 1).all()
    torch.testing.assert_close(whole, functional.interpolate(image[None], scale_factor=scale, mode="nearest")[0])


def test_a_seam_fades() -> None:
    found = list(
        blended(spans(32, 160, 32), spans(300, 160, 32), 1, lambda row, column: torch.full((1, 32, 160), float(column.start > 0)))
    )
    line = torch.cat([part for _, _, part in found], 2)[0, 0]
    assert line[0] == 0 and line[-1] == 1 and (line.diff() >= 0).all() and line.diff().max() < 0.07


@pytest.mark.parametrize(("tile", "overlap"), [(100, 0), (0, 0), (96, 32), (32, 0)])
def test_a_tile_without_room_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(TrainError, match="tile must be a multiple of 32"):
        spans(500, tile, overlap)
