"""SAD, MSE, Grad and Conn against their definitions written with scipy and scikit-image, over batches, tiles and ranks."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, sparse
from skimage.measure import label
from torch import Tensor

from lossfold import metrics as m
from lossfold.errors import LossError
from lossfold.metrics.matting_connectivity import (
    find_largest,
    largest_part,
    largest_part_in_graphs,
    roots_of_edges,
    roots_without_waiting,
)

NAMES = ("sad", "mse", "grad", "conn")
FUNCTIONS = {name: getattr(m, f"matting_{name}") for name in NAMES}


def mattes(size: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Alphas of 8 bits whose parts touch and come apart at different levels, and a soft region with known pixels in it."""
    rng = np.random.default_rng(seed)
    blur = [ndimage.gaussian_filter(rng.random(size), [0] * (len(size) - 2) + [s, s], mode="nearest") for s in (1.5, 1.5, 0.7)]
    blur = [(x - 0.5) * 5 for x in blur]
    for x in blur:
        x[-1] *= 0.6  # the last image's alphas need not reach 0 and 1
    target, noise, region = (x + 0.5 for x in blur)
    pred = np.clip(target, 0, 1) * 0.7 + np.clip(noise, 0, 1) * 0.3
    pred, target = (np.round(np.clip(x, 0, 1) * 255) / 255 for x in (pred, target))
    region = np.where(region > 0.4, np.clip(region, 0, 1), 0)
    p, t, u = (torch.from_numpy(x).to(dtype) for x in (pred, target, region))
    return p, t, u


def largest(mask: Any) -> Any:
    parts = label(mask, connectivity=1)
    sizes = np.bincount(parts.ravel(), minlength=2)
    sizes[0] = 0
    return (parts == sizes.argmax()) & mask


def steepness(alpha: Any, normalize: bool) -> Any:
    sigma, epsilon = 1.4, 1e-2
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * epsilon)))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = -x * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    kernel /= np.sqrt((kernel**2).sum())
    if normalize and alpha.max() > alpha.min():
        alpha = (alpha - alpha.min()) / (alpha.max() - alpha.min())
    return np.hypot(*(ndimage.convolve(alpha, k, mode="nearest") for k in (kernel, kernel.T)))


def defined(name: str, pred: Tensor, target: Tensor, region: Tensor | None, normalize: bool = True) -> float:
    """The metric of one image ``[H, W]``."""
    p, t = pred.double().numpy(), target.double().numpy()
    u = np.ones_like(p) if region is None else region.double().numpy()
    if u.sum() == 0:
        return math.nan
    if name == "sad":
        return float((abs(p - t) * u).sum() / 1000)
    if name == "mse":
        return float(((p - t) ** 2 * u).sum() / u.sum())
    if name == "grad":
        return float(((steepness(p, normalize) - steepness(t, normalize)) ** 2 * u).sum() / 1000)
    source = np.full(p.shape, -1.0)
    for step in range(1, 11):
        level = torch.tensor(step / 10, dtype=pred.dtype).item()
        omega = largest((p >= level) & (t >= level))
        source[(source == -1) & ~omega] = (step - 1) / 10
    source[source == -1] = 1
    phi = [1 - (a - source) * (a - source >= 0.15) for a in (p, t)]
    return float((abs(phi[0] - phi[1]) * u).sum() / 1000)


