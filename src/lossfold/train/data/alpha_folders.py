"""Own matting data: folders of images, alphas and trimaps, or of foregrounds, alphas and backgrounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.files import read_alpha, read_trimap
from lossfold.train.data.augment import vary_exposure
from lossfold.train.data.composites import MattingData, MattingSample, composite
from lossfold.train.data.depth import read_picture, resized, told, unit
from lossfold.train.data.matching import OwnFiles, has_folder, match, split
from lossfold.train.errors import TrainError

LAYOUT = (
    "Expected image/ and alpha/, or fg/, alpha/ and bg/, and if you have them trimap/, under data.root, either with all the "
    "files, or each with train/ and val/ in it, or inside train/ and val/"
)
KINDS = {"fg": "foreground", "bg": "background"}
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


@dataclass(frozen=True)
class MatteFolders:
    """Where the files lie: each kind's folder, inside `root` or with a path of its own, by the names of `MatteFiles`.

    Args:
        root: the folder with all of them.
        names: each kind and its folder.
        pattern: what the names of all but the images (foregrounds) look like; see `lossfold.files.pair`.
        recursive: whether sub-folders are searched.
    """

    root: Path
    names: Mapping[str, str]
    pattern: str | None = None
    recursive: bool = False

    def split(self, val_fraction: float, seed: int) -> tuple[list[MatteFiles], list[MatteFiles]]:
        """Find the training and the held-out files.

        Raises:
            TrainError: folders or partners are missing, or the folders say two things at once.
        """
        here = {kind for kind, name in self.names.items() if has_folder(self.root, name)}
        layered = bool({"fg", "bg"} & here)
        if layered and "image" in here:
            raise TrainError(
                f"data: {self.root} holds {self.names['image']}/ as well as {self.names['fg']}/ or {self.names['bg']}/; keep what "
                "is to be read"
            )
        kinds = ["fg", "alpha", "bg"] if layered else ["image", "alpha"]
        kinds += ["trimap"] if "trimap" in here else []

        def find(folders: Sequence[Path]) -> list[MatteFiles]:
            called = [KINDS.get(kind, kind) for kind in kinds]
            found = match(called, folders, LAYOUT, self.recursive, self.pattern)
            return [MatteFiles(**dict(zip(kinds, files, strict=True))) for files in found]

        return split(self.root, [self.names[kind] for kind in kinds], find, val_fraction, seed)


def alpha_of(path: Path) -> Tensor:
    """Read an alpha, float32 `[1,H,W]` in 0..1.

    Raises:
        TrainError: see `lossfold.files.read_alpha`.
    """
    with told():
        return torch.from_numpy(read_alpha(path))[None]


def trimap_of(path: Path) -> Tensor:
    """Read a trimap, float32 `[1,H,W]` of 0, 0.5 and 1.

    Raises:
        TrainError: see `lossfold.files.read_trimap`.
    """
    with told():
        return torch.from_numpy(read_trimap(path))[None]


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
        data_range: the value that is white; see `read_picture`.
    """

    files: Sequence[MatteFiles]
    seed: int
    crop_size: int | None = None
    vary: bool = True
    widths: tuple[int, int] = (1, 20)
    max_side: int | None = None
    data_range: float | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int) -> MattingSample:
        files = self.files[key % len(self.files)]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + key)
        pictures, alpha, trimap = self.read(files)
        if self.crop_size is not None:
            pictures, alpha, trimap = self._crop(pictures, alpha, trimap, generator)
        image = pictures[0] if files.image else composed(pictures[0], pictures[1], alpha)
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

    def files_of(self, key: int) -> list[Path]:
        """The files of a sample, the image that a network sees first."""
        files = self.files[key % len(self.files)]
        return [*files.pictures, files.alpha, *([files.trimap] if files.trimap else [])]

    def check(self, files: MatteFiles) -> None:
        """Read the files of one sample, and keep nothing; see `read`."""
        self.read(files)

    def read(self, files: MatteFiles) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Read the pictures, the alpha and the trimap of one image, in one size.

        Raises:
            TrainError: sizes differ, or a file holds what it should not.
        """
        pictures, alpha = [read_picture(path, self.data_range) for path in files.pictures], alpha_of(files.alpha)
        trimap = None if files.trimap is None else trimap_of(files.trimap)
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
            pictures = [resized(picture, size, "bilinear") for picture in pictures]
            alpha = resized(alpha, size, "bilinear")
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


def composed(foreground: Tensor, background: Tensor, alpha: Tensor) -> Tensor:
    """Lay a foreground over a background, with 8 bits where both have; floats in 0..1 otherwise."""
    if foreground.dtype == background.dtype == torch.uint8:
        return composite(unit(foreground), unit(background), alpha)
    return (alpha * unit(foreground) + (1 - alpha) * unit(background)).clamp(0, 1)


class AlphaFolderData(OwnFiles, MattingData):
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
        images: the images' folder, inside `root` or with a path of its own.
        alphas: the alphas' folder.
        foregrounds: the foregrounds' folder.
        backgrounds: the backgrounds' folder.
        trimaps: the trimaps' folder.
        pattern: what alphas' (backgrounds', trimaps') names look like, up to the suffix: `{name}_alpha`, where * stands for
            anything. None: as the images'.
        recursive: whether sub-folders are searched, too.
        data_range: the value of images that is white. None: 255 for 8 bits, 65535 for 16, 1 for floats.
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
        images: str = "image",
        alphas: str = "alpha",
        foregrounds: str = "fg",
        backgrounds: str = "bg",
        trimaps: str = "trimap",
        pattern: str | None = None,
        recursive: bool = False,
        data_range: float | None = None,
    ) -> None:
        super().__init__(batch_size, 1, num_workers, seed)
        self.root = Path(root)
        self.val_fraction = val_fraction
        self.check_files = check_files
        self.max_side = max_side
        self.samples = AlphaFolderSamples([], seed, crop_size, augment, trimap_widths, max_side, data_range)
        self.data_range = data_range
        names = {"image": images, "alpha": alphas, "fg": foregrounds, "bg": backgrounds, "trimap": trimaps}
        self.folders = MatteFolders(self.root, names, pattern, recursive)

    def divided(self) -> tuple[list[MatteFiles], list[MatteFiles]]:
        """The training and the held-out files."""
        return self.folders.split(self.val_fraction, self.seed)

    def describe(self) -> str:
        """One sentence for the report."""
        return f"{self.root}: {super().describe()}"
