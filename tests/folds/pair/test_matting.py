"""The published matting criterion, and the mistakes that code of it makes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.folds.pair.cases import PairCase
from tests.folds.pair.oracles import DEFAULTS, TERMS

CASE = PairCase("MattingLoss", {})
ZERO = torch.zeros((), dtype=torch.float64)


def published(pred: Tensor, target: Tensor, region: Tensor) -> dict[str, Tensor]:
    """The four terms as they are published: masks inside, means over all pixels, B·262144 / Σ mask; zeros beyond the border."""
    known = (region == 0).to(pred)
    found = {}
    for name, mask in (("unknown_l1_loss", region), ("known_l1_loss", known)):
        scale = len(pred) * 262144 / mask.sum()
        found[name] = functional.l1_loss(pred * mask, target * mask) * scale
    kernel = pred.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    gradient = ZERO
    for one in (kernel, kernel.T):
        of_pred, of_target = (functional.conv2d(image, one[None, None], padding=1) * region for image in (pred, target))
        gradient = gradient + functional.l1_loss(of_pred, of_target) + 0.01 * of_pred.abs().mean()
    found["loss_gradient_penalty"] = gradient * len(pred) * 262144 / region.sum()
    row = pred.new_tensor([1, 4, 6, 4, 1]) / 16
    binomial, images, laplacian = (row[:, None] * row)[None, None], (pred, target), ZERO
    for level in range(5):
        coefficients, low = [], []
        for image in images:
            small = functional.conv2d(functional.pad(image, (2, 2, 2, 2), mode="reflect"), binomial)[:, :, ::2, ::2]
            spread = functional.conv_transpose2d(small, pred.new_tensor([[4, 0], [0, 0]])[None, None], stride=2)
            coefficients.append(image - functional.conv2d(functional.pad(spread, (2, 2, 2, 2), mode="reflect"), binomial))
            low.append(small)
        laplacian = laplacian + 2**level * functional.l1_loss(*coefficients)
        images = (low[0], low[1])
    return found | {"loss_pha_laplacian": laplacian / 5}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("side", "reference_area"), [(512, None), (128, 262144), (64, 262144)])
def test_the_published_criterion(engine: str, side: int, reference_area: int | None) -> None:
    """At 512x512 the area of reference is the image's; at other sizes it has to be given."""
    data = CASE.make((side, side), batch=2 if side < 512 else 1)
    assert data.weight is not None
    smooth = lf.MattingGradientLoss(padding="zeros", reference_area=reference_area, engine=engine)
    terms = {"unknown_l1_loss": 1.0, "known_l1_loss": 1.0, "loss_pha_laplacian": 1.0, "loss_gradient_penalty": smooth}
    criterion = lf.MattingLoss(losses=terms, reference_area=reference_area, engine=engine)
    leaf = data.leaf()
    truth = published(leaf.pred, leaf.target, data.weight)
    out = criterion(*data.call)
    assert set(out.terms) == set(truth) == set(DEFAULTS)
    for name, expected in truth.items():
        close(out.terms[name], expected.detach())
    (slope,) = torch.autograd.grad(torch.stack(list(truth.values())).sum(), leaf.pred)
    close(evaluate(criterion, data)[1], slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_continues_the_borders(engine: str) -> None:
    """A perfect opaque alpha costs nothing; with zeros beyond the border it would, at the border alone."""
    opaque, region = torch.ones(1, 1, 16, 16, dtype=torch.float64), torch.ones(1, 1, 16, 16)
    data = Data(opaque, opaque.clone(), region)
    result, gradient = evaluate(lf.MattingLoss(engine=engine), data)
    assert result == 0 and gradient.abs().max() == 0
    result, gradient = evaluate(lf.MattingGradientLoss(padding="zeros", engine=engine), data)
    assert result > 0 and gradient[..., 2:-2, 2:-2].abs().max() == 0 and gradient.abs().max() > 0
    close(result, torch.tensor(0.01 * 2 * (4 * 3 + 2 * 14 * 4) / 256, dtype=torch.float64))  # corners 1 + 2, sides 1 + 2 + 1


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_perfect_alpha_costs(engine: str) -> None:
    """Nothing, but for the smoothness of its edges and the entropy of what is between 0 and 1."""
    data = CASE.make((24, 20))
    target = data.target.clamp(0.01, 0.99)
    perfect = Data(target.clone(), target, data.weight)
    out = lf.MattingLoss(losses=list(TERMS), engine=engine)(*perfect.call)
    costly = {"loss_gradient_penalty", "cross_entropy_loss", "focal_loss"}
    assert {name for name, value in out.terms.items() if value != 0} == costly
    entropy = -(target * target.log() + (1 - target) * (1 - target).log()).mean()
    close(out.terms["cross_entropy_loss"], entropy)
    assert lf.MattingGradientLoss(smoothness=0, engine=engine)(*perfect.call) == 0
    prior = lf.MattingGradientLoss(smoothness=1, engine=engine)(*perfect.call)
    close(out.terms["loss_gradient_penalty"], 0.01 * prior)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("level", [0.0, 1.0, 0.5])
def test_empty_regions(engine: str, level: float) -> None:
    """Without a known pixel, or without an unknown one, a term is 0 with a graph and no gradient."""
    data = CASE.make((16, 12))
    leaf = Data(data.pred, data.target, torch.full_like(data.pred, level)).leaf()
    out = lf.MattingLoss(losses=list(TERMS), engine=engine)(*leaf.call)
    empty = {"unknown_l1_loss", "loss_gradient_penalty"} if level == 0 else {"known_l1_loss", "known_smooth_l1_loss"}
    assert {name for name, value in out.terms.items() if value == 0} == empty
    for name, value in out.weighted.items():
        (gradient,) = torch.autograd.grad(value, leaf.pred, retain_graph=True)
        assert torch.isfinite(gradient).all() and (gradient.abs().max() == 0) == (name in empty)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["SmoothL1Loss", "MSELoss", "HuberLoss", "L1Loss", "CharbonnierLoss", "UnknownL1Loss"])
