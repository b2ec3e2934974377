"""Three well-known formulas as they are often written by hand, held against the contract; each has one fault, which is found.

python examples/verify_public_formulas.py; or of one: lossfold verify examples/verify_public_formulas.py:HandDice ignore_index=255
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossfold.verify import check


class HandDice(nn.Module):
    """Dice of classes. Ignored labels become class 0 and their scores 0, so that these pixels still count (fault)."""

    def __init__(self, ignore_index: int = 255, smooth: float = 1.0) -> None:
        super().__init__()
        self.ignore_index, self.smooth = ignore_index, smooth

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss."""
        counted = labels != self.ignore_index
        logits = torch.where(counted[:, None], logits, 0.0)
        p = logits.softmax(1).transpose(0, 1).flatten(1)
        t = functional.one_hot(labels * counted, logits.shape[1]).movedim(-1, 0).flatten(1).to(p)
        return 1 - ((2 * (p * t).sum(1) + self.smooth) / (p.sum(1) + t.sum(1) + self.smooth)).mean()


class HandFocal(nn.Module):
    """Focal loss of classes. The probability is that of the weighted cross entropy, p to the power of alpha (fault)."""

    def __init__(self, alpha: list[float] | None = None, gamma: float = 2.0, ignore_index: int = 255) -> None:
        super().__init__()
        self.gamma, self.ignore_index = gamma, ignore_index
        self.register_buffer("alpha", None if alpha is None else torch.as_tensor(alpha))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss."""
        alpha = None if self.alpha is None else self.alpha.to(logits)
        ce = functional.cross_entropy(logits, labels, alpha, ignore_index=self.ignore_index, reduction="none")
        return ((1 - torch.exp(-ce)) ** self.gamma * ce).sum() / (labels != self.ignore_index).sum().clamp(min=1)


class HandLovasz(nn.Module):
    """Lovász-Softmax. The mean over the present classes has no answer where none is (fault)."""

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss."""
        counted = labels.flatten() != self.ignore_index
        p, y = logits.softmax(1).movedim(1, -1).flatten(0, -2)[counted], labels.flatten()[counted]
        costs = []
        for c in range(p.shape[1]):
            t = (y == c).to(p)
            if t.sum() == 0:
                continue
            errors, order = (t - p[:, c]).abs().sort(descending=True)
            rest = t.sum() - t[order].cumsum(0)
            jaccard = 1 - rest / (t.sum() + (1 - t[order]).cumsum(0))
            costs.append((errors * torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])).sum())
        return sum(costs) / len(costs)


if __name__ == "__main__":
    for loss in (HandDice, HandFocal, HandLovasz):
        print(check(loss, {"ignore_index": 255}, skip=["compile"]), end="\n\n\n")
