"""Own matting data: folders of images, alphas and trimaps, or of foregrounds, alphas and backgrounds."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.train.data.augment import vary_exposure
from lossfold.train.data.composites import MattingData, MattingSample, composite
from lossfold.train.data.matching import has_folder, match, split
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected image/ and alpha/, or fg/, alpha/ and bg/, and if you have them trimap/, under data.root, either with all the "
    "files, or each with train/ and val/ in it, or inside train/ and val/"
)
GREY_MODES = {"1": 1, "L": 255, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I": 65535}
"""Pillow's modes with one value per pixel, and the value that is opaque (16-bit PNGs are I in older versions)."""

NAMES = {"fg": "foreground", "bg": "background"}
"""What messages call the files of folders with short names."""

EVALUATION_WIDTH = 10
"""Radius in pixels by which a held-out image's trimap is eroded and dilated where no file has it."""

BACKDROP = (64, 130, 92)
"""The plain green of the report's composites where no file has a background."""


@dataclass(frozen=True)
class MatteFiles:
    """The files of one image: the image, or foreground and background, the alpha, and the trimap where there is one."""

    alpha: Path
    image: Path | None = None
    fg: Path | None = None
    bg: Path | None = None
    trimap: Path | None = None

    @property
    def pictures(self) -> list[Path]:
        """The image, or foreground and background."""
        return [path for path in (self.image, self.fg, self.bg) if path is not None]


def split_files(root: Path, val_fraction: float, seed: int) -> tuple[list[MatteFiles], list[MatteFiles]]:
    """Find the training and the held-out files under `root`.

    Raises:
        TrainError: folders or partners are missing, or the folders say two things at once.
    """
    layered = has_folder(root, "fg") or has_folder(root, "bg")
    if layered and has_folder(root, "image"):
        raise TrainError(f"data: {root} holds image/ as well as fg/ or bg/; keep what is to be read")
    kinds = ["fg", "alpha", "bg"] if layered else ["image", "alpha"]
    kinds += ["trimap"] if has_folder(root, "trimap") else []

    def find(folders: Sequence[Path]) -> list[MatteFiles]:
        return [
            MatteFiles(**dict(zip(kinds, files, strict=True)))
            for files in match([NAMES.get(kind, kind) for kind in kinds], folders, LAYOUT)
        ]

    return split(root, kinds, find, val_fraction, seed)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; one that can't be read is named."""
    try:
        with Image.open(path) as file:
            file.load()
            yield file
    except OSError as error:
        raise TrainError(f"data: {path} can't be read as an image: {error}") from error


def read_picture(path: Path) -> Tensor:
    """Read an image in colours, uint8 `[3,H,W]`."""
    with opened(path) as file:
        return torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_alpha(path: Path) -> Tensor:
    """Read an alpha of 8 or 16 bits, float32 `[1,H,W]` in 0..1.

    Raises:
        TrainError: the file holds colours or a transparency of its own, or nothing but 0 and 1 where 255 is opaque.
    """
    with opened(path) as file:
        mode, values = file.mode, np.array(file)
    if mode not in GREY_MODES:
        raise TrainError(
            f"data: the alpha {path} holds colours or several channels (mode {mode}), expected one grey value per pixel, of 8 or "
            '16 bits; Image.open(path).convert("L"), or .getchannel("A") for a cut-out, makes one'
        )
    if GREY_MODES[mode] > 1 and values.size and values.max() == 1:
        raise TrainError(
            f"data: the alpha {path} holds only 0 and 1, but {GREY_MODES[mode]} is opaque; multiply it by {GREY_MODES[mode]}"
        )
    return torch.from_numpy(values.astype(np.float32) / GREY_MODES[mode])[None].clamp(0, 1)


def read_trimap(path: Path) -> Tensor:
    """Read a trimap of 0, 128 and 255, float32 `[1,H,W]` of 0, 0.5 and 1.

    Raises:
        TrainError: the file holds other values.
    """
    with opened(path) as file:
        values = torch.from_numpy(np.array(file.convert("L") if file.mode == "P" else file)).contiguous()
    try:
        if values.dim() != 2 or values.dtype != torch.uint8:
            raise TrainError(f"one 8-bit grey value per pixel was expected, the file has {list(values.shape)} {values.dtype}")
        unknown = lf.functional.region_from_trimap(values)
    except (lf.LossError, TrainError) as error:
        raise TrainError(f"data: the trimap {path}: {error}") from error
    return torch.where(unknown > 0, 0.5, (values > 128).float())[None]


