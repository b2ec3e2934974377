"""What users of sets ran into: names, arguments, modes, intervals in intervals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.adapters.steps import terms_in

GATE = torch.tensor([True, False])


def pair(batch: int = 1) -> tuple[Tensor, Tensor]:
    return torch.zeros(batch, 1, 4, 4), torch.ones(batch, 1, 4, 4)


def test_terms_by_name() -> None:
    criterion = lf.LossSet(outer=lf.LossSet({"class": lf.L1Loss()}), update=lf.MSELoss())
    assert list(criterion) == ["outer", "update"] and isinstance(criterion["update"], lf.MSELoss)
    assert eval(repr(criterion), vars(lf))["outer"]["class"].reduction == "mean"
    with pytest.raises(lf.LossError, match=r"name must be that of a term, got 'updat' .*did you mean 'update'"):
        criterion["updat"]
    with pytest.raises(lf.LossError, match="other than 'total'"):
        lf.LossSet(total=lf.L1Loss())


def test_the_state_goes_by_name() -> None:
    """A term more or in another place does not give its step to others; what keeps only tensors can keep the state."""
    safetensors = pytest.importorskip("safetensors.torch")
    criterion = lf.LossSet(a=lf.L1Loss(), b=lf.Term(lf.MSELoss(), every=2))
    criterion.advance(3)
    state = safetensors.load(safetensors.save(criterion.state_dict()))
    other = lf.LossSet(b=lf.Term(lf.MSELoss(), every=2), c=lf.Term(lf.L1Loss(), every=3))
    other.load_state_dict(state, strict=False)
    assert [term.step for term in terms_in(other)] == [3, 0]
    with pytest.raises(lf.LossError, match="state must be the step, an integer tensor"):
        other.load_state_dict({"members.b._extra_state": {"foo": 1}}, strict=False)


@pytest.mark.parametrize(("outer", "inner"), [(2, 4), (3, 3), (2, 3), (6, 4)])
def test_intervals_in_intervals_keep_the_mean_weight(outer: int, inner: int) -> None:
    criterion = lf.LossSet(a=lf.Term(lf.LossSet(b=lf.Term(lf.L1Loss(), every=inner)), every=outer))
    total = 0.0
    for _ in range(24):
        total += criterion(*pair()).total.item()
        criterion.advance()
    assert total / 24 == 1.0


def test_advance_is_all_or_nothing() -> None:
    late = lf.Term(lf.MSELoss(), schedule=lambda step: 1.0 if step < 2 else None)  # type: ignore[arg-type, return-value]
    criterion = lf.LossSet(a=lf.Term(lf.L1Loss(), every=2), b=late)
    criterion.advance()
    with pytest.raises(lf.LossError, match=r"a number \(step 2\), got None"):
        criterion.advance()
    assert [term.step for term in terms_in(criterion)] == [1, 1]


def test_advance_between_forward_and_backward() -> None:
    criterion = lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=lf.LinearSchedule(start=0.5, end=1.0, steps=4)))
    pred = torch.zeros(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    out = criterion(pred, torch.ones_like(pred))
    criterion.advance()
    out.backward()
    assert pred.grad is not None and pred.grad.sum() == -0.5


def test_made_or_moved_in_an_evaluation() -> None:
    with torch.inference_mode():
        criterion = lf.LossSet(a=lf.Term(lf.CrossEntropyLoss(class_weight=[1.0, 2.0]), every=2)).to(torch.float32)
    criterion.advance(2)
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    criterion(logits, torch.tensor([[0, 1, 1]])).backward()
    assert logits.grad is not None and logits.grad.any()


class Weighed(nn.Module):
    def forward(self, outputs: dict[str, Tensor]) -> Tensor:
        return 2 * outputs["pred"].sum()


def test_modules_of_somebody_else() -> None:
    pred, target = pair()
    mixed = lf.LossSet(a=nn.L1Loss(), b=lf.L1Loss())
    assert mixed(pred, target).total == 2
    with pytest.raises(lf.LossError, match=r"term 'a' \(L1Loss\): arguments must be those of its forward .*'weight'"):
        mixed(pred, target, weight=target)
    with pytest.raises(lf.LossError, match=r"term 'a' \(L1Loss\): arguments must be .*missing a required argument"):
        mixed({"pred": pred, "target": target})
    assert lf.LossSet(a=Weighed(), b=lf.L1Loss())({"pred": target, "target": pred}).total == 33
    with pytest.raises(lf.LossError, match="a loss of lossfold, whose weight can be multiplied, got L1Loss"):
        2 * lf.Term(nn.L1Loss(), every=2)
    assert list(nn.MSELoss() + lf.L1Loss()) == ["mse_loss", "l1_loss"]  # type: ignore[call-overload]


def wrong_conditions() -> list[tuple[Any, dict[str, Any], str]]:
    one = lf.L1Loss()
    return [
        ("has", {}, "when must be given as has=, a boolean tensor .*, got no keyword"),
        ("has", {"hass": GATE}, r"arguments must be|when must be given as has=.*hass"),
        ("weight", {"weight": GATE}, "when must be another name: 'a' has an argument of that name, got 'weight'"),
        (lambda: GATE, {}, "when must be a function of the loss's arguments"),
        (one, {}, "when must be a boolean tensor|when must be"),
    ]


@pytest.mark.parametrize(
    ("when", "named", "message"), wrong_conditions(), ids=["missing", "misspelt", "taken", "arguments", "loss"]
)
def test_wrong_conditions(when: Any, named: dict[str, Any], message: str) -> None:
    with pytest.raises(lf.LossError, match=message):
        lf.LossSet(a=lf.Term(lf.L1Loss(), when=when))(*pair(2), **named)


def test_what_has_no_value_for_each_image_is_refused() -> None:
    with pytest.raises(lf.LossError, match="when must be left out: this loss has no value for each image"):
        lf.LossSet(a=lf.Term(lf.DiscShiftLoss(), when="has"))
    later = lf.LossSet(a=lf.Term(lf.L1Loss(), when="has"))
    later["a"].loss.reduction = "none"  # type: ignore[union-attr]
    with pytest.raises(lf.LossError, match="when must be left out: this loss has no value for each image"):
        later(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), has=GATE)
    with pytest.raises(lf.LossError, match=r"one dict and nothing beside it, got 2 arguments \(put has into the dict\)"):
        lf.LossSet(a=lf.Term(lf.L1Loss(), when="has"))({"pred": 1, "target": 1}, has=GATE)


@pytest.mark.parametrize("name", ["L1CompositionLoss", "MSECompositionLoss", "CharbonnierCompLoss"])
def test_images_left_out_before_they_are_composed(name: str) -> None:
    """NaN in an image that does not count reaches neither the value nor any gradient, of alpha, of the images, of the weights."""
    generator = torch.Generator().manual_seed(0)
    given = [torch.rand(2, channels, 6, 5, generator=generator) for channels in (1, 3, 3, 3, 1)]
    clean = [one[:1].clone().requires_grad_(index < 4) for index, one in enumerate(given)]
    for one in given[:4]:
        one[1] = float("nan")
    given = [one.requires_grad_(index < 4) for index, one in enumerate(given)]
    loss = lf.LOSSES[name]()
    out = lf.LossSet(a=lf.Term(loss, when="has"))(*given, has=GATE)
    expected = loss(*clean)
    torch.testing.assert_close(out.total, expected)
    out.backward()
    expected.backward()
    for one, alone in zip(given[:4], clean, strict=False):
        assert one.grad is not None and not one.grad[1].any()
        torch.testing.assert_close(one.grad[:1], alone.grad)


@pytest.mark.parametrize("loss", [lf.MSELoss(), lf.L1Loss(), lf.SSIMLoss(window_size=3)], ids=repr)
def test_targets_left_out_take_no_gradient(loss: nn.Module) -> None:
    pred, target = (torch.rand(2, 1, 8, 8, dtype=torch.float64) for _ in range(2))
    target[1] = float("nan")
    target.requires_grad_()
    lf.LossSet(a=lf.Term(loss, when="has"))(pred, target, has=GATE).backward()
    assert target.grad is not None and target.grad[0].any() and not target.grad[1].any()


def test_presets_keep_their_mode_device_and_hooks() -> None:
    seen = []
    criterion = lf.CEDiceLoss(class_weight=[1.0, 2.0]).eval()
    criterion.register_forward_hook(lambda *_: seen.append(1))
    criterion.ce_weight = 2.0
    criterion(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))
    assert seen == [1] and not criterion.training and not (0.5 * criterion).training and not criterion["ce"].training
    moved = 0.5 * lf.CrossEntropyLoss(class_weight=[1.0, 2.0]).to("meta")
    moved.class_weight = [3.0, 4.0]
    assert moved.get_buffer("_class_weight").is_meta


def test_options_that_are_tensors_or_modules() -> None:
    assert lf.DiceLoss(class_weight=nn.Parameter(torch.ones(2))).class_weight == (1.0, 1.0)
    for options in ({"inputs": lf.L1Loss()}, {"reduction": lf.L1Loss()}):
        with pytest.raises(lf.LossError, match=r"MSELoss: (inputs|reduction) must be a plain value, got L1Loss"):
            lf.MSELoss(**options)  # type: ignore[arg-type]
    with pytest.raises(lf.LossError, match="inputs must be names among pred, target, weight, got 'prd'"):
        lf.L1Loss(inputs={"prd": "x"})
    assert lf.L1Loss(loss_name="pixel").loss_name == "pixel"
    with pytest.raises(lf.LossError, match="loss_name must be the name of a term"):
        lf.L1Loss(loss_name="")


def test_places_from_the_last() -> None:
    first, last = pair()
    loss = lf.L1Loss(inputs={"pred": "heads.-1"})
    assert loss({"heads": [first, last], "target": last}) == 0
    with pytest.raises(lf.LossError, match="no '-3' among list of 2"):
        lf.L1Loss(inputs={"pred": "heads.-3"})({"heads": [first, last], "target": last})


@pytest.mark.parametrize("weight", [float("inf"), 1e308])
def test_weights_that_overflow(weight: float) -> None:
    with pytest.raises(lf.LossError, match="schedule must be a function that returns a number"):
        lf.Term(lf.L1Loss(), every=100, schedule=lambda step: weight)
    with pytest.raises(lf.LossError, match="loss_weight must be a number, got inf"):
        1e10 * lf.LossSet(a=lf.L1Loss(), loss_weight=1e300)


def test_a_left_out_term_has_the_result_dtype() -> None:
    criterion = lf.LossSet(a=lf.Term(lf.L1Loss(), every=2))
    criterion.advance()
    assert criterion(*(one.double() for one in pair())).terms["a"].dtype == torch.float64


def test_plans_name_functions() -> None:
    def rising(step: int) -> float:
        return step / 10

    assert lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=rising)).plan().count("(weight rising)") == 1


def test_what_is_done_to_the_total_leaves_a_single_term_alone() -> None:
    out = lf.LossSet(a=lf.L1Loss())(*pair())
    total = out.total
    total /= 4
    assert total == 0.25 and out.terms["a"] == out.weighted["a"] == 1
    criterion, labels = lf.LossSet(a=lf.DiceLoss()), torch.randint(0, 3, (2, 4, 5))
    for _ in range(6):  # from some call on like those before
        out = criterion(torch.randn(2, 3, 4, 5, requires_grad=True), labels)
        before, total = out.terms["a"].clone(), out.total
        total /= 4
        assert out.terms["a"] == out.weighted["a"] == before


def test_numbers_that_move_in_an_inference_serve_a_training() -> None:
    loss = lf.CrossEntropyLoss(class_weight=[1.0, 2.0])
    with torch.inference_mode():
        moved = loss.per_class("class_weight", torch.empty(0, device="meta"))
    assert moved is not None and moved.is_meta and not loss.get_buffer("_class_weight").is_inference()
