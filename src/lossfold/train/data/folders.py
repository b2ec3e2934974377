"""Own data: a folder of images and a folder of masks whose file names match."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lossfold.train.data.augment import Augment
from lossfold.train.data.base import Sample, SegmentationData, Task
from lossfold.train.data.masks import MaskReader
from lossfold.train.data.matching import match, split
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected images/ and masks/ under data.root, either with all the files, or each with train/ and val/ in it, or inside "
    "train/ and val/; for the task multilabel, in place of every masks folder's files a folder of each class"
)


@dataclass(frozen=True)
class Pair:
    """An image file and the mask files of the same stem: one, or one for each class of the task multilabel."""

    image: Path
    masks: tuple[Path, ...]

    @property
    def mask(self) -> Path:
        """The only mask, or the first."""
        return self.masks[0]


def find_pairs(images: Path, masks: Path, classes: Sequence[str] = ()) -> list[Pair]:
    """Match the files of two folders by stem, sorted; with classes, the masks are in a folder of each class.

    Raises:
        TrainError: a folder is missing or empty, a file has no partner, or two files share a stem.
    """
    if classes:
        each = [find_pairs(images, masks / name) for name in classes]
        return [Pair(pairs[0].image, tuple(pair.mask for pair in pairs)) for pairs in zip(*each, strict=True)]
    return [Pair(image, (mask,)) for image, mask in match(("image", "mask"), (images, masks), LAYOUT)]


def split_pairs(root: Path, val_fraction: float, seed: int, classes: Sequence[str] = ()) -> tuple[list[Pair], list[Pair]]:
    """Find the training and the held-out pairs under `root`, in any of the three layouts."""
    return split(root, ("images", "masks"), lambda folders: find_pairs(folders[0], folders[1], classes), val_fraction, seed)


@dataclass(frozen=True)
class FolderSamples:
    """Pairs read from disk.

    Args:
        pairs: the files.
        reader: turns a mask file into labels.
        max_side: larger images are reduced to this longer side.
        augment: how a training sample varies; None for held-out images.
        stacked: whether labels are `[K,H,W]`, from a mask for each class.
    """

    pairs: Sequence[Pair]
    reader: MaskReader
    max_side: int | None = None
    augment: Augment | None = None
    stacked: bool = False

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int) -> Sample:
        pair = self.pairs[key % len(self.pairs)]
        with Image.open(pair.image) as file:
            image = file.convert("RGB")
        masks = [self.reader.read(path) for path in pair.masks]
        for path, mask in zip(pair.masks, masks, strict=True):
            if (image.height, image.width) != mask.shape:
                raise TrainError(
                    f"data: {path} is {mask.shape[1]} x {mask.shape[0]} pixels, "
                    f"its image {pair.image.name} {image.width} x {image.height}"
                )
        labels = np.stack(masks) if self.stacked else masks[0]
        scale = min(1.0, (self.max_side or max(image.size)) / max(image.size))
        if scale < 1:
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            rows, columns = (
                ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size[::-1], labels.shape[-2:], strict=True)
            )
            image, labels = image.resize(size, Image.Resampling.BILINEAR), labels[..., rows[:, None], columns]
        sample = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), torch.from_numpy(labels.copy())
        return sample if self.augment is None else self.augment(*sample, key)


def channel_names(task: Task, classes: int | list[str] | None) -> list[str]:
    """Name what the network scores.

    Raises:
        TrainError: the classes do not suit the task.
    """
    if task == "binary":
        names = ["object"] if classes is None or isinstance(classes, int) else classes[-1:]
        if (classes if isinstance(classes, int) else len(classes or names)) not in (1, 2) or not names:
            raise TrainError(f"data.classes: the task binary has an object and a background, got {classes}")
        return names
    if classes is None or (task == "multilabel" and isinstance(classes, int)):
        what = "the names of the folders in masks/" if task == "multilabel" else "the classes' names, or their number"
        raise TrainError(f"data.classes: expected {what}, got {classes}")
    return [f"class {index}" for index in range(classes)] if isinstance(classes, int) else classes


class FolderData(SegmentationData):
    """One's own images and masks: `root/images` and `root/masks`, matched by file name up to the suffix.

    Masks are palette or grey images that hold a class id at every pixel. Where there are `train` and `val` folders
    (`root/train/images` or `root/images/train`) they are the split; otherwise a random share is held out.
    For the task binary masks hold 0 and 1, or 0 and `foreground`. For multilabel there is such a mask for every
    class, in a folder of its name: `root/masks/<class>`.

    Args:
        root: the folder.
        classes: the classes' names, or their number. binary: the object's name, if anything; multilabel: names.
        ignore_index: value of mask pixels that count nowhere.
        mask_values: the value that stands for each class in the masks, such as [0, 255]; 0, 1, 2, ... by default.
        val_fraction: share of the images that is held out where no folders say so.
        crop_size: height and width of the crops that train.
        max_side: larger images are reduced to this longer side, for training and evaluation.
        augment: whether training images vary in scale, place, mirroring, colour and light.
        check_masks: whether every mask is read before the training, so that a wrong one is found at once.
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch; images of different sizes are padded to the largest.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the split, the order and the variation.
        divisor: evaluated images are padded to multiples of it.
        task: what the masks say (taken from model.task).
        foreground: binary and multilabel: the value of the object's pixels, such as 255; it may equal `ignore_index`.
    """

    def __init__(
        self,
        root: str,
        classes: int | list[str] | None = None,
        ignore_index: int = 255,
        mask_values: list[int] | None = None,
        val_fraction: float = 0.2,
        crop_size: int = 256,
        max_side: int | None = None,
        augment: bool = True,
        check_masks: bool = True,
        batch_size: int = 8,
        val_batch_size: int = 4,
        num_workers: int = 2,
        seed: int = 0,
        divisor: int = 32,
        task: Task = "multiclass",
        foreground: int | None = None,
    ) -> None:
        names = channel_names(task, classes)
        super().__init__(names, ignore_index, batch_size, val_batch_size, num_workers, seed, divisor, task)
        self.root = Path(root)
        if foreground is not None:
            if task == "multiclass" or mask_values:
                raise TrainError(
                    "data.foreground is for the tasks binary and multilabel, and in place of mask_values; see model.task"
                )
            mask_values = [0, foreground]
        labels = self.num_classes if task == "multiclass" else 2
        self.reader = MaskReader(labels, ignore_index, tuple(mask_values) if mask_values else None)
        self.folders = self.class_names if task == "multilabel" else []
        self.val_fraction = val_fraction
        self.crop_size = crop_size
        self.max_side = max_side
        self.augment = Augment(crop_size, ignore_index, seed, vary=augment)
        self.check_masks = check_masks

    def prepare_data(self) -> None:
        """Look at every mask once."""
        if self.check_masks:
            training, held_out = split_pairs(self.root, self.val_fraction, self.seed, self.folders)
            self.reader.check(mask for pair in training + held_out for mask in pair.masks)

    def setup(self, stage: str) -> None:
        """Find the files and divide them."""
        training, held_out = split_pairs(self.root, self.val_fraction, self.seed, self.folders)
        self.train_set = FolderSamples(training, self.reader, self.max_side, self.augment, bool(self.folders))
        self.val_set = FolderSamples(held_out, self.reader, self.max_side, stacked=bool(self.folders))

    def describe(self) -> str:
        """One sentence for the report."""
        return f"{self.root}: {super().describe()}"
