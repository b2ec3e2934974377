"""Large scores, infinities, NaN and images too large for a half-precision sum."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import lossfold as lf
from tests.cases import ENGINES, Case, Data, cases, close, evaluate, every_case, is_map, make
from tests.steps import settled
from tests.truth import rounding_of_p, truth_of


def tolerance(dtype: torch.dtype) -> float:
    return 1e-12 if dtype == torch.float64 else 1e-5


@every_case()
@pytest.mark.parametrize("spread", [25.0, 1e4])
def test_large_logits(case: Case, spread: float, dtypes: list[torch.dtype]) -> None:
    """Finite everywhere, and accurate: -log p is thousands, p is 0 or 1 to the last bit."""
    for dtype in dtypes:
        case = case.changed(link="softmax")
        data = make(case, (13, 11), dtype=torch.float64)
        scores = data.scores * spread if spread == 25 else data.scores.sign() * spread
        data = settled(case, Data(scores.to(dtype), data.labels))
        assert (data.labels != case.ignore_index).sum() >= 20
        result, gradient = evaluate(case.build(), data)
        assert torch.isfinite(result).all() and torch.isfinite(gradient).all()
        truth, slope = truth_of(case, data)
        close(result.double().sum(), truth.sum(), tolerance(dtype), tolerance(dtype), case.grain)
        largest = slope.abs().max().item()
        eps = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-12
        close(gradient.double(), slope, 4 * eps, 8 * eps * largest + torch.finfo(dtype).tiny + rounding_of_p(case, data))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.999, 1.0, 2.0, 3.5])
def test_focal_at_saturation(engine: str, gamma: float, dtype: torch.dtype) -> None:
    """p is 1 in the dtype: 1 - p is 0, its power's derivative infinite for gamma < 1, the gradient yet finite."""
    scores = torch.tensor([[[60.0, -60.0, 16.0], [-60.0, 60.0, -16.0]]]).to(dtype)
    data = Data(scores, torch.zeros(1, 3, dtype=torch.int64))
    result, gradient = evaluate(lf.FocalLoss(gamma=gamma, engine=engine), data)
    assert torch.isfinite(result) and torch.isfinite(gradient).all()
    close(result.double(), torch.tensor(40.0, dtype=torch.float64), 1e-5, 0)
    third = torch.tensor(-1 / 3, dtype=torch.float64)
    close(gradient[0, 0, 1].double(), third, 4 * torch.finfo(dtype).eps, 0)
    assert (gradient[0, 0, 0].abs() <= 1e-20) and (gradient[0].sum(0).abs() <= 1e-3).all()


@every_case()
def test_minus_infinity_masks_a_class(case: Case, dtypes: list[torch.dtype]) -> None:
    """A class that no label names, its logits -inf: the same as logits so low that its probability is 0."""
    for dtype in dtypes:
        case = case.changed(link="softmax")
        data = make(case, (5, 7), dtype=dtype)
        masked = case.classes - 2
        assert (data.labels != masked).all()
        low, hidden = data.scores.clone(), data.scores.clone()
        low[:, masked], hidden[:, masked] = -3e4, -torch.inf
        result, gradient = evaluate(case.build(), Data(hidden, data.labels))
        if case.options.get("label_smoothing"):
            assert (result == torch.inf).any(), "smoothing asks for a class that cannot be: infinite, as in torch"
            continue
        truth, slope = evaluate(case.build(), Data(low, data.labels))
        close(result, truth, tolerance(dtype), tolerance(dtype), case.grain)
        close(gradient, slope, 4 * torch.finfo(dtype).eps, 1e-7)
        assert gradient[:, masked].abs().max() == 0


@every_case()
def test_nan_stays_visible(case: Case, dtypes: list[torch.dtype]) -> None:
    for dtype in dtypes:
        case = case.changed(link="softmax")
        data = make(case, (5, 7), dtype=dtype, ignored=0.0)
        scores = data.scores.clone()
        scores[0, 1, 2, 3] = torch.nan
        result, gradient = evaluate(case.build(), Data(scores, data.labels))
        assert gradient[0, :, 2, 3].isnan().all()
        if is_map(result, data.labels):
            expected = torch.zeros(data.labels.shape, dtype=torch.bool)
            expected[0, 2, 3] = True
            assert torch.equal(result.isnan(), expected)
        else:
            assert result.isnan().any()


