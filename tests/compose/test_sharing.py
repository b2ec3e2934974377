"""Terms share a pass if they were given the same tensors, and never because their arguments go by the same names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from lossfold.losses.base import Loss
from tests.internals import Watch


def alone_and_in_a_set(losses: dict[str, Any], *call: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What each loss gives on its own, and in a set of all."""
    alone = {name: loss(*call) for name, loss in losses.items()}
    alone = {name: value.total if isinstance(value, lf.LossOutput) else value for name, value in alone.items()}
    together = lf.LossSet(losses)(*call)
    return alone, {name: sum(v for key, v in together.weighted.items() if key.split(".")[0] == name) for name in losses}


def images(batch: int = 2, classes: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, classes, 6, 5, requires_grad=True), torch.randint(0, classes, (batch, 6, 5))


def test_masks_and_channels_of_one_tensor() -> None:
    logits, masks = torch.randn(4, 8, 5, requires_grad=True), (torch.rand(4, 8, 5) > 0.5).float()
    losses = {"m": lf.presets.mask_losses(), "d": lf.DiceLoss(link="sigmoid", reduction="sum")}
    alone, together = alone_and_in_a_set(losses, logits, masks)
    torch.testing.assert_close(together, alone)
    assert lf.LossSet(losses).plan().count("dense fold") == 2


class Scaled(lf.CrossEntropyLoss):
    """A subclass whose check hands over other scores than it was given."""

    def check(self, logits: Any, *others: Any, **named: Any) -> Any:
        return super().check(3 * logits, *others, **named)


class ScaledLater(lf.CrossEntropyLoss):
    """The same, after the checks."""

    def check(self, *given: Any, **named: Any) -> Any:
        checked = super().check(*given, **named)
        return checked._replace(scores=3 * checked.scores)


@pytest.mark.parametrize("cls", [Scaled, ScaledLater])
@pytest.mark.parametrize("first", [True, False])
def test_a_check_that_changes_the_scores_changes_no_neighbour(cls: type[Any], first: bool) -> None:
    logits, labels = images()
    pairs = [("scaled", cls()), ("plain", lf.CrossEntropyLoss()), ("dice", lf.DiceLoss())]
    alone, together = alone_and_in_a_set(dict(pairs if first else pairs[::-1]), logits, labels)
    torch.testing.assert_close(together, alone)
    assert not torch.equal(together["scaled"], together["plain"])


class Doubled(lf.DiceLoss):
    """A loss with a forward of its own."""

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, normalizer: Any = None) -> Tensor:
        return 2 * super().forward(logits, labels, weight, normalizer) + 1


def test_a_forward_of_ones_own_and_hooks_count() -> None:
    logits, labels = images()
    hooked, patched = lf.JaccardLoss(loss_weight=0.5), lf.TverskyLoss()
    hooked.register_forward_hook(lambda module, given, value: value + 7)
    hooked.register_forward_pre_hook(lambda module, given: (2 * given[0], *given[1:]))
    patched.forward = lambda *given: torch.tensor(5.0)  # type: ignore[method-assign]
    losses = {"own": Doubled(loss_weight=0.25), "hooked": hooked, "patched": patched, "dice": lf.DiceLoss()}
    alone, together = alone_and_in_a_set(losses, logits, labels)
    torch.testing.assert_close(together, alone)
    assert together["patched"] == 5 and together["hooked"] > 7 and together["own"] > 1
    plan = lf.LossSet(losses).plan()
    assert all(f"on its own: {name}" in plan for name in ("own", "hooked", "patched"))
    with pytest.raises(lf.LossError, match=r"term 'own' \(Doubled\): when must be left out"):
        lf.LossSet(own=lf.Term(Doubled(), when="here"))(logits, labels, here=torch.tensor([True, False]))


