"""Micro-batches in Lightning: the gradient of the whole batch, of all ranks, in the memory of a part of it.

python examples/lightning_micro_batches.py
"""

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lossfold as lf

PARTS = 4


class Segmentation(pl.LightningModule):
    """Score every pixel; with several devices (strategy="ddp") the loss is that of all their batches."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(16, 3, 3, padding=1))
        self.criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), lovasz=lf.LovaszLoss(), sync=True)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Look at all parts, then descend by each one's share."""
        optimizer = self.optimizers()
        optimizer.zero_grad()
        parts = list(zip(*(one.chunk(PARTS) for one in batch), strict=True))
        whole = self.criterion.accumulate(rng=True, parts=len(parts))
        for images, labels in parts:
            with torch.no_grad():
                whole.add(self.network(images), labels)
        for images, labels in parts:
            self.manual_backward(whole.share(self.network(images), labels))
        optimizer.step()
        self.log_dict(whole.output.log("train/"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main() -> None:
    """Train on pictures whose brightest channel is the class."""
    pl.seed_everything(0, verbose=False)
    images = torch.rand(32, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    data = DataLoader(list(zip(images, images.argmax(1), strict=True)), batch_size=8, shuffle=True)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=6, accelerator="cpu", **options)
    trainer.fit(Segmentation(), data)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
