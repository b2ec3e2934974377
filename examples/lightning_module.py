"""A LightningModule of one's own: cross entropy, and a Dice loss that sets in later, with accumulated gradients.

python examples/lightning_module.py
"""

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lossfold as lf
from lossfold.adapters.lightning import AdvanceLosses


class Segmentation(pl.LightningModule):
    """Score every pixel; the set is an attribute, so that checkpoints keep its step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
        late = lf.LinearSchedule(start=0.0, end=0.5, steps=10)
        ce, dice = lf.CrossEntropyLoss(ignore_index=255), lf.DiceLoss(ignore_index=255)
        self.criterion = lf.LossSet(ce=ce, dice=lf.Term(dice, schedule=late))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the total, and log it with the terms; the logits have half the labels' size."""
        images, labels = batch
        out = self.criterion(self.network(images), labels)
        self.log_dict(out.log("train/"))
        return out.total

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main() -> None:
    """Train on pictures whose brightest channel is the class."""
    pl.seed_everything(0, verbose=False)
    images = torch.rand(32, 3, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    labels = images.argmax(1)
    labels[:, :2] = 255  # not annotated
    data = DataLoader(list(zip(images, labels, strict=True)), batch_size=4, shuffle=True)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=5, accumulate_grad_batches=2, callbacks=[AdvanceLosses()], accelerator="cpu", **options)
    trainer.fit(module := Segmentation(), data)
    terms = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
    print(terms, "step", module.criterion["dice"].step)


if __name__ == "__main__":
    main()