def test_a_forward_of_ones_own_finds_its_arguments_in_a_dict() -> None:
    logits, labels = images()
    places = {"logits": "heads.0", "labels": "truth"}
    criterion = lf.LossSet(own=Doubled(inputs=places), dice=lf.DiceLoss(inputs=places))
    out = criterion({"heads": [logits], "truth": labels})
    torch.testing.assert_close(out.terms["own"], 2 * out.terms["dice"] + 1)


def test_the_same_tensors_under_other_names_share_a_pass() -> None:
    logits, labels = images()
    criterion = lf.LossSet(
        ce=lf.CrossEntropyLoss(inputs={"logits": "a", "labels": "truth"}, engine=None),
        dice=lf.DiceLoss(inputs={"logits": "b", "labels": "truth"}),
    )
    with Watch() as watch:
        out = criterion({"a": logits, "b": logits, "truth": labels})
        out.total.backward()
    assert watch.names in (["label_fold", "label_unfold"], [])  # none where the compiled engine is not there
    with Watch() as watch:
        criterion({"a": logits, "b": logits + 1, "truth": labels})
    assert watch.names in (["label_once", "label_fold"], [])


def test_regions_of_one_name_and_other_tensors() -> None:
    """Two criteria of one set that are given different regions under the same name."""
    pred, target = torch.rand(2, 1, 9, 8, requires_grad=True), torch.rand(2, 1, 9, 8)
    regions = [(torch.rand(2, 1, 9, 8) > 0.5).float() for _ in range(2)]
    criterion = lf.LossSet(
        one=lf.UnknownL1Loss(inputs={"region": "first.region"}),
        other=lf.MattingLoss(losses=["unknown_l1_loss"], inputs={"region": "second.region"}),
    )
    out = criterion({"pred": pred, "target": target, "first": {"region": regions[0]}, "second": {"region": regions[1]}})
    expected = [lf.UnknownL1Loss()(pred, target, region) for region in regions]
    torch.testing.assert_close(list(out.weighted.values()), expected)


def test_composed_images_share_a_pass_where_they_are_composed_alike() -> None:
    alpha, fg, bg, merged = torch.rand(2, 1, 8, 8, requires_grad=True), *(torch.rand(2, 3, 8, 8) for _ in range(3))
    losses = {"l1": lf.L1CompositionLoss(), "mse": lf.MSECompositionLoss(), "logits": lf.L1CompositionLoss(link="sigmoid")}
    alone, together = alone_and_in_a_set(losses, alpha, fg, bg, merged)
    torch.testing.assert_close(together, alone)
    with Watch() as watch:
        lf.LossSet(losses)(alpha, fg, bg, merged)
    assert watch.names in (["pair_fold", "pair_fold"], [])
    assert lf.LossSet(losses).plan().count("pair fold") == 2


class ScaledFirst(lf.DiceLoss):
    """A forward of its own, in which an evaluation of its own looks like lossfold's."""

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, normalizer: Any = None) -> Tensor:
        return super().forward(3 * logits, labels, weight, normalizer)

    def evaluate(self, *inputs: Any, **named: Any) -> Tensor:
        return super().evaluate(*inputs, **named)


class ScaledAbove(Doubled):
    """A forward of its own, and below it an evaluation."""

    def evaluate(self, *inputs: Any, **named: Any) -> Tensor:
        return super().evaluate(*inputs, **named)


class ScaledCall(lf.DiceLoss):
    """A call of its own."""

    def __call__(self, logits: Tensor, *others: Any, **named: Any) -> Tensor:
        result: Tensor = super().__call__(3 * logits, *others, **named)
        return result


class Weighed(lf.CrossEntropyLoss):
    """A weight of its own."""

    def weigh(self, value: Tensor) -> Tensor:
        return 3 * super().weigh(value)


