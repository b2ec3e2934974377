"""Properties that are of the machine rather than of the formula: dtypes, derivatives, layouts, copies, compiled code, ranks."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from lossfold.compose.loss_set import LossSet
from lossfold.verify.asked import Broken, NotAsked, Noted, attempt, differs
from lossfold.verify.inputs import Inputs, make
from lossfold.verify.subject import Subject

ROOM = 32
"""How many roundings of a dtype a value may be away from that of float64."""
MANY = 70_000
"""Pixels, of which sums do not fit into float16."""


def gradient(subject: Subject) -> None:
    """The gradient is the value's slope, by differences in float64."""
    for inputs in subject.ladder():
        leaf = inputs.leaf()
        try:
            torch.autograd.gradcheck(lambda pred, leaf=leaf: subject(replace(leaf, pred=pred)), (leaf.pred,), atol=1e-4, rtol=1e-3)
        except RuntimeError as error:
            if "Jacobian mismatch" in str(error):
                raise Broken("the gradient is not the slope of the value", inputs.code()) from error
            raise Broken(f"the call ends with {error}".splitlines()[0][:200], inputs.code()) from error
        if inputs.pred.numel() > 100:
            return


def dtypes(subject: Subject) -> None:
    """Halves and float32 give what float64 gives, to their rounding; and 70,000 pixels in float16 give a number."""
    for inputs in subject.ladder():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            given = inputs.to(dtype)
            truth = attempt(subject, given.to(torch.float64))[0]
            value, slope = attempt(subject, given, str(dtype))
            room = ROOM * torch.finfo(dtype).eps
            if differs(value, truth, room) or not slope.isfinite().all():
                raise Broken(f"{dtype} gives {value:.6g}, float64 of the same numbers {truth:.6g}", given.code())
    wide = make(subject.kind, (1, 250, MANY // 250), subject.classes).to(torch.float16)
    value, slope = attempt(subject, wide, f"{MANY} pixels in float16")
    if not value.isfinite() or not slope.isfinite().all():
        raise Broken(f"{MANY} pixels in float16 give {value.item():.4g}: sums overflow; add up in float32", "")


def amp(subject: Subject) -> None:
    """Under autocast it is what it is without."""
    for inputs in subject.ladder():
        given = inputs.to(torch.float32)
        value = attempt(subject, given)[0]
        with torch.autocast("cpu", torch.bfloat16):
            inside, slope = attempt(subject, given, "under autocast")
        if differs(value, inside, 8 * torch.finfo(torch.bfloat16).eps) or not slope.isfinite().all():
            raise Broken(f"under autocast it is {inside:.6g}, without {value:.6g}", given.code())


def layout(subject: Subject) -> None:
    """Strides change nothing: channels-last, every other pixel of a larger tensor, a transposed one."""
    for inputs in subject.ladder():
        value, slope = attempt(subject, inputs)
        for name, change in {"channels-last": channels_last, "every other column": spread, "transposed": transposed}.items():
            other, gradient = attempt(subject, inputs.each(change), name)
            if differs(value, other, 1e-9) or not torch.allclose(slope, gradient, rtol=1e-6, atol=1e-9):
                raise Broken(f"{name} tensors give {other:.6g} in place of {value:.6g}, or another gradient", inputs.code())


def channels_last(one: Tensor) -> Tensor:
    """Return the same numbers with the channels innermost."""
    return one.contiguous(memory_format=torch.channels_last) if one.dim() == 4 else one


def spread(one: Tensor) -> Tensor:
    """Return the same numbers as every other column of a tensor."""
    return torch.stack([one, torch.zeros_like(one)], -1).flatten(-2)[..., ::2]


def transposed(one: Tensor) -> Tensor:
    """Return the same numbers with rows innermost."""
    return one.mT.contiguous().mT


def inputs_are_kept(subject: Subject) -> None:
    """A call changes neither its inputs nor what the next one gives."""
    for inputs in subject.ladder():
        given = inputs.each(torch.clone)
        value = attempt(subject, given)[0]
        for name in ("pred", "target"):
            if not torch.equal(getattr(given, name), getattr(inputs, name)):
                raise Broken(f"the call overwrites its {name}", inputs.code())
        with torch.no_grad():
            again = subject(given)
        if differs(value, again, 1e-12):
            raise Broken(f"the same call gives {value:.6g}, and then {again:.6g}", inputs.code())


def objects(subject: Subject) -> None:
    """Copies, pickled and deep ones, are the same loss."""
    if not isinstance(subject.loss, nn.Module):
        raise NotAsked("it is a function")
    inputs = make(subject.kind, subject.sizes[-1], subject.classes)
    value = attempt(subject, inputs)[0]
    ways: dict[str, Callable[[nn.Module], nn.Module]] = {
        "deepcopy": copy.deepcopy,
        "pickle": lambda loss: pickle.loads(pickle.dumps(loss)),
    }
    for name, change in ways.items():
        try:
            twin = change(subject.loss)
        except Exception as error:
            raise Broken(f"{name} ends with {type(error).__name__}: {error}") from error
        if differs(value, replace(subject, loss=twin)(inputs), 1e-12):
            raise Broken(f"a copy by {name} gives another value", inputs.code())


def buffers(subject: Subject) -> None:
    """Tensors that it keeps are buffers, so that they go to the device with it."""
    if not isinstance(subject.loss, nn.Module):
        raise NotAsked("it is a function")
    for path, module in subject.loss.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not name.startswith("_"):
                raise Broken(f"{path}{'.' * bool(path)}{name} is a tensor, but no buffer: .to(device) leaves it behind")


def compiled(subject: Subject) -> None:
    """torch.compile takes it whole (fullgraph), and gives the same."""
    inputs = make(subject.kind, subject.sizes[-1], subject.classes).to(torch.float32)
    value, slope = attempt(subject, inputs)
    leaf = inputs.leaf()
    torch._dynamo.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function = torch.compile(lambda pred, target: subject(Inputs(pred, target)), backend="aot_eager", fullgraph=True)
            result = function(leaf.pred, leaf.target)
            (other,) = torch.autograd.grad(result, leaf.pred)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise Broken(f"torch.compile(fullgraph=True) ends with {type(error).__name__}: {' '.join(lines[:2])[:300]}") from error
    finally:
        torch._dynamo.reset()
    if differs(value, result, 1e-4) or not torch.allclose(slope, other, rtol=1e-3, atol=1e-5):
        raise Broken(f"compiled it gives {result.item():.6g}, else {value:.6g}", inputs.code())


def ranks(subject: Subject) -> None:
    """The mean of the losses of a batch's parts is that of the batch, so that several GPUs train what one trains."""
    if getattr(subject.loss, "in_one_part", None) == "":
        return adds_up(subject)
    for inputs in subject.ladder():
        if inputs.pred.shape[0] < 2:
            continue
        if inputs.target.dtype == torch.int64 and subject.ignored is not None:
            where = torch.zeros_like(inputs.target, dtype=torch.bool)
            where[0, ..., -1] = True
            inputs = replace(inputs, target=torch.where(where, subject.ignored, inputs.target))
        value = attempt(subject, inputs)[0]
        cut = inputs.pred.shape[0] // 2
        halves = [attempt(subject, inputs.each(lambda one, part=part: one[part]))[0] for part in (slice(0, cut), slice(cut, None))]
        sizes = torch.tensor([cut, inputs.pred.shape[0] - cut], dtype=value.dtype)
        together = (torch.stack(halves) * sizes).sum() / sizes.sum()
        if differs(value, together, 1e-6):
            text = f"the batch costs {value:.6g}, its parts in the mean {together:.6g}"
            hint = "how many GPUs share a batch matters, but with addends() (docs/ranks.md) in a LossSet(sync=True)"
            raise Noted(f"{text}: {hint}", inputs.code())


def adds_up(subject: Subject) -> None:
    """Refuse a loss of lossfold's kind whose parts do not add up to the loss of the whole."""
    assert isinstance(subject.loss, nn.Module)
    inputs = make(subject.kind, subject.sizes[-1], subject.classes)
    value = attempt(subject, inputs)[0]
    whole = LossSet(term=subject.loss).accumulate()
    for part in (slice(0, 1), slice(1, None)):
        whole.add(inputs.pred[part], inputs.target[part])
    for part in (slice(0, 1), slice(1, None)):
        whole.share(inputs.pred[part].clone().requires_grad_(), inputs.target[part])
    if differs(whole.output.total, value, 1e-6):
        raise Broken(f"the batch costs {value:.6g}, its parts together {whole.output.total:.6g}", inputs.code())
