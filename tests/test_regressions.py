"""What a tester broke once: each stays mended."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf

ENGINES = lf.engines.available()


@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_float64_weights_with_narrower_logits(narrow: torch.dtype, reduction: str) -> None:
    x = torch.randn(2, 5, 37, 11).to(narrow)
    y, w = torch.randint(0, 5, (2, 37, 11)), torch.rand(2, 37, 11, dtype=torch.float64)
    results = []
    for engine in ENGINES:
        leaf = x.clone().requires_grad_()
        value = lf.CrossEntropyLoss(engine=engine, reduction=reduction)(leaf, y, w)
        value.sum().backward()
        results.append((value.detach(), leaf.grad))
    for value, grad in results:
        torch.testing.assert_close(value, results[0][0])
        torch.testing.assert_close(grad, results[0][1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_smallest_integer_is_no_label(engine: str, reduction: str) -> None:
    y = torch.tensor([[0, 1, -(2**63), 2]])  # what x86 makes of NaN
    with pytest.raises(lf.LossError, match="labels"):
        lf.CrossEntropyLoss(engine=engine, reduction=reduction)(torch.randn(1, 3, 4), y)


def test_options_changed_later_act_and_are_checked() -> None:
    x, y = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    loss = lf.CrossEntropyLoss()
    loss.class_weight = [1.0, 5.0, 1.0]
    torch.testing.assert_close(loss(x, y), lf.CrossEntropyLoss(class_weight=[1, 5, 1])(x, y))
    focal = lf.FocalLoss()
    focal.alpha = [1.0, 2.0, 3.0]
    torch.testing.assert_close(focal(x, y), lf.FocalLoss(alpha=[1, 2, 3])(x, y))
    for name, value in {"reduction": "avg", "link": "sigmoid", "ignore_index": None, "engine": "cuda"}.items():
        with pytest.raises(lf.LossError, match=name):
            setattr(lf.CrossEntropyLoss(), name, value)
    preset = lf.CEDiceLoss()
    preset.ce_weight, preset.ignore_index = 100.0, 0
    torch.testing.assert_close(preset(x, y).total, lf.CEDiceLoss(ce_weight=100.0, ignore_index=0)(x, y).total)


def test_class_weights_survive_meta_and_half() -> None:
    x, y = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    expected = lf.CrossEntropyLoss(class_weight=[1, 5, 1 / 3])(x, y)
    with torch.device("meta"):
        module = torch.nn.ModuleDict({"loss": lf.CrossEntropyLoss(class_weight=[1, 5, 1 / 3])})
    assert module.to_empty(device="cpu")["loss"](x, y) == expected
    assert module.half()["loss"](x, y) == expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("normalize", ["pixels", "focal"])
def test_focal_at_saturation_under_a_gradient_scale(engine: str, gamma: float, normalize: str) -> None:
    x = torch.zeros(1, 3, 64)
    x[:, 1] = 30.0
    x.requires_grad_()
    loss = lf.FocalLoss(gamma=gamma, normalize=normalize, reduction="sum", engine=engine)
    (loss(x, torch.ones(1, 64, dtype=torch.long)) * 65536).backward()
    assert x.grad.isfinite().all()


def test_small_spaces_compile_with_dynamic_shapes() -> None:
    loss = torch.compile(lf.DiceLoss(engine="eager"), fullgraph=True, dynamic=True, backend="aot_eager")
    for side in (8, 9, 40):
        x, y = torch.randn(2, 3, side, side), torch.randint(0, 3, (2, side, side))
        torch.testing.assert_close(loss(x, y), lf.DiceLoss(engine="eager")(x, y))


@pytest.mark.parametrize("engine", ENGINES)
def test_logits_without_space(engine: str) -> None:
    x, y, w = torch.randn(300, 7, requires_grad=True), torch.randint(0, 7, (300,)), torch.rand(300)
    for per_image in (False, True):
        criterion = lf.LossSet(ce=lf.CrossEntropyLoss(engine=engine), dice=lf.DiceLoss(engine=engine, per_image=per_image))
        out = criterion(x, y, w)
        flat = lf.LossSet(ce=lf.CrossEntropyLoss(engine="eager"), dice=lf.DiceLoss(engine="eager", per_image=per_image))(
            *(t[..., None] for t in (x, y, w))
        )
        torch.testing.assert_close(out.total, flat.total)
        for grads in zip(torch.autograd.grad(out.total, x), torch.autograd.grad(flat.total, x), strict=True):
            torch.testing.assert_close(*grads)


def test_layouts_and_numbers_that_are_refused() -> None:
    x, y = torch.randn(2, 3, 8), torch.randint(0, 3, (2, 8))
    with pytest.raises(lf.LossError, match="logits"):
        lf.DiceLoss()(x.to_sparse(), y)
    with pytest.raises(lf.LossError, match="weight"):
        lf.DiceLoss()(x, y, torch.ones(2, 8).to_sparse())
    for name, value in {"loss_weight": float("inf"), "ignore_index": 2**63, "gamma": 10**400}.items():
        with pytest.raises(lf.LossError, match=name):
            lf.FocalLoss(**{name: value})


def test_a_perfect_prediction_costs_nothing_whatever_the_exponent() -> None:
    p = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1]]), 2).movedim(-1, 1).double()
    assert lf.TverskyLoss(link="identity", exponent=0.01)(p, torch.tensor([[0, 1, 1]])) == 0


def test_class_weights_from_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert lf.DiceLoss(class_weight=numpy.ones(3)).class_weight == (1.0, 1.0, 1.0)
