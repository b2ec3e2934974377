"""A loop of one's own: denoise a photograph with three losses, one of them rising over the training.

python examples/plain_loop.py
"""

import torch
from skimage.data import astronaut
from torch import nn

import lossfold as lf

STEPS = 30


def main() -> None:
    """Train on crops with fresh noise and print the terms."""
    torch.manual_seed(0)
    photograph = torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
    criterion = lf.LossSet(
        charbonnier=lf.CharbonnierLoss(),
        ssim=lf.Term(0.2 * lf.SSIMLoss(), schedule=lf.LinearSchedule(start=0.0, end=1.0, steps=STEPS)),
        tv=lf.Term(0.01 * lf.TVLoss(), every=5),
    )
    corners = torch.randint(0, 512 - 64, (4, 2)).tolist()
    clean = torch.stack([photograph[:, y : y + 64, x : x + 64] for y, x in corners])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(STEPS):
        noisy = clean + 0.1 * torch.randn_like(clean)
        with torch.autocast("cpu", torch.bfloat16):
            restored = noisy + network(noisy)
        out = criterion(restored, clean)
        optimizer.zero_grad()
        out.backward()
        optimizer.step()
        criterion.advance()
        if step % 10 == 0:
            print(step, {name: round(float(value), 4) for name, value in out.log().items()})


if __name__ == "__main__":
    main()