def close(actual: Tensor, wanted: Any) -> None:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(1, 3), st.integers(1, 45), st.integers(1, 45), st.sampled_from(["soft", "bool", "none"]))
def test_metrics_are_their_definitions(name: str, images: int, height: int, width: int, kind: str) -> None:
    pred, target, soft = mattes((images, 1, height, width), height * 46 + width)
    region = {"soft": soft, "bool": soft > 0, "none": None}[kind]
    wanted = [defined(name, pred[i, 0], target[i, 0], None if region is None else region[i, 0]) for i in range(images)]
    close(FUNCTIONS[name](pred, target, region), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_and_layouts(name: str, dtype: torch.dtype) -> None:
    pred, target, region = mattes((2, 1, 60, 70), 5, dtype)
    actual = FUNCTIONS[name](pred, target, region)
    wanted = [defined(name, pred[i, 0], target[i, 0], region[i, 0]) for i in range(2)]
    assert actual.dtype == torch.float64 and actual.shape == (2,) and min(wanted) > 1e-4
    close(actual, wanted)
    close(FUNCTIONS[name](pred[:, 0], target[:, 0], region), wanted)
    close(FUNCTIONS[name](pred, target, region[:, 0]), wanted)
    if name != "conn":  # whose ties are broken by rows
        close(FUNCTIONS[name](*(x.mT.contiguous().mT for x in (pred, target, region))), wanted)
        close(FUNCTIONS[name](pred.mT, target.mT, region.mT), wanted)
    assert not FUNCTIONS[name](pred.clone().requires_grad_(), target, region.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_batches_perfect_alphas_and_empty_regions(name: str) -> None:
    pred, target, region = mattes((3, 1, 40, 50), 7)
    region[1] = 0
    together = FUNCTIONS[name](pred, target, region)
    close(together, torch.cat([FUNCTIONS[name](pred[i : i + 1], target[i : i + 1], region[i : i + 1]) for i in range(3)]))
    assert together[1].isnan() and not together[0].isnan()
    assert FUNCTIONS[name](target, target, region).nan_to_num(0).tolist() == [0, 0, 0]
    assert FUNCTIONS[name](pred[:0], target[:0]).shape == (0,)
    close(FUNCTIONS[name](pred, target), FUNCTIONS[name](pred, target, torch.ones_like(pred)))
    flat = torch.full_like(pred, 0.3, dtype=torch.float64)
    close(FUNCTIONS[name](flat, flat + 0.25), [{"sad": 0.5, "mse": 0.0625, "grad": 0, "conn": 0.5}[name]] * 3)


def test_grad_normalises_unless_told_otherwise() -> None:
    pred, target, region = mattes((2, 1, 40, 50), 3)  # the second image's alphas do not reach 0 and 1
    raw = m.matting_grad(pred, target, region, normalize=False)
    close(raw, [defined("grad", pred[i, 0], target[i, 0], region[i, 0], normalize=False) for i in range(2)])
    assert (raw - m.matting_grad(pred, target, region)).abs()[1] > 1e-3
    whole = [x.clone() for x in (pred, target)]
    for x in whole:
        x[..., 0, 0], x[..., 0, 1] = 0, 1
    close(m.matting_grad(*whole, region), m.matting_grad(*whole, region, normalize=False))


def test_a_level_is_reached_in_every_dtype(dtype: torch.dtype) -> None:
    alpha = torch.arange(11).to(torch.float64)[:, None].expand(11, 4) / 10
    other = torch.ones(11, 4, dtype=dtype)
    # Each row is connected up to its own level, so that its d is 0, and that of the other alpha 1 - level.
    d = 1 - alpha
    close(m.matting_conn(alpha.to(dtype)[None], other[None]), [(d * (d >= 0.15)).sum().item() / 1000])


def patterns() -> dict[str, Tensor]:
    """Masks on which labels travel far, and ties."""
    spiral = torch.zeros(61, 61, dtype=torch.bool)
    y, x, dy, dx = 0, 0, 0, 1
    spiral[0, 0] = True
    for _ in range(61 * 61):
        ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        blocked = not (0 <= ahead[0] < 61 and 0 <= ahead[1] < 61) or spiral[ahead]
        blocked = blocked or (0 <= beyond[0] < 61 and 0 <= beyond[1] < 61 and bool(spiral[beyond]))
        if blocked:
            dy, dx = dx, -dy
            if not (0 <= y + dy < 61 and 0 <= x + dx < 61) or spiral[y + dy, x + dx]:
                break
            if 0 <= y + 2 * dy < 61 and 0 <= x + 2 * dx < 61 and spiral[y + 2 * dy, x + 2 * dx]:
                break
            continue
        y, x = ahead
        spiral[y, x] = True
    snake = torch.zeros(61, 61, dtype=torch.bool)
    snake[::2] = True
    snake[1::4, -1] = snake[3::4, 0] = True
    comb = torch.zeros(61, 61, dtype=torch.bool)
    comb[:, ::2] = True
    comb[-1] = True
    rows = torch.zeros(61, 61, dtype=torch.bool)
    rows[::2, :30] = True
    chess = (torch.arange(61)[:, None] + torch.arange(61)) % 2 == 0
    found = {"spiral": spiral, "snake": snake, "comb": comb, "rows": rows, "chess": chess}
    found |= {f"{name} {turn}": value.rot90(turn) for name, value in found.items() for turn in (1, 2, 3)}
    return found | {"none": ~chess & chess, "all": chess | ~chess}


@pytest.mark.parametrize("wait", [True, False])
def test_largest_part_of_patterns(wait: bool) -> None:
    masks = patterns()
    assert masks["spiral"].sum() > 1500 and (label(masks["spiral"].numpy(), connectivity=1).max()) == 1
    stack = torch.stack(list(masks.values()))
    found = find_largest(stack, wait)
    for name, mask, part in zip(masks, stack, found, strict=True):
        assert torch.equal(part, torch.from_numpy(largest(mask.numpy()))), name
    assert found[list(masks).index("chess")].sum() == 1 and found[list(masks).index("chess"), 0, 0]  # the first of equal ones


@given(st.integers(0, 2), st.integers(0, 40), st.integers(0, 40), st.floats(0.2, 0.9), st.booleans())
def test_largest_part_of_noise(images: int, height: int, width: int, share: float, wait: bool) -> None:
    mask = torch.rand(images, height, width, generator=torch.Generator().manual_seed(height * 41 + width)) < share
    wanted = [torch.from_numpy(largest(one.numpy())) for one in mask if one.numel()]
    assert torch.equal(find_largest(mask, wait), torch.stack(wanted) if wanted else mask)


@pytest.mark.parametrize("kind", ["chain", "path", "star", "tree", "caterpillar", "random"])
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 7, 64, 65, 1000])
def test_rounds_suffice(kind: str, nodes: int) -> None:
    generator = torch.Generator().manual_seed(nodes)
    child = torch.arange(1, nodes)
    for _ in range(5):
        parent = {
            "chain": child - 1,
            "path": child - 1,
            "star": torch.zeros_like(child),
            "tree": (child - 1) // 2,
            "caterpillar": torch.where(child % 2 == 0, child - 2, child - 1),
            "random": torch.randint(0, nodes, (nodes - 1,), generator=generator),
        }[kind]
        names = torch.randperm(nodes, generator=generator)
        names = names.sort().values if kind == "chain" else names  # the deepest tree there can be
        first, second = names[child], names[parent]
        graph = sparse.coo_matrix((np.ones(nodes - 1), (first.numpy(), second.numpy())), (nodes, nodes))
        parts = torch.from_numpy(sparse.csgraph.connected_components(graph, directed=False)[1]).long()
        lowest = torch.full((nodes,), nodes).scatter_reduce(0, parts, torch.arange(nodes), "amin")[parts]
        assert torch.equal(roots_of_edges(first, second, nodes), lowest)
        assert torch.equal(roots_without_waiting(first, second, torch.ones_like(first, dtype=torch.bool), nodes, nodes), lowest)


