"""CLIP models of other libraries behind one face: ``open_clip`` (and OpenAI's ``clip``), ``transformers``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lossfold.errors import wrong

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
INTERFACES = {"open_clip": ("encode_image", "encode_text"), "transformers": ("get_image_features", "get_text_features")}


def interface_of(network: nn.Module) -> str | None:
    """Return whose methods a model has: "open_clip", "transformers", or None."""
    for name, methods in INTERFACES.items():
        if all(callable(getattr(network, method, None)) for method in methods):
            return name
    return None


def input_size(network: nn.Module) -> tuple[int, int] | None:
    """Return the rows and columns of the images that a model takes, if it says so."""
    visual, config = getattr(network, "visual", None), getattr(network, "config", None)
    for owner, name in (
        (visual, "image_size"),
        (visual, "input_resolution"),
        (getattr(config, "vision_config", None), "image_size"),
    ):
        size = getattr(owner, name, None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, Sequence) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def input_norm(network: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and the standard deviation that a model's images, in [0, 1], are normalised with; CLIP's if it is silent."""
    visual = getattr(network, "visual", None)
    return getattr(visual, "image_mean", None) or MEAN, getattr(visual, "image_std", None) or STD


def image_features(network: nn.Module, images: Tensor) -> Tensor:
    """Return the features ``[B, D]`` of normalised images of the model's size."""
    if interface_of(network) == "open_clip":
        return _pooled(network.encode_image(images))  # type: ignore[operator]
    return _pooled(network.get_image_features(pixel_values=images))  # type: ignore[operator]


def text_features(network: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    """Return the features ``[T, D]`` of tokens."""
    if interface_of(network) == "open_clip":
        return _pooled(network.encode_text(tokens["input_ids"]))  # type: ignore[operator]
    return _pooled(network.get_text_features(**tokens))  # type: ignore[operator]


def tokens_of(text: object, tokenizer: Callable[..., Any] | None, network: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Return a text as token tensors on a device.

    Args:
        text: token ids ``[T, L]``, a dict of them as tokenizers of transformers return it, or strings, with a tokenizer.
        tokenizer: of the model's library.
        network: the model.
        device: where the tokens are wanted.
        loss: who asks, for errors.
    """
    if isinstance(text, str):
        text = [text]
    if isinstance(text, (list, tuple)) and text and all(isinstance(one, str) for one in text):
        if tokenizer is None:
            raise wrong("text", "tokens, or strings with a tokenizer", repr(text)[:60], "give the loss tokenizer=")
        options = {"padding": True, "truncation": True, "return_tensors": "pt"}
        text = tokenizer(list(text), **(options if interface_of(network) == "transformers" else {}))
    if isinstance(text, Tensor):
        text = {"input_ids": text}
    if not isinstance(text, Mapping) or "input_ids" not in text:
        raise wrong("text", "token ids [T, L], a dict with 'input_ids', or strings", f"{type(text).__name__} {text!r}"[:80])
    ids = text["input_ids"]
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dim() != 2 or len(ids) == 0:
        got = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise wrong("text", "token ids, integers [T, L]", got)
    wanted = ("input_ids", "attention_mask", "position_ids")
    return {name: text[name].to(device) for name in wanted if name in text}


def _pooled(features: Any) -> Tensor:
    # transformers returned tensors up to version 4; version 5 wraps them.
    result = features if isinstance(features, Tensor) else features.pooler_output
    assert isinstance(result, Tensor)
    return result
