"""What the modules do on a device: never wait for it in a step, and hold nothing elsewhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("lightning")

from lossfold.train.matting.module import MattingModule
from lossfold.train.module import TrainingModule
from lossfold.train.nets import MattingUNet, RestorationNet, SmallUNet
from lossfold.train.report import _facts
from lossfold.train.restoration.module import RestorationModule
from lossfold.train.run_folder import RunFolder
from lossfold.train.running import _train
from lossfold.train.segmentation.module import SegmentationModule
from tests.engines.counter import Count


def unet() -> SmallUNet:
    return SmallUNet(classes=3, width=4, levels=2, stem_stride=2)


def picture(side: int = 32) -> Tensor:
    return torch.zeros(2, 3, side, side, dtype=torch.uint8)


def tasks() -> dict[str, tuple[TrainingModule, tuple[Tensor, ...]]]:
    labels, alpha = torch.zeros(2, 32, 32, dtype=torch.uint8), torch.zeros(2, 1, 32, 32)
    yes = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    return {
        "multiclass": (SegmentationModule(["a", "b", "c"], unet()), (picture(), labels)),
        "multilabel": (SegmentationModule(["a", "b", "c"], unet(), task="multilabel"), (picture(), yes)),
        "matting": (MattingModule(MattingUNet(width=4, levels=2)), (picture(), alpha, alpha)),
        "restoration": (RestorationModule(2, RestorationNet(scale=2, width=4)), (picture(), picture(64))),
    }


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "matting", "restoration"])
def test_steps_never_wait_and_stay_on_the_device(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, which has no values: whoever asks for one raises. Evaluations add up on the device as well."""
    module, batch = tasks()[task]
    module.to("meta")
    batch = tuple(one.to("meta") for one in batch)
    logged: list[Tensor] = []
    monkeypatch.setattr(module, "log_terms", lambda part, out, size: logged.extend(out.log().values()))
    module.on_validation_epoch_start()
    for turn in range(2):
        with Count("meta") as counter:
            module.train()
            total = module.training_step(batch, turn)
            assert isinstance(total, Tensor)
            total.backward()  # type: ignore[no-untyped-call]
            module.eval()
            with torch.no_grad():
                module.validation_step(batch, turn)
        assert not counter.waits, counter.waits
        assert not turn or not counter.copies, counter.copies
    assert all(one.is_meta for one in logged) and all(one.grad is None or one.grad.is_meta for one in module.parameters())


@pytest.mark.parametrize("first", [True, False])
def test_pictures_are_made_on_the_trainers_device_by_the_first_rank(first: bool, tmp_path: Path) -> None:
    """Which leaves the module on the CPU when it has finished; there it is again afterwards."""
    places: list[torch.device] = []
    model: Any = SimpleNamespace(device=torch.device("cpu"), scored_at=1, scores=1)
    model.to = lambda device: vars(model).update(device=device)

    def see(*_: Any) -> None:
        places.append(model.device)

    def nothing(*_: Any, **__: Any) -> None: ...

    strategy = SimpleNamespace(root_device=torch.device("meta"))
    trainer = SimpleNamespace(
        validate=nothing, fit=nothing, interrupted=False, global_step=1, is_global_zero=first, strategy=strategy
    )
    options = {"fast_dev_run": False, "enable_checkpointing": False}
    config = SimpleNamespace(score_before=True, report_images=1, trainer=SimpleNamespace(**options))
    cli: Any = SimpleNamespace(
        trainer=trainer, model=model, datamodule=None, folder=RunFolder(str(tmp_path)), config=config, resume=None, asked="",
        timer=SimpleNamespace(time_elapsed=lambda _: 0.0), summary=dict, table=str, remarks=list, keep_before=see, write_report=see,
    )  # fmt: skip
    assert _train(cli, 0.0) == 0
    assert places == [strategy.root_device] * 2 * first and model.device == torch.device("cpu")


def test_the_report_names_the_trainers_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cuda", 1)), accelerator=None, world_size=2, global_step=1, precision="32"
    )
    data: Any = SimpleNamespace(describe=str, batch_size=1)
    facts = dict(_facts(RunFolder(str(tmp_path)), trainer, SegmentationModule(["a", "b"], unet()), data, 0.0))
    assert "(GPU of cuda:1)" in facts["Device"]
