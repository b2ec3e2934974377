"""MMEngine: losses from the registry, terms in the log, gradients accumulated over two iterations.

python examples/mmengine_runner.py
"""

import tempfile

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

import lossfold.adapters.mmengine as adapter

adapter.register_into(MODELS)


class Segmentor(BaseModel):
    """Score every pixel with half the labels' resolution."""

    def __init__(self, loss: dict) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
        self.criterion = MODELS.build(loss)

    def forward(self, images: Tensor, labels: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        """Return the losses, which MMEngine adds up and logs."""
        return self.criterion({"seg": self.network(images), "labels": labels}).as_mmengine()


def main() -> None:
    """Train on pictures whose brightest channel is the class."""
    where = {"logits": "seg"}
    dice = {"type": "DiceLoss", "data_info": where, "loss_weight": 0.5}
    late = {"type": "Term", "loss": dice, "schedule": {"type": "linear", "start": 0.0, "end": 1.0, "steps": 8}}
    loss = {"type": "LossSet", "ce": {"type": "CrossEntropyLoss", "data_info": where}, "dice": late}
    torch.manual_seed(0)
    images = torch.rand(32, 3, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    data = list(zip(images, images.argmax(1), strict=True))
    how = {"sampler": {"type": "DefaultSampler", "shuffle": True}, "collate_fn": {"type": "default_collate"}, "batch_size": 4}
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(
            Segmentor(loss),
            folder,
            train_dataloader={"dataset": data, **how},
            train_cfg={"by_epoch": True, "max_epochs": 4},
            optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-2}, "accumulative_counts": 2},
            custom_hooks=[{"type": "AdvanceLosses"}],
            default_hooks={"logger": {"type": "LoggerHook", "interval": 8}},
            randomness={"seed": 0},
            log_level="WARNING",
        )
        runner.train()
        history = runner.message_hub.log_scalars
        means = {name: round(float(history[f"train/{name}"].mean(8)), 4) for name in ("loss", "loss_ce", "loss_dice")}
    print(means, "step", runner.model.criterion["dice"].step)


if __name__ == "__main__":
    main()
