"""Own depth data: folders of images and of depth maps, matched by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lossfold.files import read_numbers
from lossfold.train.data.depth import read_picture, resized, told
from lossfold.train.data.depth_maps import DepthData, DepthSample, cut, geometric_mean
from lossfold.train.data.matching import OwnFiles, match, split
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected images under image/ and depth maps under depth/, either with all the files, or each with train/ and val/ in it, or "
    "inside train/ and val/"
)

LOOKED_AT = 16
"""Files whose depths say what is typical."""


@dataclass(frozen=True)
class DepthFiles:
    """An image's file, and that of its depths."""

    image: Path
    depth: Path


@dataclass(frozen=True)
class DepthFolderSamples:
    """Images and depth maps read from disk.

    Args:
        files: the files.
        seed: decides crops, together with the sample's key.
        unit: what a depth map's value of 1 means, in the unit of the depths.
        crop_size: height and width of the crops that train; None for held-out images, which are whole.
        vary: whether training crops are mirrored and in other light.
        max_side: larger images are reduced to this longer side; None: as they are.
        data_range: the value that is white; see `read_picture`.
    """

    files: Sequence[DepthFiles]
    seed: int
    unit: float
    crop_size: int | None = None
    vary: bool = True
    max_side: int | None = None
    data_range: float | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int) -> DepthSample:
        sample = self.read(self.files[key % len(self.files)])
        if self.crop_size is None:
            return sample
        return cut(sample, (self.crop_size, self.crop_size), torch.Generator().manual_seed(self.seed * 1_000_003 + key), self.vary)

    def files_of(self, key: int) -> list[Path]:
        """The files of a sample, the image that a network sees first."""
        files = self.files[key % len(self.files)]
        return [files.image, files.depth]

    def read(self, files: DepthFiles) -> DepthSample:
        """Read an image and its depths, of the same size.

        Raises:
            TrainError: the sizes differ, or a file can't be read.
        """
        image, target = read_picture(files.image, self.data_range), self.depth(files.depth)
        if image.shape[1:] != target.shape[1:]:
            sizes = [f"{one.shape[2]} x {one.shape[1]}" for one in (image, target)]
            raise TrainError(f"data: {files.image} is {sizes[0]} pixels, its depth map {files.depth.name} {sizes[1]}")
        factor = (self.max_side or max(image.shape[1:])) / max(image.shape[1:])
        if factor >= 1:
            return DepthSample(image, target)
        height, width = (max(1, round(side * factor)) for side in image.shape[1:])
        small = functional.interpolate(target[None], size=(height, width), mode="nearest-exact")[0]  # no means
        return DepthSample(resized(image, (height, width), "bilinear"), small)

    def depth(self, path: Path) -> Tensor:
        """Read a depth map, `[1,H,W]` float32, 0 where there is none.

        Raises:
            TrainError: the file can't be read.
        """
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
            values = values[0] if values.ndim == 3 and len(values) == 1 else values
            if values.ndim != 2:
                raise TrainError(f"data: {path} holds an array {list(values.shape)}, expected [H, W]")
        else:
            with told():
                values = read_numbers(path)
        found = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None] * self.unit
        return torch.where(found.isfinite() & (found > 0), found, torch.zeros_like(found))

    def check(self, files: DepthFiles) -> None:
        """Read the files of one sample, and keep nothing; see `read`."""
        self.read(files)


class DepthFolderData(OwnFiles, DepthData):
    """One's own images and depth maps, matched by file name up to the suffix.

    Images lie in `root/image`, depth maps in `root/depth`: pictures of one channel (16 bits, or floats) or arrays (.npy), 0 or not
    finite where nothing was measured. Where there are `train` and `val` folders they are the split; otherwise a random share is
    held out. Held-out images are whole.

    Args:
        root: the folder.
        images: the images' folder, inside `root` or with a path of its own.
        depths: the depth maps' folder.
        pattern: what depth maps' names look like, up to the suffix: `{name}_depth`, * for anything. None: as the images'.
        recursive: whether sub-folders are searched, too.
        data_range: the value of images that is white. None: 255 for 8 bits, 65535 for 16, 1 for floats.
        unit: what a depth map's value of 1 means: 0.001 for millimetres in 16 bits, as NYU's are, 1/256 for KITTI's; 1 for metres.
        val_fraction: share of the images that is held out where no folders say so.
        crop_size: height and width of the crops that train.
        max_side: larger images are reduced to this longer side, for training and evaluation.
        augment: whether training crops are mirrored and in other light.
        check_files: whether every file is read before the training, so that a wrong one is found at once.
        batch_size: images of a training batch, on each device. Evaluation takes the images one by one, whole.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the split, the order and crops.
    """

    def __init__(
        self,
        root: str,
        images: str = "image",
        depths: str = "depth",
        pattern: str | None = None,
        recursive: bool = False,
        data_range: float | None = None,
        unit: float = 1.0,
        val_fraction: float = 0.2,
        crop_size: int = 224,
        max_side: int | None = None,
        augment: bool = True,
        check_files: bool = True,
        batch_size: int = 8,
        num_workers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        if not unit > 0:
            raise TrainError(f"data.unit must be above 0, got {unit}")
        self.root = Path(root)
        self.kinds, self.pattern, self.recursive = [images, depths], pattern, recursive
        self.val_fraction, self.check_files, self.max_side = val_fraction, check_files, max_side
        self.data_range = data_range
        self.samples = DepthFolderSamples([], seed, unit, crop_size, augment, max_side, data_range)
        training, _ = self.whole()
        chosen = training.files[:: max(1, len(training.files) // LOOKED_AT)]
        self.typical = geometric_mean(torch.cat([training.depth(files.depth).flatten() for files in chosen]))

    def divided(self) -> tuple[list[DepthFiles], list[DepthFiles]]:
        """The training and the held-out files."""

        def files(folders: Sequence[Path]) -> list[DepthFiles]:
            return [DepthFiles(*found) for found in match(["image", "depth"], folders, LAYOUT, self.recursive, self.pattern)]

        return split(self.root, self.kinds, files, self.val_fraction, self.seed)

    def describe(self) -> str:
        """One sentence for the report."""
        return f"{self.root}: {super().describe()}"
