"""Losses for transformers' Trainer: ``Trainer(compute_loss_func=...)``, and the callback beside it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import has_length

from lossfold.adapters.steps import checked_criterion, statistics_kept, terms_in
from lossfold.compose.loss_set import LossSet
from lossfold.compose.output import LossOutput
from lossfold.compose.parts import Whole
from lossfold.compose.splitting import knows_denominators
from lossfold.errors import LossError, naming
from lossfold.losses.base import Loss
from lossfold.routing import checked_mapping, walk

NOT_AN_ITEM = -100
"""Labels of this value are not among the items that Trainer counts."""


def hf_loss(criterion: nn.Module, *, inputs: Mapping[str, str] | None = None) -> TrainerLoss:
    """Return a loss for ``Trainer(compute_loss_func=loss, callbacks=[loss.callback])``.

    Without ``inputs`` the criterion is called with the logits and the labels; a criterion whose losses have ``inputs`` of their own
    gets one dict, the model's outputs and ``labels``. Of a model that returns a tuple, the first output is ``logits``, and
    all of them ``outputs``.

    With gradient accumulation Trainer adds up what the function returns for each micro-batch. So each loss is multiplied by its
    micro-batch's share of the items: n_i / N, where n_i counts the labels other than -100 and N is Trainer's
    ``num_items_in_batch``. The sum is that of the undivided batch for a mean over these items, such as
    ``CrossEntropyLoss(ignore_index=-100)`` without class or pixel weights; for a mean over images (``per_image=True``,
    ``sample_wise=True``) and for a mean over pixels that ignores another label, where the micro-batches have equally many
    images or counted pixels. A Dice loss of the whole batch is no mean: there it is the mean of the micro-batches' losses.
    With :class:`ExactAccumulation` every loss is that of the undivided batch.

    A set with ``sync=True`` has the loss of all processes' batches.

    Args:
        criterion: a loss or a set.
        inputs: where its arguments stand, from names to dotted paths: ``{"pred": "reconstruction", "target": "labels"}``.

    Warns:
        UserWarning: a loss ignores another label than -100, whose pixels Trainer counts as items: make them -100, or take
            micro-batches with equally many counted pixels; when the training begins with accumulated gradients, for losses that
            are no means, without :class:`ExactAccumulation`.

    Raises:
        LossError: for a criterion that is no module, and for sums (``reduction="sum"``), which a share would make smaller; when
            called, for outputs without logits, and where the share of a micro-batch is not known: under DataParallel, and for
            labels that Trainer can't count unless the callback tells how many there are.

    Example:
        >>> loss = hf_loss(LossSet(ce=CrossEntropyLoss(), dice=DiceLoss()))
        >>> trainer = Trainer(model, compute_loss_func=loss, callbacks=[loss.callback], train_dataset=data)  # doctest: +SKIP
    """
    return TrainerLoss(criterion, inputs)


class TrainerLoss:
    """What :func:`hf_loss` returns.

    Attributes:
        criterion: the loss or set.
        callback: advances the criterion after each optimiser step, and adds the means of its terms to Trainer's logs.
    """

    def __init__(self, criterion: nn.Module, inputs: Mapping[str, str] | None) -> None:
        self.criterion = checked_criterion("hf_loss", criterion)
        with naming("hf_loss"):
            self.inputs = checked_mapping(inputs)
        for loss in criterion.modules():
            if getattr(loss, "reduction", "mean") == "sum":
                who, hint = type(loss).__name__, "Trainer adds up the micro-batches' shares of a mean"
                raise LossError(f"hf_loss: {who}", "reduction", "'mean'", "'sum'", hint)
        others = {getattr(loss, "ignore_index", NOT_AN_ITEM) for loss in criterion.modules()} - {NOT_AN_ITEM}
        if others:
            text = f"hf_loss: ignore_index={others.pop()}, but Trainer counts all labels other than {NOT_AN_ITEM} as items"
            warnings.warn(f"{text}: with gradient accumulation make the ignored labels {NOT_AN_ITEM}", stacklevel=3)
        self.routes = any(isinstance(loss, Loss) and loss.inputs is not None for loss in criterion.modules())
        self.micro_batches: int | None = None
        self.pieces: int | None = None  # micro-batches of the step at hand: the last of an epoch may have fewer
        self.processes = 1  # by whose number Trainer multiplies a loss that has a share
        self.whole: Whole | None = None
        self.set = criterion if isinstance(criterion, LossSet) else LossSet({"loss": self.criterion})
        self.exact = False  # whether a Trainer looks at all micro-batches beforehand
        self.sums: dict[str, Tensor] = {}
        self.callback = LossCallback(self)

    def __call__(self, outputs: Any, labels: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Return the loss of a micro-batch, times its share of the batch."""
        if self.whole is not None and torch.is_grad_enabled():
            return self.share_of(self.whole, outputs, labels, items=num_items_in_batch)
        if isinstance(self.criterion, LossSet) and self.criterion.ranks is not None:
            return self.synced(self.criterion, outputs, labels, num_items_in_batch)
        share = self.share(labels, num_items_in_batch)
        result = self.evaluate(outputs, labels)
        terms = result.terms if isinstance(result, LossOutput) else {}
        total: Tensor = getattr(result, "total", result)
        if torch.is_grad_enabled():
            counted = share * self.times(num_items_in_batch)  # of this process' items, as if there were no other
            self.note({name: value * counted for name, value in terms.items()})
        return total * share

    def evaluate(self, outputs: Any, labels: Any) -> Any:
        """Call the criterion with what it needs."""
        inputs, arguments = self.arguments(outputs, labels)
        return self.criterion(*inputs, **arguments)

    def arguments(self, outputs: Any, labels: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the criterion needs."""
        given = named(outputs) | {"labels": labels}
        if self.inputs is not None:
            with naming("hf_loss"):
                return (), {name: walk(name, path, given) for name, path in self.inputs.items()}
        if self.routes:
            return (given,), {}
        with naming("hf_loss"):
            return (walk("logits", "logits", given), labels), {}

    def synced(self, criterion: LossSet, outputs: Any, labels: Any, items: Tensor | int | None) -> Tensor:
        """Return the loss of all processes' batches."""
        if not torch.is_grad_enabled():  # an evaluation, of which processes may have unequally many batches
            with criterion.alone():
                found: LossOutput = self.evaluate(outputs, labels)
            return found.total
        if self.micro_batches not in (None, 1) and not self.exact:  # there it is a step's only one
            hint = "class ExactTrainer(ExactAccumulation, Trainer)"
            raise LossError("hf_loss", "sync", "left out with accumulated gradients, but for a Trainer that is exact", "True", hint)
        found = self.evaluate(outputs, labels)
        self.note(found.terms)
        return found.total / self.times(items)

    def share_of(self, whole: Whole, outputs: Any, labels: Any, items: Tensor | int | None) -> Tensor:
        """Return a micro-batch's share of the gradient of the whole batch's loss; the shares' values add up to that loss."""
        inputs, arguments = self.arguments(outputs, labels)
        share = whole.share(*inputs, **arguments) / self.times(items)
        parts = len(whole.marks)
        if whole.shares == parts:
            self.note(whole.output.terms)
            self.whole = None
        return share - share.detach() * (1 - 1 / parts)

    def warn_of_shares(self) -> None:
        """Say which losses are other ones with accumulated gradients."""
        if self.micro_batches in (None, 1) or self.exact:
            return
        leaves = self.set.leaves()
        others = [one.name for one in leaves if not knows_denominators(one) and not (one.folded and one.folded.apart)]
        if others:
            text = f"hf_loss: {', '.join(others)}: with accumulated gradients the mean of the micro-batches' losses"
            warnings.warn(f"{text}; class ExactTrainer(ExactAccumulation, Trainer) has that of the batch", stacklevel=2)

    def times(self, items: Tensor | int | None) -> int:
        """Return by what Trainer multiplies a loss, whose gradients it then averages over processes."""
        return 1 if items is None else self.processes

    def note(self, terms: Mapping[str, Tensor]) -> None:
        """Keep a step's terms, or the shares of them that a micro-batch has, for the logs."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value

    def look_at(self, trainer: Any, samples: list[Any]) -> None:
        """Make the first pass over the micro-batches of a step of the optimiser."""
        whole, model = self.set.accumulate(rng=True, parts=len(samples)), trainer.model_wrapped
        model.train()
        if callable(getattr(trainer.optimizer, "train", None)):  # one without a schedule trains other weights than it gives
            trainer.optimizer.train()
        with torch.no_grad(), statistics_kept(model):
            for sample in samples:
                inputs = dict(trainer._prepare_inputs(sample))
                labels = inputs.pop("labels", None)
                with trainer.compute_loss_context_manager():
                    given, arguments = self.arguments(model(**inputs), labels)
                    whole.add(*given, **arguments)
        self.whole = whole

    def share(self, labels: Any, items: Tensor | int | None) -> Tensor | float:
        """Return which part of the optimiser step's items a micro-batch has."""
        if items is None:
            if isinstance(labels, Tensor) or not torch.is_grad_enabled():
                return 1.0  # a call outside of Trainer, or an evaluation
            if self.micro_batches is None:
                hint = "pass callbacks=[loss.callback] to Trainer: then each micro-batch counts the same"
                raise LossError("hf_loss", "num_items_in_batch", "given", "None: Trainer can't count these labels", hint)
            return 1 / (self.pieces or self.micro_batches)
        if isinstance(items, Tensor) and items.dim():
            hint = "start one process for each GPU, as torchrun does"
            raise LossError("hf_loss", "num_items_in_batch", "a number", f"shape {list(items.shape)}, of DataParallel", hint)
        if not isinstance(labels, Tensor):
            raise LossError("hf_loss", "labels", "a tensor, whose items are counted", type(labels).__name__)
        count = labels.ne(NOT_AN_ITEM).sum()
        return (count / torch.as_tensor(items, device=count.device).clamp_min(1)).float()


class ExactAccumulation:
    """Makes a Trainer whose accumulated gradients are exactly those of the undivided batch, whatever the loss.

    Each micro-batch goes through the model twice, first without a graph. Dropout falls alike, and batch norms keep their statistics
    in the first pass. With one micro-batch a step nothing changes.

    Example:
        >>> from transformers import Trainer
        >>> class ExactTrainer(ExactAccumulation, Trainer):
        ...     pass
        >>> loss = hf_loss(LossSet(ce=CrossEntropyLoss(), dice=DiceLoss()))
        >>> trainer = ExactTrainer(model, compute_loss_func=loss, callbacks=[loss.callback], train_dataset=data)  # doctest: +SKIP
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        loss = getattr(self, "compute_loss_func", None)
        if not isinstance(loss, TrainerLoss):
            raise LossError("ExactAccumulation", "compute_loss_func", "what hf_loss() returns", type(loss).__name__)
        loss.exact = True
        self.unseen: list[Any] = []  # the micro-batches of a step that has not begun

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any = None) -> Any:
        """Return the micro-batches of a step, which the loss is to look at when it begins."""
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)  # type: ignore[misc]
        loss: TrainerLoss = self.compute_loss_func  # type: ignore[attr-defined]
        loss.pieces = len(samples)
        self.unseen = samples if num_batches > 1 else []
        return samples, items

    def training_step(self, *given: Any, **named: Any) -> Any:
        """Take a micro-batch, and look at all before a step's first: Trainer has brought a checkpoint's random numbers back."""
        samples, self.unseen = self.unseen, []
        if samples:
            self.compute_loss_func.look_at(self, samples)  # type: ignore[attr-defined]
        return super().training_step(*given, **named)  # type: ignore[misc]


class LossCallback(TrainerCallback):
    """Advance a criterion after each optimiser step, to Trainer's ``global_step``; add the means of its terms to the logs.

    They are in ``state.log_history``, and in the logs of callbacks that come later; those of ``report_to`` come earlier.
    """

    def __init__(self, loss: TrainerLoss) -> None:
        self.loss, self.steps = loss, 0
        self.left: int | None = None  # micro-batches of the epoch, where they can be counted

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin where the training does, also where it is resumed."""
        self.loss.micro_batches, self.loss.pieces = args.gradient_accumulation_steps, None
        self.loss.processes = args.world_size if getattr(args, "average_tokens_across_devices", False) else 1
        self.loss.warn_of_shares()
        self.loss.criterion.to(args.device)
        self.loss.sums, self.steps = {}, 0
        self.go_to(state.global_step)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Count the micro-batches that are to come, without those that a training that is resumed leaves out."""
        self.left = None
        if has_length(train_dataloader):
            pieces, count = args.gradient_accumulation_steps, len(train_dataloader)
            done = 0 if args.ignore_data_skip else state.global_step % max(1, -(-count // pieces))
            self.left = count - done * pieces

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say of how many micro-batches the step is, where no Trainer does that is exact."""
        if self.left is not None and not self.loss.exact:
            self.loss.pieces = min(args.gradient_accumulation_steps, self.left)
            self.left -= self.loss.pieces

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Go on with Trainer."""
        self.steps += 1
        self.go_to(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Add the terms to the logs of the training's loss, as means over the steps since the last."""
        if logs is None or "loss" not in logs or not self.steps:
            return
        means = {f"loss_{name}": value.item() / self.steps for name, value in self.loss.sums.items()}
        logs.update(means)
        state.log_history[-1].update(means)
        self.loss.sums, self.steps = {}, 0

    def go_to(self, step: int) -> None:
        """Take the weights of a step."""
        for term in terms_in(self.loss.criterion):
            term.go_to(step)


def named(outputs: Any) -> dict[str, Any]:
    """Return a model's outputs by name."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (tuple, list)) and outputs:
        return {"logits": outputs[0], "outputs": outputs}
    if isinstance(outputs, Tensor):
        return {"logits": outputs}
    raise LossError("hf_loss", "outputs", "a ModelOutput, a dict, a tuple or a tensor", type(outputs).__name__)
