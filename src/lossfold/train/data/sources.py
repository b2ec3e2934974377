"""Real photographs and textures that installed packages ship, each divided into a training and a held-out part."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lossfold.train.errors import TrainError

FOLDERS = {"skimage": ("scikit-image", "data"), "sklearn": ("scikit-learn", "datasets/images")}
"""Package to (its name on the package index, the folder of its images)."""

TRAIN_SHARE, HELD_OUT_SHARE = 0.60, 0.37
"""Of each texture's width, from the left and from the right; the strip between them is used by neither."""


@dataclass(frozen=True)
class Texture:
    """One class: an image whose left part trains and whose right part is held out.

    Args:
        name: the class's name.
        file: `package/file`.
        shrink: the image is reduced by this factor, so that its grain has about the size of the others'.
        box: the part of the image that shows the texture, as fractions (left, top, right, bottom).
    """

    name: str
    file: str
    shrink: float = 1.0
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


TEXTURES = (
    Texture("brick", "skimage/brick.png", shrink=1.4),
    Texture("gravel", "skimage/gravel.png", shrink=1.4),
    Texture("tissue", "skimage/ihc.png", shrink=1.4),
    Texture("stars", "skimage/hubble_deep_field.jpg", shrink=2.5),
    Texture("retina", "skimage/retina.jpg", shrink=2.5, box=(0.15, 0.15, 0.85, 0.85)),
)

TRAIN_PHOTOS = (
    "skimage/astronaut.png",
    "skimage/camera.png",
    "skimage/chelsea.png",
    "skimage/coins.png",
    "skimage/moon.png",
    "skimage/rocket.jpg",
    "sklearn/china.jpg",
    "sklearn/flower.jpg",
)
HELD_OUT_PHOTOS = ("skimage/motorcycle_left.png", "skimage/coffee.png")
PHOTO_HEIGHT = 200

MATTING_TRAIN_PHOTOS = (
    "skimage/astronaut.png",
    "skimage/brick.png",
    "skimage/camera.png",
    "skimage/chelsea.png",
    "skimage/coins.png",
    "skimage/gravel.png",
    "skimage/ihc.png",
    "skimage/rocket.jpg",
    "sklearn/china.jpg",
)
MATTING_HELD_OUT_PHOTOS = (
    "skimage/coffee.png",
    "skimage/motorcycle_left.png",
    "sklearn/flower.jpg",
    "skimage/hubble_deep_field.jpg",
)
"""Photographs that are grounds as well as what foregrounds are made of; others are held out than for segmentation, so that
both sides have more than two."""

RESTORATION_TRAIN_PHOTOS = (
    "skimage/astronaut.png",
    "skimage/brick.png",
    "skimage/camera.png",
    "skimage/coins.png",
    "skimage/grass.png",
    "skimage/gravel.png",
    "skimage/hubble_deep_field.jpg",
    "skimage/ihc.png",
    "skimage/rocket.jpg",
    "sklearn/china.jpg",
)
RESTORATION_HELD_OUT_PHOTOS = (
    "skimage/chelsea.png",
    "skimage/coffee.png",
    "sklearn/flower.jpg",
    "skimage/motorcycle_left.png",
)
"""Photographs with detail; those in colour and of things are on both sides."""


def load_sources(held_out: bool, without: Sequence[str] = ()) -> list[list[Tensor]]:
    """Read one side of the division.

    Args:
        held_out: whether to read the held-out part or the training part.
        without: photographs to leave out, as `package/file`.

    Returns:
        For each class (photographs first, then `TEXTURES`) its images `[3,H,W]`, float32 in 0..1.

    Raises:
        TrainError: a package that ships an image is not installed.
    """
    photos = load_photos([name for name in (HELD_OUT_PHOTOS if held_out else TRAIN_PHOTOS) if name not in without])
    return [photos, *([_texture(texture, held_out)] for texture in TEXTURES)]


def load_photos(names: Sequence[str], height: int = PHOTO_HEIGHT) -> list[Tensor]:
    """Read photographs `package/file` at a height in pixels: `[3,height,W]`, float32 in 0..1.

    Raises:
        TrainError: a package that ships an image is not installed.
    """
    images = [open_image(name) for name in names]
    sizes = [(round(image.width * height / image.height), height) for image in images]
    return [_tensor(image.resize(size, Image.Resampling.LANCZOS)) for image, size in zip(images, sizes, strict=True)]


def _texture(texture: Texture, held_out: bool) -> Tensor:
    image = open_image(texture.file)
    left, top, right, bottom = texture.box
    image = image.crop(
        (
            round(left * image.width),
            round(top * image.height),
            round(right * image.width),
            round(bottom * image.height),
        )
    )
    share = (1 - HELD_OUT_SHARE, 1.0) if held_out else (0.0, TRAIN_SHARE)
    image = image.crop((round(share[0] * image.width), 0, round(share[1] * image.width), image.height))
    size = (round(image.width / texture.shrink), round(image.height / texture.shrink))
    return _tensor(image.resize(size, Image.Resampling.LANCZOS))


def open_image(name: str) -> Image.Image:
    """Read the picture `package/file`, in colours.

    Raises:
        TrainError: the package that ships it is not installed.
    """
    package, file = name.split("/")
    spec = importlib.util.find_spec(package)
    project, folder = FOLDERS[package]
    path = Path(spec.submodule_search_locations[0]) / folder / file if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        raise TrainError(
            f"data: the built-in task needs {file} from {project}. Install it with\n"
            f'    pip install "lossfold[train]"\nor bring your own data: --data FolderData --data.root <folder>'
        )
    with Image.open(path) as image:
        colours: Image.Image = image.convert("RGB")
    return colours


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255).contiguous()
