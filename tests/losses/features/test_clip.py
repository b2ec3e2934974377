"""The CLIP loss on stand-ins with the methods of open_clip's and transformers' models, against float64."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lossfold as lf

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WORDS = {"a": 1, "cat": 2, "the": 3, "sea": 4}


class Towers(nn.Module):
    """Both towers of a CLIP model, in small."""

    def __init__(self, scale: float = 100.0) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.project = nn.Linear(6 * 4, 5)
        self.embed = nn.Embedding(8, 5)

    def see(self, images: Tensor) -> Tensor:
        return self.project(self.patches(images).tanh().flatten(1))

    def read(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        embedded = self.embed(ids)
        return (embedded if mask is None else embedded * mask[..., None]).sum(1)


class OpenClip(Towers):
    """open_clip's methods: features as tensors, the size at `visual`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.visual = nn.Identity()
        self.visual.image_size = (16, 16)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        return self.see(image)

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        return self.read(text)


class Transformers(Towers):
    """The methods of transformers' model: keywords; since version 5 features are wrapped."""

    def __init__(self, wrapped: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.config = SimpleNamespace(vision_config=SimpleNamespace(image_size=16))
        self.wrapped = wrapped

    def get_image_features(self, pixel_values: Tensor) -> Any:
        found = self.see(pixel_values)
        return SimpleNamespace(pooler_output=found) if self.wrapped else found

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        found = self.read(input_ids, attention_mask)
        return SimpleNamespace(pooler_output=found) if self.wrapped else found


MODELS = {
    "open_clip": OpenClip,
    "transformers 5": Transformers,
    "transformers 4": lambda **options: Transformers(wrapped=False, **options),
}
IDS = torch.tensor([[1, 2], [3, 4]])


def truth(model: Towers, images: Tensor, ids: Tensor, norm: bool = True, mean: Any = MEAN, std: Any = STD) -> Tensor:
    model = copy.deepcopy(model).double().eval()
    images = images.double() / 2 + 0.5 if norm else images.double()
    if images.shape[2:] != (16, 16):
        images = functional.interpolate(images, size=(16, 16), mode="bicubic", antialias=True, align_corners=False)
    mean, std = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (mean, std))
    a, b = model.see((images - mean) / std), model.read(ids)
    cosines = (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(1)
    return (1 - model.logit_scale.exp() * cosines / 100).mean()


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 9)])
@pytest.mark.parametrize("kind", list(MODELS))
def test_values_and_gradients(kind: str, size: tuple[int, int]) -> None:
    """One text for each image, one for all; resized or not; the scale is the model's."""
    for scale in (100.0, 14.3):
        model = MODELS[kind](scale=scale)
        loss = lf.CLIPLoss(network=model, loss_weight=2.0)
        images = torch.rand(2, 3, *size) * 2 - 1
        for ids in (IDS, IDS[:1]):
            leaf, double = images.clone().requires_grad_(), images.double().requires_grad_()
            value, expected = loss(leaf, ids), 2 * truth(model, double, ids)
            assert value.shape == () and value.dtype == torch.float32
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
            value.backward()
            expected.backward()
            torch.testing.assert_close(leaf.grad.double(), double.grad, rtol=1e-3, atol=1e-7)
    assert all(p.grad is None for p in loss.frozen.network.parameters()) and not list(loss.parameters())
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_images_of_a_batch_are_not_drawn_to_each_others_texts() -> None:
    """Pairs only: published code averages over all images and texts."""
    model = OpenClip()
    loss, images = lf.CLIPLoss(network=model), torch.rand(2, 3, 16, 16)
    one, two = (loss(images[i : i + 1], IDS[i : i + 1]) for i in range(2))
    torch.testing.assert_close(loss(images, IDS), (one + two) / 2)
    crossed = [loss(images[i : i + 1], IDS[1 - i : 2 - i]) for i in range(2)]
    assert abs(float(loss(images, IDS) - (one + two + sum(crossed)) / 4)) > 1e-3


def test_normalisation() -> None:
    model, images = OpenClip(), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(
        lf.CLIPLoss(network=model, norm_img=False)(images, IDS).double(), truth(model, images, IDS, norm=False)
    )
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    given = lf.CLIPLoss(network=model, mean=mean, std=tuple(std))
    torch.testing.assert_close(given(images, IDS).double(), truth(model, images, IDS, mean=mean, std=std), rtol=1e-5, atol=1e-6)
    model.visual.image_mean, model.visual.image_std = mean, std  # as open_clip notes them at its models
    asked = lf.CLIPLoss(network=model)
    torch.testing.assert_close(asked(images, IDS), given(images, IDS))


