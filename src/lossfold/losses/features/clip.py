"""How far images are from what a text says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.errors import wrong
from lossfold.folds.arithmetic import exactly, wide
from lossfold.folds.filters import constants
from lossfold.losses.features.frozen import FrozenLoss, check_images
from lossfold.losses.reduce import Addends, mean_of
from lossfold.nets import clip
from lossfold.nets.frozen import Frozen
from lossfold.options import configured, option
from lossfold.registry import LOSSES


@LOSSES.register
@configured
class CLIPLoss(FrozenLoss):
    """The distance of images from texts in a CLIP model: the mean of 1 − similarity/100, similarity = exp(logit_scale)·cos.

    Trained models have exp(logit_scale) = 100: with them it is 1 − cos.

    **Images are in [-1, 1]** by default; for images in [0, 1] say ``norm_img=False``. They are resized (bicubic, antialiased, the
    aspect ratio is not kept) to what the model takes, and normalised.

    Args:
        network: a CLIP model of ``open_clip`` (``encode_image``, ``encode_text``, ``logit_scale``; OpenAI's own too) or of
            ``transformers`` (``get_image_features``, ``get_text_features``, ``logit_scale``); a frozen copy of it is kept.
        tokenizer: of the same library, for texts given as strings.
        norm_img: bring images from [-1, 1] to [0, 1].
        image_size: (rows, columns) that the model takes; None asks the model.
        mean, std: three numbers each, the normalisation of images in [0, 1]; None takes the model's, or else those of OpenAI.
        loss_weight: a factor on the result.
        inputs: where the arguments stand in one dict of outputs.

    Raises:
        LossError: for options out of range, a network that is no such model, and images or texts it can't take.

    Gradient:
        Exact for the images; none for the network or the text.

    Example:
        >>> class Tiny(torch.nn.Module):
        ...     logit_scale = torch.tensor(100.0).log()
        ...     def encode_image(self, images):
        ...         return images.mean((2, 3))
        ...     def encode_text(self, tokens):
        ...         return tokens.float()
        >>> loss = CLIPLoss(network=Tiny(), image_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), norm_img=False)
        >>> loss(torch.ones(2, 3, 16, 16), torch.tensor([[1, 1, 1]])).round(decimals=3).abs()
        tensor(0.)

    Reference:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021 (the model); Patashnik et
        al., StyleCLIP: Text-Driven Manipulation of StyleGAN Imagery, ICCV 2021 (the loss).
    """

    tokenizer: Callable[..., Any] | None = None
    norm_img: bool = option(True)
    image_size: Sequence[int] | None = option(None, of=int, count=(2, 2), at_least=1)
    mean: Sequence[float] | None = option(None, of=float, count=(3, 3))
    std: Sequence[float] | None = option(None, of=float, count=(3, 3), more_than=0)

    one_needed: ClassVar[tuple[str, ...]] = ("network",)
    samples: ClassVar[tuple[dict[str, Any], ...]] = ()  # there is none without a model

    def settle(self) -> None:
        """Refuse wrong options, and a network that is no CLIP model."""
        super().settle()
        network = cast("Frozen | None", self.network)
        expected = "a CLIP model of open_clip or transformers"
        self.require("network", network is not None, expected, "load it with its own library and give it as network=")
        assert network is not None
        if clip.interface_of(network.network) is None or not hasattr(network.network, "logit_scale"):
            got, hint = type(network.network).__name__, "logit_scale, and encode_image or get_image_features and so on are missing"
            raise wrong("network", expected, got, hint)
        self.__dict__["frozen"] = network
        self.require("tokenizer", self.tokenizer is None or callable(self.tokenizer), "None or a tokenizer of the model's library")
        if self.image_size is None and clip.input_size(network.network) is None:
            hint = "the model does not say, at visual.image_size or config.vision_config.image_size"
            raise wrong("image_size", "(rows, columns)", "None", hint)

    def prepared(self, images: Tensor) -> Tensor:
        """Return images as the model takes them."""
        network, images = self.frozen.network, wide(images)
        if self.norm_img:
            images = (images + 1) * 0.5
        size = tuple(self.image_size or clip.input_size(network) or ())
        if tuple(images.shape[2:]) != size:
            images = functional.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)
        mean, std = clip.input_norm(network)
        centre, spread = (constants(numbers, images)[:, None, None] for numbers in (self.mean or mean, self.std or std))
        return self.frozen.cast((images - centre) / spread)

    def addends(self, image: Tensor, text: Any) -> Addends:
        """Return what adds up over parts of a batch."""
        network = self.frozen.network
        check_images("image", image, device=self.frozen.device)
        tokens = clip.tokens_of(text, self.tokenizer, network, image.device)
        texts = len(tokens["input_ids"])
        if texts not in (1, len(image)):
            raise wrong("text", f"one text for all images, or one for each of the {len(image)}", f"{texts} texts")
        with torch.no_grad():
            wanted = clip.text_features(network, tokens)
        shown = clip.image_features(network, self.prepared(image))
        with exactly(image):
            scale = wide(cast(Tensor, network.logit_scale)).exp().squeeze()
            similarity = scale * functional.cosine_similarity(wide(shown), wide(wanted))
            return mean_of([1 - similarity / 100])

    def forward(self, image: Tensor, text: Any) -> Tensor:
        """Return the loss.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1] (in [0, 1] with ``norm_img=False``), R, G, B.
            text: token ids ``[T, L]``, a dict of them as tokenizers of transformers return it, or, with a tokenizer, a string or a
                list of strings; one text for all images, or one for each, in their order.

        Returns:
            A scalar, float32 (float64 where the network is).
        """
        return self.weigh(self.evaluate(image, text))