def test_compiles_and_is_a_good_operator() -> None:
    pred, target, region = mattes((2, 1, 20, 30))

    def call(pred: Tensor, target: Tensor, region: Tensor) -> Tensor:
        return torch.stack([function(pred, target, region) for function in FUNCTIONS.values()])

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    close(compiled(pred, target, region), call(pred, target, region))
    with pytest.raises(RuntimeError, match="pred of matting_sad out of range"):
        compiled(pred * 255, target, region)
    torch.library.opcheck(largest_part_in_graphs, (pred[:, 0] > 0.5,))
    torch.library.opcheck(largest_part_in_graphs, ((pred[:, 0] > 0.5).mT,))


@pytest.mark.parametrize("names", [NAMES, ("conn", "sad"), ("mse",)])
def test_accumulator_is_the_mean_over_images(names: tuple[str, ...]) -> None:
    pred, target, region = mattes((5, 1, 30, 40), 2)
    region[2] = 0
    score, left, right = (m.MattingMetrics(names) for _ in range(3))
    assert all(value.isnan() for value in score.compute().values())
    score.update(pred[:2], target[:2], region[:2])
    score(pred[2:], target[2:], region[2:])
    counted = [0, 1, 3, 4]
    wanted = {name: FUNCTIONS[name](pred, target, region)[counted].mean() for name in names}
    assert tuple(score.compute()) == names
    left.update(pred[3:], target[3:], region[3:])
    right.update(pred[:3], target[:3], region[:3])
    loaded = m.MattingMetrics(names)
    loaded.load_state_dict(score.state_dict())
    others = (left + right, loaded, copy.deepcopy(score), pickle.loads(pickle.dumps(score)), score.sync(), left.merge(right))
    for other in (score, *others):
        for name, value in other.compute().items():
            close(value, wanted[name])
    assert repr(eval(repr(score), vars(m))) == repr(score)
    score.reset()
    assert score.compute()[names[0]].isnan()
    assert m.MattingMetrics().half().total.dtype == torch.float64
    plain = m.MattingMetrics(("grad",), normalize=False)
    plain.update(pred.clone().requires_grad_(), target)
    close(plain.compute()["grad"], m.matting_grad(pred, target, normalize=False).mean())
    assert not plain.total.requires_grad


