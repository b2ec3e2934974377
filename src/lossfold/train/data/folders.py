"""Own data: a folder of images and a folder of masks whose file names match."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lossfold.files import FileError, size_of
from lossfold.train.data.augment import Augment, Variation
from lossfold.train.data.base import Sample, SegmentationData, Task
from lossfold.train.data.depth import read_picture, resized
from lossfold.train.data.masks import MaskReader, Values, colour_table, occurring
from lossfold.train.data.matching import check_all, match, split
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected images/ and masks/ (or what data.images and data.masks name) under data.root, either with all the files, or each "
    "with train/ and val/ in it, or inside train/ and val/; for the task multilabel, in place of every masks folder's files a "
    "folder of each class"
)


@dataclass(frozen=True)
class Pair:
    """An image file and the mask files that belong to it: one, or one for each class of the task multilabel."""

    image: Path
    masks: tuple[Path, ...]

    @property
    def mask(self) -> Path:
        """The only mask, or the first."""
        return self.masks[0]


@dataclass(frozen=True)
class PairFolders:
    """Where images and masks lie.

    Args:
        root: the folder with both.
        images: the images' folder.
        masks: the masks' folder.
        pattern: what masks' names look like; see `lossfold.files.pair`.
        recursive: whether sub-folders are searched.
        classes: for the task multilabel, the names of the folders in that of the masks.
    """

    root: Path
    images: str = "images"
    masks: str = "masks"
    pattern: str | None = None
    recursive: bool = False
    classes: tuple[str, ...] = ()

    def split(self, val_fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
        """Find the training and the held-out pairs, in any of the three layouts.

        Raises:
            TrainError: a folder is missing or empty, a file has no partner, or two files share a name.
        """
        return split(self.root, (self.images, self.masks), self._pairs, val_fraction, seed)

    def _pairs(self, folders: Sequence[Path]) -> list[Pair]:
        images, masks = folders
        kinds = [masks / name for name in self.classes] or [masks]
        found = match(("image", *["mask"] * len(kinds)), (images, *kinds), LAYOUT, self.recursive, self.pattern)
        return [Pair(image, tuple(of_classes)) for image, *of_classes in found]


@dataclass(frozen=True)
class FolderSamples:
    """Pairs read from disk.

    Args:
        pairs: the files.
        reader: turns a mask file into labels.
        max_side: larger images are reduced to this longer side.
        augment: how a training sample varies; None for held-out images.
        stacked: whether labels are `[K,H,W]`, from a mask for each class.
        data_range: the value of images that is white; see `read_picture`.
    """

    pairs: Sequence[Pair]
    reader: MaskReader
    max_side: int | None = None
    augment: Augment | None = None
    stacked: bool = False
    data_range: float | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int) -> Sample:
        sample = self.read(self.pairs[key % len(self.pairs)])
        return sample if self.augment is None else self.augment(*sample, key)

    def files_of(self, key: int) -> list[Path]:
        """The files of a sample, the image first."""
        pair = self.pairs[key % len(self.pairs)]
        return [pair.image, *pair.masks]

    def read(self, pair: Pair) -> Sample:
        """Read an image and its labels, in one size.

        Raises:
            TrainError: sizes differ, or a file holds what it should not.
        """
        image, raw = self._raw(pair)
        masks = [self.reader.labels(values, path) for values, path in zip(raw, pair.masks, strict=True)]
        labels = np.stack(masks) if self.stacked else masks[0]
        height, width = image.shape[1:]
        scale = (self.max_side or max(height, width)) / max(height, width)
        if scale < 1:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            rows, columns = (
                ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, (height, width), strict=True)
            )
            image, labels = resized(image, size, "bilinear"), labels[..., rows[:, None], columns]
        return image, torch.from_numpy(labels.copy())

    def values(self, pair: Pair) -> Values:
        """Read an image and its masks, and tell which values occur in these.

        Raises:
            TrainError: sizes differ, or a file can't be read.
        """
        return [(path, occurring(raw)) for path, raw in zip(pair.masks, self._raw(pair)[1], strict=True)]

    def _raw(self, pair: Pair) -> tuple[torch.Tensor, list[npt.NDArray[np.integer]]]:
        image, masks = read_picture(pair.image, self.data_range), [self.reader.raw(path) for path in pair.masks]
        for path, mask in zip(pair.masks, masks, strict=True):
            if image.shape[1:] != mask.shape:
                raise TrainError(
                    f"data: {path} is {mask.shape[1]} x {mask.shape[0]} pixels, "
                    f"its image {pair.image.name} {image.shape[2]} x {image.shape[1]}"
                )
        return image, masks


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

    Images may have 8 or 16 bits, or be floats, in every usual format (`lossfold.files.read_image`). Masks are palette or grey
    images that hold a class id at every pixel, or with `mask_colors` a colour. A mask may be called as its image is, or
    `<name>_mask` and the like. Where there are `train` and `val` folders (`root/train/images` or `root/images/train`) they are
    the split; otherwise a random share is held out. For the task binary masks hold 0 and 1, or 0 and `foreground`. For
    multilabel there is such a mask for every class, in a folder of its name: `root/masks/<class>`.

    Args:
        root: the folder.
        classes: the classes' names, or their number. binary: the object's name, if anything; multilabel: names.
        images: the images' folder, inside `root` or with a path of its own.
        masks: the masks' folder; it may be that of the images.
        pattern: what masks' names look like, up to the suffix: `{name}_mask`, where * stands for anything. None: as the
            images', or with a usual ending.
        recursive: whether sub-folders are searched, too.
        ignore_index: value of mask pixels that count nowhere.
        mask_values: the value that stands for each class in the masks, such as [0, 128]; 0, 1, 2, ... by default.
        mask_colors: the colour that stands for each class, such as ["#000000", "#804080"]; one more is that of ignored pixels.
        foreground: the value of the object's pixels, such as 255, where there are but an object and a background (0); it may
            equal `ignore_index`.
        data_range: the value of images that is white. None: 255 for 8 bits, 65535 for 16, 1 for floats.
        val_fraction: share of the images that is held out where no folders say so.
        crop_size: height and width of the crops that train.
        max_side: larger images are reduced to this longer side, for training and evaluation.
        augment: whether training images vary in scale, place, mirroring, colour and light.
        variation: how far, and in what else; see `lossfold.train.data.Variation`.
        check_files: whether every file is read before the training, so that wrong ones are found at once.
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch; images of different sizes are padded to the largest.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides the split, the order and the variation.
        divisor: evaluated images are padded to multiples of it.
        task: what the masks say (taken from model.task).
    """

    def __init__(
        self,
        root: str,
        classes: int | list[str] | None = None,
        images: str = "images",
        masks: str = "masks",
        pattern: str | None = None,
        recursive: bool = False,
        ignore_index: int = 255,
        mask_values: list[int] | None = None,
        mask_colors: list[str] | None = None,
        foreground: int | None = None,
        data_range: float | None = None,
        val_fraction: float = 0.2,
        crop_size: int = 256,
        max_side: int | None = None,
        augment: bool = True,
        check_files: bool = True,
        batch_size: int = 8,
        val_batch_size: int = 1,
        num_workers: int = 2,
        seed: int = 0,
        divisor: int = 32,
        task: Task = "multiclass",
        variation: Variation | None = None,
    ) -> None:
        names = channel_names(task, classes)
        super().__init__(names, ignore_index, batch_size, val_batch_size, num_workers, seed, divisor, task)
        labels = self.num_classes if task == "multiclass" else 2
        if sum(option is not None for option in (foreground, mask_values, mask_colors)) > 1:
            raise TrainError("data: foreground, mask_values and mask_colors each say what masks hold; give one of them")
        if foreground is not None:
            if labels != 2:
                raise TrainError(f"data.foreground is for one object and its background, not for {labels} classes; see mask_values")
            mask_values = [0, foreground]
        colors = colour_table(mask_colors, labels, ignore_index) if mask_colors else None
        reader = MaskReader(labels, ignore_index, tuple(mask_values) if mask_values else None, colors)
        self.root = Path(root)
        self.data_range, self.max_side = data_range, max_side
        self.folders = PairFolders(
            self.root, images, masks, pattern, recursive, tuple(self.class_names) if task == "multilabel" else ()
        )
        self.samples = FolderSamples([], reader, max_side, None, task == "multilabel", data_range)
        self.augment = Augment(crop_size, ignore_index, seed, augment, variation or Variation())
        self.val_fraction = val_fraction
        self.check_files = check_files

    def prepare_data(self) -> None:
        """Read every file once."""
        if self.check_files:
            training, held_out = self.folders.split(self.val_fraction, self.seed)
            found = check_all(self.samples.values, training + held_out)
            self.samples.reader.check([one for values in found for one in values])

    def setup(self, stage: str) -> None:
        """Find the files and divide them."""
        training, self.val_set = self.whole()
        self.train_set = replace(training, augment=self.augment)

    @property
    def image_side(self) -> int | None:  # type: ignore[override]
        """The median longer side of some images, as the network sees them; None where they can't be read, which is said later."""
        try:
            pairs, _ = self.folders.split(self.val_fraction, self.seed)
            sides = [max(size_of(pair.image)) for pair in pairs[:: max(1, len(pairs) // 32)]]
        except (FileError, TrainError):
            return None
        return min(sorted(sides)[len(sides) // 2], self.max_side or 1 << 30)

    def whole(self) -> tuple[FolderSamples, FolderSamples]:
        """The training and the held-out samples, all of them whole, without chance."""
        training, held_out = self.folders.split(self.val_fraction, self.seed)
        return replace(self.samples, pairs=training), replace(self.samples, pairs=held_out)

    def describe(self) -> str:
        """One sentence for the report."""
        return f"{self.root}: {super().describe()}"
