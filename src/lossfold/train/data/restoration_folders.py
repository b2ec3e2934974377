"""Own restoration data: a folder of clean images, degraded on the fly, or folders of inputs and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lossfold.train.data.depth import read_picture, resized
from lossfold.train.data.matching import OwnFiles, has_folder, match, split
from lossfold.train.data.restoration import Degradation, RestorationData, RestorationSample, check_crop_size, chosen_scale, crop
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected clean images under data.root itself or in target/, and for the degradation pairs input/ and target/, either with "
    "all the files, or each with train/ and val/ in it, or inside train/ and val/"
)


@dataclass(frozen=True)
class RestorationFiles:
    """A clean image's file, and that of the degraded one where there is one."""

    target: Path
    input: Path | None = None


@dataclass(frozen=True)
class RestorationFolders:
    """Where targets and inputs lie.

    Args:
        root: the folder with both.
        pairs: whether there are inputs.
        targets: the clean images' folder.
        inputs: the inputs' folder.
        pattern: what inputs' names look like; see `lossfold.files.pair`.
        recursive: whether sub-folders are searched.
    """

    root: Path
    pairs: bool
    targets: str = "target"
    inputs: str = "input"
    pattern: str | None = None
    recursive: bool = False

    def split(self, val_fraction: float, seed: int) -> tuple[list[RestorationFiles], list[RestorationFiles]]:
        """Find the training and the held-out files.

        Raises:
            TrainError: folders or partners are missing, or there are inputs though clean images are to be degraded.
        """
        if not self.pairs and has_folder(self.root, self.inputs):
            raise TrainError(
                f"data: {self.root} holds {self.inputs}/ beside its clean images; give --data.degradation pairs to learn from "
                "them, or take the folder away to have the clean images degraded"
            )
        named = self.pairs or has_folder(self.root, self.targets)
        kinds = [self.targets, self.inputs] if self.pairs else [self.targets] if named else [""]
        return split(self.root, kinds, self._files, val_fraction, seed)

    def _files(self, folders: Sequence[Path]) -> list[RestorationFiles]:
        names = ["target", "input"] if self.pairs else ["image"]
        return [RestorationFiles(*files) for files in match(names, folders, LAYOUT, self.recursive, self.pattern)]


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
        data_range: the value that is white; see `read_picture`.
    """

    files: Sequence[RestorationFiles]
    seed: int
    scale: int
    degradation: Degradation | None
    crop_size: int | None = None
    vary: bool = True
    max_side: int | None = None
    data_range: float | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int) -> RestorationSample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        layers = self.read(self.files[key % len(self.files)])
        if self.crop_size is not None:
            size = self.crop_size if self.degradation else self.crop_size // self.scale
            layers = crop(layers, size, generator, self.vary)
        return self.degradation(layers[0], generator) if self.degradation else RestorationSample(*layers)

    def files_of(self, key: int) -> list[Path]:
        """The files of a sample, the image that a network sees first."""
        files = self.files[key % len(self.files)]
        return [path for path in (files.input, files.target) if path is not None]

    def read(self, files: RestorationFiles) -> list[Tensor]:
        """Read a clean image, or an input and its target, which is cut to `scale` times the input's size.

        Raises:
            TrainError: the sizes do not fit together, or a file can't be read.
        """
        target = read_picture(files.target, self.data_range)
        height, width = target.shape[1:]
        if files.input is None:
            if min(height, width) < self.scale:
                raise TrainError(f"data: {files.target} is {width} x {height} pixels, too small for the scale {self.scale}")
            return [self._reduced(target)]
        image = read_picture(files.input, self.data_range)
        if (height // self.scale, width // self.scale) != tuple(image.shape[1:]):
            raise TrainError(
                f"data: {files.target} is {width} x {height} pixels, its input {files.input.name} {image.shape[2]} x "
                f"{image.shape[1]}; expected {self.scale} times the input's size, see data.scale"
            )
        return [image, target[:, : self.scale * image.shape[1], : self.scale * image.shape[2]]]

    def check(self, files: RestorationFiles) -> None:
        """Read the files of one sample, and keep nothing; see `read`."""
        self.read(files)

    def _reduced(self, clean: Tensor) -> Tensor:
        height, width = clean.shape[1:]
        factor = (self.max_side or max(height, width)) / max(height, width)
        if factor >= 1:
            return clean
        size = max(self.scale, round(height * factor)), max(self.scale, round(width * factor))
        return resized(clean, size, "bicubic")


class RestorationFolderData(OwnFiles, RestorationData):
    """One's own clean images, degraded on the fly, or inputs and targets matched by file name up to the suffix.

    Clean images lie in `root` or in `root/target`; pairs in `root/input` and `root/target`. Where there are `train` and `val`
    folders (`root/train/target` or `root/target/train`) they are the split; otherwise a random share is held out. Held-out
    images are whole, and degraded in the same way in every evaluation.

    Args:
        root: the folder.
        targets: the clean images' folder, inside `root` or with a path of its own.
        inputs: the inputs' folder of pairs.
        pattern: what inputs' names look like, up to the suffix: `{name}_noisy`, where * stands for anything. None: as the targets'.
        recursive: whether sub-folders are searched, too.
        data_range: the value that is white. None: 255 for 8 bits, 65535 for 16, 1 for floats.
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
        targets: str = "target",
        inputs: str = "input",
        pattern: str | None = None,
        recursive: bool = False,
        data_range: float | None = None,
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
        self.samples = RestorationFolderSamples([], seed, self.scale, worsen, crop_size, augment, max_side, data_range)
        self.data_range = data_range
        self.folders = RestorationFolders(self.root, self.pairs, targets, inputs, pattern, recursive)
        self.val_fraction = val_fraction
        self.check_files = check_files

    def divided(self) -> tuple[list[RestorationFiles], list[RestorationFiles]]:
        """The training and the held-out files."""
        return self.folders.split(self.val_fraction, self.seed)

    def describe(self) -> str:
        """One sentence for the report."""
        how = self.samples.degradation.describe() if self.samples.degradation else "with inputs of their own"
        return f"{self.root}, {how}: {super().describe()}"
