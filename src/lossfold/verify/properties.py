"""What must hold of a loss: one function a property, which raises `Broken` with the smallest input that shows the contrary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossfold.verify import machine
from lossfold.verify.asked import Broken as Broken
from lossfold.verify.asked import NotAsked as NotAsked
from lossfold.verify.asked import Noted as Noted
from lossfold.verify.asked import attempt, differs, expect_same
from lossfold.verify.inputs import Inputs, make
from lossfold.verify.subject import Subject

Property = Callable[[Subject], None]


def finite(subject: Subject) -> None:
    """Value and gradient are numbers, and the gradient is not 0 everywhere."""
    moved = False
    for inputs in subject.ladder():
        value, slope = attempt(subject, inputs)
        if not value.isfinite() or not slope.isfinite().all():
            raise Broken(f"ordinary input gives the value {value.item():.4g} and a gradient {told(slope)}", inputs.code())
        moved = moved or bool(slope.any())
    if not moved:
        raise Broken("the gradient is 0 for every input that was tried: nothing is learned", "")


def told(slope: Tensor) -> str:
    """Say what is wrong with a gradient."""
    if slope.isnan().any():
        return "with NaN"
    return "with infinities" if slope.isinf().any() else "of numbers"


def ignored_pixels(subject: Subject) -> None:
    """Whatever the network says of an ignored pixel changes nothing, and it gets no gradient; not even NaN there does."""
    for inputs, where in with_ignored(subject):
        value, slope = attempt(subject, inputs)
        if slope.masked_select(where[:, None].expand_as(slope)).any():
            raise Broken("an ignored pixel gets a gradient", inputs.code())
        for number in (50.0, torch.nan):
            other = replace(inputs, pred=torch.where(where[:, None], number, inputs.pred))
            again, _ = attempt(subject, other)
            if differs(again, value, 1e-9):
                what = "NaN in" if number != number else "another score at"
                raise Broken(f"{what} an ignored pixel changes the value from {value:.6g} to {again:.6g}", inputs.code())


def ignoring_is_removing(subject: Subject) -> None:
    """An ignored pixel costs what it costs if it is not there."""
    if not sum_over_pixels(subject):
        raise NotAsked("it looks at neighbours or at places: the value changes when pixels are exchanged")
    for inputs, where in with_ignored(subject):
        keep = ~where[0].flatten()
        if inputs.pred.shape[0] > 1 or not keep.any():
            continue
        less = inputs.each(lambda one, keep=keep: one.flatten(-2)[..., keep].unsqueeze(-2))
        value, without = attempt(subject, inputs)[0], attempt(subject, less)[0]
        if differs(value, without, 1e-6):
            text = f"with {int(where.sum())} ignored pixels it is {value:.6g}, without them in the input {without:.6g}"
            raise Broken(text, inputs.code())


def with_ignored(subject: Subject) -> Any:
    """Yield inputs with ignored labels, and where these are."""
    label = subject.ignored
    if subject.kind != "classes":
        raise NotAsked("it takes no class indices")
    if label is None:
        raise NotAsked("it has no ignore_index")
    for inputs in subject.ladder():
        where = torch.zeros_like(inputs.target, dtype=torch.bool)
        where[..., -1] = True
        if 0 <= label < subject.classes:
            inputs = replace(inputs, target=torch.where(inputs.target == label, (label + 1) % subject.classes, inputs.target))
        yield replace(inputs, target=torch.where(where, label, inputs.target)), where


def nothing_counted(subject: Subject) -> None:
    """Where every pixel is ignored, or there is none, the loss is 0 or at least finite, with a gradient of 0."""
    cases = []
    if subject.kind == "classes" and subject.ignored is not None:
        inputs = make(subject.kind, subject.sizes[0], subject.classes)
        cases.append(("all pixels ignored", replace(inputs, target=torch.full_like(inputs.target, subject.ignored))))
    inputs = make(subject.kind, subject.sizes[0], subject.classes)
    cases.append(("an empty batch", inputs.each(lambda one: one[:0])))
    if subject.weight_name:
        cases.append(("all weights 0", replace(inputs, weight=torch.zeros(weight_shape(inputs), dtype=torch.float64))))
    for what, given in cases:
        value, slope = attempt(subject, given, what)
        if not value.isfinite() or not slope.isfinite().all() or slope.any():
            problem = f"the value {value.item():.4g}" + ("" if not slope.any() else " and a gradient that is not 0")
            raise Broken(f"{what}: {problem}", given.code())


def weight_shape(inputs: Inputs) -> tuple[int, ...]:
    """Return the shape of pixel weights."""
    return (inputs.pred.shape[0], *inputs.pred.shape[2:])


def pixel_weights(subject: Subject) -> None:
    """Weights of 1 change nothing; a pixel of weight 0 counts as little as one that is not there."""
    if not subject.weight_name:
        raise NotAsked("a call takes no weight or mask")
    for inputs in subject.ladder():
        ones = torch.ones(weight_shape(inputs), dtype=torch.float64)
        value = attempt(subject, inputs)[0]
        weighted = attempt(subject, replace(inputs, weight=ones))[0]
        if differs(value, weighted, 1e-6):
            raise Broken(
                f"with weights of 1 it is {weighted:.6g}, without weights {value:.6g}", replace(inputs, weight=ones).code()
            )
        ones[..., -1] = 0
        some = replace(inputs, weight=ones)
        value, slope = attempt(subject, some)
        if sum_over_pixels(subject) and slope[..., -1].any():
            raise Broken("a pixel of weight 0 gets a gradient", some.code())
        if inputs.pred.shape[0] == 1 and sum_over_pixels(subject):
            less = inputs.each(lambda one: one[..., :-1])
            without = attempt(subject, less)[0]
            if differs(value, without, 1e-6):
                raise Broken(f"with weight 0 on a column it is {value:.6g}, without the column {without:.6g}", some.code())


def order(subject: Subject) -> None:
    """The order of the images is of no account, nor that of the classes with their numbers."""
    for inputs in subject.ladder():
        value = attempt(subject, inputs)[0]
        flipped = inputs.each(lambda one: one.flip(0))
        expect_same(subject, value, flipped, "the same images in another order", inputs)
        if subject.kind == "images" or symmetric_classes(subject) is False:
            continue
        turn = torch.arange(subject.classes).roll(1)
        pred = inputs.pred[:, turn]
        target = turn.argsort()[inputs.target] if subject.kind == "classes" else inputs.target[:, turn]
        expect_same(subject, value, replace(inputs, pred=pred, target=target), "the same classes with other numbers", inputs)


def symmetric_classes(subject: Subject) -> bool:
    """Whether no option tells the classes apart: as far as options say it."""
    apart = ("include_background", "ignore_index", "ignore")
    told_apart = any(name in subject.options for name in apart[:1]) or (
        subject.ignored is not None and 0 <= subject.ignored < subject.classes
    )
    given = [subject.options.get(name) for name in ("class_weight", "class_weights", "alpha", "weight")]
    return not told_apart and not any(isinstance(one, (list, tuple, Tensor)) for one in given)


def sum_over_pixels(subject: Subject) -> bool:
    """Whether exchanging pixels together with their targets changes nothing."""
    inputs = make(subject.kind, subject.sizes[-1], subject.classes, seed=5)
    places = torch.randperm(inputs.pred.shape[-1] * inputs.pred.shape[-2], generator=torch.Generator().manual_seed(1))
    moved = inputs.each(lambda one: one.flatten(-2)[..., places].unflatten(-1, one.shape[-2:]))
    try:
        return not differs(subject(moved), subject(inputs), 1e-6)
    except Exception:
        return False


def absent_classes(subject: Subject) -> None:
    """Labels in which classes are absent give numbers, and a perfect prediction costs next to nothing with them, too."""
    if subject.kind == "images":
        raise NotAsked("it has no classes")
    for inputs in subject.ladder():
        zeros = torch.zeros_like(inputs.target)
        for what, target in (("one class alone", zeros), ("every class that there is", inputs.target)):
            given = replace(inputs, target=target)
            value, slope = attempt(subject, given, what)
            if not value.isfinite() or not slope.isfinite().all():
                raise Broken(f"labels of {what} give the value {value.item():.4g}, gradient {told(slope)}", given.code())
            hot = torch.nn.functional.one_hot(target, subject.classes).movedim(-1, 1) if subject.kind == "classes" else target
            right, false = (attempt(subject, replace(given, pred=sign * (hot * 2.0 - 1)))[0] for sign in (40, -40))
            if subject_is_quiet(right, false):
                continue
            text = f"labels of {what}: a perfect prediction costs {right:.4g}, one that is wrong everywhere {false:.4g}"
            raise Broken(text, replace(given, pred=40 * (hot * 2.0 - 1)).code())


def subject_is_quiet(right: Tensor, false: Tensor) -> bool:
    """Whether a perfect prediction costs a hundredth of the worst one at most."""
    return bool(right.isfinite() and false.isfinite() and right <= 0.01 * false.abs() + 1e-6)


def extremes(subject: Subject) -> None:
    """Scores of ±10,000 give numbers, in value and gradient."""
    if subject.kind == "images":
        raise NotAsked("it takes no scores")
    for inputs in subject.ladder():
        for number in (1e3, 1e4):
            given = replace(inputs, pred=inputs.pred.sign() * number)
            value, slope = attempt(subject, given.to(torch.float32))
            if not value.isfinite() or not slope.isfinite().all():
                raise Broken(f"scores of ±{number:g}: the value {value.item():.4g}, gradient {told(slope)}", given.code())


def class_weights(subject: Subject) -> None:
    """Doubling every class's weight doubles the loss, or changes nothing where it is a weighted mean."""
    name = subject.class_option
    if not name:
        raise NotAsked("its class is not given, or takes no weight for each class")
    one, two = ([factor * (0.5 + 0.3 * c) for c in range(subject.classes)] for factor in (1.0, 2.0))
    once, twice = (weighing(subject, name, values) for values in (one, two))
    for inputs in subject.ladder():
        value, double = (attempt(which, inputs)[0] for which in (once, twice))
        if differs(double, 2 * value, 1e-5) and differs(double, value, 1e-5):
            text = f"{name}={one} gives {value:.6g}, and {name}={two} {double:.6g}: neither the same nor twice as much"
            raise Broken(f"{text}. Probabilities must not depend on the weights", inputs.code())


