"""What losses ask of the pair fold: sums over a prediction and a target of the same kind, ``[B, C, *S]`` both, in named regions.

What is summed are functions of their difference at each pixel, Sobel responses, and the coefficients of the difference's
Laplacian pyramid: one pass for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossfold import engines
from lossfold.errors import wrong
from lossfold.folds import looks
from lossfold.folds.checks import SCORE_DTYPES, check_dense, check_floats, result_dtype
from lossfold.folds.fold import MOST_SUMS, Fold, Needs, describe, more_of, texts_of
from lossfold.folds.looks import can_look, mention_a_trimap, refuse_negative, refuse_other_than_alphas
from lossfold.folds.pair import definition, eager, operators
from lossfold.folds.pair.given import PairGiven
from lossfold.folds.pair.spec import CONSTANT, PairSpec


@dataclass(frozen=True)
class PairNeeds(Needs[PairSpec]):
    """What a loss wants collected by a pair fold."""

    def reads_alike(self, other: PairSpec) -> bool:
        """Whether one pass can serve both."""
        return self.spec.link == other.link and len(self.spec.sums) + len(other.sums) <= MOST_SUMS

    def joined(self, other: PairSpec) -> PairSpec:
        """Return the spec of a pass for both."""
        return replace(self.spec, sums=more_of(self.spec.sums, other.sums))

    def of_link(self, link: str) -> PairNeeds:
        """Return the same sums of predictions that are read otherwise."""
        return self.asking(link=link)

    def collect(self, given: PairGiven) -> Fold:
        """Make the pass over a call's arguments, which have been checked."""
        pred, target, regions = given.tensors(in_one_row=not self.apart and not self.of_neighbours, volumes=self.of_neighbours)
        self.look(target, regions, given.in_unit)
        run = self._engine(pred, target, *regions.values()).among(definition if pred.dim() == 5 else eager, operators)
        with refusing_regions(regions, given.in_unit):
            sums = run.fold(pred, target, regions, given.in_unit, self.spec)
        fixed = not any(region.requires_grad for region in regions.values())
        return Fold(sums, self.spec.sums, result_dtype(pred), CONSTANT if fixed else ())

    def look(self, target: Tensor, regions: Mapping[str, Tensor], in_unit: frozenset[str]) -> None:
        """Refuse weights below 0; in losses of the unknown true alphas of another range; say where a region may be a trimap."""
        for name in regions.keys() - in_unit:
            refuse_negative(name, regions[name], self.validate)
        if not in_unit or not can_look(target, self.validate):
            return
        for name in in_unit:
            mention_a_trimap(regions[name])
        if not looks.in_unit(target):
            counted = torch.zeros_like(target, dtype=torch.bool)
            for one in self.spec.sums:
                region = regions[one.region] if one.where else counted.new_ones(())
                counted |= (region == 0) if one.where.startswith("~") else (region != 0)
            refuse_other_than_alphas(target, counted)

    @property
    def of_neighbours(self) -> bool:
        """Whether some sum reads more than a pixel at a time."""
        return not all(one.alone for one in self.spec.sums)

    def _engine(self, pred: Tensor, *others: Tensor | None) -> engines.Engine:
        volumes = pred.dim() == 5
        return engines.select(self.engine, pred, *others, lacks=lacks_volumes if volumes else None)

    def engine_for(self, given: PairGiven) -> engines.Engine:
        """Return the engine that serves a call."""
        pred, target, regions = given.tensors(volumes=self.of_neighbours)
        return self._engine(pred, target, *regions.values())

    def has_once(self, given: PairGiven) -> bool:
        """Whether the engine that serves a call finds its value and gradient in one pass."""
        return self.engine_for(given).once

    def once(self, given: PairGiven, above: Tensor) -> Tensor:
        """Return the sums' product with ``above [K, 1]``, whose gradient the same pass finds."""
        pred, target, _ = given.tensors()
        return operators.once(pred, target, above, self.spec)

    def integrate(self, given: PairGiven, factors: tuple[float, ...]) -> Tensor:
        """Return each pixel's share of the sums, times ``factors``: a map of PyTorch's own in every engine."""
        pred, target, regions = given.tensors(volumes=self.of_neighbours)
        self.look(target, regions, given.in_unit)
        with refusing_regions(regions, given.in_unit):
            values = definition.integrand(pred, target, regions, given.in_unit, self.spec, factors)
        return values.reshape(given.shape)

    def describe(self) -> tuple[str, str, list[str]]:
        """Return the fold's name, how it reads what it is given, and what it collects."""
        texts = zip(texts_of(self.spec.sums), self.spec.sums, strict=True)
        return "pair", f"link={self.spec.link}", [f"{text} in {one.where}" if one.where else text for text, one in texts]


