"""Distances between surfaces, centreline Dice and numbers of parts: against SciPy and scikit-image by definition, and MONAI."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.morphology import skeletonize
from torch import Tensor

import lossfold as lf
from lossfold.metrics.parts import parts_by_edges

metrics: Any = pytest.importorskip("monai.metrics")
SPACINGS: dict[int, tuple[float, ...]] = {2: (1.0, 2.5), 3: (3.0, 1.0, 0.7)}


def maps(*space: int, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Blobs of three classes, the last one absent from the first image of the truth."""
    generator = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(generator.standard_normal((2, batch, *space)), (0, 0, *[1.5] * len(space)))
    found = np.digitize(smooth, np.quantile(smooth, (0.5, 0.8)))
    found[1, 0][found[1, 0] == 2] = 1
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def by_scipy(p: Any, t: Any, spacing: tuple[float, ...]) -> list[Any]:
    """Both directions' distances, surfaces being what an erosion takes away."""
    edges = [m & ~ndimage.binary_erosion(m) for m in (p, t)]
    return [ndimage.distance_transform_edt(~b, sampling=spacing)[a] for a, b in (edges, edges[::-1])]


@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning", "ignore:the ground truth of class")
@pytest.mark.parametrize("space", [(23, 31), (9, 11, 8)], ids=str)
def test_surfaces_equal_scipys_and_monais(space: tuple[int, ...]) -> None:
    preds, labels = maps(*space)
    spacing = SPACINGS[len(space)]
    hd = {q: lf.metrics.hausdorff95(preds, labels, 3, percentile=q, spacing=spacing) for q in (95.0, 100.0)}
    both, one_way = (lf.metrics.surface_distance(preds, labels, 3, symmetric=s, spacing=list(spacing)) for s in (True, False))
    hot = [torch.nn.functional.one_hot(x, 3).movedim(-1, 1) for x in (preds, labels)]
    options = {"include_background": True, "spacing": list(spacing)}
    peer = metrics.compute_hausdorff_distance(*hot, percentile=95, **options)
    average = metrics.compute_average_surface_distance(*hot, symmetric=True, **options)
    for b in range(2):
        for c in range(3):
            p, t = (preds[b] == c).numpy(), (labels[b] == c).numpy()
            if not t.any():
                assert hd[95.0][b, c] == torch.inf == both[b, c]
                continue
            far = by_scipy(p, t, spacing)
            for q, found in hd.items():
                assert found[b, c].item() == pytest.approx(max(np.percentile(side, q) for side in far), rel=1e-12)
            assert both[b, c].item() == pytest.approx(np.concatenate(far).mean(), rel=1e-12)
            assert one_way[b, c].item() == pytest.approx(far[0].mean(), rel=1e-12)
            assert hd[95.0][b, c].item() == pytest.approx(peer[b, c].item(), rel=1e-6)
            assert both[b, c].item() == pytest.approx(average[b, c].item(), rel=1e-6)


def test_cldice_and_parts_equal_scikit_images_and_scipys() -> None:
    preds, labels = maps(37, 41)
    found, betti = lf.metrics.cldice(preds, labels, 3, fraction=True), lf.metrics.betti0_error(preds, labels, 3)
    sides = lf.metrics.betti0_error(preds, labels, 3, connectivity=1)
    for b in range(2):
        for c in range(3):
            p, t = (preds[b] == c).numpy(), (labels[b] == c).numpy()
            sp, st = skeletonize(p), skeletonize(t)
            if t.any():
                precision, recall = (sp & t).sum() / sp.sum(), (st & p).sum() / st.sum()
                assert found[b, c].item() == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-12)
            else:
                assert found[b, c] == 0
            for error, joined in ((betti, np.ones((3, 3))), (sides, None)):
                assert error[b, c] == abs(ndimage.label(p, joined)[1] - ndimage.label(t, joined)[1])
    assert lf.metrics.cldice(*maps(9, 10, 11), 3).shape == (2, 3)