def weighing(subject: Subject, name: str, values: list[float]) -> Subject:
    """Return it with class weights, as a list or as a tensor."""
    inputs = make(subject.kind, subject.sizes[-1], subject.classes)
    for given in (values, torch.tensor(values, dtype=torch.float64), torch.tensor(values)):
        try:
            changed = subject.remade(**{name: given})
            changed(inputs)
        except Exception:
            continue
        return changed
    raise NotAsked(f"its {name} takes no number for each class")


PROPERTIES: dict[str, tuple[str, Property]] = {
    name: ((ask.__doc__ or "").partition("\n")[0], ask)
    for name, ask in {
        "finite": finite,
        "ignored": ignored_pixels,
        "removed": ignoring_is_removing,
        "nothing": nothing_counted,
        "weights": pixel_weights,
        "class_weights": class_weights,
        "order": order,
        "absent": absent_classes,
        "extremes": extremes,
        "gradient": machine.gradient,
        "dtypes": machine.dtypes,
        "amp": machine.amp,
        "layout": machine.layout,
        "inputs": machine.inputs_are_kept,
        "objects": machine.objects,
        "buffers": machine.buffers,
        "compile": machine.compiled,
        "ranks": machine.ranks,
    }.items()
}
"""The contract, by name: what must hold, and what asks it."""