def tokenize(texts: list[str]) -> Tensor:
    """As open_clip's tokenizers are called."""
    return torch.tensor([[WORDS[word] for word in text.split()] for text in texts])


class HuggingTokenizer:
    """As those of transformers are called."""

    def __call__(self, texts: list[str], *, padding: bool, truncation: bool, return_tensors: str) -> dict[str, Tensor]:
        assert padding and truncation and return_tensors == "pt"
        rows = [[WORDS[word] for word in text.split()] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [7] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != 7).long(), "token_type_ids": ids * 0}


def test_strings() -> None:
    images = torch.rand(2, 3, 16, 16)
    model = OpenClip()
    loss = lf.CLIPLoss(network=model, tokenizer=tokenize)
    torch.testing.assert_close(loss(images, ["a cat", "the sea"]), loss(images, IDS))
    torch.testing.assert_close(loss(images, "a cat"), loss(images, IDS[:1]))
    out = lf.LossSet(says=lf.CLIPLoss(network=model, tokenizer=tokenize, inputs={"image": "fake", "text": "captions"}))(
        {"fake": images, "captions": ["a cat", "the sea"]}
    )
    torch.testing.assert_close(out.total, loss(images, IDS))
    hugging = lf.CLIPLoss(network=Transformers(), tokenizer=HuggingTokenizer())
    masked = {"input_ids": torch.tensor([[1, 2], [4, 7]]), "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    torch.testing.assert_close(hugging(images, ("a cat", "sea")), hugging(images, masked))
    assert not torch.allclose(hugging(images, masked), hugging(images, masked["input_ids"]))


def test_autocast_and_half() -> None:
    loss, images = lf.CLIPLoss(network=OpenClip()), torch.rand(2, 3, 20, 20, requires_grad=True)
    exact = loss(images, IDS)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(images, IDS)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=2e-2, atol=1e-2)
    half = copy.deepcopy(loss).bfloat16()
    assert half.frozen.dtype == torch.bfloat16 and loss.frozen.dtype == torch.float32
    torch.testing.assert_close(half(images.bfloat16(), IDS), exact, rtol=2e-2, atol=2e-2)


def test_wrong_networks_and_options() -> None:
    def refused(words: str, **options: Any) -> None:
        with pytest.raises(lf.LossError, match=f"CLIPLoss: {words}"):
            lf.CLIPLoss(**options)

    refused("network must be a CLIP model of open_clip or transformers, got None .load it with its own library")
    refused("network must be a CLIP model of open_clip or transformers, got Linear", network=nn.Linear(2, 2))
    unscaled, silent = OpenClip(), OpenClip()
    del unscaled.logit_scale, silent.visual.image_size
    refused("network must be a CLIP model .*logit_scale", network=unscaled)
    refused(r"image_size must be \(rows, columns\), got None .the model does not say", network=silent)
    assert lf.CLIPLoss(network=silent, image_size=[16, 16])(torch.rand(1, 3, 8, 8), IDS[:1]).isfinite()
    refused("image_size must be None or a list of 2 integers >= 1", network=silent, image_size=16)
    refused("mean must be None or a list of 3 numbers", network=OpenClip(), mean=[0.5])
    refused("std must be None or a list of 3 numbers > 0", network=OpenClip(), std=[1, 1, 0])
    refused("tokenizer must be None or a tokenizer", network=OpenClip(), tokenizer="bpe")
    refused("norm_img must be True or False", network=OpenClip(), norm_img="yes")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cat", "text must be tokens, or strings with a tokenizer, got .*give the loss tokenizer="),
        (IDS.float(), "text must be token ids, integers"),
        (IDS[0], "text must be token ids, integers"),
        (IDS[:0], "text must be token ids, integers"),
        (3, "text must be token ids .T, L., a dict with 'input_ids', or strings, got int"),
        ({"tokens": IDS}, "text must be token ids .T, L., a dict with 'input_ids', or strings"),
        (IDS.repeat(2, 1)[:3], "text must be one text for all images, or one for each of the 2, got 3 texts"),
    ],
)
def test_wrong_texts(text: Any, words: str) -> None:
    with pytest.raises(lf.LossError, match=words):
        lf.CLIPLoss(network=OpenClip())(torch.rand(2, 3, 16, 16), text)


def test_wrong_images() -> None:
    loss = lf.CLIPLoss(network=OpenClip())
    with pytest.raises(lf.LossError, match=r"image must be images .*grey images are image.expand\(-1, 3, -1, -1\)"):
        loss(torch.rand(2, 1, 16, 16), IDS)
    with pytest.raises(lf.LossError, match=r"image must be images .* of floats, got torch\.uint8"):
        loss(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), IDS)
