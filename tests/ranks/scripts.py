"""What ranks do together beside the splits; each is called on all of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import lossfold as lf
from tests.losses.adversarial.critics import Patches, images
from tests.ranks.rounds import known_first as known_first
from tests.ranks.splits import rows_of
from tests.ranks.work import close, counting

SPLIT = (3, 0, 2)
CLASSES = 4


def batch(rows: slice | None = None, classes: int = CLASSES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and labels of this rank, or of the rows; the last images are ignored wholly."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randn(5, 3, 7, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (5, 7, 6), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    labels[0, :5] = 255
    labels[3:] = 255
    rows = rows_of(SPLIT, distributed.get_rank()) if rows is None else rows
    return pictures[rows], labels[rows]


def terms() -> dict[str, nn.Module]:
    """Formulas over the batch, last ratios, hard pixels, conditions, schedules and a set in the set."""
    ignored: dict[str, Any] = {"ignore_index": 255}
    return {
        "ce": lf.CrossEntropyLoss(class_weight=[1.0, 2.0, 0.5, 1.0], **ignored),
        "dice": lf.DiceLoss(**ignored),
        "lovasz": 0.5 * lf.LovaszLoss(bins=64, **ignored),
        "ohem": lf.OhemCrossEntropyLoss(thresh=0.2, min_kept=20, **ignored),
        "images": lf.JaccardLoss(per_image=True, **ignored),
        "inner": lf.Term(
            lf.LossSet(tversky=lf.TverskyLoss(**ignored), focal=lf.FocalLoss(**ignored)),
            schedule=lf.LinearSchedule(start=0.5, end=1.0, steps=4),
        ),
        "some": lf.Term(lf.DiceLoss(**ignored), when=first_ones),
        "every": lf.Term(lf.GeneralizedDiceLoss(**ignored), when=first_ones, when_mean="all"),
        "often": lf.Term(lf.CrossEntropyLoss(**ignored), every=2),
    }


def first_ones(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Images to which a condition applies, by what is in them."""
    return labels.flatten(1)[:, :1].eq(255).all(1) | (labels.flatten(1)[:, -1] % 2 == 0)


