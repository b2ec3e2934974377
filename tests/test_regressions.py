"""What a tester broke once: each stays mended."""

from __future__ import annotations

import pytest
import torch

import lossfold as lf
from tests.internals import collected

ENGINES = lf.engines.available()
every_engine = pytest.mark.parametrize("engine", ENGINES)


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
    loss = torch.compile(lf.DiceLoss(engine="eager"), fullgraph=True, dynamic=True, backend="eager")
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


@every_engine
def test_a_whole_block_in_the_first_bin(engine: str) -> None:
    """All pixels of a block high in bin 0: the sums of places stay within their integers at every SIMD level."""
    p = 0.99 / 4096
    scores = torch.tensor([1 - p, p]).expand(1, 4096, 2).movedim(-1, 1).contiguous()
    fold = collected(lf.LovaszLoss(link="identity", engine=engine, exact=False), scores, torch.zeros(1, 4096, dtype=torch.long))[0]
    torch.testing.assert_close(fold.table[0, 2:, 1, 0], torch.tensor([4096.0, 4096 * 0.99], dtype=torch.float64), rtol=1e-5, atol=0)


@every_engine
def test_ohem_is_not_fooled_by_minus_zero(engine: str) -> None:
    p = torch.tensor([[[1.0, 1.0, 0.2, 0.9], [0.0, 0.0, 0.8, 0.1]]])
    loss = lf.OhemCrossEntropyLoss(engine=engine, link="identity", min_kept=0)
    torch.testing.assert_close(loss(p, torch.zeros(1, 4, dtype=torch.long)), -torch.tensor(0.2).log())


@every_engine
@pytest.mark.parametrize("classes", ["all", "present", [0, 1]])
@pytest.mark.parametrize("link", ["softmax", "identity"])
def test_lovasz_shows_nan(engine: str, classes: str, link: str) -> None:
    scores = torch.rand(1, 2, 30)
    scores[0, 1, 7] = torch.nan
    labels = torch.randint(0, 2, (1, 30))
    loss = lf.LovaszLoss(engine=engine, classes=classes, link=link, exact=False)
    assert loss(scores, labels).isnan()
    assert lf.LovaszLoss(engine=engine, classes="all", link=link, exact=False)(scores[:, :, 7:8], labels[:, :1] * 0).isnan()
    for bad in (torch.nan, torch.inf):
        weight = torch.ones(1, 30)
        weight[0, 3] = bad
        assert loss(torch.rand(1, 2, 30), labels, weight).isnan()


@every_engine
@pytest.mark.parametrize("exact", [None, False])
def test_lovasz_in_any_units_of_weight(engine: str, exact: bool | None) -> None:
    """A power of two on all weights changes no bit, of loss, gradient and bounds; any other factor only rounds them."""
    for link in ("softmax", "hinge"):
        x, y, w = torch.randn(2, 3, 40), torch.randint(0, 3, (2, 40)), torch.rand(2, 40)
        t = torch.nn.functional.one_hot(y, 3).movedim(-1, 1) if link == "hinge" else y
        loss = lf.LovaszLoss(engine=engine, link=link, exact=exact)

        def found(w: torch.Tensor, x: torch.Tensor = x, t: torch.Tensor = t, loss: lf.LovaszLoss = loss) -> list[torch.Tensor]:
            leaf = x.clone().requires_grad_()
            value = loss(leaf, t, w)
            bounds = lf.functional.lovasz_bounds(x, t, w, link=loss.link, engine=loss.engine)
            return [value.detach(), torch.autograd.grad(value, leaf)[0], *bounds]

        truth = found(w)
        assert truth[2] <= truth[0] <= truth[3]
        for factor in (2.0**-90, 2.0**-20, 2.0**40, 2.0**90):
            assert all(map(torch.equal, found(factor * w), truth))
        for factor in (1e-6, 1e-8, 1e13):
            torch.testing.assert_close(found(factor * w), truth, rtol=1e-5, atol=1e-6)


@every_engine
@pytest.mark.parametrize("low", [-1143.9391, -1e4, -1e30])
def test_a_class_far_below_in_two_rows_of_scores(engine: str, low: float) -> None:
    scores = torch.zeros(1, 2, 3, 3)
    scores[:, 1] = low
    scores[:, 1, 1:] = -80.5
    scores.requires_grad_()
    value = lf.CrossEntropyLoss(engine=engine)(scores, torch.zeros(1, 12, 12, dtype=torch.long))
    (gradient,) = torch.autograd.grad(value, scores)
    assert value == 0 and gradient.isfinite().all()


