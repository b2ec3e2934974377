"""The report of a restoration run: PSNR and SSIM before and after, and held-out images side by side with a detail of each."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lossfold.metrics import psnr
from lossfold.train.data import RestorationData
from lossfold.train.data.depth import eight_bits, unit
from lossfold.train.modes import evaluating
from lossfold.train.pictures import jpeg, png
from lossfold.train.report import file_name, shown_ones, write_page
from lossfold.train.restoration.evaluation import TITLES, input_name, shown
from lossfold.train.restoration.module import RestorationModule, as_target
from lossfold.train.restoration.pictures import Place, as_bytes, busiest, framed, photograph, score_curves, whole
from lossfold.train.run_folder import RunFolder


@dataclass(frozen=True)
class Restored:
    """What the report shows of one version of an image: uint8 `[3,H,W]`, at most `pictures.LARGEST` pixels, and a detail."""

    picture: Tensor
    detail: Tensor
    psnr: float

    @classmethod
    def of(cls, image: Tensor, target: Tensor, place: Place) -> "Restored":
        """See an image in 0..1, `[3,H,W]`, beside the clean one."""
        score = float(psnr(image[None].cpu(), unit(target)[None]))
        return cls(whole(as_bytes(image)), as_bytes(image[:, place[0], place[1]]), score)


def write_report(
    folder: RunFolder, trainer: pl.Trainer, model: RestorationModule, data: RestorationData, seconds: float, images: int
) -> None:
    """Write `report.html` into the run's folder.

    Args:
        folder: the run's folder, with its log and configuration.
        trainer: the trainer that has finished.
        model: the trained module, with its scores.
        data: the data, set up.
        seconds: what the run took.
        images: number of held-out images to show.
    """
    rows = folder.rows()
    columns = model.baseline, model.before, model.scores
    write_page(
        "restoration.html",
        folder,
        trainer,
        model,
        data,
        seconds,
        psnr=[shown(scores, "psnr") for scores in columns],
        scores=[(title, *(shown(scores, name) for scores in columns)) for name, title in TITLES.items()],
        score_curves=score_curves(rows, model.scale, model.baseline) if rows else [],
        input_name=input_name(model.scale),
        examples=list(_examples(model, data, images)),
    )


def restored(model: RestorationModule, data: RestorationData, count: int) -> dict[int, dict[str, Any]]:
    """What the network makes now of evenly spaced held-out images, one by one: a `Restored` as plain values by the sample's key."""
    found: dict[int, dict[str, Any]] = {}
    with evaluating(model), torch.inference_mode():
        for key in shown_ones(data.val_set, count):
            image, target = data.val_set[key]
            result = model.evaluated(image[None].to(model.device)).clamp(0, 1)[0]
            found[key] = asdict(Restored.of(result, target, busiest(target)))
    return found


def _examples(model: RestorationModule, data: RestorationData, count: int) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Of each image its file's name, and (caption, picture, detail) of its versions; no picture where there was none before."""
    for key, after in restored(model, data, count).items():
        image, target = data.val_set[key]
        place, shown_target = busiest(target), eight_bits(target)
        degraded = Restored.of(as_target(image[None], model.scale)[0], target, place)
        before = model.shown_before.get(key)
        yield (
            file_name(data.val_set, key),
            [
                _columns(input_name(model.scale), degraded),
                _columns("before", Restored(**before)) if before else ("before", "", ""),
                _columns("after", Restored(**after)),
                ("truth", jpeg(photograph(framed(shown_target, place))), png(photograph(shown_target[:, place[0], place[1]]))),
            ],
        )


def _columns(name: str, version: Restored) -> tuple[str, str, str]:
    return f"{name}: {version.psnr:.2f} dB", jpeg(photograph(version.picture)), png(photograph(version.detail))
