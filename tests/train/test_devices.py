"""What the modules do on a device: never wait for it in a step, and hold nothing elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("lightning")

from lossfold.train.matting.module import MattingModule
from lossfold.train.module import TrainingModule
from lossfold.train.nets import MattingUNet, RestorationNet, SmallUNet
from lossfold.train.restoration.module import RestorationModule
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