@pytest.mark.skipif("cpp" not in lf.engines.available(), reason="F.interpolate gives NaN between infinite scores")
@pytest.mark.parametrize("size", [16, 32, 64, 28, 5])
def test_a_class_masked_by_infinity_at_label_resolution(size: int) -> None:
    scores = torch.randn(1, 4, 8, 8)
    labels = torch.randint(1, 4, (1, size, size))
    masked = scores.clone()
    masked[:, 0] = -torch.inf
    for loss in (lf.CrossEntropyLoss(), lf.DiceLoss(), lf.LovaszLoss(), lf.OhemCrossEntropyLoss(min_kept=9)):
        torch.testing.assert_close(
            loss(masked, labels),
            type(loss)(**({"min_kept": 9} if "min_kept" in repr(loss) else {}))(
                torch.cat([scores[:, :1] * 0 - 1e5, scores[:, 1:]], 1), labels
            ),
        )


@every_engine
def test_ohem_shows_nan_without_min_kept(engine: str) -> None:
    logits = torch.randn(1, 3, 9)
    logits[0, 1, 4] = torch.nan
    assert not lf.OhemCrossEntropyLoss(engine=engine, min_kept=0, thresh=1e-6)(
        logits, torch.zeros(1, 9, dtype=torch.long)
    ).isfinite()


def test_engines_agree_on_the_slope_at_the_ends_of_the_unit_interval() -> None:
    p = torch.tensor([[[1.0, 1.0, 0.0, 1.0, 0.5, 0.25]]], dtype=torch.float64, requires_grad=True)
    labels = torch.ones(1, 6, dtype=torch.long)  # of one channel: a mask
    slopes = [
        torch.autograd.grad(lf.LovaszLoss(link="identity", **options)(p, labels), p)[0]
        for options in ({"engine": "eager"}, {"exact": True}, {})
    ]
    for slope in slopes:
        torch.testing.assert_close(slope, torch.full_like(p, -1 / 6))


def test_missing_arguments_in_a_dict_of_outputs_are_named() -> None:
    outputs = {"logits": torch.randn(1, 3, 4), "mask": torch.ones(1, 4)}
    for loss in (lf.CrossEntropyLoss(), lf.CrossEntropyLoss(inputs={"logits": "logits"}), lf.LossSet(a=lf.DiceLoss())):
        with pytest.raises(lf.LossError, match=r"labels must be in the outputs.*'logits', 'mask'"):
            loss(outputs)
    with pytest.raises(lf.LossError, match="one dict"):
        lf.CrossEntropyLoss(inputs={"logits": "logits"})(outputs_dict=outputs, weight=outputs["mask"])
    complete = outputs | {"labels": torch.zeros(1, 4, dtype=torch.long)}
    assert lf.LossSet(a=lf.DiceLoss())(complete).total == lf.DiceLoss()(complete["logits"], complete["labels"])


def test_a_refused_option_leaves_the_loss_as_it_was() -> None:
    loss = lf.LovaszLoss()
    with pytest.raises(lf.LossError, match="bins"):
        loss.bins = 1
    assert loss.bins == 4096


def test_a_bad_label_of_uint8_is_named() -> None:
    with pytest.raises(lf.LossError, match=r"got also \[156\]"):
        lf.CrossEntropyLoss()(torch.randn(1, 3, 4), torch.full((1, 4), 156, dtype=torch.uint8))


@pytest.mark.parametrize("engine", [None, "eager"])
def test_labels_of_a_byte_are_not_taken_for_what_is_ignored(engine: str | None) -> None:
    """A uint8 of 156 compares equal to -100 in PyTorch."""
    scores, labels = torch.randn(1, 160, 3, 4), torch.full((1, 3, 4), 156)
    labels[0, 0, 0] = 3
    for kind in (lf.BoundaryLoss, lf.SkeletonRecallLoss, lf.HausdorffDTLoss, lf.CLDiceLoss, lf.DiceLoss, lf.ExpLogLoss):
        loss = kind(engine=engine)
        assert torch.equal(loss(scores, labels.byte()), loss(scores, labels)), kind


@pytest.mark.parametrize("exponent", [0.75, 1.5, 2.0])
def test_scores_above_one_cost_nothing_whatever_the_exponent(exponent: float) -> None:
    """Of squared probabilities a Tversky score may exceed 1, where a power would be NaN, or a steep line below 0."""
    p, t = torch.tensor([[0.36], [0.68]], requires_grad=True), torch.tensor([[0.18], [0.41]])
    loss = lf.TverskyLoss(link="identity", alpha=0.5, beta=0.9, squared=True, exponent=exponent)(p, t)
    assert loss == 0 and torch.autograd.grad(loss, p)[0].abs().sum() == 0
