"""The matting criteria: sets of the losses that matting networks are trained with, by their published names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossfold import engines
from lossfold.compose.arguments import Handed
from lossfold.compose.loss_set import LossSet
from lossfold.compose.output import LossOutput
from lossfold.errors import LossError, is_number, naming, nearest, python_scalar, wrong
from lossfold.folds.fold import describe
from lossfold.folds.pair.needs import check_pair
from lossfold.folds.pair.spec import LINKS
from lossfold.losses.base import Loss, Summable, take_alias
from lossfold.losses.classes.focal import FocalLoss
from lossfold.losses.configured import Configured
from lossfold.losses.folded import Folded
from lossfold.losses.images.pixel import SmoothL1Loss
from lossfold.losses.masks.binary import BinaryCrossEntropyLoss
from lossfold.losses.matting.pyramid import LaplacianPyramidLoss
from lossfold.losses.matting.regions import KnownL1Loss, KnownSmoothL1Loss, MattingGradientLoss, RegionLoss, UnknownL1Loss
from lossfold.options import configured, option
from lossfold.registry import LOSSES
from lossfold.routing import check_arguments, checked_mapping, is_one_dict, one_dict, route

TERMS: dict[str, type[Folded]] = {
    "unknown_l1_loss": UnknownL1Loss,
    "known_l1_loss": KnownL1Loss,
    "loss_pha_laplacian": LaplacianPyramidLoss,
    "loss_gradient_penalty": MattingGradientLoss,
    "smooth_l1_loss": SmoothL1Loss,
    "known_smooth_l1_loss": KnownSmoothL1Loss,
    "cross_entropy_loss": BinaryCrossEntropyLoss,
    "focal_loss": FocalLoss,
}
MATTING = ("unknown_l1_loss", "known_l1_loss", "loss_pha_laplacian", "loss_gradient_penalty")
Terms = Sequence[str | Loss | Mapping[str, Any]] | Mapping[str, Loss | float | Mapping[str, Any]]


@configured
class MattingSet(Configured, LossSet):
    """What both criteria are: terms by name, and the options that go to all of them."""

    reference_area: float | None = option(None, more_than=0)
    alpha_link: str = option("identity", words=LINKS)
    validate: bool = option(False)
    engine: str | None = option(None, words=engines.NAMES)
    loss_weight: float = option(1.0)
    inputs: Mapping[str, str] | None = None
    data_info: InitVar[Mapping[str, str] | None] = None

    def __post_init__(self, data_info: Mapping[str, str] | None) -> None:
        take_alias(self, data_info)
        with naming(type(self).__name__):
            self.settle()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "loss_weight" and self.ready:  # is read at each call: nothing to rebuild
            value = python_scalar(value)
            if not is_number(value):
                raise LossError(type(self).__name__, name, "a number", repr(value))
            object.__setattr__(self, name, value)
            return
        super().__setattr__(name, value)

    def settle(self) -> None:
        """Refuse wrong options, and build the terms from them."""
        super().settle()
        object.__setattr__(self, "inputs", checked_mapping(self.inputs))
        self.take(self.built())

    def __call__(self, *inputs: Any, **named: Any) -> LossOutput:
        """Return the losses of tensors, or of one dict of outputs (see ``inputs``)."""
        with naming(type(self).__name__):
            if self.inputs is not None or is_one_dict(inputs, named):
                inputs, named = (), self.routed(inputs, named)
            result: LossOutput = nn.Module.__call__(self, *inputs, **named)
        return result

    def routed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments out of one dict of outputs."""
        return route(self.inputs or {}, self.arguments, one_dict(inputs, named))

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return prediction, target and region by the names that the terms know."""
        if is_one_dict(inputs, named):  # as a term of another set
            inputs, named = (), self.routed(inputs, named)
        check_arguments(self.arguments, inputs, named)
        bound = dict(zip(self.arguments, inputs, strict=False)) | named
        unknown = bound.pop("region")  # under another name: the Laplacian term takes a region, but none here
        return ({**bound, "unknown": unknown},), {}

    def built(self) -> dict[str, Loss]:
        """Return the terms."""
        raise NotImplementedError

    def terms_of(self, argument: str, terms: object) -> dict[str, Loss]:
        """Return the losses that an option names, each told where its arguments stand."""
        who = type(self).__name__
        expected = "names of terms, losses (or their dicts), or a dict from names to losses or weights"
        pairs: list[tuple[Any, Any]]
        if isinstance(terms, Mapping):
            pairs = [(name, self.built_from(one)) for name, one in terms.items()]
        elif isinstance(terms, (list, tuple)):
            losses = [self.built_from(one) for one in terms]
            pairs = [(one, 1.0) if isinstance(one, str) else (name_of(one), one) for one in losses]
            if any(is_number(one) for one in losses):
                raise LossError(who, argument, expected, f"{terms!r}"[:80])
        else:
            raise LossError(who, argument, expected, repr(terms))
        built: dict[str, Loss] = {}
        for name, what in pairs:
            if not isinstance(what, Loss) and not is_number(what):
                raise LossError(who, argument, expected, f"{what!r}"[:80])
            if not isinstance(what, Loss) and name not in TERMS:
                raise LossError(who, argument, "the name of a term", repr(name), nearest(name, TERMS))
            if name in built:
                raise LossError(who, argument, "given once", f"{name!r} twice", "give names: a dict of losses")
            built[name] = self.fitted(what) if isinstance(what, Loss) else self.published(name, what)
        if not built:
            raise LossError(who, argument, "at least one term", repr(terms))
        return built

    @staticmethod
    def built_from(one: object) -> object:
        """Return a term, built if it is a configuration."""
        return Summable.from_config(one) if isinstance(one, Mapping) else python_scalar(one)

    def published(self, name: str, weight: float) -> Loss:
        """Return the term of a published name."""
        options: dict[str, Any] = {"link": self.alpha_link, "engine": self.engine, "loss_weight": weight}
        options |= {"validate": self.validate} if "validate" in TERMS[name].kinds else {}
        return self.fitted(TERMS[name](**options))

    def fitted(self, loss: Loss) -> Loss:
        """Return a copy of a term that reads this set's predictions, at its reference area unless it has one of its own."""
        loss = copy.deepcopy(loss)
        link = getattr(loss, "link", "hinge")
        if link not in ("hinge", self.alpha_link):
            if link != type(loss).__dataclass_fields__["link"].default:
                raise LossError(type(self).__name__, "alpha_link", f"{link!r}, as {loss!r} has it", repr(self.alpha_link))
            try:
                loss.link = self.alpha_link
            except LossError as error:
                expected = f"losses that take link={self.alpha_link!r}"
                raise LossError(type(self).__name__, "terms", expected, repr(loss), f"link is {error.expected}") from None
        if isinstance(loss, RegionLoss) and loss.reference_area is None and loss.reduction == "mean":
            loss.reference_area = self.reference_area
        if loss.inputs is None:
            loss.inputs = places_of(loss)
        return loss


