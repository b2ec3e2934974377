"""What is seen of one sample, and what many of them have in common."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossfold.files import FileError
from lossfold.folds.arithmetic import equals
from lossfold.train.data.depth import unit
from lossfold.train.data.folders import FolderSamples
from lossfold.train.errors import TrainError

SMALL = 16
"""Side of the pictures by which samples are compared."""

ALIKE = 2 / 255
"""Root of the mean squared difference of small pictures, up to which two samples look alike."""


@dataclass(frozen=True)
class Look:
    """One sample.

    Args:
        files: its files, the image first.
        problem: why it can't be used; the rest is missing then.
        size: height and width of the image.
        eight_bits: whether the image has 8 bits, not more.
        values: least and largest value of the image, where white is 1.
        counts: pixels of each label, or of what else the task holds.
        digest: of the image's pixels.
        small: the image, reduced to `SMALL` pixels, in one row.
    """

    files: tuple[Path, ...]
    problem: str = ""
    size: tuple[int, int] = (0, 0)
    eight_bits: bool = False
    values: tuple[float, float] = (0.0, 0.0)
    counts: Counter[str] = field(default_factory=Counter)
    digest: bytes = b""
    small: Tensor | None = None


def look(samples: Any, key: int, names: Sequence[str]) -> Look:
    """Read a whole sample.

    Args:
        samples: a part of the data, whole.
        key: its number.
        names: of the classes or channels, for segmentation.
    """
    files = tuple(samples.files_of(key))
    try:
        sample = samples[key]
    except (TrainError, FileError) as error:
        return Look(files, str(error).removeprefix("data: "))
    image = sample if isinstance(sample, Tensor) else sample[0]
    values = unit(image)
    low, high = values.aminmax()
    height, width = image.shape[1:]
    return Look(
        files,
        size=(height, width),
        eight_bits=image.dtype == torch.uint8,
        values=(float(low), float(high)),
        counts=_counts(samples, sample, names),
        digest=blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest() + bytes(str(tuple(image.shape)), "ascii"),
        small=functional.interpolate(values[None], size=(SMALL, SMALL), mode="area").flatten(),
    )


def _counts(samples: Any, sample: Any, names: Sequence[str]) -> Counter[str]:
    if isinstance(samples, FolderSamples):
        return _label_counts(sample[1], names, samples.reader.ignore_index, samples.stacked)
    if hasattr(sample, "alpha"):
        alpha, unknown = sample.alpha, sample.trimap == 0.5
        parts = {
            "clear (0)": alpha == 0,
            "soft": (alpha > 0) & (alpha < 1),
            "opaque (1)": alpha == 1,
            "unknown in the trimap": unknown,
        }
        return Counter({name: int(part.sum()) for name, part in parts.items()} | {"": alpha.numel()})
    return Counter()


def _label_counts(labels: Tensor, names: Sequence[str], ignore_index: int, stacked: bool) -> Counter[str]:
    counts = Counter({"": labels.numel() // (len(names) if stacked else 1)})
    for index, name in enumerate(names):
        part = labels[index] == 1 if stacked else labels == (1 if len(names) == 1 else index)  # one channel is a yes or no
        counts[name] = int(part.sum())
    counts[f"ignored ({ignore_index})"] = int(equals(labels, ignore_index).sum())
    return counts


def shared(training: Sequence[Look], held_out: Sequence[Look]) -> tuple[list[tuple[Look, Look]], list[tuple[Look, Look]]]:
    """Find held-out samples whose image has exactly the pixels of one that trains, and others that look like one.

    Returns:
        The same, and the alike: (training, held out) each.
    """
    known = {one.digest: one for one in training if not one.problem}
    usable = [one for one in held_out if not one.problem]
    same = [(known[one.digest], one) for one in usable if one.digest in known]
    rest = [one for one in usable if one.digest not in known]
    candidates = list(known.values())
    if not rest or not candidates:
        return same, []
    theirs = torch.stack([one.small for one in candidates if one.small is not None])
    alike: list[tuple[Look, Look]] = []
    for one in rest:
        assert one.small is not None
        distance, place = (theirs - one.small).square().mean(1).sqrt().min(0)
        if distance <= ALIKE:
            alike.append((candidates[int(place)], one))
    return same, alike