def network(classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(3, classes, 3, padding=1).double()


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def whole(criterion: Any, steps: int = 0) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Total, terms and gradient in one process."""
    model = network()
    criterion.advance(steps)
    out = criterion(model(batch(slice(None))[0]), batch(slice(None))[1])
    out.backward()
    return out.total.detach(), out.terms, gradients(model)


def ddp() -> None:
    """All kinds of terms under DDP, which averages, at two steps of their schedules and intervals."""
    for steps in (0, 1):
        truth = whole(lf.LossSet(terms()), steps)
        model = DistributedDataParallel(network())
        criterion = lf.LossSet(terms(), sync=True)
        criterion.advance(steps)
        pictures, labels = batch()
        out = criterion(model(pictures), labels)
        out.backward()
        close(out.total.detach(), truth[0], 1e-10, "total")
        for name, value in truth[1].items():
            close(out.terms[name], value, 1e-10, name)
        close(gradients(model), truth[2], 1e-9, "gradient")


def fsdp() -> None:
    """The same under FSDP2, whose reduce-scatter averages."""
    from torch.distributed.fsdp import fully_shard

    truth = whole(lf.LossSet(terms()))
    model = network()
    mesh = torch.distributed.init_device_mesh("cpu", (3,))
    fully_shard(model, mesh=mesh)
    criterion = lf.LossSet(terms(), sync=True, process_group=mesh)
    pictures, labels = batch()
    out = criterion(model(pictures), labels)
    out.backward()
    close(out.total.detach(), truth[0], 1e-10, "total")
    found = torch.cat([p.grad.full_tensor().flatten() for p in model.parameters()])  # type: ignore[union-attr, operator]
    close(found, truth[2], 1e-9, "gradient")


def summed_gradients() -> None:
    """A trainer that adds gradients up."""
    truth = whole(lf.LossSet(terms()))
    model, criterion = network(), lf.LossSet(terms(), sync=True, gradients="sum")
    pictures, labels = batch()
    criterion(model(pictures), labels).backward()
    found = gradients(model)
    distributed.all_reduce(found)
    close(found, truth[2], 1e-9, "gradient")
    learned = []
    for options in ({}, {"sync": True, "gradients": "sum"}):
        losses = {"ce": lf.CrossEntropyLoss(ignore_index=255), "dice": lf.DiceLoss(ignore_index=255)}
        weighed = lf.UncertaintyWeights(lf.LossSet(losses, **options), start=0.3)  # type: ignore[arg-type]
        pictures, labels = batch(None if options else slice(None))
        weighed(network()(pictures), labels).backward()
        learned.append(gradients(weighed))
    distributed.all_reduce(learned[1])
    close(learned[1], learned[0], 1e-6, "gradient of learned weights")


def second_derivatives() -> None:
    """A gradient of a gradient passes through the sum."""

    def slope(criterion: Any, rows: slice | None) -> tuple[Tensor, Tensor]:
        pictures, labels = batch(rows)
        x = pictures.clone().requires_grad_()
        model = network()
        total = criterion(model(x), labels).total
        (first,) = torch.autograd.grad(total, list(model.parameters())[:1], create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), list(model.parameters())[:1])
        return first.detach(), second

    losses = {"dice": lf.DiceLoss(ignore_index=255), "ce": lf.CrossEntropyLoss(ignore_index=255)}
    first, _ = slope(lf.LossSet(losses), slice(None))
    found, second = slope(lf.LossSet(losses, sync=True), None)
    distributed.all_reduce(found)
    close(found / 3, first, 1e-9, "first")
    assert second.isfinite().all()


def counted() -> str:
    """One all_reduce of the bytes that the plan names, and none in the backward; none more where terms share a pass."""
    losses = {"ce": lf.CrossEntropyLoss(ignore_index=255), "dice": lf.DiceLoss(ignore_index=255),
              "jaccard": lf.JaccardLoss(ignore_index=255), "lovasz": lf.LovaszLoss(bins=32, ignore_index=255),
              "each": lf.TverskyLoss(ignore_index=255, per_image=True)}  # fmt: skip
    criterion, model = lf.LossSet(losses, sync=True), network()
    pictures, labels = batch()
    criterion(model(pictures), labels)
    with counting() as bytes_:
        out = criterion(model(pictures), labels)
        assert len(bytes_) == 1
        out.backward()
    plan = criterion.plan()
    told = re.search(r"one all_reduce of (\d+) B \+ (\d+) B a class", plan)
    assert told is not None, plan
    assert bytes_ == [int(told[1]) + CLASSES * int(told[2])] == criterion.ranks.sent, (plan, bytes_)  # type: ignore[union-attr]
    hard = lf.LossSet(losses | {"ohem": lf.OhemCrossEntropyLoss(ignore_index=255, min_kept=5)}, sync=True)
    for _ in range(2):
        with counting() as bytes_:
            hard(model(pictures).float(), labels)
    assert len(bytes_) == 4 and "3 before it" in hard.plan(), (bytes_, hard.plan())
    return plan


def refused() -> float:
    """Where one rank's call is refused, all raise at once; and the next call is as good as any."""
    pictures, labels = batch()
    model = network()
    criterion = lf.LossSet(terms(), sync=True)
    truth = whole(lf.LossSet(terms()))
    rank, longest = distributed.get_rank(), 0.0
    wrongs: list[Callable[[], tuple[Any, Any]]] = [
        lambda: (model(pictures), labels[..., 0]),  # by shape, at the first call of the set
        lambda: (model(pictures), "labels"),
        lambda: (model(pictures), torch.full_like(labels, 17)),  # by value, in the pass
    ]
    for bad in (0, 1, 2):
        for wrong in wrongs if bad != 1 else wrongs[:2]:  # rank 1 has no labels that could be out of range
            begin = time.perf_counter()
            try:
                criterion(*(wrong() if rank == bad else (model(pictures), labels)))
            except lf.LossError as error:
                assert rank == bad or (error.argument == "sync" and f"rank {bad}" in str(error)), str(error)
            else:
                raise AssertionError(f"rank {rank} did not learn that rank {bad} was refused")
            longest = max(longest, time.perf_counter() - begin)
        out = criterion(model(pictures), labels)
        close(out.total.detach(), truth[0], 1e-10, "after a refusal")
    assert longest < 5
    return longest


def different() -> None:
    """Ranks that are at other steps, or have other classes, all raise; other classes on all ranks are another call."""
    rank = distributed.get_rank()
    criterion = lf.LossSet(
        {
            "a": lf.Term(lf.DiceLoss(ignore_index=255), every=2),
            "b": lf.Term(lf.JaccardLoss(ignore_index=255), every=2),
            "c": lf.DiceLoss(),
        },
        sync=True,
    )
    for classes in (4, 7, 4, 3):
        pictures, labels = batch(classes=classes)
        logits = network(classes)(pictures)
        truth = lf.DiceLoss(ignore_index=255)(network(classes)(batch(slice(None))[0]), batch(slice(None), classes)[1])
        found = lf.LossSet({"dice": lf.DiceLoss(ignore_index=255)}, sync=True)
        for _ in range(2):
            close(found(logits, labels).total.detach(), truth.detach(), 1e-10, f"{classes} classes")
    for turn in range(2):
        one = lf.LossSet({"dice": lf.DiceLoss(ignore_index=255)}, sync=True)
        if turn:
            one(*(network(9)(batch(classes=9)[0]), batch(classes=9)[1]))
        classes = 5 + (rank == 2)
        pictures, labels = batch(classes=5)
        try:
            one(network(classes)(pictures), labels)
        except lf.LossError as error:
            assert error.argument == "sync", error
        else:
            raise AssertionError("other classes were added up")
    criterion = lf.LossSet({"a": lf.Term(lf.DiceLoss(ignore_index=255), every=2), "b": lf.JaccardLoss(ignore_index=255)}, sync=True)
    pictures, labels = batch()
    criterion(network()(pictures), labels)
    criterion.advance(1 + (rank == 0))
    try:
        criterion(network()(pictures), labels)
    except lf.LossError as error:
        assert error.argument == "sync", error
    else:
        raise AssertionError("other steps were added up")


def normalized() -> None:
    """Each rank's number of masks adds up."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 3, 4, 4, generator=generator, dtype=torch.float64)
    masks = torch.rand(5, 3, 4, 4, generator=generator).round().double()
    losses = {"bce": lf.BinaryCrossEntropyLoss(per_image=True), "dice": lf.DiceLoss(link="sigmoid", per_image=True, absent="count")}
    truth = lf.LossSet(losses)(scores, masks, normalizer=11.0).total
    rows = rows_of(SPLIT, distributed.get_rank())
    for number in (float((6, 0, 5)[distributed.get_rank()]), torch.tensor((6, 0, 5)[distributed.get_rank()])):
        found = lf.LossSet(losses, sync=True)(scores[rows], masks[rows], normalizer=number)
        close(found.total, truth, 1e-10, "normalizer")


def objectives() -> None:
    """GAN objectives of dicts: penalties at intervals, whose gradients are the networks'."""
    with mock.patch(
        "torch.rand", lambda *shape, **named: torch.full(shape[0] if isinstance(shape[0], tuple) else shape, 0.3, **named)
    ):
        found = []
        for sync in (False, True):
            critic = Patches().double()
            judged = {"type": "GANLoss", "gan_type": "hinge", "target_is_real": True, "is_disc": True}
            penalty = {"type": "GradientPenaltyLoss", "loss_weight": 10.0, "every": 2}
            r1 = {"type": "R1GradientPenaltyComps", "interval": 2}
            config = {
                "real": judged | {"inputs": {"input": "disc_pred_real"}},
                "gp": penalty | {"inputs": {"discriminator": "disc", "real": "real_imgs", "fake": "fake_imgs"}},
                "r1": r1 | {"data_info": {"discriminator": "disc", "real_data": "real_imgs"}},
            }
            criterion = lf.build(config | ({"type": "LossSet", "sync": True} if sync else {}))
            rows = rows_of((3, 1, 1), distributed.get_rank()) if sync else slice(None)
            real, fake = images(5, 2, 6, 6)[rows], images(5, 2, 6, 6, seed=1)[rows]
            for iteration in range(2):
                given = {
                    "disc": critic,
                    "real_imgs": real,
                    "fake_imgs": fake,
                    "disc_pred_real": critic(real),
                    "iteration": iteration,
                }
                out = criterion(given)
                out.backward()
                criterion.advance()
            found.append((out.total.detach(), gradients(critic)))
        distributed.all_reduce(found[1][1])
        close(found[1][0], found[0][0], 1e-10, "total")
        close(found[1][1] / 3, found[0][1], 1e-9, "gradient")


def moving_mean() -> None:
    """The path lengths' moving mean is that of all ranks' samples, also where ranks have unequally many."""
    from tests.losses.adversarial.test_path_length import Pixel, latents

    with mock.patch("torch.randn_like", torch.ones_like):
        lengths = lf.functional.path_lengths(Pixel(), latents(5, 4)).mean()
        criterion = lf.LossSet({"path": lf.GeneratorPathRegularizer(batch_shrink=1, decay=0.25)}, sync=True)
        criterion(Pixel(), latents(5, 4)[rows_of((3, 1, 1), distributed.get_rank())])
    close(criterion["path"].mean_path_length, 0.25 * lengths.detach(), 1e-6, "moving mean")  # type: ignore[arg-type]


def alone() -> None:
    """In a group of one rank nothing is sent, and nothing is another number than without a group."""
    groups_of_one = [distributed.new_group([rank]) for rank in range(3)]
    pictures, labels = batch(slice(None))
    found = []
    for options in ({}, {"sync": True, "process_group": groups_of_one[distributed.get_rank()]}):
        model = network()
        with counting() as bytes_:
            out = lf.LossSet(terms(), **options)(model(pictures), labels)
            out.backward()
        found.append((out.total.detach(), gradients(model)))
    assert not bytes_ and torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def compiled() -> None:
    """In one graph, with the functional collectives."""
    torch._dynamo.reset()
    truth = whole(lf.LossSet(terms()))
    model = network()
    criterion = torch.compile(lf.LossSet(terms(), sync=True), fullgraph=True, backend="aot_eager")
    pictures, labels = batch()
    out = criterion(model(pictures), labels)
    out.total.backward()
    found = gradients(model)
    distributed.all_reduce(found)
    close(out.total.detach(), truth[0], 1e-10, "total")
    for name, value in truth[1].items():
        close(out.terms[name], value, 1e-10, name)
    close(found / 3, truth[2], 1e-9, "gradient")


def compiled_losses() -> None:
    """Every loss over a fold, and one of two rounds, in one graph, on two ranks."""
    from tests.contract.cases import first_of
    from tests.ranks.splits import ALL, of_case
    from tests.ranks.work import against_one_process

    def compiled_as_one_graph(criterion: Any) -> Any:
        torch._dynamo.reset()
        return torch.compile(criterion, fullgraph=True, backend="aot_eager")

    for case in first_of(lambda case: (case.fold, case.name)):
        if case.reduction != "none" and not getattr(case, "sorts", False):
            against_one_process(of_case(case), (3, 2), compiled_as_one_graph)
    against_one_process(ALL["gan-ragan"], (3, 2), compiled_as_one_graph)  # whose backward sends


def accumulated() -> str:
    """Parts first, then ranks: one all_reduce a step, whose ranks have unequally many parts; and labels alone at first."""
    truth = whole(lf.LossSet(terms()))
    pictures, labels = batch()
    cuts = {0: [slice(0, 1), slice(1, 3)], 1: [slice(0, 0)], 2: [slice(0, 2)]}[distributed.get_rank()]
    model, criterion = network(), lf.LossSet(terms(), sync=True)
    with counting() as bytes_:
        one = criterion.accumulate()
        for rows in cuts:
            one.add(model(pictures[rows]), labels[rows])
        assert not bytes_
        for rows in cuts:
            one.backward(model(pictures[rows]), labels[rows])
    found = gradients(model)
    distributed.all_reduce(found)
    for name, value in truth[1].items():
        close(one.output.terms[name], value, 1e-10, name)
    close(found / 3, truth[2], 1e-9, "gradient")
    losses = {"ce": lf.CrossEntropyLoss(ignore_index=255), "images": lf.FocalLoss(ignore_index=255, per_image=True)}
    truth = whole(lf.LossSet(losses))
    model, linear = network(), lf.LossSet(losses, sync=True)
    one = linear.accumulate()
    for rows in cuts:
        one.add(labels=labels[rows])
    for rows in cuts:
        one.backward(model(pictures[rows]), labels[rows])
    found = gradients(model)
    distributed.all_reduce(found)
    close(one.output.total, truth[0], 1e-10, "total of labels alone")
    close(found / 3, truth[2], 1e-9, "gradient of labels alone")
    for step in range(2):  # a rank whose part is refused
        one = criterion.accumulate()
        try:
            for rows in cuts:
                bad = distributed.get_rank() == step
                one.add(model(pictures[rows]), labels[rows, 0] if bad else labels[rows])
            one.close()
        except lf.LossError as error:
            assert bad or error.argument == "sync", error
        else:
            raise AssertionError("no refusal")
    return f"{len(bytes_)} all_reduces, {bytes_}"


def curve(parts: int, sync: bool) -> list[float]:
    """The losses of 20 steps of a small network without batch norm: each batch of four in one piece, or split."""
    torch.manual_seed(3)
    model: nn.Module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 3, padding=1))
    trained: nn.Module = DistributedDataParallel(model, process_group=groups()[2]) if sync else model
    losses = {
        "ce": lf.CrossEntropyLoss(ignore_index=255),
        "dice": lf.DiceLoss(ignore_index=255),
        "lovasz": lf.LovaszLoss(ignore_index=255),
    }
    criterion = lf.LossSet(losses, sync=sync, process_group=groups()[2] if sync else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    found = []
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        pictures = torch.rand(4, 3, 16, 16, generator=generator)
        labels = (pictures.mean(1) * 3.99).long().clamp(0, CLASSES - 1)
        labels[0, : 4 * (step % 5)] = 255
        if sync:
            rows = slice(2 * distributed.get_rank(), 2 * distributed.get_rank() + 2)
            pictures, labels = pictures[rows], labels[rows]
        optimizer.zero_grad()
        if parts == 1:
            out = criterion(trained(pictures), labels)
            out.backward()
        else:
            one = criterion.accumulate()
            for x, y in zip(pictures.chunk(parts), labels.chunk(parts), strict=True):
                with torch.no_grad():
                    one.add(trained(x), y)
            for x, y in zip(pictures.chunk(parts), labels.chunk(parts), strict=True):
                one.backward(trained(x), y)
            out = one.output
        optimizer.step()
        found.append(out.total.item())
    return found


def groups() -> dict[int, Any]:
    from tests.ranks.work import GROUPS

    return GROUPS


def curves() -> dict[str, float] | None:
    """Two ranks with two images each, and micro-batches, go the way of one process with four, loss for loss."""
    if distributed.get_rank() == 2:
        return None
    truth = torch.tensor(curve(1, False))
    found = {"ranks": curve(1, True), "micro-batches": curve(2, False), "both": curve(2, True)}
    off = {name: (torch.tensor(values) - truth).abs().max().item() for name, values in found.items()}
    assert truth[0] - truth[-1] > 0.3 and max(off.values()) < 1e-4, (off, truth)
    return off


def step_time() -> dict[str, float] | None:
    """Milliseconds of a step, forward and backward of the losses, with and without sync, on two ranks."""
    if distributed.get_rank() == 2:
        return None
    group, found = groups()[2], {}
    logits = torch.randn(2, 19, 128, 128, requires_grad=True)
    labels = torch.randint(0, 19, (2, 128, 128))
    losses = {"ce": lf.CrossEntropyLoss(), "dice": lf.DiceLoss()}
    for name, options in (("alone", {}), ("sync", {"sync": True, "process_group": group})):
        for more in ("", " lovasz"):
            criterion = lf.LossSet(losses | ({"lovasz": lf.LovaszLoss()} if more else {}), **options)  # type: ignore[arg-type]
            times = []
            for _ in range(15):
                distributed.barrier(group=group)
                begin = time.perf_counter()
                criterion(logits, labels).backward()
                times.append(time.perf_counter() - begin)
            found[name + more] = round(1000 * sorted(times)[7], 2)
    return found
