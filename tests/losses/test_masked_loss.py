"""The decorator that makes a loss of a function of single elements."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold.losses.base import Loss
from tests.contract.case import close, same_bits
from tests.contract.refusals import refused


@lf.masked_loss
def absolute(pred: Tensor, target: Tensor) -> Tensor:
    """The absolute error."""
    return (pred - target).abs()


@lf.masked_loss
def logarithmic(pred: Tensor, target: Tensor, power: float | Tensor = 1.0) -> Tensor:
    """Infinite, with an infinite slope, where the prediction is 0; NaN below."""
    return (target / pred).log() ** power


@lf.weighted_loss
def square(x: Tensor, y: Tensor, *, scale: float = 1.0) -> Tensor:
    return scale * (x - y) ** 2


PRED, TARGET, CHANNELS = (torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3))
ONE = CHANNELS[:, :1].clone()
ONE[1, :, 2:] = 0
WEIGHTS = {"none": None, "one channel": ONE, "channels": CHANNELS, "flat": ONE[:, 0], "bool": ONE > 0.4}


def slopes(result: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result, leaves, torch.ones_like(result))


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"sample_wise": True}], ids=str)
@pytest.mark.parametrize("what", WEIGHTS)
def test_it_is_what_the_library_has(what: str, options: dict[str, object], dtype: torch.dtype) -> None:
    """The same numbers and gradients as L1Loss, whose rules are tested against NumPy."""
    pred, target = PRED.to(dtype, copy=True).requires_grad_(), TARGET.to(dtype)
    found = absolute(pred, target, WEIGHTS[what], **options)
    truth = lf.L1Loss(engine="eager", **options)(pred, target, WEIGHTS[what])
    assert found.dtype == truth.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(found, truth, 1e-6 if found.dtype == torch.float32 else 1e-12, 1e-9 if found.dtype == torch.float32 else 1e-14)
    for one, other in zip(slopes(found, pred), slopes(truth, pred), strict=True):
        close(one, other, 1e-3 if dtype in (torch.float16, torch.bfloat16) else 1e-6, 1e-9)


def test_formulas_written_out() -> None:
    values, w = (PRED - TARGET) ** 2, ONE.expand(3, 2, 5, 7)
    close(square(PRED, TARGET, ONE), (values * w).sum() / w.sum())
    close(square(PRED, TARGET, ONE, sample_wise=True), ((values * w).sum((1, 2, 3)) / w.sum((1, 2, 3))).mean())
    close(square(PRED, TARGET, ONE, reduction="sum", scale=3.0), 3 * (values * w).sum())
    close(square(PRED, TARGET, ONE, reduction="none"), values * w)
    empty = ONE.clone()
    empty[2] = 0
    means = [(values[i] * w[i]).sum() / w[i].sum() for i in range(2)]
    close(square(PRED, TARGET, empty, sample_wise=True), (means[0] + means[1]) / 3)
    close(square(PRED, TARGET, 1000 * ONE), square(PRED, TARGET, ONE))


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"sample_wise": True}], ids=str)
@pytest.mark.parametrize("poison", [0.0, -1.0, torch.nan, torch.inf])
@pytest.mark.parametrize("of", ["pred", "target"])
def test_what_does_not_count_is_not_there(of: str, poison: float, options: dict[str, object]) -> None:
    """Neither in the value nor in a gradient, the parameter's included, of the first or the second order."""
    here = ONE.expand_as(PRED) != 0
    assert not here.all()
    spoiled = {"pred": PRED + 0.1, "target": TARGET + 0.1}
    clean = dict(spoiled)
    spoiled[of] = spoiled[of].where(here, poison)
    found = []
    for one in (spoiled, clean):
        pred, target = (one[name].clone().requires_grad_() for name in ("pred", "target"))
        power = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        with torch.autograd.detect_anomaly(check_nan=True):
            result = logarithmic(pred, target, ONE, power=2.0, **options)
            first = torch.autograd.grad(result, (pred, target), torch.ones_like(result), create_graph=True)
            second = slopes(first[0].sum(), pred)
        (by_option,) = slopes(
            lf.masked_loss(lambda p, t, power: power * (t / p).log())(pred, target, ONE, power=power, **options), power
        )
        found.append((result.detach(), *(x.detach() for x in first), *second, by_option))
    for one, other in zip(*found, strict=True):
        assert torch.isfinite(other).all()
        close(one, other)
    assert (found[0][1][~here] == 0).all() and (found[0][2][~here] == 0).all()


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"sample_wise": True}], ids=str)
def test_where_nothing_counts(options: dict[str, object], dtype: torch.dtype) -> None:
    for shape in ((3, 2, 5, 7), (0, 2, 5, 7), (3, 2, 0, 7)):
        pred = torch.zeros(shape, dtype=dtype, requires_grad=True)
        weights = [torch.zeros(shape[0], 1, *shape[2:]), *([None] if 0 in shape else [])]
        for weight in weights:
            result = logarithmic(pred, torch.zeros(shape, dtype=dtype), weight, **options)
            assert result.requires_grad and torch.equal(result, torch.zeros_like(result))
            assert torch.equal(*slopes(result, pred), torch.zeros(shape, dtype=dtype))


def test_halves_are_computed_in_float32() -> None:
    """The square of 300 leaves float16."""
    pred = torch.full((1, 1, 64, 64), 300.0, dtype=torch.float16, requires_grad=True)
    result = square(pred, torch.zeros_like(pred))
    assert result.dtype == torch.float32 and result.item() == 90000
    assert slopes(result, pred)[0].dtype == torch.float16
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(1, 1, 1000, 1024, generator=generator) for _ in range(2))
    close(square(pred, target).double(), ((pred.double() - target.double()) ** 2).mean(), 1e-6, 0)


