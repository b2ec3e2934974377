"""A trained network with what is done before and after it, as a program of `torch.export`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from lossfold.predict.predictor import Predictor
from lossfold.predict.sampler import Sampler
from lossfold.predict.tasks import ImageTask
from lossfold.train.errors import TrainError
from lossfold.train.gan.module import GANWithCustomizedLoss

SIDES, OTHER = (256, 320), (128, 192)
"""The image that is traced, and one that the program is tried with."""


class ImageProgram(nn.Module):
    """From images uint8 `[1,3,H,W]` to values and what is decided of them.

    Args:
        task: the task.
    """

    def __init__(self, task: ImageTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor, trimaps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the decision and the values it is made of.

        Args:
            images: uint8 `[1,3,H,W]`.
            trimaps: matting: uint8 `[1,1,H,W]` of 0, 128 and 255.

        Returns:
            The decision as files hold it: class ids `[1,H,W]`, masks of 0 and 255 `[K,H,W]`, alphas uint8 `[1,H,W]`, or an image
            uint8 `[1,H,W,3]`; and values float32 `[K,H,W]` in 0..1.
        """
        values = images.float() / 255
        if trimaps is not None:
            known = torch.where(trimaps == 128, 0.5, (trimaps > 128).float())
            values = torch.cat([values, known], 1)
        found = self.task(values)[0]
        return self.task.decide(found), found


class SampleProgram(nn.Module):
    """From latents `[1,L]` to an image uint8 `[1,C,S,S]`.

    Args:
        module: the trained module.
    """

    def __init__(self, module: GANWithCustomizedLoss) -> None:
        super().__init__()
        self.module = module

    def forward(self, latents: Tensor) -> Tensor:
        """Return images."""
        images: Tensor = ((self.module(latents) + 1) * 127.5).round().to(torch.uint8)
        return images


def export(predictor: Predictor | Sampler, path: Path) -> str:
    """Write the program; height and width are free where the network allows it.

    Args:
        predictor: what to write.
        path: the file, `.pt2`.

    Returns:
        What has been written, in a sentence: inputs, results, sizes.

    Raises:
        TrainError: the file has another suffix, or the network can't be exported.
    """
    if path.suffix != ".pt2":
        raise TrainError(f"--export writes a file .pt2, got {path}")
    if isinstance(predictor, Sampler):
        latents = torch.zeros(1, predictor.module.latent_size, device=predictor.module.device)
        made, sizes = _exported(SampleProgram(predictor.module), (latents,), None), f"latents [1,{latents.shape[1]}]"
    else:
        made, sizes = _of_images(ImageProgram(predictor.task), predictor)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(made, path)
    return f"{path}: {sizes}; torch.export.load({str(path)!r}).module()(...)"


def _of_images(program: ImageProgram, predictor: Predictor) -> tuple[torch.export.ExportedProgram, str]:
    """Trace a program of images, with free sizes if it takes another one."""
    divisor = predictor.task.divisor

    def inputs(sides: tuple[int, int]) -> tuple[Tensor, ...]:
        image = torch.zeros(1, 3, *sides, dtype=torch.uint8, device=predictor.device)
        return (image, image[:, :1] + 128) if predictor.task.takes_trimap else (image,)

    free = {axis: divisor * Dim(name, min=2, max=(1 << 14) // divisor) for axis, name in ((2, "rows"), (3, "columns"))}
    try:
        made = _exported(program, inputs(SIDES), (free,) * len(inputs(SIDES)))
        made.module()(*inputs(OTHER))
    except (TrainError, RuntimeError, AssertionError):  # as a network whose steps depend on the size
        fixed = predictor.tile, predictor.tile
        return _exported(
            program, inputs(fixed), None
        ), f"images of {fixed[0]} x {fixed[0]} only (--tile): the network's steps depend on the size"
    return made, f"images whose height and width are multiples of {divisor}, pad others at the right and bottom"


def _exported(program: nn.Module, inputs: tuple[Tensor, ...], shapes: Any) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(program.eval(), inputs, dynamic_shapes=shapes)
    except Exception as error:  # whatever a network does that can't be traced
        raise TrainError(f"the network can't be exported: {' '.join(str(error).split())[:300]}") from error