def lacks_volumes(engine: str) -> str:
    """Return what an engine lacks of the sums that read neighbours in volumes: only the definition has them."""
    return "" if engine == "eager" else "neighbours in volumes [B, C, D, H, W]"


class refusing_regions:  # noqa: N801 - reads as a verb
    """Turn an engine's complaint about a region's value into a LossError (compiled code keeps the RuntimeError)."""

    def __init__(self, regions: Mapping[str, Tensor], in_unit: frozenset[str]) -> None:
        self.regions, self.in_unit = regions, in_unit

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, RuntimeError) or "lossfold: a region value" not in str(error):
            return
        for name in sorted(self.in_unit):
            values = self.regions[name].detach().double()
            outside = values[~((values >= 0) & (values <= 1))]
            if len(outside):
                found = sorted({round(x, 4) for x in outside[:1000].tolist()})[:5]
                hint = "region_from_trimap makes it from a trimap" if outside.max() > 1 else ""
                raise wrong("region", "in [0, 1], 1 where alpha is unknown", f"also {found}", hint) from None


def check_pair(pred: object, target: object, names: tuple[str, str] = ("pred", "target")) -> tuple[Tensor, Tensor]:
    """Refuse a prediction and a target that can't be folded, by shape, dtype and device."""
    pred = check_pred(pred, names[0])
    check_beside(names[1], target, pred, (tuple(pred.shape),), names[0])
    return pred, target  # type: ignore[return-value]  # checked above


def check_pred(pred: object, name: str = "pred") -> Tensor:
    """Refuse a prediction that can't be folded, by shape, dtype and layout."""
    return check_floats(name, pred, "channel", integers(pred))


def check_beside(name: str, tensor: object, like: Tensor, shapes: tuple[tuple[int, ...], ...], whose: str) -> None:
    """Refuse a tensor of none of these shapes, or of another device; nothing is broadcast silently."""
    if not isinstance(tensor, Tensor):
        raise wrong(name, f"a tensor {list(shapes[0])}", describe(tensor))
    check_dense(name, tensor)
    if tensor.dtype not in (*SCORE_DTYPES, torch.bool):
        hint = "region_from_trimap makes it from a trimap" if name == "region" else integers(tensor)
        raise wrong(name, "a float or bool tensor", describe(tensor), hint)
    if tuple(tensor.shape) not in shapes:
        expected = " or ".join(str(list(shape)) for shape in dict.fromkeys(shapes))
        raise wrong(name, f"of shape {expected}, as {whose} is {list(like.shape)}", describe(tensor))
    if tensor.device != like.device:
        raise wrong(name, f"on {whose}'s device {like.device}", str(tensor.device))


def check_weights(name: str, weight: object, pred: Tensor) -> Tensor:
    """Refuse weights that would be broadcast other than over the channels."""
    shape = tuple(pred.shape)
    check_beside(name, weight, pred, ((shape[0], 1, *shape[2:]), shape, (shape[0], *shape[2:])), "pred")
    assert isinstance(weight, Tensor)
    return weight


def integers(tensor: object) -> str:
    """Say what to do with integers."""
    return "divide by 255, or call .float()" if isinstance(tensor, Tensor) and not tensor.is_floating_point() else ""
