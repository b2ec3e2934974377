"""Data of generation: images alone, as packaged data sets or a folder of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.train.data.base import TrainingData
from lossfold.train.data.depth import eight_bits, read_picture, unit
from lossfold.train.data.matching import OwnFiles, match, split
from lossfold.train.errors import TrainError

LAYOUT = "Expected images under data.root itself, or in train/ and val/ inside it"

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""

HELD_OUT_DIGITS, HELD_OUT_FACES = 297, 20
"""How many of the packaged images are for scoring alone."""


class Images(Protocol):
    """A data set of images uint8 `[C,S,S]`."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int, /) -> Tensor: ...


class GANData(TrainingData):
    """Base of the data modules of generation: samples are images uint8 `[channels,image_size,image_size]`.

    Args:
        image_size: side of the images.
        channels: 1 or 3.
        batch_size: images of a training batch, on each device.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides every random choice of the data.
    """

    train_set: Images
    val_set: Images

    def __init__(self, image_size: int, channels: int, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__(batch_size, batch_size, num_workers, seed)
        if not isinstance(image_size, int) or image_size < 2:
            raise TrainError(f"data.image_size must be an integer, at least 2, got {image_size}")
        if channels not in (1, 3):
            raise TrainError(f"data.channels must be 1 or 3, got {channels}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise TrainError(f"data.batch_size must be an integer, at least 1, got {batch_size}")
        self.image_size = image_size
        self.channels = self.in_channels = channels


@dataclass(frozen=True)
class ImageSet:
    """Images held in memory; sample number `key` is a function of (seed, key) alone.

    Args:
        images: uint8 `[N,C,H,W]`.
        seed: decides what is cut.
        crop_size: side of what is cut from them, at a random place; None: they stay whole.
    """

    images: Tensor
    seed: int = 0
    crop_size: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int) -> Tensor:
        image = self.images[key % len(self.images)]
        if self.crop_size is None:
            return image
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        top, left = (int(torch.randint(side - self.crop_size + 1, (), generator=generator)) for side in image.shape[1:])
        return image[:, top : top + self.crop_size, left : left + self.crop_size]


class DigitsData(GANData):
    """The 1797 handwritten digits that scikit-learn ships, 8 x 8 grey values, enlarged; no downloads.

    1500 of them, chosen at random, train; 297 others are for scoring.

    Args:
        image_size: side to which the digits are enlarged, bilinear.
        batch_size: images of a training batch, on each device.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the division and the order.
    """

    def __init__(self, image_size: int = 16, batch_size: int = 32, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__(image_size, 1, batch_size, num_workers, seed)

    def setup(self, stage: str) -> None:
        """Read the digits."""
        _require("sklearn", "scikit-learn", "DigitsData")
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        small = torch.from_numpy(load_digits().images).float()[:, None] / 16
        digits = (resized(small, self.image_size, "bilinear") * 255).round().to(torch.uint8)
        order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(self.seed))
        self.val_set = ImageSet(digits[order[:HELD_OUT_DIGITS]])
        self.train_set = ImageSet(digits[order[HELD_OUT_DIGITS:]])

    def describe(self) -> str:
        """One sentence for the report."""
        return (
            f"Handwritten digits (scikit-learn), {self.image_size} x {self.image_size} pixels: {len(self.train_set)} train, "
            f"{len(self.val_set)} others are held out for the score"
        )


class FacesData(GANData):
    """The 100 faces of Labeled Faces in the Wild that scikit-image ships, 25 x 25 grey values; no downloads.

    80 of them, cut by a pixel here or there and mirrored at random, train; 20 others, also mirrored, are for scoring.

    Args:
        image_size: side of the images; 24 is cut from the files' 25, others are resized from that.
        batch_size: images of a training batch, on each device.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the division, the order and what is mirrored.
    """

    def __init__(self, image_size: int = 24, batch_size: int = 32, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__(image_size, 1, batch_size, num_workers, seed)

    def setup(self, stage: str) -> None:
        """Read the faces."""
        _require("skimage", "scikit-image", "FacesData")
        from skimage.data import lfw_subset

        pictures = lfw_subset()  # type: ignore[no-untyped-call]
        faces = torch.from_numpy(pictures[:100]).float()[:, None]  # what follows them shows no faces
        if self.image_size != 24:
            faces = resized(faces, round(self.image_size * 25 / 24), "bicubic").clamp(0, 1)
        whole = (faces * 255).round().to(torch.uint8)
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(self.seed))
        inside = slice((whole.shape[-1] - self.image_size) // 2, (whole.shape[-1] - self.image_size) // 2 + self.image_size)
        held_out = whole[order[:HELD_OUT_FACES]][:, :, inside, inside]
        self.val_set = ImageSet(torch.cat([held_out, held_out.flip(3)]))
        train = whole[order[HELD_OUT_FACES:]]
        self.train_set = ImageSet(torch.cat([train, train.flip(3)]), self.seed, self.image_size)

    def describe(self) -> str:
        """One sentence for the report."""
        return (
            f"Faces (Labeled Faces in the Wild, from scikit-image), {self.image_size} x {self.image_size} pixels: "
            f"{len(self.train_set)} with their mirror images train, {len(self.val_set)} others are held out for the score"
        )


@dataclass(frozen=True)
class ImageFiles:
    """Images read from disk: the largest square in the middle, resized.

    Args:
        files: the files.
        image_size: side of the images.
        channels: 1 (grey) or 3.
        seed: decides what is mirrored, together with the sample's key.
        mirror: whether every other image, at random, is mirrored.
        data_range: the value that is white; see `read_picture`.
    """

    files: Sequence[Path]
    image_size: int
    channels: int
    seed: int
    mirror: bool = False
    data_range: float | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int) -> Tensor:
        image = self.read(self.files[key % len(self.files)])
        chance = torch.rand((), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + key))
        return image.flip(2) if self.mirror and chance < 0.5 else image

    def files_of(self, key: int) -> list[Path]:
        """The file of a sample."""
        return [self.files[key % len(self.files)]]

    def read(self, path: Path) -> Tensor:
        """Read an image, uint8 `[channels,S,S]`; one of more bits is rounded to 8, in its whole range.

        Raises:
            TrainError: the file can't be read.
        """
        image = unit(read_picture(path, self.data_range))
        if self.channels == 1:
            image = torch.einsum("chw,c->hw", image, torch.tensor(LUMA))[None]
        side = min(image.shape[1:])
        top, left = ((length - side) // 2 for length in image.shape[1:])
        square = image[None, :, top : top + side, left : left + side]
        return eight_bits(resized(square, self.image_size, "bicubic")[0])

    def check(self, path: Path) -> None:
        """Read a file, and keep nothing; see `read`."""
        self.read(path)


class GANFolderData(OwnFiles, GANData):
    """A folder of one's own images of any size; the largest square in the middle of each is resized.

    The images lie in `root`, and a random share of them is held out for scoring, or in `root/train` and `root/val`.

    Args:
        root: the folder.
        image_size: side of the images.
        channels: 1: images in grey; 3: in colours.
        mirror: whether training images are mirrored at random; leave it off for letters, digits and the like.
        val_fraction: share of the images that is held out where no folders say so.
        check_files: whether every file is read before the training, so that a wrong one is found at once.
        batch_size: images of a training batch, on each device.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the division, the order and what is mirrored.
        recursive: whether sub-folders are searched, too.
        data_range: the value that is white. None: 255 for 8 bits, 65535 for 16, 1 for floats. Networks see 8 bits.
    """

    without_chance: ClassVar[dict[str, Any]] = {"mirror": False}

    def __init__(
        self,
        root: str,
        image_size: int = 32,
        channels: Literal[1, 3] = 3,
        mirror: bool = False,
        val_fraction: float = 0.1,
        check_files: bool = True,
        batch_size: int = 32,
        num_workers: int = 2,
        seed: int = 0,
        recursive: bool = False,
        data_range: float | None = None,
    ) -> None:
        super().__init__(image_size, channels, batch_size, num_workers, seed)
        self.root = Path(root)
        self.recursive = recursive
        self.data_range = data_range
        self.samples = ImageFiles([], image_size, channels, seed, mirror, data_range)
        self.val_fraction = val_fraction
        self.check_files = check_files

    def divided(self) -> tuple[list[Path], list[Path]]:
        """The training and the held-out files."""

        def find(folders: Sequence[Path]) -> list[Path]:
            return [path for (path,) in match(["image"], folders, LAYOUT, self.recursive)]

        return split(self.root, [""], find, self.val_fraction, self.seed)

    def describe(self) -> str:
        """One sentence for the report."""
        return f"{self.root}, {self.image_size} x {self.image_size} pixels: {super().describe()}"


def resized(images: Tensor, size: int, mode: str) -> Tensor:
    """Square images `[B,C,H,H]` at another size; without aliasing where they get smaller."""
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, size=(size, size), mode=mode, align_corners=False, antialias=True)


def _require(package: str, project: str, data: str) -> None:
    if find_spec(package) is None:
        raise TrainError(
            f'data: {data} needs {project}. Install it with\n    pip install "lossfold[train]"\nor bring your own images: '
            "--data GANFolderData --data.root <folder>"
        )
