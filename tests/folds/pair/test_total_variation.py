"""Total variation against its formula and closed forms; its weights, and how a set hands it its arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.contract.case import ENGINES, Data, close, evaluate
from tests.contract.refusals import refused
from tests.folds.pair import plain
from tests.folds.pair.test_restoration import every_engine, images
from tests.internals import Watch


def total_variation(image: Tensor, weight: Tensor | None, power: int) -> Tensor:
    found = []
    for step, w in (
        (image[..., 1:] - image[..., :-1], None if weight is None else weight[..., :-1]),
        (image[..., 1:, :] - image[..., :-1, :], None if weight is None else weight[..., :-1, :]),
    ):
        w = torch.ones_like(step) if w is None else w.expand_as(step)
        found.append((step.abs() ** power * w).sum() / w.sum())
    return found[0] + found[1]


@every_engine
@pytest.mark.parametrize("order", ["l1", "l2"])
def test_total_variation_written_out(engine: str, order: str) -> None:
    image, other, weight = images(2, 3, 9, 7)
    for where in (None, weight, other, weight[:, 0], weight > 0.5):
        given = where[:, None] if where is not None and where.dim() == 3 else where
        truth = total_variation(image, None if given is None else given.double(), {"l1": 1, "l2": 2}[order])
        close(lf.TVLoss(order=order, engine=engine)(image, where), truth)
        close(lf.MaskedTVLoss(order=order, engine=engine)(image, mask=where), truth)
    each = torch.stack([total_variation(image[i : i + 1], weight[i : i + 1], 1) for i in range(2)])
    close(lf.TVLoss(sample_wise=True, engine=engine)(image, weight), each.mean())
    table = lf.TVLoss(reduction="none", engine=engine)(image, weight)
    assert table.shape == (2, 3)
    close(
        table, torch.stack([torch.stack([total_variation(c, w, 1) for c in x]) for x, w in zip(image, weight[:, 0], strict=True)])
    )


@every_engine
def test_total_variation_in_closed_form(engine: str) -> None:
    """Ramps, a step, flat images, and images of one column or row, of which that mean is 0."""
    ramp = torch.arange(9.0).expand(1, 2, 6, 9)
    loss = lf.TVLoss(engine=engine)
    for image, value in (
        (ramp, 1.0),
        (ramp.mT, 1.0),
        (ramp + 2 * torch.arange(6.0)[:, None], 3.0),
        ((ramp > 4).float(), 1 / 8),
        (torch.full((1, 2, 6, 9), 7.0), 0.0),
        (ramp[..., :1], 0.0),
        (ramp[..., :1, :], 1.0),
        (ramp.mT[..., :1], 1.0),
        (ramp[..., :1, :1], 0.0),
    ):
        close(loss(image), torch.tensor(value))
        close(lf.TVLoss(order="l2", engine=engine)(3 * image), torch.tensor(9 * (5.0 if value == 3 else value)))
        assert torch.isfinite(evaluate(loss, Data(image, None))[1]).all()
    flat = ramp[..., :1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(flat), flat)
    assert gradient.abs().max() == 0


@every_engine
def test_a_step_has_the_weight_of_its_left_or_upper_end(engine: str) -> None:
    """The last column's weight counts for steps down only, the last row's for steps across: a corner for none."""
    image, _, _ = images(1, 1, 4, 5)
    loss = lf.MaskedTVLoss(engine=engine)
    for y, x in ((1, 2), (1, 4), (3, 2), (3, 4)):
        mask = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
        mask[..., y, x] = True
        leaf = image.clone().requires_grad_()
        result = loss(leaf, mask)
        (gradient,) = torch.autograd.grad(result, leaf)
        across = abs(image[0, 0, y, x + 1] - image[0, 0, y, x]) if x < 4 else 0
        down = abs(image[0, 0, y + 1, x] - image[0, 0, y, x]) if y < 3 else 0
        close(result.detach(), torch.as_tensor(across + down, dtype=torch.float64))
        assert gradient[0, 0].count_nonzero() == (x < 4) + (y < 3) + (x < 4 or y < 3)


@every_engine
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_steps_without_weight_are_not_there(engine: str, poison: float) -> None:
    """A pixel that no counted step begins or ends at may hold anything, at a border as well."""
    for y, x in ((2, 3), (0, 0), (5, 6), (2, 6), (5, 3)):
        image, _, weight = images(1, 2, 6, 7)
        weight = weight + 0.1
        for dy, dx in ((0, 0), (0, -1), (-1, 0)):
            if y + dy >= 0 and x + dx >= 0:
                weight[..., y + dy, x + dx] = 0
        truth, slope = evaluate(lf.TVLoss(engine=engine), Data(image, None, weight))
        spoiled = image.clone()
        spoiled[..., y, x] = poison
        result, gradient = evaluate(lf.TVLoss(engine=engine), Data(spoiled, None, weight))
        close(result, truth)
        close(gradient, slope)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("space", [(1, 1), (1, 40), (40, 1), (2, 2), (17, 1031), (1100, 33)], ids=str)
@pytest.mark.parametrize("options", [{}, {"order": "l2", "link": "sigmoid"}], ids=str)
def test_total_variation_of_any_size(space: tuple[int, int], options: dict[str, Any]) -> None:
    """Beyond a vector, a block of sums, and a band of rows."""
    image, _, weight = images(1, 2, *space)
    for where in (None, weight):
        leaf = image.clone().requires_grad_()
        truth = plain.evaluate("TVLoss", Data(leaf, None, where), options)
        (slope,) = torch.autograd.grad(truth, leaf)
        for engine in ENGINES:
            result, gradient = evaluate(lf.TVLoss(engine=engine, **options), Data(image, None, where))
            close(result, truth.detach())
            close(gradient, slope)


@every_engine
def test_a_set_gives_total_variation_the_prediction_and_the_weight(engine: str) -> None:
    """Not the target for a weight, however the set is called and whichever term comes first."""
    pred, target, weight = images(2, 3, 9, 7)
    terms = {"l1": lf.L1Loss(engine=engine), "tv": 0.1 * lf.TVLoss(engine=engine)}
    for names in (("l1", "tv"), ("tv", "l1")):
        criterion = lf.LossSet({name: terms[name] for name in names})
        assert criterion.plan().count("pair fold") == 1
        for where in (None, weight):
            by_name = {"pred": pred, "target": target} | ({} if where is None else {"weight": where})
            leaf = pred.clone().requires_grad_()
            given = (leaf, target) if where is None else (leaf, target, where)
            with Watch() as watch:
                out = criterion(*given)
                (gradient,) = torch.autograd.grad(out.total, leaf)
            assert watch.names == (["pair_fold", "pair_unfold"] if engine == "cpp" else [])
            slopes = [
                evaluate(terms["l1"], Data(pred, target, where))[1],
                evaluate(terms["tv"], Data(pred, None, where))[1],
            ]
            close(gradient, slopes[0] + slopes[1])
            for found in (out, criterion(by_name), criterion(**by_name), criterion(outputs_dict=by_name)):
                close(found.terms["tv"], lf.TVLoss()(pred, where))
                close(found.terms["l1"], lf.L1Loss()(pred, target, where))
                close(found.weighted["tv"].detach(), 0.1 * lf.TVLoss()(pred, where))


@every_engine
def test_a_mask_is_the_third_argument_of_a_set(engine: str) -> None:
    pred, target, mask = images(2, 3, 9, 7)
    criterion = lf.LossSet(l1=lf.L1Loss(engine=engine), tv=lf.MaskedTVLoss(engine=engine))
    close(criterion(pred, target, mask).terms["tv"], lf.TVLoss()(pred, mask))
    refused(lambda: lf.LossSet(tv=lf.MaskedTVLoss(), ce=lf.CrossEntropyLoss())(pred, target), "term 'tv'", "MaskedTVLoss", "dict")
    two = lf.LossSet(mse=torch.nn.MSELoss(), tv=lf.MaskedTVLoss(engine=engine))
    close(two(pred, target).terms["tv"], lf.TVLoss()(pred))
    outputs = {"pred": pred, "target": target, "hole": mask}
    placed = lf.LossSet(l1=lf.L1Loss(engine=engine), tv=lf.MaskedTVLoss(engine=engine, inputs={"mask": "hole"}))
    close(placed(outputs).terms["tv"], lf.TVLoss()(pred, mask))
    close(placed(outputs).terms["l1"], lf.L1Loss()(pred, target))
    assert placed.plan().count("pair fold") == 1


@every_engine
def test_a_set_without_a_target(engine: str) -> None:
    """All of whose terms take (pred, weight)."""
    pred, _, weight = images(2, 3, 9, 7)
    criterion = lf.LossSet(one=lf.TVLoss(engine=engine), two=lf.TVLoss(order="l2", engine=engine))
    assert criterion.plan().count("pair fold") == 1
    close(criterion(pred, weight).total, lf.TVLoss()(pred, weight) + lf.TVLoss(order="l2")(pred, weight))


@every_engine
def test_another_prediction_is_another_pass(engine: str) -> None:
    pred, target, _ = images(2, 3, 9, 7)
    outputs = {"pred": pred, "target": target, "other": 2 * pred, "truth": target + 1}
    criterion = lf.LossSet(
        tv=lf.TVLoss(engine=engine, inputs={"pred": "other"}),
        l1=lf.L1Loss(engine=engine),
        beside=lf.TVLoss(engine=engine),
        far=lf.L1Loss(engine=engine, inputs={"target": "truth"}),
    )
    assert criterion.plan().count("pair fold") == 3
    out = criterion(outputs)
    close(out.terms["tv"], 2 * lf.TVLoss()(pred))
    close(out.terms["beside"], lf.TVLoss()(pred))
    close(out.terms["far"], lf.L1Loss()(pred, target + 1))


def test_total_variation_among_the_terms_of_a_matting_criterion() -> None:
    pred, target, region = images(2, 1, 16, 12)
    criterion = lf.MattingLoss(losses={"unknown_l1_loss": 1.0, "smooth": 0.1 * lf.TVLoss()})
    assert criterion.plan().count("pair fold") == 1
    out = criterion(pred, target, region)
    close(out.terms["smooth"], lf.TVLoss()(pred))
    outer = lf.LossSet(matting=lf.MattingLoss(), tv=lf.TVLoss())(pred, target, region)
    close(outer.terms["tv"], lf.TVLoss()(pred, region))
    mixed = lf.MixedMattingLoss(segmentation={"smooth": lf.TVLoss()})(pred, target.round(), region)
    close(mixed.terms["smooth"], lf.TVLoss()(pred))


def test_total_variation_names_what_is_wrong() -> None:
    pred, _, weight = images(2, 3, 9, 7)
    refused(lambda: lf.TVLoss(order="L1"), "TVLoss", "order", "did you mean 'l1'")
    refused(lambda: lf.TVLoss()(pred, weight[:1]), "TVLoss", "weight", "1, 1, 9, 7")
    refused(lambda: lf.MaskedTVLoss()(pred, weight[..., 1:]), "MaskedTVLoss", "mask", "2, 1, 9, 6")
    refused(lambda: lf.TVLoss()(pred[0]), "TVLoss", "pred", r"\[B, C, H, W\]")
    refused(lambda: lf.LossSet(tv=lf.TVLoss(reduction="none")), "reduction", "none")