@pytest.mark.parametrize("space", [(50,), (13, 17), (7, 6, 9)], ids=str)
def test_parts_without_scipy(space: tuple[int, ...]) -> None:
    mask = torch.rand(3, *space, generator=torch.Generator().manual_seed(1)) < 0.45
    for connectivity in range(1, len(space) + 1):
        joined = ndimage.generate_binary_structure(len(space), connectivity)
        expected = [ndimage.label(one.numpy(), joined)[1] for one in mask]
        assert parts_by_edges(mask, connectivity).tolist() == expected


FUNCTIONS = ("hausdorff95", "surface_distance", "cldice", "betti0_error")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ignored_pixels_take_no_part(name: str) -> None:
    """Whatever is predicted there; it is the image cut there, where nothing but the border is cut off."""
    metric = getattr(lf.metrics, name)
    preds, labels = maps(20, 24)
    labels[:, :, 17:] = 255
    found = metric(preds, labels, 3, ignore=255)
    other = preds.clone()
    other[:, :, 17:] = 2 - other[:, :, 17:]
    torch.testing.assert_close(metric(other, labels, 3, ignore=255), found, rtol=0, atol=0, equal_nan=True)
    if name in ("cldice", "betti0_error"):
        torch.testing.assert_close(metric(preds[..., :17], labels[..., :17], 3), found, rtol=0, atol=0, equal_nan=True)
    assert metric(preds, labels.clamp(max=2), 3, ignore=1)[:, 1].isnan().all()


def test_what_is_empty() -> None:
    nothing = torch.zeros(1, 5, 6).long()
    one = nothing.clone()
    one[0, 2, 2:5] = 1
    assert lf.metrics.hausdorff95(nothing, nothing, 2)[0, 1] == 0 and lf.metrics.hausdorff95(one, nothing, 2)[0, 1] == torch.inf
    assert lf.metrics.surface_distance(nothing, nothing, 2, empty="skip")[0, 1].isnan()
    assert lf.metrics.cldice(nothing, nothing, 2)[0, 1] == 100 and lf.metrics.cldice(one, nothing, 2)[0, 1] == 0
    assert lf.metrics.betti0_error(one, nothing, 2).tolist() == [[0, 1]]


def test_means_over_batches_are_means_over_images() -> None:
    preds, labels = maps(16, 18, batch=4)
    for cls, name in (("CLDice", "cldice"), ("Hausdorff95", "hausdorff95"), ("SurfaceDistance", "surface_distance")):
        options: dict[str, Any] = {"empty": "skip"}
        parts = [getattr(lf.metrics, cls)(3, **options) for _ in range(2)]
        for part, cut in zip(parts, (slice(0, 1), slice(1, 4)), strict=True):
            part.update(preds[cut], labels[cut])
        values = getattr(lf.metrics, name)(preds, labels, 3, **options)
        torch.testing.assert_close((parts[0] + parts[1]).compute(), values.nanmean(0))
    whole = lf.metrics.Betti0Error(3)
    whole.update(preds, labels)
    torch.testing.assert_close(whole.compute(), lf.metrics.betti0_error(preds, labels, 3).mean(0))
    boundary = lf.metrics.BoundaryF1(3, tolerance=2)
    boundary.update(preds, labels)
    torch.testing.assert_close(boundary.compute(), lf.metrics.boundary_f1(preds, labels, 3, tolerance=2).mean(0))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_calls_are_refused(name: str) -> None:
    metric, maps_ = getattr(lf.metrics, name), torch.zeros(1, 4, 5).long()
    for call, word in (
        (lambda: metric(maps_.float(), maps_, 2), "preds"),
        (lambda: metric(maps_, maps_[..., 1:], 2), "labels"),
        (lambda: metric(maps_ + 3, maps_, 2), "preds"),
        (lambda: metric(maps_, maps_, 0), "C"),
    ):
        with pytest.raises(lf.LossError, match=rf"{name}: {word}"):
            call()


def test_centrelines_of_solid_volumes() -> None:
    """Of a cube scikit-image leaves nothing; a right prediction is right nevertheless."""
    cube = torch.ones(1, 4, 4, 4).long()
    assert lf.metrics.cldice(cube, cube, 2)[0].tolist() == [100, 100]
    half = cube.clone()
    half[:, 2:] = 0
    assert 0 < lf.metrics.cldice(half, cube, 2)[0, 1] < 100
