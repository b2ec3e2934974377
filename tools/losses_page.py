"""Write docs/losses.md from the registry: every loss by family, and what it has."""

from __future__ import annotations

from pathlib import Path

from lossfold.cli.supports import table

TARGET = Path(__file__).parent.parent / "docs/losses.md"
TOP = """# Every loss, and what it has

`lossfold show DiceLoss` prints a loss's formula, every option, the call and the source; `lossfold list` prints these lists.
Losses of scores take `logits [B, C, *S]` (1-D to 3-D space; fp64, fp32, bf16, fp16; `link="identity"` for probabilities), labels
`[B, *S]` (int64, int32 or uint8) or targets of the logits' shape, and `weight=`: pixel weights or a boolean mask. Losses of images
take `(pred, target, weight)`. [moving.md](moving.md) has the names of other libraries.

- **ignored labels**: `ignore_index`; **pixel weights**: `weight=`, `mask=` or `region=` at call; **class weights**: `class_weight`
- **each image**: `per_image` or `sample_wise`, the mean of each image's own; **3-D**: volumes
- **label resolution**: logits of another size than the labels
- **ranks and parts**: exact over GPUs, micro-batches and tiles ([how](ranks.md))
- **kernels** of lossfold's own, shared with the other losses of a set, on CPUs and on GPUs ([what serves where](gpu.md)); the rest
  is plain PyTorch

"""


def page() -> str:
    """Return the whole page."""
    return TOP + table() + "\n"


if __name__ == "__main__":
    TARGET.write_text(page())
    print(TARGET)