def name_of(loss: object) -> str:
    """Return a loss's published name, or its class's."""
    return next((name for name, cls in TERMS.items() if type(loss) is cls), type(loss).__name__)


def places_of(loss: Loss) -> dict[str, str]:
    """Return where a loss's arguments stand; the region goes to those that can't do without it."""
    found = {"logits": "pred", "labels": "target"} if "logits" in loss.arguments else {}
    if loss.arguments.get("region"):
        found["region"] = "unknown"
    return found


@LOSSES.register
@configured
class MattingLoss(MattingSet):
    """The matting criterion: errors of alpha, of its gradient and of its Laplacian pyramid, in one pass.

    Args:
        losses: names among ``unknown_l1_loss``, ``known_l1_loss``, ``loss_pha_laplacian``, ``loss_gradient_penalty`` (these four
            are the default), ``smooth_l1_loss``, ``known_smooth_l1_loss``, ``cross_entropy_loss`` and ``focal_loss``; losses of
            your own, or what :func:`build` takes; or a dict from names to these or (for the published names) to weights. A loss
            of your own reads predictions as ``alpha_link`` says and keeps its other options; with ``inputs`` it finds its
            arguments under ``pred``, ``target`` and ``unknown``.
        reference_area: A multiplies each regional mean by A / (H·W); 262144 gives the values of criteria written for 512x512
            crops. The Laplacian, the smooth L1, cross entropy and focal terms are plain means over the whole alpha.
        alpha_link: how predictions are read: "identity" for alphas, "sigmoid" for logits.
        validate: of all terms of published names that look at values.
        engine: of all terms.
        loss_weight: a factor on the total.
        inputs: where ``pred``, ``target`` and ``region`` stand in one dict of outputs.

    Raises:
        LossError: for unknown terms (with the nearest name), options, shapes, dtypes or region values that are out of range.

    Gradient:
        As for the terms. An empty unknown or known region costs 0, with a graph.

    Example:
        >>> alpha = torch.rand(2, 1, 32, 32)
        >>> out = MattingLoss()(alpha, alpha.round(), (alpha > 0.3).float())
        >>> sorted(out.terms)
        ['known_l1_loss', 'loss_gradient_penalty', 'loss_pha_laplacian', 'unknown_l1_loss']

    Reference:
        Yao et al., ViTMatte: Boosting Image Matting with Pretrained Plain Vision Transformers, Information Fusion 2024.
    """

    losses: Terms | None = None

    samples: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"losses": list(TERMS), "reference_area": 262144, "alpha_link": "sigmoid"})

    def built(self) -> dict[str, Loss]:
        """Return the terms."""
        return self.terms_of("losses", MATTING if self.losses is None else self.losses)

    def forward(self, pred: Tensor, target: Tensor, region: Tensor) -> LossOutput:
        """Return the losses.

        Args:
            pred: ``[B, 1, H, W]`` alphas (logits with ``alpha_link="sigmoid"``).
            target: the true alphas, of the same shape.
            region: the map of the unknown, ``[B, 1, H, W]`` or ``[B, H, W]``, bool or float in [0, 1], 1 where alpha is
                unknown; :func:`lossfold.functional.region_from_trimap` makes it from a trimap.
        """
        return super().forward(pred, target, region)