@every_case()
def test_nan_at_the_label_stays_visible(case: Case, dtypes: list[torch.dtype]) -> None:
    """Also for probabilities, of which a pixel loss reads the label's alone."""
    for dtype in dtypes:
        data = make(case, (5, 7), dtype=dtype, ignored=0.0)
        data.labels[0, 2, 3] = 1
        scores = data.scores.clone()
        scores[0, 1, 2, 3] = torch.nan
        result, _ = evaluate(case.build(), Data(scores, data.labels))
        assert result.isnan().any()


@every_case(engines=["eager"])
def test_nan_weights_stay_visible(case: Case) -> None:
    for engine in case.engines:
        data = make(case, weight="float", ignored=0.0)
        assert data.weight is not None
        data.weight[0, 0, 0] = torch.nan
        data.labels[0, 0, 0] = data.scores[0, :, 0, 0].argmin()  # hard
        result, _ = evaluate(case.changed(engine=engine).build(), data)
        assert result.isnan().any(), engine


@pytest.mark.parametrize("engine", ENGINES)
def test_ten_million_half_pixels(engine: str) -> None:
    """Sums of 10^7 float16 pixels: far above 65504, and above what float32 can count one by one."""
    size, classes = 10_000_000, 2
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, classes, size, generator=generator, dtype=torch.float32).half()
    labels = torch.randint(0, classes, (1, size), generator=generator, dtype=torch.uint8)
    criterion = lf.LossSet(
        ce=lf.CrossEntropyLoss(engine=engine, reduction="sum"),
        focal=lf.FocalLoss(engine=engine),
        dice=lf.DiceLoss(engine=engine),
        jaccard=lf.JaccardLoss(engine=engine),
        tversky=lf.TverskyLoss(engine=engine),
        generalized=lf.GeneralizedDiceLoss(engine=engine, weighting="square"),
    )
    scores.requires_grad_()
    out = criterion(scores, labels)
    out.total.backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all() and scores.grad.abs().max() > 0
    p = torch.softmax(scores.detach().float(), 1)[0]
    foreground = labels[0] == 1
    assert all(torch.isfinite(term) for term in out.terms.values())
    exact = functional.cross_entropy(scores.detach().float(), labels.long(), reduction="none").double().sum()
    close(out.terms["ce"].double(), exact, 1e-6, 0)
    dice = []
    for c, mask in enumerate((~foreground, foreground)):
        overlap, area, true = p[c][mask].double().sum(), p[c].double().sum(), mask.double().sum()
        dice.append(1 - (2 * overlap + 1) / (area + true + 1))
    close(out.terms["dice"].double(), torch.stack(dice).mean(), 1e-6, 0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 150, 257])
def test_numbers_of_classes(engine: str, classes: int) -> None:
    """Around the widths of vectors, and beyond what uint8 labels can name."""
    for case in cases():
        listed = case.options.get("classes", "present")
        if case.per_class or (not isinstance(listed, str) and max(listed) >= classes) or (case.sorts and engine != "eager"):
            continue
        case = case.changed(engine=engine, link="softmax")
        generator = torch.Generator().manual_seed(classes)
        scores = torch.randn(1, classes, 37, generator=generator)
        labels = torch.randint(0, classes, (1, 37), generator=generator)
        data = settled(case, Data(scores, labels))
        result, gradient = evaluate(case.build(), data)
        truth, slope = truth_of(case, data)
        close(result.double().sum(), truth.sum(), 1e-5, 1e-5)
        close(gradient.double(), slope, 1e-4, 1e-6 * max(1.0, slope.abs().max().item()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 7, 15, 16, 17, 255, 256, 257, 1023, 4096, 4099])
def test_sizes_around_blocks(engine: str, size: int) -> None:
    options = {"CEDiceLoss": {}, "FocalLoss": {}, "LovaszLoss": {}, "OhemCrossEntropyLoss": {"min_kept": 5, "thresh": 0.2}}
    for name in options:
        case = Case(name, options[name] | {"engine": engine})
        data = settled(case, make(case, (size,), dtype=torch.float32, weight="float"))
        result, gradient = evaluate(case.build(), data)
        truth, slope = truth_of(case, data)
        close(result.double(), truth, 1e-6, 1e-6)
        close(gradient.double(), slope, 1e-4, 1e-6 * max(1.0, slope.abs().max().item()))
