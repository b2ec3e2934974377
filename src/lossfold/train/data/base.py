"""Data modules: what all of them share, and what segmentation expects: images, integer labels, names, an ignore label."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Protocol

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from lossfold.train.data.depth import of_one_depth, stacked, white_of
from lossfold.train.data.sampling import EvaluationSampler, ResumingSampler
from lossfold.train.errors import TrainError

PAD_COLOUR = (124, 116, 104)
"""The colour of padding: the mean of photographs, so that it is zero for the network."""

Sample = tuple[Tensor, Tensor]
"""An image `[3,H,W]`, uint8 or floats in 0..1, and its labels `[H,W]` (uint8, or int32 for more than 255 classes), or `[K,H,W]` for
multilabel."""

Task = Literal["multiclass", "binary", "multilabel"]
"""What labels say: one of several classes, yes or no, or a yes or no for each of K channels."""


class Samples(Protocol):
    """A data set of samples of known length."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: int, /) -> Any: ...


class Loader(DataLoader[Any]):
    """A loader that Lightning knows to be resumable; its sampler finds the position by itself.

    Lightning asks for an iterator before it has restored where the training stands, to count the steps for the schedule: the
    real one is made when the first batch is wanted. (torchdata's StatefulDataLoader, asked at the same time, would begin anew.)
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Begin when the first batch is asked for."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """Nothing: the position follows from the trainer's progress."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take nothing up."""


class PadCollate:
    """Stack samples of different sizes: pad each at the right and bottom, with ignored pixels, to a common size.

    Args:
        ignore_index: label of the padding.
        divisor: heights and widths become multiples of it, as encoders with strides want.
    """

    def __init__(self, ignore_index: int, divisor: int) -> None:
        self.ignore_index = ignore_index
        self.divisor = divisor

    def __call__(self, samples: Sequence[Sample]) -> Sample:
        """Return images `[B,3,H,W]` and labels `[B,H,W]` or `[B,K,H,W]`."""
        height, width = (-(-max(labels.shape[axis] for _, labels in samples) // self.divisor) * self.divisor for axis in (-2, -1))
        padded = [pad_sample(image, labels, height, width, self.ignore_index) for image, labels in samples]
        return torch.stack(list(of_one_depth([image for image, _ in padded]))), torch.stack([labels for _, labels in padded])


def pad_sample(image: Tensor, labels: Tensor, height: int, width: int, ignore_index: int) -> Sample:
    """Pad a sample at the right and bottom to at least the given size."""
    bottom, right = max(height - labels.shape[-2], 0), max(width - labels.shape[-1], 0)
    if not bottom and not right:
        return image, labels
    border = (0, right, 0, bottom)
    colours = [colour * white_of(image) / 255 for colour in PAD_COLOUR]
    channels = [functional.pad(channel, border, value=colour) for channel, colour in zip(image, colours, strict=True)]
    return torch.stack(channels), functional.pad(labels, border, value=ignore_index)


def batches_of_epoch(data: Any, trainer: pl.Trainer) -> int:
    """How many batches each rank sees in an epoch of a `TrainingData`; at least one."""
    batches: int = len(data.train_set) // trainer.world_size // data.batch_size
    limit = trainer.limit_train_batches
    limited = limit if isinstance(limit, int) else int(batches * (1.0 if limit is None else limit))
    return max(min(batches, limited), 1)


class TrainingData(pl.LightningDataModule):
    """Base of the data modules: a subclass fills `train_set` and `val_set` in `setup`.

    Args:
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides every random choice of the data.
        collate: makes a batch of samples; None stacks them.
    """

    train_set: Samples
    val_set: Samples
    image_side: int | None = None
    """The longer side that images usually have when the network sees them, where it is known."""
    max_side: int | None = None
    """Larger images are reduced to this longer side before the network sees them; predictions do the same."""
    data_range: float | None = None
    """The value of images' files that is white; None: that of their dtype."""
    divisor: int | None = None
    """Images are padded to multiples of it before the network sees them; None: the module knows."""

    def __init__(
        self,
        batch_size: int,
        val_batch_size: int,
        num_workers: int,
        seed: int,
        collate: Callable[[Sequence[Any]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.collate = collate or stacked

    def describe(self) -> str:
        """One sentence for the report: what the images are and how many."""
        return f"{len(self.train_set)} training images, {len(self.val_set)} held-out images"

    def _position(self) -> tuple[int, int]:
        trainer = self.trainer
        assert trainer is not None
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        return done, batches_of_epoch(self, trainer)

    def _check_batch(self, world_size: int) -> None:
        needed = self.batch_size * world_size
        if len(self.train_set) < needed:
            raise TrainError(
                f"data: {len(self.train_set)} training images do not fill one batch of {needed}; lower data.batch_size"
            )

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled, complete batches that go on where the trainer stands."""
        trainer = self.trainer
        assert trainer is not None
        self._check_batch(trainer.world_size)
        sampler = ResumingSampler(
            self.train_set, self.batch_size, self.seed, self._position, trainer.world_size, trainer.global_rank
        )
        return self._loader(self.train_set, self.batch_size, sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """The held-out images, in their order; what comes after a first evaluation is checked here, before it."""
        trainer = self.trainer
        assert trainer is not None
        self._check_batch(trainer.world_size)
        if len(self.val_set) < trainer.world_size:  # a rank without any would have no scores to add up
            raise TrainError(
                f"data: {len(self.val_set)} held-out image(s) for {trainer.world_size} ranks, of which each needs one; hold out "
                "more (data.val_fraction, or files in val/), or lower trainer.devices"
            )
        sampler = EvaluationSampler(self.val_set, trainer.world_size, trainer.global_rank)
        return self._loader(self.val_set, self.val_batch_size, sampler)

    def _loader(self, samples: Samples, batch_size: int, sampler: DistributedSampler[int]) -> DataLoader[Any]:
        dataset: Dataset[Any] = samples  # type: ignore[assignment]
        return Loader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=isinstance(sampler, ResumingSampler),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=self.collate,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            generator=torch.Generator().manual_seed(self.seed),
        )


class SegmentationData(TrainingData):
    """Base of the data modules of segmentation.

    A data module of one's own needs `class_names`, `num_classes`, `ignore_index` and the two loaders.

    Args:
        class_names: the names in the order of the labels or channels; for the task binary that of the object alone.
        ignore_index: label of pixels that count nowhere.
        batch_size: images of a training batch, on each device.
        val_batch_size: images of an evaluation batch.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides every random choice of the data.
        divisor: evaluated images are padded to multiples of it.
        task: what the labels say.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("multiclass", "binary", "multilabel")
    """The tasks that a subclass has labels for."""

    def __init__(
        self,
        class_names: Sequence[str],
        ignore_index: int = 255,
        batch_size: int = 8,
        val_batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
        divisor: int = 32,
        task: Task = "multiclass",
    ) -> None:
        super().__init__(batch_size, val_batch_size, num_workers, seed, PadCollate(ignore_index, divisor))
        if task == "multiclass" and len(class_names) < 2:
            raise TrainError(f"data: a segmentation needs at least 2 classes, got {list(class_names)}")
        if task == "binary" and len(class_names) != 1:
            raise TrainError(f"data: the task binary has one object, got {list(class_names)}; see model.task")
        self.task = task
        self.divisor = divisor
        self.class_names = [str(name) for name in class_names]
        self.num_classes = len(self.class_names)
        self.ignore_index = ignore_index