@LOSSES.register
@configured
class MixedMattingLoss(MattingSet):
    """Two criteria in one batch: samples with a binary target take the segmentation terms, the others the matting terms.

    A term is the sum of its per-sample values over the samples it applies to, divided by B; the keys are those of both lists,
    whatever the batch holds. A name in both lists is one term, for all samples.

    Args:
        segmentation: terms of the samples whose target holds only 0 and 1, as :class:`MattingLoss` takes them.
        matting: terms of the others.
        tolerance: how far from 0 and 1 a binary target may be, 0 to 0.5.
        reference_area, alpha_link, validate, engine, loss_weight, inputs: as for :class:`MattingLoss`.

    Raises:
        LossError: as for :class:`MattingLoss`; for a term that has no value for each sample.

    Gradient:
        As for the terms; a sample gets none from a term that does not apply to it.

    Example:
        >>> alpha = torch.rand(2, 1, 32, 32)
        >>> target = torch.cat([alpha[:1].round(), alpha[1:]])
        >>> out = MixedMattingLoss()(alpha, target, torch.ones(2, 1, 32, 32))
        >>> out.terms["unknown_l1_loss"]  # the second sample is perfect, the first is binary
        tensor(0.)

    Reference:
        Ke et al., MODNet, AAAI 2022 (matting and segmentation data together).
    """

    every_image = True

    segmentation: Terms = ("known_smooth_l1_loss",)
    matting: Terms = MATTING
    tolerance: float = option(0.0, at_least=0, less_than=0.5)

    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"segmentation": ["cross_entropy_loss", "known_l1_loss"], "reference_area": 262144, "tolerance": 0.01},
    )

    def built(self) -> dict[str, Loss]:
        """Return the terms."""
        lists = {argument: self.terms_of(argument, getattr(self, argument)) for argument in ("segmentation", "matting")}
        for argument, terms in lists.items():
            for name, loss in terms.items():
                if not isinstance(loss, Folded) or not loss.folds or getattr(loss, "reduction", "") != "mean":
                    raise LossError(type(self).__name__, argument, "losses with a value for each sample", f"{name}: {loss!r}")
                spec = loss.needs().spec
                shared = [one for one in (getattr(spec, "bins", None), getattr(spec, "hard", None)) if one and not one.per_image]
                if shared:
                    hint = "per_image=True"
                    raise LossError(type(self).__name__, argument, "losses with a value for each sample", f"{name}: {loss!r}", hint)
        for name in lists["segmentation"].keys() & lists["matting"].keys():
            if repr(lists["segmentation"][name]) != repr(lists["matting"][name]):
                raise LossError(type(self).__name__, name, "the same loss in both lists", "two", "give one another name")
        self.applies = {
            name: (name in lists["segmentation"], name in lists["matting"]) for terms in lists.values() for name in terms
        }
        return {**lists["segmentation"], **lists["matting"]}

    def handed(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> Handed:
        """Return the arguments by name, and which samples are binary."""
        (found,), _ = super().handed(inputs, named)
        _, target = check_pair(found["pred"], found["target"])
        chosen = found.get("is_binary")
        if chosen is None:
            chosen = ((target <= self.tolerance) | (target >= 1 - self.tolerance)).flatten(1).all(1)
        elif not isinstance(chosen, Tensor) or chosen.dtype != torch.bool or chosen.shape != target.shape[:1]:
            raise wrong("is_binary", f"a boolean tensor [{len(target)}]", describe(chosen))
        elif chosen.device != target.device:
            raise wrong("is_binary", f"on the target's device {target.device}", str(chosen.device))
        return ({**found, "is_binary": chosen},), {}

    def gate_for(self, name: str, handed: Handed) -> Tensor | None:
        """Return which samples a term applies to."""
        binary, soft = self.applies[name]
        chosen: Tensor = handed[0][0]["is_binary"]
        return None if binary and soft else chosen if binary else ~chosen

    def forward(self, pred: Tensor, target: Tensor, region: Tensor, is_binary: Tensor | None = None) -> LossOutput:
        """Return the losses.

        Args:
            pred: ``[B, 1, H, W]`` alphas (logits with ``alpha_link="sigmoid"``).
            target: the true alphas, of the same shape.
            region: the map of the unknown, ``[B, 1, H, W]`` or ``[B, H, W]``, bool or float in [0, 1], 1 where alpha is unknown.
            is_binary: ``[B]`` boolean, in place of the test of the targets.
        """
        return super().forward(pred, target, region, is_binary)
