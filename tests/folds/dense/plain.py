"""The dense losses as one writes them in plain PyTorch: the yardstick of the no-worse rule at each dtype.

Everything in the dtype of the scores, differentiated by autograd. In float64 it is itself held to `oracles`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.losses.shapes.structure import edge_weight
from tests.contract.case import Data
from tests.folds.dense.elements import element_weights
from tests.folds.label.plain import COSTS, _dice, _jaccard, _lovasz_by_sorting, _mean, _rises, _tversky, of_map
from tests.shapes import maps

if TYPE_CHECKING:
    from tests.folds.dense.cases import DenseCase

Options = dict[str, Any]


class Elements:
    """Everything as ``[B, K, P]`` in one dtype."""

    def __init__(self, case: DenseCase, data: Data) -> None:
        x, options = data.pred.flatten(2) if data.pred.dim() > 2 else data.pred[..., None], case.options
        exact = element_weights(case, data)
        self.case, self.options, self.shape, self.z = case, options, data.truth.shape, x
        self.truth = data.truth
        self.soft = data.truth.is_floating_point()
        self.w = exact.reshape(x.shape).to(x.dtype)
        self.t = torch.where(exact != 0, data.truth, 0).reshape(x.shape).to(x.dtype)
        self.v = self.numbers("class_weight", 1.0)[:, None]
        if case.link == "softmax":
            self.p, self.nll = x.softmax(1), -x.log_softmax(1)
            self.q, self.nll_not = 1 - self.p, -(1 - self.p).clamp_min(1e-12).log()
        elif case.link == "identity":
            self.p, self.q = x, 1 - x
            self.nll, self.nll_not = -x.clamp_min(1e-12).log(), -(1 - x).clamp_min(1e-12).log()
        else:
            self.p, self.q = x.sigmoid(), 1 - x.sigmoid()
            self.nll, self.nll_not = -functional.logsigmoid(x), -functional.logsigmoid(-x)

    def numbers(self, name: str, default: float) -> Tensor:
        given = self.options.get(name)
        return torch.tensor(default if given is None else given, dtype=self.z.dtype, device=self.z.device).expand(self.z.shape[1])

    def rows(self, total: Tensor) -> Tensor:
        """``[B, ...]`` to one row an image, or one for all."""
        return total if self.case.by_image else total.sum(0, keepdim=True)

    def settle(self, number: Tensor, share: Tensor, counts: Tensor) -> Tensor:
        return number.sum() if self.options.get("reduction") == "sum" else _mean(number, share, counts)

    @property
    def counted(self) -> Tensor:
        return self.rows((self.w != 0).any(2)) != 0


def elementwise(e: Elements, value: Tensor, share: Tensor) -> Tensor:
    if e.case.maps:
        return (e.w * value).sum(1).reshape(e.shape[0], *e.shape[2:]) if e.case.together else (e.w * value).reshape(e.shape)
    number, total = e.rows((e.w * value).sum((1, 2))), e.rows((e.w * share.expand_as(value)).sum((1, 2)))
    return e.settle(number, total, e.counted.any(1))


def binary_cross_entropy(e: Elements) -> Tensor:
    eps = e.options.get("label_smoothing", 0.0)
    t = (1 - eps) * e.t + eps / 2
    return elementwise(e, e.v * (e.numbers("pos_weight", 1.0)[:, None] * t * e.nll + (1 - t) * e.nll_not), e.v)


def cross_entropy(e: Elements) -> Tensor:
    eps, classes = e.options.get("label_smoothing", 0.0), e.z.shape[1]
    return elementwise(e, e.v * ((1 - eps) * e.t + eps / classes) * e.nll, torch.full_like(e.v, 1 / classes))


def focal(e: Elements) -> Tensor:
    tiny = torch.finfo(e.p.dtype).tiny
    modulation = (e.p * (1 - e.t) + e.q * e.t).clamp_min(tiny) ** e.options.get("gamma", 2.0)
    if e.case.link == "softmax":
        scale = e.numbers("alpha", 1.0)[:, None]
        power = e.q.clamp_min(tiny) ** e.options.get("gamma", 2.0)
        return elementwise(e, e.v * scale * e.t * power * e.nll, e.v * e.t)
    value = e.v * modulation * (e.t * e.nll + (1 - e.t) * e.nll_not)
    if e.options.get("alpha") is not None:
        alpha = e.numbers("alpha", 1.0)[:, None]
        value = value * (alpha * e.t + (1 - alpha) * (1 - e.t))
    return elementwise(e, value, e.v * modulation if e.options.get("normalize") == "focal" else e.v)


def areas(e: Elements, squared: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    predicted, true = (e.p**2, e.t**2) if squared else (e.p, e.t)
    both = (
        (e.p + e.t - (e.p - e.t).abs()) / 2 if e.soft and not squared and e.options.get("soft_overlap") != "product" else e.p * e.t
    )
    first, second, third = (e.rows((e.w * x).sum(2)) for x in (both, predicted, true))
    return first, second, third


def included(e: Elements) -> Tensor:
    background = 1.0 if e.options.get("include_background", True) else 0.0
    return torch.cat([e.v[:1, 0] * background, e.v[1:, 0]])


def overlap(score: Callable[[Tensor, Tensor, Tensor, Options], tuple[Tensor, Tensor]]) -> Callable[[Elements], Tensor]:
    def cost(found: tuple[Tensor, ...], options: Options) -> Tensor:
        above, below = score(found[0], found[1], found[2], options)
        ratio = torch.where(below != 0, above / torch.where(below != 0, below, 1), 1)
        value = -ratio.clamp_min(1e-7).log() if options.get("log") else 1 - ratio
        value = value.cosh().log() if options.get("log_cosh") else value
        exponent = options.get("exponent", 1.0)
        return value if exponent == 1 else value.clamp_min(torch.finfo(value.dtype).tiny) ** exponent

    def loss(e: Elements) -> Tensor:
        found, v, counted = areas(e, bool(e.options.get("squared"))), included(e), e.counted
        if e.options.get("average") == "micro":
            value = torch.where(counted.any(1), cost(tuple((v * x).sum(1) for x in found), e.options), 0)
            shares, costs = torch.ones_like(value), value
        else:
            absent, present = e.options.get("absent", "skip"), found[2] != 0
            costs = torch.where(counted if absent == "count" else present, v * cost(found, e.options), 0)
            costs = torch.where(v != 0, costs, 0)
            shares = torch.where(present if absent == "skip" else counted, v, 0).sum(1)
        if e.options.get("reduction") == "none":
            return costs if e.case.by_image else costs[0]
        return e.settle(costs if costs.dim() == 1 else costs.sum(1), shares, counted.any(1))

    return loss


def generalized_dice(e: Elements) -> Tensor:
    both, predicted, true = areas(e)
    v = included(e)
    present = (true != 0) & (v != 0)
    power = {"square": 2, "simple": 1, "uniform": 0}[e.options.get("weighting", "square")]
    factor = torch.where(present, 1 / torch.where(present, true, 1) ** power, 0)
    if e.options.get("absent") == "count":
        factor = torch.where(present, factor, factor.amax(1, keepdim=True))
    factor = factor * v
    s = e.options.get("smooth", 0.0)
    number, total = 2 * (factor * both).sum(1) + s, (factor * (predicted + true)).sum(1) + s
    valid = e.counted.any(1) & (total != 0)
    value = torch.where(valid, 1 - number / torch.where(valid, total, 1), 0)
    if e.options.get("reduction") == "none":
        return value if e.case.by_image else value[0]
    return e.settle(value, torch.ones_like(value), valid)


def lovasz_errors(e: Elements) -> tuple[Tensor, Tensor]:
    foreground = e.t > 0.5
    if e.case.hinge:
        return foreground, (1 - torch.where(foreground, e.z, -e.z)).relu()
    return foreground, torch.where(foreground, e.q, e.p)


def places(m: Tensor, case: DenseCase) -> Tensor:
    """The bin of each error, and how many there are."""
    if not case.hinge:
        return (m * case.bins).long().clamp(0, case.bins - 1)
    each, octave = case.bins // 16, (1 + m).log2().floor()
    return (octave * each + (((1 + m) / 2**octave - 1) * each).floor()).long().clamp(0, case.bins - 1)


def by_histogram(m: Tensor, f: Tensor, b: Tensor, case: DenseCase) -> Tensor:
    bin_ = places(m.detach(), case)

    def collect(share: Tensor) -> Tensor:
        return share.new_zeros((*share.shape[:-1], case.bins)).scatter_add(-1, bin_, share).flip(-1)

    fs, bs = collect(f), collect(b)
    rises, union = _rises(fs, bs)
    some = torch.where(bs != 0, bs, 1)
    w_f = torch.where(bs != 0, torch.log1p(bs / union) / some, 1 / union)
    w_b = torch.where(bs != 0, (rises - fs * w_f) / some, 0)
    return (w_f * collect(f * m) + w_b * collect(b * m)).sum(-1)


def lovasz(e: Elements) -> Tensor:
    def rows(x: Tensor) -> Tensor:
        return x if e.case.by_image else x.movedim(0, 1).reshape(1, x.shape[1], -1)

    foreground, errors = lovasz_errors(e)
    errors, f, b = rows(errors), rows(torch.where(foreground, e.w, 0)), rows(torch.where(foreground, 0, e.w))
    values = _lovasz_by_sorting(errors, f, b) if e.case.sorts else by_histogram(errors, f, b, e.case)
    classes = e.options.get("classes", "present")
    v = e.v[:, 0] * (f + b != 0).any(-1)
    if classes == "present" and not e.case.hinge:
        v = torch.where((f != 0).any(-1), v, 0)
    elif not isinstance(classes, str):
        v = v * torch.zeros_like(e.v[:, 0]).index_fill(0, torch.tensor(list(classes), device=v.device), 1)
    values = torch.where(v != 0, v * values, 0)
    if e.options.get("reduction") == "none":
        return values if e.case.by_image else values[0]
    return e.settle(values.sum(1), v.sum(1), e.counted.any(1))


def of_targets(name: str) -> Callable[[Elements], Tensor]:
    def loss(e: Elements) -> Tensor:
        w = None if e.w.requires_grad else maps.numbers_of(e.w != 0).reshape(e.truth.shape)
        found = maps.masks_of_targets(maps.numbers_of(e.truth), e.case.ignore_index, e.case.together, w)
        m = torch.from_numpy(maps.PLAIN[name](*found, e.options)).to(e.p).reshape(e.p.shape)
        return of_map(name, e.p, e.w, m, None, e.v[:, 0], e.options)

    return loss


def structure(e: Elements) -> Tensor:
    ignored = None if e.w.requires_grad else (e.w == 0).reshape(e.truth.shape)
    window = e.options.get("kernel_size", 31), e.options.get("factor", 5.0)
    u = e.w * edge_weight(e.truth, ignored, *window, e.w.dtype).reshape(e.w.shape)
    s = e.options.get("smooth", 1.0)
    both, union, cross, total, true = (
        e.rows(z.sum(2))
        for z in (u * e.p * e.t, u * (e.p + e.t - e.p * e.t), u * (e.t * e.nll + (1 - e.t) * e.nll_not), u, u * e.t)
    )
    ratio = torch.where(union + s != 0, (both + s) / torch.where(union + s != 0, union + s, 1), 1)
    cost = 1 - ratio + cross / torch.where(total != 0, total, 1)
    counts = (true if e.options.get("absent") == "skip" else total) != 0
    shares = torch.where(counts, e.v[:, 0], 0)
    costs = torch.where(shares != 0, e.v[:, 0] * cost, 0)
    if e.options.get("reduction") == "none":
        return costs if e.case.by_image else costs[0]
    return e.settle(costs.sum(1), shares.sum(1), e.counted.any(1))


PLAIN: dict[str, Callable[[Elements], Tensor]] = {
    "BinaryCrossEntropyLoss": binary_cross_entropy,
    "CrossEntropyLoss": cross_entropy,
    "FocalLoss": focal,
    "DiceLoss": overlap(_dice),
    "JaccardLoss": overlap(_jaccard),
    "TverskyLoss": overlap(_tversky),
    "GeneralizedDiceLoss": generalized_dice,
    "LovaszLoss": lovasz,
    "StructureLoss": structure,
    **{name: of_targets(name) for name in COSTS},
}


def evaluate(case: DenseCase, data: Data) -> Tensor:
    """A loss written in plain PyTorch, in the dtype of the scores."""
    from tests.folds.dense import more

    return case.options.get("loss_weight", 1.0) * (PLAIN | more.PLAIN)[case.name](Elements(case, data))
