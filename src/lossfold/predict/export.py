"""A trained network with what is done before and after it, as a program of `torch.export`."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from lossfold.predict.predictor import Predictor
from lossfold.predict.sampler import Sampler
from lossfold.predict.tasks import ImageTask
from lossfold.train.errors import TrainError
from lossfold.train.gan.module import GANWithCustomizedLoss

SIDES = (256, 320)
"""The image that is traced."""


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
        return ((self.module(latents) + 1) * 127.5).round().to(torch.uint8)


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
        program: nn.Module = SampleProgram(predictor.module)
        inputs: tuple[Tensor, ...] = (torch.zeros(1, predictor.module.latent_size, device=predictor.module.device),)
        made, sizes = _exported(program, inputs, None), f"latents [1,{predictor.module.latent_size}]"
    else:
        program = ImageProgram(predictor.task)
        inputs = (torch.zeros(1, 3, *SIDES, dtype=torch.uint8, device=predictor.device),)
        inputs += (torch.full((1, 1, *SIDES), 128, dtype=torch.uint8, device=predictor.device),) * predictor.task.takes_trimap
        free = {2: Dim("height", min=2, max=1 << 16), 3: Dim("width", min=2, max=1 << 16)}
        shapes = (free,) * len(inputs)
        try:
            made, sizes = _exported(program, inputs, shapes), "images of any height and width"
        except TrainError:
            made, sizes = _exported(program, inputs, None), f"images of {SIDES[0]} x {SIDES[1]} only: the network fixes its sizes"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(made, path)
    return f"{path}: {sizes}; torch.export.load({str(path)!r}).module()(...)"


def _exported(program: nn.Module, inputs: tuple[Tensor, ...], shapes: object) -> torch.export.ExportedProgram:
    try:
        with torch.no_grad():
            return torch.export.export(program.eval(), inputs, dynamic_shapes=shapes)  # type: ignore[arg-type]
    except Exception as error:  # whatever a network does that can't be traced
        raise TrainError(f"the network can't be exported: {' '.join(str(error).split())[:300]}") from error
