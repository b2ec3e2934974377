"""Own restoration data: a folder of clean images, degraded on the fly, or folders of inputs and targets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor
from torch.nn import functional

from lossfold.train.data.alpha_folders import opened
from lossfold.train.data.matching import has_folder, match, split
from lossfold.train.data.restoration import Degradation, RestorationData, RestorationSample, check_crop_size, chosen_scale, crop
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected clean images under data.root itself or in target/, and for the degradation pairs input/ and target/, either with "
    "all the files, or each with train/ and val/ in it, or inside train/ and val/"
)
EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
"""Pillow's modes whose conversion to RGB loses nothing but transparency and inks."""


@dataclass(frozen=True)
class RestorationFiles:
    """A clean image's file, and that of the degraded one where there is one."""

    target: Path
    input: Path | None = None


def split_files(root: Path, pairs: bool, val_fraction: float, seed: int) -> tuple[list[RestorationFiles], list[RestorationFiles]]:
    """Find the training and the held-out files under `root`.

    Raises:
        TrainError: folders or partners are missing, or there are inputs though clean images are to be degraded.
    """
    if not pairs and has_folder(root, "input"):
        raise TrainError(
            f"data: {root} holds input/ beside its clean images; give --data.degradation pairs to learn from them, or take the "
            "folder away to have the clean images degraded"
        )
    kinds = ["target", "input"] if pairs else ["target"] if has_folder(root, "target") else [""]

    def find(folders: Sequence[Path]) -> list[RestorationFiles]:
        return [RestorationFiles(*files) for files in match(kinds if pairs else ["image"], folders, LAYOUT)]

    return split(root, kinds, find, val_fraction, seed)


def read_image(path: Path) -> Tensor:
    """Read an image of 8 bits in colours, uint8 `[3,H,W]`.

    Raises:
        TrainError: the file can't be read, or has more than 8 bits a channel.
    """
    with opened(path) as file:
        if file.mode not in EIGHT_BITS:
            raise TrainError(f"data: {path} has more than 8 bits a channel (mode {file.mode}); save it with 8 bits")
        upright = ImageOps.exif_transpose(file)
        return torch.from_numpy(np.array(upright.convert("RGB"))).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class RestorationFolderSamples:
    """Images read from disk.

    Args:
        files: the files.
        seed: decides crops and noise, together with the sample's key.
        scale: how many times larger targets are than inputs.
        degradation: what makes clean images worse; None for pairs.
        crop_size: height and width of the clean crops that train; None for held-out images, which are whole.
        vary: whether training crops are mirrored and turned.
        max_side: larger clean images are reduced to this longer side; None: as they are.
    """

    files: Sequence[RestorationFiles]
    seed: int
    scale: int
    degradation: Degradation | None
    crop_size: int | None = None
    vary: bool = True
    max_side: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int) -> RestorationSample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        layers = self.read(self.files[key % len(self.files)])
        if self.crop_size is not None:
            size = self.crop_size if self.degradation else self.crop_size // self.scale
            layers = crop(layers, size, generator, self.vary)
        return self.degradation(layers[0], generator) if self.degradation else RestorationSample(*layers)

    def read(self, files: RestorationFiles) -> list[Tensor]:
        """Read a clean image, or an input and its target, which is cut to `scale` times the input's size.

        Raises:
            TrainError: the sizes do not fit together, or a file can't be read.
        """
        target = read_image(files.target)
        height, width = target.shape[1:]
        if files.input is None:
            if min(height, width) < self.scale:
                raise TrainError(f"data: {files.target} is {width} x {height} pixels, too small for the scale {self.scale}")
            return [self._reduced(target)]
        image = read_image(files.input)
        if (height // self.scale, width // self.scale) != tuple(image.shape[1:]):
            raise TrainError(
                f"data: {files.target} is {width} x {height} pixels, its input {files.input.name} {image.shape[2]} x "
                f"{image.shape[1]}; expected {self.scale} times the input's size, see data.scale"
            )
        return [image, target[:, : self.scale * image.shape[1], : self.scale * image.shape[2]]]

    def _reduced(self, clean: Tensor) -> Tensor:
        height, width = clean.shape[1:]
        factor = (self.max_side or max(height, width)) / max(height, width)
        if factor >= 1:
            return clean
        size = [max(self.scale, round(side * factor)) for side in (height, width)]
        smaller = functional.interpolate(clean[None].float(), size=size, mode="bicubic", antialias=True)[0]
        return smaller.clamp(0, 255).round().to(torch.uint8)


class RestorationFolderData(RestorationData):
    """One's own clean images, degraded on the fly, or inputs and targets matched by file name up to the suffix.

    Clean images lie in `root` or in `root/target`; pairs in `root/input` and `root/target`. Where there are `train` and `val`
    folders (`root/train/target` or `root/target/train`) they are the split; otherwise a random share is held out. Held-out
    images are whole, and degraded in the same way in every evaluation.

    Args:
        root: the folder.
        degradation: sr: reduced by `scale`, bicubic with antialiasing. denoise: Gaussian noise is added. pairs: the inputs are
            there.
        scale: how many times larger targets are than inputs: 2, 3 or 4 for sr; None: 2 for sr, otherwise 1. What a target has
            beyond a multiple is cut off.
        sigma: standard deviation of the noise of denoise, where white is 255.
        val_fraction: share of the images that is held out where no folders say so.
        crop_size: height and width of the clean crops that train.
        max_side: larger clean images are reduced to this longer side, for training and evaluation; not for pairs.
        augment: whether training crops are mirrored and turned by right angles.
        check_files: whether every file is read before the training, so that a wrong one is found at once.
        batch_size: images of a training batch, on each device. Evaluation takes the images one by one, whole.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the split, the order, crops and noise.
    """

    def __init__(
        self,
        root: str,
        degradation: Literal["sr", "denoise", "pairs"] = "sr",
        scale: int | None = None,
        sigma: float = 25.0,
        val_fraction: float = 0.2,
        crop_size: int = 96,
        max_side: int | None = None,
        augment: bool = True,
        check_files: bool = True,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        self.root = Path(root)
        self.pairs = degradation == "pairs"
        self.scale = chosen_scale(degradation, scale)
        if self.scale < 1:
            raise TrainError(f"data.scale must be at least 1, got {self.scale}")
        if self.pairs and max_side is not None:
            raise TrainError("data.max_side is for clean images that are degraded on the fly; reduce the files of pairs yourself")
        check_crop_size(crop_size, self.scale)
        worsen = None if degradation == "pairs" else Degradation(degradation, self.scale, sigma)
        self.samples = RestorationFolderSamples([], seed, self.scale, worsen, crop_size, augment, max_side)
        self.val_fraction = val_fraction
        self.check_files = check_files

    def prepare_data(self) -> None:
        """Read every file once."""
        if self.check_files:
            training, held_out = split_files(self.root, self.pairs, self.val_fraction, self.seed)
            with ThreadPoolExecutor() as pool:
                for _ in pool.map(self.samples.read, training + held_out):
                    pass

    def setup(self, stage: str) -> None:
        """Find the files and divide them."""
        training, held_out = split_files(self.root, self.pairs, self.val_fraction, self.seed)
        self.train_set = replace(self.samples, files=training)
        self.val_set = replace(self.samples, files=held_out, crop_size=None)

    def describe(self) -> str:
        """One sentence for the report."""
        how = self.samples.degradation.describe() if self.samples.degradation else "with inputs of their own"
        return f"{self.root}, {how}: {super().describe()}"
