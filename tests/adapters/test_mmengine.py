"""MMEngine's registries build the losses, its Runner advances and keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf

mmengine = pytest.importorskip("mmengine")
pytestmark = pytest.mark.filterwarnings("ignore")  # what MMEngine says about itself

from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.registry import Registry  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from lossfold.adapters.mmengine import register_into  # noqa: E402

SET = {
    "type": "LossSet",
    "ce": {"type": "CrossEntropyLoss", "class_weight": [1.0, 2.0], "data_info": {"logits": "seg"}},
    "late": {
        "type": "Term",
        "loss": {"type": "DiceLoss", "loss_weight": 0.5, "data_info": {"logits": "seg"}},
        "schedule": {"type": "linear", "start": 0.0, "end": 1.0, "steps": 4},
    },
}


@pytest.fixture
def registry() -> Iterator[Any]:
    yield Registry("losses of a test", scope="lossfold_test")


def test_every_loss_is_entered_and_built(registry: Any) -> None:
    assert register_into(registry) == list(lf.LOSSES) and set(lf.LOSSES) == set(registry.module_dict)
    loss = registry.build(ConfigDict(type="DiceLoss", loss_weight=0.5, data_info={"logits": "seg"}))
    assert repr(loss) == "DiceLoss(loss_weight=0.5, inputs={'logits': 'seg'})"
    assert repr(registry.build({"type": "CEDiceLoss", "ignore_index": 255})) == repr(lf.CEDiceLoss(ignore_index=255))
    for config in (SET, ConfigDict(SET), Config({"loss": SET}).loss):
        assert repr(registry.build(config)) == repr(lf.build(SET))
    with pytest.raises(lf.LossError, match="ignore_indx"):
        registry.build({"type": "DiceLoss", "ignore_indx": 255})


def test_names_that_are_taken(registry: Any) -> None:
    """Nothing is entered if one is taken, unless the caller says so."""
    taken = registry.register_module(name="DiceLoss", module=nn.Identity)
    with pytest.raises(lf.LossError, match=r"register_into: registry must be without these names, got DiceLoss \(prefix"):
        register_into(registry)
    assert registry.module_dict == {"DiceLoss": taken}
    assert "lfDiceLoss" in register_into(registry, prefix="lf") and registry.get("DiceLoss") is taken
    register_into(registry, force=True)
    assert registry.get("DiceLoss") is lf.DiceLoss
    with pytest.raises(lf.LossError, match="registry must be a Registry"):
        register_into({})


class Model(BaseModel):  # type: ignore[misc]
    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 2, 1)
        self.criterion = criterion
        self.seen: list[int] = []

    def forward(self, images: Tensor, labels: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        self.seen.append(self.criterion.members[1].step)
        return self.criterion({"seg": self.network(images), "labels": labels}).as_mmengine()


def train(model: Model, folder: Path, pieces: int, epochs: int, **options: Any) -> Any:
    images = torch.rand(12, 3, 4, 4)
    runner = Runner(
        model,
        str(folder),
        train_dataloader={
            "dataset": [(image, (image[0] > 0.5).long()) for image in images],
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
            "batch_size": 2,
        },
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": pieces},
        custom_hooks=[{"type": "AdvanceLosses"}],
        log_level="ERROR",
        experiment_name=f"{folder.name}-{pieces}-{epochs}",
        **options,
    )
    runner.train()
    return runner


@pytest.mark.parametrize(("pieces", "seen"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 0, 1, 1, 2, 2]), (4, [0, 0, 0, 0, 1, 1])])
def test_it_advances_with_the_optimiser(pieces: int, seen: list[int], tmp_path: Path) -> None:
    model = Model(lf.build(SET))
    history = train(model, tmp_path, pieces, 1).message_hub.log_scalars
    assert model.seen == seen and model.criterion.members[1].step == seen[-1] + 1
    total, *terms = (history[f"train/{name}"].mean(6) for name in ("loss", "loss_ce", "loss_late"))
    assert total == pytest.approx(sum(terms)) and min(terms) > 0


def test_checkpoints_keep_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # MMEngine 0.10.7 keeps objects of its own in checkpoints
    train(Model(lf.build(SET)), tmp_path, 1, 1)
    again = Model(lf.build(SET))
    train(again, tmp_path, 1, 2, resume=True)
    assert again.seen == [6, 7, 8, 9, 10, 11] and again.criterion.members[1].step == 12
