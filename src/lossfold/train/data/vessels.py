"""The built-in task of thin structures: the vessels of a retina, with truth from a classical filter."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from lossfold.train.data.base import Sample, SegmentationData, Task
from lossfold.train.data.collage import vary_light
from lossfold.train.data.sources import open_image
from lossfold.train.errors import TrainError

RETINA = "skimage/retina.jpg"
SIDE = 640
"""To which the photograph, 1411 x 1411, is reduced: a vessel is one to eight pixels wide."""

TRAIN_COLUMNS, HELD_OUT_COLUMNS = (0.0, 0.58), (0.62, 1.0)
"""Of the photograph's width; the strip between them is used by neither."""

SCALES = (1.0, 1.6, 2.4, 3.2)
LOW, HIGH = 0.16, 0.34
"""Of the filter's response, of which the strongest is 1: a vessel begins above HIGH and is followed down to LOW."""

LEAST, FIELD, RIM = 60, 24, 12
"""Pixels of the smallest part, darkest value of the field of view, and how far from its end nothing counts."""


def vessels(green: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Find dark ridges: Frangi's vesselness, followed from its strong parts, with small parts taken away.

    Args:
        green: the green channel `[H,W]`, in which vessels are darkest.

    Returns:
        The vessels, and where they can be known: inside the round field of view, away from its rim.
    """
    from scipy import ndimage  # type: ignore[import-untyped]
    from skimage.filters import apply_hysteresis_threshold, frangi
    from skimage.morphology import disk, opening

    grey = green.astype(np.float64) / 255
    field = ndimage.binary_fill_holes(opening(green > FIELD, disk(3)))  # type: ignore[no-untyped-call]
    known = ndimage.binary_erosion(field, iterations=RIM)
    ground = ndimage.gaussian_filter(np.where(field, grey, 0), 16) / np.maximum(
        ndimage.gaussian_filter(field.astype(float), 16), 1e-3
    )
    flat = np.where(field, grey - ground, 0)
    ridges = frangi(flat, sigmas=SCALES, black_ridges=True, beta=0.5, gamma=None)  # type: ignore[no-untyped-call]
    strength = np.where(known, ridges, 0)
    strength = strength / np.quantile(strength[known], 0.995)
    found = apply_hysteresis_threshold(strength, LOW, HIGH)  # type: ignore[no-untyped-call]
    parts, _ = ndimage.label(found, np.ones((3, 3)))
    return found & (np.bincount(parts.ravel())[parts] >= LEAST), known


@dataclass(frozen=True)
class Retina:
    """Crops of one side of the photograph; crop number `key` is a function of (seed, key) alone.

    Args:
        image: `[3,H,W]` float32 in 0..1.
        labels: `[H,W]` uint8: vessel 1, the ignored value beyond the field of view.
        size: height and width of a crop in pixels.
        count: number of crops; None: those that lie side by side, as they are.
        seed: decides every crop.
        ignored: label of what does not count.
    """

    image: Tensor
    labels: Tensor
    size: int
    count: int | None
    seed: int
    ignored: int

    def __len__(self) -> int:
        return len(self.places) if self.count is None else self.count

    @property
    def places(self) -> list[tuple[int, int]]:
        """The corners of crops side by side, of which most pixels count."""
        height, width = self.labels.shape
        corners = [(y, x) for y in range(0, height - self.size + 1, self.size) for x in range(0, width - self.size + 1, self.size)]
        return [at for at in corners if (self._at(*at)[1] != self.ignored).float().mean() > 0.5]

    def _at(self, y: int, x: int) -> tuple[Tensor, Tensor]:
        return self.image[:, y : y + self.size, x : x + self.size], self.labels[y : y + self.size, x : x + self.size]

    def __getitem__(self, key: int) -> Sample:
        if self.count is None:
            image, labels = self._at(*self.places[key])
            return (image * 255).round().to(torch.uint8), labels.clone()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        while True:
            y, x = (int(torch.randint(side - self.size + 1, (), generator=generator)) for side in self.labels.shape)
            image, labels = self._at(y, x)
            if (labels == 1).sum() >= self.size:
                break
        turns, mirrored = int(torch.randint(4, (), generator=generator)), int(torch.randint(2, (), generator=generator))
        image, labels = (torch.rot90(one, turns, (-2, -1)) for one in (image, labels))
        image, labels = (one.flip(-1) if mirrored else one for one in (image, labels))
        light = (vary_light(image, generator).clamp(0, 1) * 255).round().to(torch.uint8)
        return light.contiguous(), labels.contiguous()


class VesselsData(SegmentationData):
    """The vessels in the photograph of a retina that scikit-image ships; no downloads.

    The truth is Frangi's vesselness of the green channel less its surroundings, followed from strong parts to weak ones: vessels as
    a classical filter sees them, not as a physician drew them. What lies beyond the field of view, and its rim, is ignored. The
    left part of the photograph trains, the right part is held out.

    Args:
        image_size: height and width of a crop in pixels.
        train_images: number of crops of an epoch.
        batch_size: crops of a training batch, on each device.
        val_batch_size: crops of an evaluation batch.
        num_workers: loader processes; 0 loads in the main process.
        seed: decides crops and order.
        ignore_index: label of pixels that count nowhere.
        task: what the labels say.
    """

    tasks = ("binary",)

    def __init__(
        self,
        image_size: int = 96,
        train_images: int = 480,
        batch_size: int = 12,
        val_batch_size: int = 12,
        num_workers: int = 0,
        seed: int = 0,
        ignore_index: int = 255,
        task: Task = "binary",
    ) -> None:
        if not 32 <= image_size <= SIDE // 4 or image_size % 16:
            sizes = f"crops of 32 to {SIDE // 4} pixels, a multiple of 16"
            raise TrainError(f"data.image_size: VesselsData cuts {sizes}; got {image_size}")
        if not 2 <= ignore_index <= 255:
            raise TrainError(
                f"data.ignore_index: VesselsData has labels 0 and 1, in bytes; expected 2 to 255, such as 255, got {ignore_index}"
            )
        super().__init__(["vessel"], ignore_index, batch_size, val_batch_size, num_workers, seed, 16, task)
        self.image_size = self.image_side = image_size
        self.train_images = train_images

    def setup(self, stage: str) -> None:
        """Read the photograph and find its vessels."""
        picture = open_image(RETINA).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        pixels = np.array(picture)
        found, known = vessels(pixels[..., 1])
        labels = torch.from_numpy(np.where(known, found, self.ignore_index).astype(np.uint8))
        image = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
        for name, columns, count in (("train_set", TRAIN_COLUMNS, self.train_images), ("val_set", HELD_OUT_COLUMNS, None)):
            left, right = (round(share * SIDE) for share in columns)
            side = image[..., left:right].contiguous(), labels[:, left:right].contiguous()
            setattr(self, name, Retina(*side, self.image_size, count, self.seed, self.ignore_index))

    def describe(self) -> str:
        """What the images are, and how the truth was made."""
        return (
            f"{len(self.train_set)} crops a round of the left part of a retina's photograph, {len(self.val_set)} held out of "
            "its right part; the truth is a classical filter's (Frangi's vesselness with hysteresis), not a physician's"
        )