@pytest.mark.parametrize("what", WEIGHTS)
def test_derivatives(what: str) -> None:
    """To the prediction, the target, the weight and a parameter of the function."""
    weight = WEIGHTS[what]
    pred, target = (one[:, :, :2, :2].clone().requires_grad_() for one in (PRED + 1, TARGET + 2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    weight = None if weight is None else weight[..., :2, :2].clone()
    learned = [weight.requires_grad_()] if weight is not None and weight.is_floating_point() else []

    def call(*given: Tensor, **options: object) -> Tensor:
        w = given[3] if len(given) > 3 else weight
        return logarithmic(given[0], given[1], w, power=given[2], **options)

    for options in ({}, {"sample_wise": True}, {"reduction": "none"}):
        given = (pred, target, scale, *learned)
        assert torch.autograd.gradcheck(lambda *x, o=options: call(*x, **o), given, fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda *x, o=options: call(*x, **o), given[:3], fast_mode=True)


@pytest.mark.parametrize("what", WEIGHTS)
def test_fullgraph(what: str) -> None:
    torch._dynamo.reset()
    pred = PRED.clone().requires_grad_()
    compiled = torch.compile(lambda p, w: logarithmic(p, TARGET, w, sample_wise=True), fullgraph=True, backend="aot_eager")
    found, truth = compiled(pred, WEIGHTS[what]), logarithmic(pred, TARGET, WEIGHTS[what], sample_wise=True)
    close(found, truth)
    close(*slopes(found, pred), *slopes(truth, pred))
    torch._dynamo.reset()


def test_it_keeps_the_function() -> None:
    assert absolute.__name__ == "absolute" and absolute.__doc__ == "The absolute error."
    assert str(inspect.signature(square)).startswith("(pred: 'Tensor', target: 'Tensor', weight: 'Tensor | None' = None, *, red")
    assert inspect.signature(square).parameters["scale"].default == 1.0
    assert lf.weighted_loss is lf.masked_loss
    same_bits(square(pred=PRED, target=TARGET, weight=ONE), square(PRED, TARGET, ONE))
    for built_in in (torch.nn.functional.softplus, torch.sub):
        with pytest.raises((lf.LossError, ValueError)):  # no signature, or none of two tensors
            lf.masked_loss(built_in)
    many = lf.masked_loss(lambda p, t, **options: options["a"] * (p - t))
    close(many(PRED, TARGET, a=2.0), 2 * (PRED - TARGET).mean())


BAD: dict[str, tuple[Callable[[], object], list[str]]] = {
    "a target of another shape": (lambda: absolute(PRED, TARGET[:, :1]), ["absolute", "target", "3, 1, 5, 7"]),
    "a target of bytes": (lambda: absolute(PRED, TARGET.byte()), ["absolute", "target", "uint8"]),
    "a weight that would broadcast": (lambda: absolute(PRED, TARGET, ONE[:1]), ["absolute", "weight", "1, 1, 5, 7"]),
    "a weight of integers": (lambda: absolute(PRED, TARGET, ONE.long()), ["absolute", "weight", "int64"]),
    "a weight that is a number": (lambda: absolute(PRED, TARGET, 0.5), ["absolute", "weight", "tensor", "float"]),
    "a reduction": (lambda: absolute(PRED, TARGET, reduction="avg"), ["absolute", "reduction", "mean", "avg"]),
    "samples' sums": (lambda: absolute(PRED, TARGET, reduction="sum", sample_wise=True), ["absolute", "sample_wise", "mean"]),
    "a scalar": (
        lambda: lf.masked_loss(lambda pred, target: (pred - target).mean())(PRED, TARGET),
        ["result of the function", "3, 2, 5, 7", "each element"],
    ),
    "no tensor": (lambda: lf.masked_loss(lambda pred, target: 3.0)(PRED, TARGET, ONE), ["result of the function", "float"]),
    "one argument": (lambda: lf.masked_loss(lambda pred: pred), ["masked_loss", "function", "pred, target"]),
    "a weight of its own": (lambda: lf.masked_loss(lambda p, t, weight: p), ["masked_loss", "function", "weight"]),
    "no function": (lambda: lf.masked_loss("l1"), ["masked_loss", "function", "'l1'"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments(what: str) -> None:
    call, words = BAD[what]
    refused(call, *words)


def test_an_unknown_option_is_the_functions_to_refuse() -> None:
    with pytest.raises(TypeError, match="power"):
        absolute(PRED, TARGET, power=2)


def test_a_registered_class_is_a_few_lines() -> None:
    """Which then is a term of sets and a configuration like every other loss."""

    @lf.LOSSES.register
    @dataclass(kw_only=True, eq=False, repr=False)
    class LogarithmicLoss(Loss):
        power: float = 1.0
        sample_wise: bool = False

        def evaluate(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
            return logarithmic(pred, target, weight, power=self.power, sample_wise=self.sample_wise)

        def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
            return self.weigh(self.evaluate(pred, target, weight))

    try:
        loss = lf.build({"type": "LogarithmicLoss", "power": 2, "loss_weight": 0.5})
        assert dataclasses.is_dataclass(loss) and repr(loss) == "LogarithmicLoss(loss_weight=0.5, power=2)"
        out = lf.LossSet(l1=lf.L1Loss(), log=loss)(PRED, TARGET, ONE)
        close(out.terms["log"], logarithmic(PRED, TARGET, ONE, power=2))
        close(out.weighted["log"], 0.5 * out.terms["log"])
    finally:
        del lf.LOSSES._classes["LogarithmicLoss"]