def test_tiles_of_one_image() -> None:
    pred, target, region = mattes((1, 1, 30, 40), 2)
    score = m.MattingMetrics(("mse", "sad"), per_image=False)
    assert all(value.isnan() for value in score.compute().values())
    for tile in (np.s_[..., :7], np.s_[..., 7:20], np.s_[..., 20:]):
        score.update(pred[tile], target[tile], region[tile])
    close(score.compute()["sad"], m.matting_sad(pred, target, region)[0])
    close(score.compute()["mse"], m.matting_mse(pred, target, region)[0])


def rank(number: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    pred, target, region = mattes((3, 1, 20, 24), 1)
    mine = slice(0, 1) if number == 0 else slice(1, 3)
    score = m.MattingMetrics()
    score.update(pred[mine], target[mine], region[mine])
    for name, value in score.sync().compute().items():
        close(value, FUNCTIONS[name](pred, target, region).mean())
    with pytest.raises(LossError, match="reset"):
        score.update(pred, target, region)
    torch.distributed.destroy_process_group()


@pytest.mark.slow  # two processes that import everything anew
def test_two_ranks(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank, (str(tmp_path),), nprocs=2)


A = torch.full((2, 1, 3, 4), 0.5)
BAD: list[tuple[Any, str]] = [
    (lambda: m.matting_sad((A * 255).byte(), A), r"matting_sad: pred must be a dense float .*/ 255"),
    (lambda: m.matting_sad(A, A > 0), "matting_sad: target must be a dense float"),
    (lambda: m.matting_mse(A.numpy(), A), "matting_mse: pred .*ndarray"),
    (lambda: m.matting_mse(A[0, 0], A[0, 0]), "pred must be .*batch dimension"),
    (lambda: m.matting_grad(A.expand(2, 3, 3, 4), A), r"pred must be \[B, 1, H, W\] or \[B, H, W\], got \[2, 3, 3, 4\]"),
    (lambda: m.matting_grad(A[..., :0], A[..., :0]), "pred must be"),
    (lambda: m.matting_conn(A, A[:, 0]), r"target must be of pred's shape \[2, 1, 3, 4\]"),
    (lambda: m.matting_conn(A, A[:1]), "target must be of pred's shape"),
    (lambda: m.matting_sad(A * 255, A), "pred must be in .*127.5 .*by 255"),
    (lambda: m.matting_sad(A, A * 2.1), "target must be in .*1.05 .*clamp"),
    (lambda: m.matting_sad(A * float("nan"), A), "pred must be in .*24 values that are NaN"),
    (lambda: m.matting_sad(A, A, (A * 256).byte()), "region must be a dense bool or float .*region_from_trimap"),
    (lambda: m.matting_sad(A, A, A * 256), "region must be in .*region_from_trimap"),
    (lambda: m.matting_sad(A, A, A[..., :2]), r"region must be of shape \[2, 3, 4\] or \[2, 1, 3, 4\]"),
    (lambda: m.matting_sad(A, A, A[:1]), "region must be of shape"),
    (lambda: m.matting_grad(A, A, normalize=1), "matting_grad: normalize must be"),
    (lambda: m.MattingMetrics(("sad", "psnr")), "MattingMetrics: metrics must be"),
    (lambda: m.MattingMetrics("sad"), "metrics must be a list"),
    (lambda: m.MattingMetrics(("sad", "sad")), "each at most once"),
    (lambda: m.MattingMetrics(()), "metrics must be"),
    (lambda: m.MattingMetrics(per_image=False), "metrics must be .*of tiles do not add"),
    (lambda: m.MattingMetrics(per_image=1), "per_image must be"),
    (lambda: m.MattingMetrics().update(A, A * 4), "MattingMetrics: target must be in"),
    (lambda: m.MattingMetrics() + m.MattingMetrics(("sad",)), "MattingMetrics: other"),
]


@pytest.mark.parametrize("case", BAD, ids=[words for _, words in BAD])
def test_bad_input(case: tuple[Any, str]) -> None:
    with pytest.raises(LossError, match=case[1]):
        case[0]()


def test_other_devices_are_refused() -> None:
    there = A.to("meta")
    for arguments in ((A, there), (A, A, there)):
        with pytest.raises(LossError, match="on pred's device cpu"):
            m.matting_sad(*arguments)
    with pytest.raises(LossError, match=r"pred must be on the accumulator's device meta.*\.to"):
        m.MattingMetrics().to("meta").update(A, A)


def published_connectivity(pred: np.ndarray, target: np.ndarray) -> float:
    """As the published code has it, in float64, with thresholds of numpy.arange."""
    levels = np.arange(0, 1 + 0.1, 0.1)
    reached = np.full(target.shape, -1.0)
    for below, level in itertools.pairwise(levels):
        parts, count = ndimage.label((target >= level) & (pred >= level))
        largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else np.zeros(target.shape, bool)
        reached[(reached == -1) & ~largest] = below
    reached[reached == -1] = 1
    first, second = (alpha - reached for alpha in (pred, target))
    return float(np.abs(first * (first >= 0.15) - second * (second >= 0.15)).sum() / 1000)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_published_levels_of_connectivity(kind: torch.dtype) -> None:
    """The rounding of their thresholds counts: 153/255 is 0.6, and does not reach 0.6000000000000001."""
    rng = np.random.default_rng(0)
    target = np.clip(ndimage.gaussian_filter(rng.standard_normal((90, 110)), 6) * 25 + 0.5, 0, 1)
    pred = np.clip(target + 0.3 * ndimage.gaussian_filter(rng.standard_normal((90, 110)), 2), 0, 1)
    bits = [torch.from_numpy((alpha * 255).round()) for alpha in (pred, target)]
    bits[0][40:60, 40:60] = bits[1][40:60, 40:60] = 153
    alphas = [(alpha / 255).to(kind)[None] for alpha in bits]
    expected = published_connectivity(*(alpha.numpy() / 255 for alpha in bits))
    assert m.matting_conn(*alphas, levels="published").item() == pytest.approx(expected, rel=1e-12)
    assert m.matting_conn(*alphas).item() != pytest.approx(expected, rel=1e-3)
    score = m.MattingMetrics(("conn",), levels="published")
    score.update(*alphas)
    assert score.compute()["conn"].item() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(LossError, match="levels must be 'exact' or 'published'"):
        m.matting_conn(*alphas, levels="rounded")


def test_the_largest_part_with_and_without_scipy() -> None:
    for density in (0.3, 0.55, 0.7):
        masks = torch.rand(3, 40, 50) < density
        assert torch.equal(largest_part(masks), find_largest(masks, wait=True))
    assert not largest_part(torch.zeros(2, 5, 5, dtype=torch.bool)).any()
