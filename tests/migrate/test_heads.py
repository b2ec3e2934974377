"""MMSegmentation's heads with lossfold's losses in their registry: the real heads, from their own configs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lossfold as lf
from tests.migrate import oracles

pytestmark = pytest.mark.filterwarnings("ignore")  # what MMSegmentation says about itself


@pytest.fixture
def head() -> Iterator[Any]:
    """FCNHead, and its registry with lossfold's losses, as it was afterwards; in its scope, whatever Runner was here before."""
    head = oracles.parts("mmseg", ("mmseg.models", "mmseg.models.decode_heads"), ("fcn_head",))["FCNHead"]
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from lossfold.adapters.mmengine import register_into

    before = dict(MODELS.module_dict)
    assert {"CrossEntropyLoss", "OhemCrossEntropy", "JaccardLoss"} <= set(register_into(MODELS, dialect="mmseg", force=True))
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield head
    MODELS.module_dict.clear()
    MODELS.module_dict.update(before)


def step(head: Any, **options: Any) -> tuple[dict[str, Tensor], Tensor, Any]:
    """A training step: its losses, the logits and the labels."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    made = head(in_channels=3, channels=4, num_classes=5, num_convs=1, norm_cfg=None, dropout_ratio=0.0, **options)
    features = [torch.randn(2, 3, 6, 8)]
    labels = torch.randint(0, 5, (2, 1, 12, 16))
    labels[labels == 4] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in labels]
    losses = made.loss(features, samples, {})
    sum(value for name, value in losses.items() if name.startswith("loss")).backward()
    assert all(parameter.grad is not None for parameter in made.conv_seg.parameters())
    logits = torch.nn.functional.interpolate(made(features), labels.shape[2:], mode="bilinear", align_corners=False)
    return losses, logits, labels[:, 0]


def test_a_real_head_with_its_own_words(head: Any) -> None:
    entries = [{"type": "CrossEntropyLoss", "loss_weight": 0.4}, {"type": "DiceLoss", "loss_weight": 3.0}]
    losses, logits, labels = step(head, loss_decode=entries)
    assert set(losses) == {"loss_ce", "loss_dice", "acc_seg"}
    theirs = oracles.mmseg()
    for name, cls in (("loss_ce", "CrossEntropyLoss"), ("loss_dice", "DiceLoss")):
        weight = {"loss_ce": 0.4, "loss_dice": 3.0}[name]
        torch.testing.assert_close(losses[name], theirs[cls](loss_weight=weight)(logits, labels, ignore_index=255))


def test_a_real_head_with_ours(head: Any) -> None:
    """They have no name in the head's dict unless they are given one, and ignore what the head says."""
    entries = [
        {"type": "JaccardLoss", "loss_weight": 2.0},
        {"type": "CEDiceLoss"},
        {"type": "LossSet", "ce": {"type": "OhemCrossEntropyLoss"}},
    ]
    losses, logits, labels = step(head, loss_decode=entries)
    torch.testing.assert_close(losses["loss_jaccard"], lf.JaccardLoss(loss_weight=2.0, ignore_index=255)(logits, labels))
    torch.testing.assert_close(losses["loss_ce_dice"], lf.CEDiceLoss(ignore_index=255)(logits, labels).total)
    torch.testing.assert_close(losses["loss_loss_set"], lf.OhemCrossEntropyLoss(ignore_index=255)(logits, labels))


def test_its_sampler_beside_our_loss(head: Any) -> None:
    """The sampler asks for a map, and hands weights to the mean over all pixels."""
    losses, logits, labels = step(
        head, loss_decode={"type": "CrossEntropyLoss"}, sampler={"type": "OHEMPixelSampler", "min_kept": 30}
    )
    hard = lf.OhemCrossEntropyLoss(thresh=0.0, min_kept=60, ignore_index=255, reduction="sum")(logits, labels)
    torch.testing.assert_close(losses["loss_ce"], hard / labels.numel())


MASK2FORMER = """
import sys, warnings, importlib.util
warnings.filterwarnings("ignore")
from pathlib import Path
from tests.migrate.oracles import Missing
sys.modules["mmcv._ext"] = Missing()
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.decode_heads import Mask2FormerHead
from mmseg.structures import SegDataSample
import mmdet.registry
from lossfold.adapters.mmengine import register_into
from lossfold.migrate.python_config import read

file = Path(importlib.util.find_spec("mmseg").origin).parent / ".mim/configs/mask2former"
file /= "mask2former_r50_8xb2-90k_cityscapes-512x1024.py"
cfg = ConfigDict(read(file)[0]["model"]["decode_head"])
cfg.update(in_channels=[8, 8, 8, 8], num_classes=5, num_queries=12)
cfg.loss_cls.class_weight = [1.0] * 5 + [0.1]
cfg.train_cfg.num_points = 64
cfg.transformer_decoder.num_layers = 2
cfg.pixel_decoder.encoder.num_layers = 1
cfg.pop("type")
import mmcv.ops.multi_scale_deform_attn as attention
def losses(seed):
    torch.manual_seed(seed)
    head = Mask2FormerHead(**cfg)
    features = [torch.randn(2, 8, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
    labels = torch.randint(0, 5, (2, 1, 4, 4)).repeat_interleave(16, 2).repeat_interleave(16, 3)
    labels[:, :, :8] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one), metainfo={"img_shape": (64, 64)}) for one in labels]
    found = head.loss(features, samples, ConfigDict())
    sum(found.values()).sum().backward()
    return head, found, [p.grad.clone() for p in head.mask_embed.parameters()]
theirs = losses(3)
register_into(mmdet.registry.MODELS, dialect="mmdet", force=True)
ours = losses(3)
assert type(ours[0].loss_mask).__module__.startswith("lossfold") and not type(theirs[0].loss_mask).__module__.startswith("lossfold")
assert len(ours[1]) == 9
for name, value in theirs[1].items():
    torch.testing.assert_close(ours[1][name].reshape(()), value.reshape(()), rtol=1e-4, atol=1e-5)
for a, b in zip(ours[2], theirs[2]):
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
print("same", len(ours[1]))
"""


@pytest.mark.slow
def test_a_mask2former_step() -> None:
    """The head of their own config, made small; its losses and the gradients of its mask embedding."""
    oracles.mmdet()
    command = [sys.executable, "-W", "ignore", "-c", MASK2FORMER]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0 and done.stdout.strip().endswith("same 9"), done.stderr[-3000:]
