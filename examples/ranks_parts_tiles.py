"""The mistake that means of means make, in numbers: one batch of photographs on two ranks, and in two micro-batches.

python examples/ranks_parts_tiles.py
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import lossfold as lf

RANKS = 2
ANNOTATED = (1.0, 0.9, 0.1, 0.0)  # which share of an image's rows somebody has labelled


def batch() -> tuple[Tensor, Tensor]:
    """Four composed photographs [4,3,H,W] and labels [4,H,W]; 255 where nobody has labelled."""
    from lossfold.train.data.collage import Collages  # which ranks need not import
    from lossfold.train.data.sources import load_sources

    samples = Collages(load_sources(held_out=True), size=96, count=4, seed=1)
    images, labels = (torch.stack(one) for one in zip(*(samples[key] for key in range(4)), strict=True))
    for label, share in zip(labels, ANNOTATED, strict=True):
        label[round(share * len(label)) :] = 255
    return images / 255, labels


def network() -> nn.Module:
    """Return a small network without batch norm, whose statistics no loss could mend."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 6, 1)
    return nn.Sequential(*layers)


def terms() -> dict[str, nn.Module]:
    """Return a mean over pixels, a formula over classes, and the hardest pixels."""
    hard = lf.OhemCrossEntropyLoss(thresh=0.1, min_kept=2000, ignore_index=255)
    return {"ce": lf.CrossEntropyLoss(ignore_index=255), "dice": lf.DiceLoss(ignore_index=255), "ohem": hard}


def gradient(model: nn.Module) -> Tensor:
    """Return the gradient of all parameters in one piece."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


Found = tuple[dict[str, Tensor], Tensor]


def in_one_process(images: Tensor, labels: Tensor) -> Found:
    """Losses and gradient of the whole batch."""
    model = network()
    out = lf.LossSet(terms())(model(images), labels)
    out.backward()
    return out.terms, gradient(model)


def as_usual(images: Tensor, labels: Tensor) -> Found:
    """Gradient accumulation as it is usually written: each micro-batch's loss, divided by their number."""
    model, criterion, sums = network(), lf.LossSet(terms()), dict.fromkeys(terms(), torch.zeros(()))
    for image, label in zip(images.chunk(2), labels.chunk(2), strict=True):
        out = criterion(model(image), label)
        (out.total / 2).backward()
        sums = {name: sums[name] + value / 2 for name, value in out.terms.items()}
    return sums, gradient(model)


def accumulated(images: Tensor, labels: Tensor) -> Found:
    """The same micro-batches, exactly."""
    model, parts = network(), list(zip(images.chunk(2), labels.chunk(2), strict=True))
    whole = lf.LossSet(terms()).accumulate()
    for image, label in parts:
        with torch.no_grad():
            whole.add(model(image), label)
    for image, label in parts:
        whole.backward(model(image), label)
    return whole.output.terms, gradient(model)


def on_a_rank(rank: int, folder: str, images: Tensor, labels: Tensor) -> None:
    """Two images on each rank: DDP as usual, with sync, and with sync and micro-batches of one image."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    images, labels = images.chunk(RANKS)[rank], labels.chunk(RANKS)[rank]
    found = {}
    for name, sync in (("DDP as usual", False), ("DDP, sync=True", True)):
        model = DistributedDataParallel(network())
        criterion = lf.LossSet(terms(), sync=sync)
        out = criterion(model(images), labels)
        out.backward()
        values = torch.stack(list(out.terms.values()))
        distributed.all_reduce(values)  # what loggers show: the mean of the ranks' losses
        found[name] = dict(zip(out.terms, values / RANKS, strict=True)), gradient(model)
    model = DistributedDataParallel(network())
    whole = lf.LossSet(terms(), sync=True).accumulate()
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        with torch.no_grad():
            whole.add(model(image), label)
    for number, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
        model.require_backward_grad_sync = number == len(images) - 1  # DDP's no_sync(), but for the last
        whole.backward(model(image), label)
    found["both: sync, micro-batches"] = whole.output.terms, gradient(model)
    if rank == 0:
        torch.save(found, Path(folder, "found.pt"))
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    """Print losses, and how far gradients are from the gradient of the whole batch."""
    whole = batch()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(on_a_rank, (folder, *whole), nprocs=RANKS)
        ranks = torch.load(Path(folder, "found.pt"))
    truth = in_one_process(*whole)
    rows = {"one process": truth, "micro-batches as usual": as_usual(*whole), "accumulate()": accumulated(*whole), **ranks}
    print(f"{'':26}" + "".join(f"{name:>9}" for name in truth[0]) + "   gradient off by")
    for name, (values, slope) in rows.items():
        off = (slope - truth[1]).norm() / truth[1].norm()
        print(f"{name:26}" + "".join(f"{float(value):9.4f}" for value in values.values()) + f"{100 * float(off):14.4f} %")


if __name__ == "__main__":
    main()
