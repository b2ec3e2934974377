"""Losses of what networks that know faces see in them."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from lossfold.folds.arithmetic import exactly, wide
from lossfold.losses.features.frozen import CRITERIA, FeatureLoss
from lossfold.losses.reduce import Addends, mean_of
from lossfold.nets.ir_se import IRSE50
from lossfold.nets.light_cnn import LightCNN
from lossfold.nets.weights import fill, initialize, read
from lossfold.options import configured, option
from lossfold.registry import LOSSES

HEAD, FACE = 256, 112
ROWS, COLUMNS = slice(35, 223), slice(32, 220)  # where the face is in a picture of a head of 256x256, framed as in FFHQ


@LOSSES.register
@configured
class FaceIdLoss(FeatureLoss):
    """How far two faces are from being one person's: the mean of 1 − cos(φ(p), φ(t)), φ the identity features.

    Images are in [-1, 1], R, G, B.

    Args:
        pretrained: the path of IR-SE50's state dict (the published ``model_ir_se50.pth``), or "random".
        network: a module of your own in place of IR-SE50, from faces ``[B, 3, 112, 112]`` to features ``[B, D]``; a frozen copy
            of it is kept.
        crop: True for pictures of heads, framed as in FFHQ: brought to 256x256 by averaging areas, cut to [35:223, 32:220].
            False for pictures of faces. Either is brought to 112x112 by averaging.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, weights that do not fit, and images that the network can't take.

    Gradient:
        Exact for the prediction; none for the target, even where it requires one, nor for the network.

    Example:
        >>> FaceIdLoss(network=torch.nn.Flatten())(torch.ones(1, 3, 64, 64), -torch.ones(1, 3, 64, 64))
        tensor(2.)

    Reference:
        Deng et al., ArcFace, CVPR 2019 (φ); Richardson et al., Encoding in Style: a StyleGAN Encoder for Image-to-Image
        Translation, CVPR 2021 (the loss and the crop).
    """

    crop: bool = option(True)

    sources: ClassVar[str] = "the path of IR-SE50's state dict (the published model_ir_se50.pth), or 'random'"
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"pretrained": "random"},)

    def make_network(self, pretrained: str) -> nn.Module:
        """Return IR-SE50."""
        network = IRSE50()
        if pretrained == "random":
            initialize(network)
        else:
            fill(network, read(pretrained), pretrained)
        return network

    def faces(self, images: Tensor) -> Tensor:
        """Return the faces ``[B, 3, 112, 112]`` in images."""
        if self.crop:
            images = functional.adaptive_avg_pool2d(images, HEAD) if images.shape[2:] != (HEAD, HEAD) else images
            images = images[..., ROWS, COLUMNS]
        return functional.adaptive_avg_pool2d(images, FACE)

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        pred, target = self.checked(pred, target)
        found, true = self.pair(self.faces(pred), self.faces(target))
        with exactly(pred):
            similarity = functional.cosine_similarity(wide(found).flatten(1), wide(true).flatten(1))
            return mean_of([1 - similarity])

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            pred: images ``[B, 3, H, W]`` in [-1, 1].
            target: images of the same shape, the same persons in the same order.

        Returns:
            A scalar from 0 to 2, float32 (float64 where the network is).
        """
        return self.weigh(self.evaluate(pred, target))


@LOSSES.register
@configured
class LightCNNFeatureLoss(FeatureLoss):
    """The difference of LightCNN's features of two faces: the mean of ρ(φ(p), φ(t)).

    The published weights are made for R, G, B in [0, 1] minus (0.509, 0.424, 0.378), faces of 128x128.

    Args:
        pretrained: the path of LightCNN's state dict, by MMagic's names (``light_cnn_feature.pth``, or a LightCNN discriminator of
            DIC, whose classifier is left out), or "random".
        network: a module of your own in place of LightCNN; a frozen copy of it is kept.
        criterion: ρ, "l1" or "mse".
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, weights that do not fit, and images that the network can't take.

    Gradient:
        Exact for the prediction; none for the target, even where it requires one, nor for the network.

    Example:
        >>> faces = torch.rand(1, 3, 32, 32)
        >>> LightCNNFeatureLoss(pretrained="random")(faces, faces)
        tensor(0.)

    Reference:
        Wu et al., A Light CNN for Deep Face Representation with Noisy Labels, IEEE TIFS 2018 (φ); Ma et al., Deep Face
        Super-Resolution with Iterative Collaboration between Attentive Recovery and Landmark Estimation, CVPR 2020 (the loss).
    """

    criterion: str = option("l1", words=CRITERIA)

    sources: ClassVar[str] = "the path of LightCNN's state dict (MMagic's light_cnn_feature.pth), or 'random'"
    samples: ClassVar[tuple[dict[str, Any], ...]] = ({"pretrained": "random"}, {"pretrained": "random", "criterion": "mse"})

    def make_network(self, pretrained: str) -> nn.Module:
        """Return LightCNN's convolutions."""
        network = LightCNN()
        if pretrained == "random":
            initialize(network)
        else:
            fill(network, read(pretrained), pretrained, unused=("classifier.",))
        return network

    def addends(self, pred: Tensor, target: Tensor) -> Addends:
        """Return what adds up over parts of a batch."""
        pred, target = self.checked(pred, target)
        found, true = self.pair(pred, target)
        with exactly(pred):
            return mean_of([CRITERIA[self.criterion](wide(found), wide(true))])

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss.

        Args:
            pred: faces ``[B, 3, H, W]``.
            target: faces of the same shape and range.

        Returns:
            A scalar, float32 (float64 where the network is).
        """
        return self.weigh(self.evaluate(pred, target))
