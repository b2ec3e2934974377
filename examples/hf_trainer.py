"""Hugging Face's Trainer: a SegFormer with cross entropy, Lovász and a rising Dice loss in place of its own loss.

The model is a tiny one with random weights; nothing is downloaded.

    python examples/hf_trainer.py
"""

import tempfile

import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainingArguments, set_seed

import lossfold as lf
from lossfold.adapters.hugging_face import ExactAccumulation, hf_loss


class ExactTrainer(ExactAccumulation, Trainer):
    """Accumulated gradients are those of the undivided batch, of Lovász and Dice as well."""


def main() -> None:
    """Train on pictures whose brightest channel is the class."""
    set_seed(0)
    images = torch.rand(32, 3, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    labels = images.argmax(1)
    labels[:, :4] = -100  # not annotated, and not among the items that Trainer counts
    data = [{"pixel_values": image, "labels": label} for image, label in zip(images, labels, strict=True)]
    small = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_attention_heads": [1, 2], "sr_ratios": [4, 2]}
    stages = {"num_encoder_blocks": 2, "patch_sizes": [3, 3], "strides": [2, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 16}
    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=3, **small, **stages))
    criterion = lf.LossSet(
        ce=lf.CrossEntropyLoss(ignore_index=-100),
        lovasz=0.5 * lf.LovaszLoss(ignore_index=-100),
        dice=lf.Term(lf.DiceLoss(ignore_index=-100), schedule=lf.LinearSchedule(start=0.0, end=0.5, steps=10)),
    )
    loss = hf_loss(criterion)
    with tempfile.TemporaryDirectory() as folder:
        steps = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_train_epochs": 4, "logging_steps": 8}
        quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
        arguments = TrainingArguments(folder, learning_rate=1e-2, **steps, **quiet)
        trainer = ExactTrainer(model, arguments, train_dataset=data, compute_loss_func=loss, callbacks=[loss.callback])
        trainer.train()
    for row in trainer.state.log_history:
        print({name: value for name, value in row.items() if name.startswith("loss")})


if __name__ == "__main__":
    main()
