"""Terms: schedules, conditions on images, intervals; what a set keeps of them."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

import lossfold as lf
from lossfold.compose.loss_set import PATIENCE
from tests.internals import Watch

GATE = torch.tensor([True, False, True, False])
LINEAR = lf.LinearSchedule(start=0.0, end=1.0, steps=4)


def scores() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, 16, 16, generator=generator).requires_grad_()
    return logits, torch.randint(0, 3, (4, 16, 16), generator=generator)


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    target = torch.rand(4, 1, 16, 16, generator=generator)
    return (target + 0.2 * torch.randn(4, 1, 16, 16, generator=generator)).requires_grad_(), target


LABEL_LOSSES = [
    lf.CrossEntropyLoss(),
    lf.DiceLoss(),
    lf.DiceLoss(per_image=True),
    lf.LovaszLoss(),
    lf.LovaszLoss(per_image=True),
    lf.OhemCrossEntropyLoss(thresh=0.3, min_kept=100),
    lf.OhemCrossEntropyLoss(thresh=0.3, min_kept=100, per_image=True),
    lf.FocalLoss(reduction="sum"),
]
PAIR_LOSSES = [
    lf.L1Loss(),
    lf.CharbonnierLoss(sample_wise=True),
    lf.LaplacianPyramidLoss(levels=2),
    lf.SSIMLoss(),
    lf.SSIMLoss(sample_wise=True),
    lf.MSSSIMLoss(betas=(0.4, 0.6), window_size=5),
    lf.L1Loss(reduction="sum"),
]


@pytest.mark.parametrize("loss", LABEL_LOSSES + PAIR_LOSSES, ids=repr)
@pytest.mark.parametrize("engine", ["eager", "cpp"])
def test_a_condition_leaves_the_images_out(loss: Any, engine: str | None) -> None:
    """The value and the gradient are those of the other images alone."""
    loss = copy.deepcopy(loss)
    loss.engine = engine
    pred, target = images() if loss in PAIR_LOSSES or "pred" in loss.arguments else scores()
    value = lf.LossSet(a=lf.Term(loss, when="has"))(pred, target, has=GATE).total
    (gradient,) = torch.autograd.grad(value, pred)
    alone = pred.detach()[GATE].requires_grad_()
    expected = loss(alone, target[GATE])
    (expected_gradient,) = torch.autograd.grad(expected, alone)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[GATE], expected_gradient)
    assert torch.count_nonzero(gradient[~GATE]) == 0
    assert torch.count_nonzero(gradient[GATE]) > 0


@pytest.mark.parametrize("loss", [one for one in LABEL_LOSSES + PAIR_LOSSES if one.reduction == "mean"], ids=repr)
def test_all_images_divide(loss: Any) -> None:
    if isinstance(loss, lf.OhemCrossEntropyLoss) and not loss.per_image:
        pytest.skip("its hard pixels are those of the images together")
    pred, target = images() if "pred" in loss.arguments else scores()
    value = lf.LossSet(a=lf.Term(loss, when="has", when_mean="all"))(pred, target, has=GATE).total
    each = [loss(pred[i : i + 1], target[i : i + 1]) for i in range(4) if GATE[i]]
    torch.testing.assert_close(value, sum(each) / 4)


def test_no_image_applies() -> None:
    pred, target = scores()
    for loss in LABEL_LOSSES:
        for mean in ("applicable", "all") if loss.reduction == "mean" else ("applicable",):
            out = lf.LossSet(a=lf.Term(loss, when="has", when_mean=mean))(pred, target, has=torch.zeros(4, dtype=torch.bool))
            (gradient,) = torch.autograd.grad(out.total, pred)
            assert out.total == 0 and torch.count_nonzero(gradient) == 0, loss


def test_conditions_share_the_pass() -> None:
    pred, target = scores()
    criterion = lf.LossSet(
        ce=lf.CrossEntropyLoss(), dice=lf.Term(lf.DiceLoss(), when="has"), lovasz=lf.Term(lf.LovaszLoss(), when="not.here")
    )
    with Watch() as seen:
        criterion({"logits": pred, "labels": target, "has": GATE, "not": {"here": ~GATE}}).backward()
    assert seen.names == ["label_fold", "label_unfold"]
    assert "dice (when='has')" in criterion.plan()


def test_a_condition_may_be_a_function() -> None:
    pred, target = images()

    def bright(pred: Tensor, target: Tensor) -> Tensor:
        return target.flatten(1).mean(1) > 0.5

    value = lf.LossSet(a=lf.Term(lf.L1Loss(), when=bright))(pred, target).total
    keep = bright(pred, target)
    assert 0 < keep.sum() < 4
    torch.testing.assert_close(value, lf.L1Loss()(pred[keep], target[keep]))


@pytest.mark.parametrize("gate", [torch.ones(4), torch.ones(3, dtype=torch.bool), torch.ones(4, 1, dtype=torch.bool), True, None])
def test_a_wrong_condition_is_refused(gate: Any) -> None:
    with pytest.raises(lf.LossError, match=r"LossSet term 'a' \(L1Loss\): when must be a boolean tensor \[4?B?\]"):
        lf.LossSet(a=lf.Term(lf.L1Loss(), when="has"))(*images(), has=gate)


def test_a_condition_that_is_not_there_is_refused() -> None:
    with pytest.raises(lf.LossError, match=r"'a'.*when must be given as has="):
        lf.LossSet(a=lf.Term(lf.L1Loss(), when="has"))(*images())
    with pytest.raises(lf.LossError, match=r"MSELoss.*when must be left out"):
        lf.LossSet(a=lf.Term(nn.MSELoss(), when="has"))
    with pytest.raises(lf.LossError, match=r"when must be left out.*losses in the set"):
        lf.LossSet(a=lf.Term(lf.LossSet(b=lf.L1Loss()), when="has"))
    with pytest.raises(lf.LossError, match="when_mean"):
        lf.LossSet(a=lf.Term(lf.L1Loss(reduction="sum"), when="has", when_mean="all"))


@pytest.mark.parametrize(
    "options",
    [{"schedule": 0.5}, {"every": 0}, {"every": 2.0}, {"every": True}, {"when": 3}, {"when": ""}, {"when_mean": "some"}],
    ids=repr,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(lf.LossError, match=f"Term: {next(iter(options))} must be"):
        lf.Term(lf.L1Loss(), **options)


def test_a_term_is_no_loss_by_itself() -> None:
    with pytest.raises(lf.LossError, match="LossSet"):
        lf.Term(lf.L1Loss())(*images())
    with pytest.raises(lf.LossError, match="loss must be"):
        lf.Term(lf.Term(lf.L1Loss()))


def test_an_interval_is_compensated() -> None:
    """Over whole periods it costs what it would at every step; between its steps it is not computed at all."""
    pred, target = images()
    calls: list[int] = []

    class Counting(nn.Module):
        def forward(self, pred: Tensor, target: Tensor) -> Tensor:
            calls.append(1)
            return (pred - target).square().mean()

    criterion = lf.LossSet(l1=lf.L1Loss(), lazy=lf.Term(Counting(), every=4))
    values = []
    for _ in range(8):
        out = criterion(pred, target)
        assert list(out.terms) == ["l1", "lazy"]
        values.append(out.weighted["lazy"])
        criterion.advance()
    assert len(calls) == 2 and [bool(value) for value in values] == [True, False, False, False] * 2
    torch.testing.assert_close(sum(values) / 8, (pred - target).square().mean())
    alone = lf.LossSet(lazy=lf.Term(Counting(), every=4))
    alone.advance()
    out = alone(pred, target)
    (gradient,) = torch.autograd.grad(out.total, pred)
    assert out.total == 0 and torch.count_nonzero(gradient) == 0


def test_schedules_follow_the_step() -> None:
    pred, target = images()
    criterion = lf.LossSet(a=0.5 * lf.Term(lf.L1Loss(), schedule=LINEAR), b=lf.Term(lf.MSELoss(), schedule=lambda step: step**2))
    for step in range(6):
        out = criterion(pred, target)
        torch.testing.assert_close(out.weighted["a"], 0.5 * min(1.0, step / 4) * lf.L1Loss()(pred, target))
        torch.testing.assert_close(out.weighted["b"], step**2 * lf.MSELoss()(pred, target))
        torch.testing.assert_close(out.terms["a"], lf.L1Loss()(pred, target).detach())
        assert out.total.dtype == torch.float32
        criterion.advance()


def test_schedules() -> None:
    cosine = lf.CosineSchedule(start=2.0, end=0.0, steps=10, begin=5)
    assert [round(cosine(step), 6) for step in (0, 5, 10, 15, 99)] == [2.0, 2.0, 1.0, 0.0, 0.0]
    steps = lf.StepSchedule({10: 0.5, 0: 1.0})
    assert [steps(step) for step in (0, 9, 10, 11)] == [1.0, 1.0, 0.5, 0.5]
    for schedule in (LINEAR, cosine, steps):
        assert eval(repr(schedule), {name: getattr(lf, name) for name in dir(lf)}) == schedule
        assert pickle.loads(pickle.dumps(schedule)) == schedule and hash(schedule) == hash(copy.deepcopy(schedule))
    for wrong in (
        lambda: lf.LinearSchedule(start="0", end=1.0, steps=4),
        lambda: lf.LinearSchedule(start=0.0, end=float("nan"), steps=4),
        lambda: lf.CosineSchedule(start=0.0, end=1.0, steps=0),
        lambda: lf.LinearSchedule(start=0.0, end=1.0, steps=4, begin=-1),
        lambda: lf.StepSchedule({}),
        lambda: lf.StepSchedule({5: 1.0}),
        lambda: lf.StepSchedule({0: "1"}),
        lambda: lf.Term(lf.L1Loss(), schedule=lambda step: "x"),
    ):
        with pytest.raises(lf.LossError):
            wrong()


def test_sets_inside_of_terms() -> None:
    pred, target = images()
    inner = lf.LossSet(l1=lf.L1Loss(), mse=lf.Term(lf.MSELoss(), every=2))
    criterion = lf.LossSet(main=lf.L1Loss(), aux=lf.Term(inner, schedule=LINEAR))
    criterion.advance(2)
    out = criterion(pred, target)
    assert list(out.terms) == ["main", "aux.l1", "aux.mse"]
    torch.testing.assert_close(out.weighted["aux.l1"], 0.5 * lf.L1Loss()(pred, target))
    torch.testing.assert_close(out.weighted["aux.mse"], 0.5 * 2 * lf.MSELoss()(pred, target))


def test_the_step_is_kept() -> None:
    pred, target = images()
    build = lambda: lf.LossSet(a=lf.Term(lf.L1Loss(), schedule=LINEAR), b=lf.Term(lf.MSELoss(), every=3), c=lf.SSIMLoss())  # noqa: E731
    criterion, other = build(), build()
    criterion.advance(3)
    other.load_state_dict(pickle.loads(pickle.dumps(criterion.state_dict())))
    for twin in (other, copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion)), copy.deepcopy(criterion).half()):
        torch.testing.assert_close(twin(pred, target).total, criterion(pred, target).total, rtol=0, atol=0)
        twin.advance()
        assert twin(pred, target).terms["b"] == 0 and criterion(pred, target).terms["b"] > 0
    assert not lf.LossSet(a=lf.L1Loss()).state_dict()
    moved = criterion.to("meta")
    assert all(buffer.device.type == "meta" for buffer in moved.buffers())


def test_compiled_code_sees_the_step() -> None:
    """Each combination of intervals is compiled once; schedules are buffers."""
    pred, target = images()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    criterion = lf.LossSet(
        a=lf.Term(lf.L1Loss(), schedule=LINEAR), b=lf.Term(lf.SSIMLoss(), every=3, when="has"), c=lf.Term(lf.MSELoss(), when="has")
    )
    compiled = torch.compile(criterion, fullgraph=True, backend=counter)
    frames = []
    for _ in range(12):
        mine, plain = compiled(pred, target, has=GATE), criterion(pred, target, has=GATE)
        torch.testing.assert_close(mine.total, plain.total)
        for one, other in zip(torch.autograd.grad(mine.total, pred), torch.autograd.grad(plain.total, pred), strict=True):
            torch.testing.assert_close(one, other)
        criterion.advance()
        frames.append(counter.frame_count)
    assert frames[0] < frames[1] == frames[-1], frames


def test_who_forgets_to_advance_is_told_once() -> None:
    pred, target = (x.detach()[:1] for x in images())
    criterion = lf.LossSet(a=lf.Term(lf.L1Loss(), every=2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2 * PATIENCE):
            criterion(pred, target)
    (told,) = caught
    assert str(told.message) == f"{PATIENCE} calls without LossSet.advance(): schedules and intervals stay at step 0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quiet in (lf.LossSet(a=lf.L1Loss()), lf.LossSet(a=lf.Term(lf.L1Loss(), every=2)).eval()):
            for _ in range(PATIENCE + 1):
                quiet(pred, target)
    with pytest.raises(lf.LossError, match="steps"):
        criterion.advance(-1)


def test_losses_add_up() -> None:
    pred, target = images()
    both = lf.L1Loss() + 0.5 * lf.MSELoss() + lf.L1Loss() + lf.Term(lf.SSIMLoss(), every=2)
    assert isinstance(both, lf.LossSet)
    assert both.names == ["l1_loss", "mse_loss", "l1_loss_2", "ssim_loss"]
    expected = 2 * lf.L1Loss()(pred, target) + 0.5 * lf.MSELoss()(pred, target) + 2 * lf.SSIMLoss()(pred, target)
    torch.testing.assert_close(both(pred, target).total, expected)
    total = sum([lf.L1Loss(), lf.MSELoss()])
    assert repr(total) == "LossSet(l1_loss=L1Loss(), mse_loss=MSELoss())"
    nested = 0.5 * both + total
    assert list(nested(pred, target).terms)[-2:] == ["l1_loss", "mse_loss"]
    torch.testing.assert_close(nested(pred, target).weighted["loss_set.l1_loss"], 0.5 * lf.L1Loss()(pred, target))
    with pytest.raises(TypeError):
        lf.L1Loss() + 1.0
    assert len(both.names) == 4, "the operands stay as they are"


def test_repr_evaluates() -> None:
    criterion = lf.LossSet(a=lf.Term(0.5 * lf.L1Loss(), schedule=LINEAR, when="has", when_mean="all", every=2), b=lf.SSIMLoss())
    again = eval(repr(criterion), {name: getattr(lf, name) for name in dir(lf)})
    assert repr(again) == repr(criterion)


def test_what_loggers_and_mmengine_take() -> None:
    pred, target = images()
    out = lf.LossSet(my_loss=lf.L1Loss(), mse=0.5 * lf.MSELoss())(pred, target)
    assert list(out.log("train/")) == ["train/total", "train/my_loss", "train/mse"]
    assert not any(value.requires_grad for value in out.log().values())
    summed = sum(value for name, value in out.as_mmengine().items() if "loss" in name)  # what MMEngine does
    torch.testing.assert_close(summed, out.total)
    (mine,), (theirs,) = (torch.autograd.grad(value, pred, retain_graph=True) for value in (out.total, summed))
    torch.testing.assert_close(mine, theirs)


def test_mmagics_word_for_inputs() -> None:
    pred, target = images()
    loss = lf.L1Loss(data_info={"pred": "fake.0", "target": "real"})
    assert loss.inputs == {"pred": "fake.0", "target": "real"}
    torch.testing.assert_close(loss({"fake": [pred], "real": target}), lf.L1Loss()(pred, target))
    torch.testing.assert_close(loss(outputs_dict={"fake": [pred], "real": target}), lf.L1Loss()(pred, target))
    for cls in (lf.L1Loss, lf.CEDiceLoss, lf.MattingLoss):
        with pytest.raises(lf.LossError, match="data_info"):
            cls(inputs={"pred": "a"}, data_info={"pred": "a"})
