"""What is scored and how: the options, checked before any file is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from lossfold.errors import LossError, is_number, nearest, python_scalar
from lossfold.metrics.boundaries import TOLERANCE, WIDTH, check_reaches
from lossfold.metrics.depth import ALIGNMENTS
from lossfold.metrics.depth import METRICS as DEPTH_METRICS

WHO = "lossfold score"

METRICS: dict[str, tuple[str, ...]] = {
    "segmentation": ("iou", "dice", "accuracy", "boundary_iou", "boundary_f1"),
    "binary": ("iou", "dice", "accuracy", "boundary_iou", "boundary_f1"),
    "multilabel": ("iou", "dice", "accuracy", "boundary_iou", "boundary_f1"),
    "matting": ("sad", "mse", "grad", "conn"),
    "restoration": ("psnr", "ssim"),
    "depth": tuple(DEPTH_METRICS),
}
"""The tasks, and the metrics of each."""

LABELS = ("segmentation", "binary", "multilabel")
LESS_IS_BETTER = (*METRICS["matting"], *METRICS["depth"][:5])
DEPTHS = {"unit": 1.0, "prediction_unit": None, "least": 1e-3, "most": None, "scale_shift": "none"}
"""The options of depth alone, and what they are where they are not given."""
BOUNDARIES = ("boundary_iou", "boundary_f1")
ROWS = 1
"""Revision of what a row of the journal holds; rows of another are not continued."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that decides what an image's row holds; see :func:`lossfold.score.score`."""

    task: str = "segmentation"
    metrics: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    ignore: int | None = None
    colors: tuple[tuple[int, int, int, int], ...] = ()
    """Red, green, blue and the label that they stand for."""
    threshold: float | None = None
    tolerance: float = TOLERANCE
    width: float = WIDTH
    data_range: float | None = None
    crop_border: int = 0
    to_y: bool = False
    keep_trimap: bool = True
    normalize: bool = True
    levels: str = "exact"
    tile: int | None = None
    whole: float = 25.0
    unit: float = 1.0
    prediction_unit: float | None = None
    least: float = 1e-3
    most: float | None = None
    scale_shift: str = "none"

    def __post_init__(self) -> None:
        refuse("task", isinstance(self.task, str) and self.task in METRICS, "one of " + ", ".join(METRICS), self.task)
        known = METRICS[self.task]
        object.__setattr__(self, "metrics", tuple(self.metrics) or known)
        for name in self.metrics:
            if name not in known:
                raise LossError(WHO, "metrics", f"metrics of the task {self.task}", repr(name), nearest(name, known))
        refuse("metrics", len(set(self.metrics)) == len(self.metrics), "each named once", list(self.metrics))
        self._check_labels()
        self._check_images()
        self._check_depths()
        whole = self.tile is None or (isinstance(self.tile, int) and not isinstance(self.tile, bool) and 64 <= self.tile <= 2**15)
        refuse("tile", whole, "a side in pixels from 64 to 32768, or None", self.tile)
        refuse("whole", is_number(self.whole) and self.whole >= 0, "a number of megapixels", self.whole)

    def _check_labels(self) -> None:
        names = self.classes
        refuse("classes", all(isinstance(name, str) and name for name in names), "names", names)
        refuse("classes", len(set(names)) == len(names), "names that differ", names)
        refuse("classes", self.task in LABELS or not names, f"left out for the task {self.task}", names)
        if self.task == "multilabel":
            refuse("classes", bool(names), "the names of the folders in both folders, one for each class", names)
        if self.task == "binary":
            refuse("classes", len(names) <= 2, "the object's name, if anything", names)
            object.__setattr__(self, "classes", names[-1:] or ("object",))
        whole = self.ignore is None or (isinstance(self.ignore, int) and not isinstance(self.ignore, bool))
        refuse("ignore", whole and (self.ignore is None or self.task in LABELS), "a label, of class maps or masks", self.ignore)
        refuse("colors", not self.colors or self.task == "segmentation", "left out but for segmentation", self.colors)
        holds = self.threshold is None or (is_number(self.threshold) and 0 <= self.threshold < 1 and self.task in LABELS[1:])
        refuse("threshold", holds, "a number from 0 to 1, below 1, of binary or multilabel predictions", self.threshold)
        check_reaches(WHO, self.tolerance, self.width)

    def _check_images(self) -> None:
        holds = self.data_range is None or (is_number(self.data_range) and 1e-6 <= self.data_range <= 1e12)
        refuse("data_range", holds, "the difference between white and black, above 0", self.data_range)
        border = isinstance(self.crop_border, int) and not isinstance(self.crop_border, bool) and self.crop_border >= 0
        refuse("crop_border", border, "a number of pixels", self.crop_border)
        for name in ("to_y", "keep_trimap", "normalize"):
            refuse(name, isinstance(getattr(self, name), bool), "True or False", getattr(self, name))
        refuse("levels", self.levels in ("exact", "published"), "'exact' or 'published'", self.levels)

    def _check_depths(self) -> None:
        for name in ("unit", "prediction_unit"):
            value = getattr(self, name)
            holds = value is None or (is_number(value) and 1e-9 <= value <= 1e9)
            refuse(name, holds, "what a value of 1 means in the unit of the scores, above 0", value)
        refuse("least", is_number(self.least) and self.least > 0, "a depth above 0", self.least)
        refuse(
            "most",
            self.most is None or (is_number(self.most) and self.least < self.most),
            "a depth above least, or None",
            self.most,
        )
        refuse("scale_shift", self.scale_shift in ALIGNMENTS, "one of " + ", ".join(ALIGNMENTS), self.scale_shift)
        for name, usual in DEPTHS.items():
            value = getattr(self, name)
            refuse(name, self.task == "depth" or value == usual, "left out but for depth maps: give --task depth with it", value)

    @property
    def fingerprint(self) -> str:
        """A text that is the same where rows are; the sizes of parts change none."""
        given = asdict(self)
        del given["tile"]
        if self.task != "depth":  # journals of before it was a task go on
            for name in DEPTHS:
                del given[name]
        return json.dumps({"rows": ROWS, **given}, sort_keys=True)


def refuse(argument: str, holds: bool, expected: str, got: object) -> None:
    """Refuse what does not hold."""
    if not holds:
        raise LossError(WHO, argument, expected, repr(got))


def class_names(classes: int | Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of classes that are named, or of a number of them."""
    if classes is None:
        return ()
    number = python_scalar(classes)
    if isinstance(number, int) and not isinstance(number, bool):
        refuse("classes", 1 <= number <= 65536, "names, or their number", classes)
        return tuple(f"class {index}" for index in range(number))
    if not isinstance(classes, (list, tuple)):
        raise LossError(WHO, "classes", "a list of names, or their number", repr(classes))
    return tuple(classes)


def color_table(colors: Mapping[str, int] | None) -> tuple[tuple[int, int, int, int], ...]:
    """Return the rows of `{"#rrggbb": label}`."""
    rows = []
    for text, label in (colors or {}).items():
        digits = str(text).removeprefix("#")
        try:
            red, green, blue = bytes.fromhex(digits)
        except ValueError as error:
            raise LossError(WHO, "colors", "colours like #804080, each with its label", repr(text)) from error
        refuse("colors", isinstance(label, int) and not isinstance(label, bool), "a label for each colour", label)
        rows.append((red, green, blue, label))
    return tuple(rows)
