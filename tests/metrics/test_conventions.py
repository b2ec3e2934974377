"""Conventions of other libraries: each image's value, borders that do not count, the luma alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lossfold import metrics as m
from lossfold.errors import LossError


def test_each_images_value() -> None:
    """The mean of what ``"each"`` returns is ``per_image=True``, but for images that have no value."""
    generator = torch.Generator().manual_seed(0)
    preds, labels = (torch.randint(0, 3, (4, 6, 5), generator=generator) for _ in range(2))
    labels[0], labels[1][labels[1] == 2], preds[1][preds[1] == 2] = 255, 0, 0
    for metric in (m.iou, m.dice):
        each = metric(preds, labels, 3, per_image="each", ignore=255, empty="skip", fraction=True)
        assert each.shape == (4, 3) and each[0].isnan().all() and each[1, 2].isnan()
        for image in range(4):
            alone = metric(preds[image : image + 1], labels[image : image + 1], 3, ignore=255, empty="skip", fraction=True)
            torch.testing.assert_close(each[image], alone, equal_nan=True)
        torch.testing.assert_close(
            each.nanmean(0), metric(preds, labels, 3, per_image=True, ignore=255, empty="skip", fraction=True)
        )
    binary = m.iou_binary(preds.clamp(max=1), labels.masked_fill(labels == 2, 1), ignore=255, per_image="each")
    assert binary.shape == (4,) and float(binary[1]) == float(m.iou_binary(preds[1:2].clamp(max=1), labels[1:2].clamp(max=1)))
    right = m.accuracy(preds, labels, 3, ignore=255, per_image="each")
    assert right.shape == (4,) and right[0].isnan()
    torch.testing.assert_close(right.nanmean(), m.accuracy(preds, labels, 3, ignore=255, per_image=True))
    with pytest.raises(LossError, match="per_image must be True, False or 'each', got 'every'"):
        m.iou(preds, labels, 3, per_image="every")
    with pytest.raises(LossError, match="IoU: per_image must be True or False, got 'each'"):
        m.IoU(3, per_image="each")


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_borders_and_lumas(white: float) -> None:
    generator = torch.Generator().manual_seed(1)
    pred, target = (white * torch.rand(2, 3, 24, 26, generator=generator, dtype=torch.float64) for _ in range(2))

    def y(image: torch.Tensor) -> np.ndarray:
        red, green, blue = (image / white).numpy().transpose(1, 0, 2, 3)[:, :, 4:-4, 4:-4]
        return 16 + 65.481 * red + 128.553 * green + 24.966 * blue  # from 16 to 235

    error = ((y(pred) - y(target)) ** 2).mean((1, 2))
    ours = m.psnr(pred, target, white, crop_border=4, to_y=True)
    np.testing.assert_allclose(ours.numpy(), 10 * np.log10(255**2 / error), rtol=1e-9)
    lumas = (torch.from_numpy(y(image))[:, None] / 255 * white for image in (pred, target))
    torch.testing.assert_close(m.ssim(pred, target, white, crop_border=4, to_y=True), m.ssim(*lumas, white))
    score = m.RestorationMetrics(data_range=white, crop_border=4, to_y=True)
    score.update(pred, target)
    torch.testing.assert_close(score.compute()["psnr"], ours.mean())


def test_what_is_refused() -> None:
    grey, colours = torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16)
    with pytest.raises(LossError, match=r"psnr: pred must be \[B, 3, H, W\] with to_y=True"):
        m.psnr(grey, grey, to_y=True)
    with pytest.raises(LossError, match=r"crop_border must be less than half of the images' sides \[16, 16\], got 8"):
        m.psnr(colours, colours, crop_border=8)
    with pytest.raises(LossError, match="ssim: crop_border must be a number of pixels"):
        m.ssim(colours, colours, crop_border=-1)
    with pytest.raises(LossError, match="RestorationMetrics: to_y must be True or False"):
        m.RestorationMetrics(to_y=1)  # type: ignore[arg-type]