@dataclass(frozen=True)
class AlphaFolderSamples:
    """Images read from disk.

    Args:
        files: the files.
        seed: decides crops, trimaps and variation, together with the sample's key.
        crop_size: height and width of the crops that train; None for held-out images, which are whole.
        vary: whether training images are mirrored and vary in colour and light.
        widths: the least and the largest radius of a training image's trimap where no file has it.
        max_side: larger images are reduced to this longer side.
    """

    files: Sequence[MatteFiles]
    seed: int
    crop_size: int | None = None
    vary: bool = True
    widths: tuple[int, int] = (1, 20)
    max_side: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int) -> MattingSample:
        files = self.files[key % len(self.files)]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        pictures, alpha, trimap = self.read(files)
        if self.crop_size is not None:
            pictures, alpha, trimap = self._crop(pictures, alpha, trimap, generator)
        image = pictures[0] if files.image else composite(pictures[0] / 255, pictures[1] / 255, alpha)
        if trimap is None and self.crop_size is not None:
            trimap = lf.functional.random_trimap(alpha, self.widths, generator)
        elif trimap is None:
            trimap = lf.functional.trimap_from_alpha(alpha, EVALUATION_WIDTH, EVALUATION_WIDTH)
        if self.crop_size is not None and self.vary:
            mirror, gain, contrast, saturation = torch.rand(4, generator=generator).tolist()
            image = vary_exposure(image, 0.75 + 0.5 * gain, 0.75 + 0.5 * contrast, 0.6 + 0.8 * saturation)
            if mirror < 0.5:
                image, trimap, alpha = image.flip(2), trimap.flip(2), alpha.flip(2)
        return MattingSample(image.contiguous(), trimap.contiguous(), alpha.contiguous())

    def read(self, files: MatteFiles) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Read the pictures, the alpha and the trimap of one image, in one size.

        Raises:
            TrainError: sizes differ, or a file holds what it should not.
        """
        pictures, alpha = [read_picture(path) for path in files.pictures], read_alpha(files.alpha)
        trimap = None if files.trimap is None else read_trimap(files.trimap)
        height, width = alpha.shape[-2:]
        layers = [*zip(files.pictures, pictures, strict=True)]
        layers += [(files.trimap, trimap)] if files.trimap is not None and trimap is not None else []
        for path, layer in layers:
            if layer.shape[-2:] != alpha.shape[-2:]:
                raise TrainError(
                    f"data: {path} is {layer.shape[2]} x {layer.shape[1]} pixels, its alpha {files.alpha.name} {width} x {height}"
                )
        scale = (self.max_side or max(height, width)) / max(height, width)
        if scale < 1:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            pictures = [_reduced(picture.float(), size).round().to(torch.uint8) for picture in pictures]
            alpha = _reduced(alpha, size)
            trimap = None if trimap is None else functional.interpolate(trimap[None], size=size, mode="nearest-exact")[0]
        return pictures, alpha, trimap

    def _crop(
        self, pictures: list[Tensor], alpha: Tensor, trimap: Tensor | None, generator: torch.Generator
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Cut a square around a pixel that is neither clear nor opaque, if there is one; small images are continued."""
        assert self.crop_size is not None
        border = [max(0, self.crop_size - side) for side in alpha.shape[-2:]]
        layers = [layer for layer in (*pictures, alpha, trimap) if layer is not None]
        if any(border):
            layers = [
                functional.pad(layer[None].float(), (0, border[1], 0, border[0]), mode="replicate")[0].to(layer.dtype)
                for layer in layers
            ]
        edges = layers[len(pictures)][0]
        soft = ((edges > 0) & (edges < 1)).nonzero()
        height, width = edges.shape
        pick, y, x = torch.rand(3, generator=generator).tolist()
        centre = soft[int(pick * len(soft))].tolist() if len(soft) else [int(y * height), int(x * width)]
        top, left = (
            min(max(round(middle + (shift - 0.5) * self.crop_size * 0.5) - self.crop_size // 2, 0), side - self.crop_size)
            for middle, shift, side in zip(centre, (y, x), (height, width), strict=True)
        )
        layers = [layer[:, top : top + self.crop_size, left : left + self.crop_size] for layer in layers]
        return layers[: len(pictures)], layers[len(pictures)], layers[-1] if trimap is not None else None

    def foreground(self, key: int) -> Tensor | None:
        """The colours in fg/, which are true; None where there are only images."""
        files = self.files[key]
        return self.read(files)[0][0] if files.fg is not None else None

    def backdrop(self, key: int) -> Tensor:
        """A plain colour of the image's size."""
        _, alpha, _ = self.read(self.files[key])
        return torch.tensor(BACKDROP, dtype=torch.uint8)[:, None, None].expand(-1, *alpha.shape[1:])


def _reduced(layer: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(layer[None], size=size, mode="bilinear", antialias=True)[0]


class AlphaFolderData(MattingData):
    """One's own images and alphas, matched by file name up to the suffix.

    Either `root/image` and `root/alpha`, or `root/fg`, `root/alpha` and `root/bg`, which are composed; in both cases
    `root/trimap` if there is one (0 background, 128 unknown, 255 foreground), otherwise trimaps are made from the alphas, with
    random widths for training. Alphas are grey images of 8 or 16 bits. Where there are `train` and `val` folders
    (`root/train/image` or `root/image/train`) they are the split; otherwise a random share is held out.

    Args:
        root: the folder.
        val_fraction: share of the images that is held out where no folders say so.
        crop_size: height and width of the crops that train, taken where alpha is neither 0 nor 1.
        max_side: larger images are reduced to this longer side, for training and evaluation.
        augment: whether training images vary in mirroring, colour and light.
        trimap_widths: the least and the largest radius in pixels by which training trimaps are eroded and dilated.
        check_files: whether every file is read before the training, so that a wrong one is found at once.
        batch_size: images of a training batch, on each device. Evaluation takes the images one by one, whole.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the split, the order and the variation.
    """

    def __init__(
        self,
        root: str,
        val_fraction: float = 0.2,
        crop_size: int = 256,
        max_side: int | None = None,
        augment: bool = True,
        trimap_widths: tuple[int, int] = (1, 20),
        check_files: bool = True,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        self.root = Path(root)
        self.val_fraction = val_fraction
        self.check_files = check_files
        self.max_side = max_side
        self.samples = AlphaFolderSamples([], seed, crop_size, augment, trimap_widths, max_side)

    def prepare_data(self) -> None:
        """Read every file once."""
        if self.check_files:
            training, held_out = split_files(self.root, self.val_fraction, self.seed)
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(self.samples.read, training + held_out):
                    pass

    def setup(self, stage: str) -> None:
        """Find the files and divide them."""
        training, held_out = split_files(self.root, self.val_fraction, self.seed)
        self.train_set = replace(self.samples, files=training)
        self.val_set = replace(self.samples, files=held_out, crop_size=None)

    def describe(self) -> str:
        """One sentence for the report."""
        return f"{self.root}: {super().describe()}"