def test_weights_stand_outside_of_the_formula(name: str, engine: str) -> None:
    """Half a weight is half the sum, not the loss of half the difference; of a mean it is no change."""
    data = PairCase(name, {}).make(way=("", None))
    half, whole = torch.full_like(data.pred, 0.5), torch.ones_like(data.pred)
    for reduction, share in (("sum", 0.5), ("mean", 1.0), ("none", 0.5)):
        loss = lf.LOSSES[name](reduction=reduction, engine=None if reduction == "none" else engine)
        result, gradient = evaluate(loss, Data(data.pred, data.target, half))
        truth, slope = evaluate(loss, Data(data.pred, data.target, whole))
        close(result, share * truth)
        close(gradient, share * slope)


@pytest.mark.parametrize("engine", ENGINES)
def test_known_is_where_the_region_is_0(engine: str) -> None:
    """Neither where it is small nor 1 minus it; and every pixel of it counts as one."""
    region = torch.tensor([0.0, 1e-3, 0.5, 1.0], dtype=torch.float64).view(1, 1, 1, 4)
    pred, target = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64).view(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)
    data = Data(pred, target.double(), region)
    for name, expected in (("KnownL1Loss", 0.25), ("KnownSmoothL1Loss", 0.25**2 / 2)):
        result, gradient = evaluate(lf.LOSSES[name](engine=engine), data)
        close(result, torch.tensor(expected, dtype=torch.float64))
        assert torch.equal(gradient != 0, (region == 0))
    unknown = (0.5 * 1e-3 + 0.75 * 0.5 + 1.0) / 1.501
    close(lf.UnknownL1Loss(engine=engine)(*data.call), torch.tensor(unknown, dtype=torch.float64))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_offset_costs_a_pyramid_its_residual_alone(engine: str) -> None:
    target = torch.rand(1, 1, 48, 40, dtype=torch.float64)
    data = Data(target + 0.25, target)
    result, _ = evaluate(lf.LaplacianPyramidLoss(engine=engine), data)
    close(result, ZERO, 0, 1e-14)
    result, gradient = evaluate(lf.LaplacianPyramidLoss(levels=3, residual=True, engine=engine), data)
    close(result, torch.tensor(2**3 / 3 * 0.25, dtype=torch.float64))
    close(gradient.sum(), torch.tensor(2**3 / 3, dtype=torch.float64))


@pytest.mark.parametrize("engine", ENGINES)
def test_reference_area_goes_to_the_regional_terms(engine: str) -> None:
    data = CASE.make((16, 12))
    names = list(TERMS)
    plain = lf.MattingLoss(losses=names, engine=engine)(*data.call).terms
    scaled = lf.MattingLoss(losses=names, engine=engine, reference_area=1920)(*data.call).terms
    regional = {"unknown_l1_loss", "known_l1_loss", "loss_gradient_penalty", "known_smooth_l1_loss"}
    for name in names:
        close(scaled[name], (10.0 if name in regional else 1.0) * plain[name])


@pytest.mark.parametrize("engine", ENGINES)
def test_alpha_link_reaches_every_term(engine: str) -> None:
    data = PairCase("MattingLoss", {"alpha_link": "sigmoid"}).make((16, 12))
    names = list(TERMS)
    of_logits = lf.MattingLoss(losses=names, alpha_link="sigmoid", engine=engine)(*data.call).terms
    alphas = Data(data.pred.sigmoid(), data.target, data.weight)
    of_alphas = lf.MattingLoss(losses=names, engine=engine)(*alphas.call).terms
    for name in names:
        close(of_logits[name], of_alphas[name], 1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_terms_by_weight_and_of_ones_own(engine: str) -> None:
    """A number weighs a published term; a loss keeps its options, and finds the region where it asks for it."""
    data = CASE.make((16, 12))
    assert data.weight is not None
    own = lf.L1Loss(loss_weight=2.0, inputs={"pred": "pred", "target": "target", "weight": "unknown"}, engine=engine)
    criterion = lf.MattingLoss(
        losses={"known_l1_loss": 0.25, "own": own, "pyramid": lf.LaplacianPyramidLoss(levels=2)}, loss_weight=3.0
    )
    out = criterion(*data.call)
    known = lf.KnownL1Loss(engine=engine)(*data.call)
    weighted = lf.L1Loss(engine=engine)(data.pred, data.target, data.weight)
    pyramid = lf.LaplacianPyramidLoss(levels=2, engine=engine)(data.pred, data.target)
    close(out.terms["known_l1_loss"], known)
    close(out.terms["own"], weighted)
    close(out.terms["pyramid"], pyramid)
    close(out.total, 3 * (0.25 * known + 2 * weighted + pyramid))