class OnlyForward(Loss):
    """Nothing but a call."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.weigh(logits.square().mean())


class ScaledSet(lf.LossSet):
    """A set with a forward of its own."""

    def forward(self, logits: Tensor, *others: Any, **named: Any) -> lf.LossOutput:
        return super().forward(3 * logits, *others, **named)


def scaled(module: Any) -> Any:
    """Return a loss or a set that is given three times the scores."""
    module.register_forward_pre_hook(lambda module, given: (3 * given[0], *given[1:]))
    return module


def with_its_own(name: str, value: float) -> lf.DiceLoss:
    """Return a loss that has another method than its class."""
    loss = lf.DiceLoss(loss_weight=0.5)
    setattr(loss, name, lambda *given, **named: torch.tensor(value))
    return loss


class Tenfold:
    """A forward that is mixed in."""

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, normalizer: Any = None) -> Tensor:
        result: Tensor = super().forward(logits, labels, weight, normalizer)  # type: ignore[misc]
        return 10 * result


class MixedIn(Tenfold, lf.DiceLoss):
    """A loss with it."""


class DoubledOutput(lf.LossSet):
    """A set with an output of its own."""

    def output(self, inputs: Any, named: Any) -> lf.LossOutput:
        out = super().output(inputs, named)
        return lf.LossOutput(2 * out.total, out.terms, {name: 2 * value for name, value in out.weighted.items()})


CALLED_AS_THEY_ARE = {
    "forward and evaluate": ScaledFirst,
    "forward above evaluate": ScaledAbove,
    "call": ScaledCall,
    "weigh": Weighed,
    "only forward": OnlyForward,
    "evaluate of one": lambda: with_its_own("evaluate", 7.0),
    "weigh of one": lambda: with_its_own("weigh", 8.0),
    "forward of a set": lambda: ScaledSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss()),
    "hook of a set": lambda: scaled(lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())),
    "hook of a preset": lambda: scaled(lf.CEDiceLoss()),
    "forward mixed in": MixedIn,
    "weight_in of one": lambda: with_its_own("weight_in", 5.0),
    "output of a set": lambda: DoubledOutput(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss()),
}


@pytest.mark.parametrize("name", CALLED_AS_THEY_ARE)
def test_whoever_has_a_call_of_its_own_is_called_as_it_is(name: str) -> None:
    logits, labels = images()
    loss = CALLED_AS_THEY_ARE[name]()
    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), own=loss)
    for _ in range(3):  # also where the set remembers its calls
        alone = loss(logits, labels)
        out = criterion(logits, labels)
        torch.testing.assert_close(out.weighted["own"], alone.total if isinstance(alone, lf.LossOutput) else alone)
        torch.testing.assert_close(out.total, sum(out.weighted.values()))
    assert "on its own: own" in criterion.plan()
    with pytest.raises(lf.LossError, match="can't be split over ranks"):
        lf.LossSet(own=loss, sync=True)


def test_a_set_with_a_hook_beside_a_loss_without_target() -> None:
    pred, target = torch.rand(2, 1, 16, 16, requires_grad=True), torch.rand(2, 1, 16, 16)
    inner, total_variation = scaled(lf.LossSet(l1=lf.L1Loss(), mse=lf.MSELoss())), lf.TVLoss()
    for criterion in (lf.LossSet(inner=inner, tv=total_variation), lf.LossSet(tv=total_variation, inner=inner)):
        out = criterion(pred, target)
        torch.testing.assert_close(out.total, inner(pred, target).total + total_variation(pred))


def test_a_hook_that_comes_later_is_seen() -> None:
    logits, labels = images()
    inner = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())
    criterion = lf.LossSet(inner=inner, focal=lf.FocalLoss())
    before = [criterion(logits, labels) for _ in range(3)][-1]
    assert set(before.terms) == {"inner.ce", "inner.dice", "focal"}
    scaled(inner)
    after = criterion(logits, labels)
    assert set(after.terms) == {"inner", "focal"}
    torch.testing.assert_close(after.terms["inner"], inner(logits, labels).total.detach())


def test_a_set_with_a_hook_is_handed_what_it_was_handed_without() -> None:
    logits, labels = images()
    pred, target = torch.rand(2, 1, 16, 16, requires_grad=True), torch.rand(2, 1, 16, 16)
    here = torch.tensor([True, False])

    def conditional() -> lf.LossSet:
        return lf.LossSet(ce=lf.Term(lf.CrossEntropyLoss(), when="here"))

    cases: list[tuple[Any, dict[str, Any], tuple[Any, ...], dict[str, Any]]] = [
        (lf.LossSet(tv=lf.TVLoss()), {"l1": lf.L1Loss()}, (pred, target), {}),
        (lf.LossSet(tv=lf.TVLoss(), l1=lf.L1Loss()), {"tv": lf.TVLoss()}, (pred, target), {}),
        (conditional(), {"dice": lf.DiceLoss()}, (logits, labels), {"here": here}),
        (conditional(), {"dice": lf.Term(lf.DiceLoss(), when="here")}, (logits, labels), {"here": here}),
        (lf.MattingLoss(), {"l1": lf.L1Loss(inputs={"pred": "pred", "target": "target"})},
         ({"pred": pred, "target": target, "region": (target > 0.5).float()},), {}),
    ]  # fmt: skip
    for inner, others, given, named in cases:
        criterion = lf.LossSet(inner=inner, **others)
        before = criterion(*given, **named).total
        inner.register_forward_hook(lambda module, given, out: None)
        torch.testing.assert_close(criterion(*given, **named).total, before)
    every = lf.LossSet(ce=lf.Term(lf.CrossEntropyLoss(), every=4), dice=lf.DiceLoss())
    every.register_forward_hook(lambda module, given, out: None)
    with pytest.raises(lf.LossError, match=r"term 'inner' \(LossSet\): every must be left out around a set"):
        lf.LossSet(inner=lf.Term(every, every=2))(logits, labels)


def test_other_sets_of_a_set_with_a_hook() -> None:
    logits, labels = images()
    inner = scaled(lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss()))
    plain = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.DiceLoss())
    heads = [lf.presets.deep_supervision(lf.LossSet(inner=plain), heads=2)]
    plain.register_forward_hook(lambda module, given, out: None)
    heads.append(lf.presets.deep_supervision(lf.LossSet(inner=plain), heads=2))
    totals = [one([logits, logits], labels).total for one in heads]
    torch.testing.assert_close(totals[1], totals[0])
    torch.testing.assert_close((inner + lf.FocalLoss())(logits, labels).terms["loss_set"], inner(logits, labels).total.detach())
    torch.testing.assert_close(lf.UncertaintyWeights(inner)(logits, labels).total, inner(logits, labels).total)
    late = lf.LossSet(ce=lf.CrossEntropyLoss())
    weighted = lf.UncertaintyWeights(lf.LossSet(late=late, dice=lf.DiceLoss()))
    scaled(late)
    with pytest.raises(
        lf.LossError,
        match=r"criterion must be with the terms .*make the UncertaintyWeights afterwards",
    ):
        weighted(logits, labels)


def test_options_and_attributes_of_those_names_are_no_methods() -> None:
    @lf.LOSSES.register_module("toy_reduced")
    def toy(pred: Tensor, target: Tensor, reduce: float = 1.0, check: float = 0.0) -> Tensor:
        return reduce * (pred - target) ** 2 + check

    try:
        made = lf.build({"type": "toy_reduced", "reduce": 2.0})
        assert not next(lf.LossSet(a=made, sync=True).leaves()).in_one_part
    finally:
        del lf.LOSSES._classes["toy_reduced"]
        lf.LOSSES.entries += 1
    criterion = lf.LossSet(inner=lf.LossSet(ce=lf.CrossEntropyLoss()))
    criterion["inner"].check = True  # type: ignore[assignment]
    assert set(criterion(*images()).terms) == {"inner.ce"}
