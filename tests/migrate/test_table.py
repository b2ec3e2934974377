"""The table: what it calls equal is equal, value and gradient; what differs does, by what the row says."""

from __future__ import annotations

import inspect
import math
import warnings

import pytest

import lossfold as lf
from lossfold.migrate import PEERS, Row, Way, find
from lossfold.registry import LOSSES
from tests.migrate import feeds

pytestmark = pytest.mark.filterwarnings("ignore")  # what others say about themselves
CASES = feeds.compared()


@pytest.mark.parametrize(("row", "way"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_row_says_what_is(row: Row, way: Way) -> None:
    """Random logits and labels, an empty class, ignored labels and weights where the row has them."""
    pytest.importorskip(
        {"smp": "segmentation_models_pytorch", "toolbelt": "pytorch_toolbelt"}.get(peer := row.name.partition(".")[0], peer)
    )
    theirs, slope = feeds.run(way.theirs, feeds.namespace(peer), row, way, ours=False)
    ours, own = feeds.run(way.ours, feeds.OURS, row, way, ours=True)
    off = feeds.apart(theirs, ours)
    steep = 0.0 if slope is None or own is None else feeds.apart(slope, own)
    if not way.differs:
        single = row.name in feeds.FLOATS | feeds.SINGLE
        assert off < (1e-5 if single else 1e-7) and steep < (5e-5 if single else 1e-6)
        assert peer == "torchmetrics" or (slope is None) == (own is None)  # metrics have no gradient here
        return
    assert not (off < 1e-5 and steep < 1e-5), "they do not differ"
    if way.by is None:
        assert math.isnan(off) or math.isnan(steep), f"by={off:.2g}"
    else:
        assert off == pytest.approx(way.by, rel=0.06)


KINDS = {
    "torch": lambda name, thing: inspect.isclass(thing) and name.endswith("Loss"),
    "torchvision": lambda name, thing: inspect.isfunction(thing) and name.endswith("_loss"),
    "torchmetrics": lambda name, thing: inspect.isclass(thing),
}


@pytest.mark.parametrize("peer", ["torch", "torchvision", "monai", "smp", "kornia", "toolbelt", "torchmetrics"])
def test_every_class_has_a_row(peer: str) -> None:
    known = {row.name.partition(".")[2] for row in PEERS[peer].rows}
    assert len(known) == len(PEERS[peer].rows)
    modules = PEERS[peer].modules[:2] if peer == "torchmetrics" else PEERS[peer].modules[:1]
    there: set[str] = set()
    for module in modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = vars(pytest.importorskip(module))
        usual = lambda name, thing: inspect.isclass(thing) and name.endswith(("Loss", "Dice"))  # noqa: E731
        there |= {thing.__name__ for name, thing in names.items() if name[0] != "_" and KINDS.get(peer, usual)(name, thing)}
    assert there - known == set()


def test_what_a_row_leads_to_exists() -> None:
    metrics = {"iou", "dice", "psnr", "ssim"}
    for peer in PEERS.values():
        for row in peer.rows:
            assert row.reason or row.ways
            for name in row.ours:
                assert name in LOSSES or name in metrics, f"{row.name}: {name}"


def test_names() -> None:
    """Short names, full paths, and the names of classes that several have."""
    row = find("monai.DiceCELoss")
    assert row.ours == ("LossSet", "CEDiceLoss") and find("monai.losses.DiceCELoss") is row and find("DiceCELoss") is row
    assert find("torch.nn.NLLLoss").ours == ("CrossEntropyLoss",)
    assert find("segmentation_models_pytorch.losses.LovaszLoss").name == "smp.LovaszLoss"
    assert find("mmdet.DiceLoss").name == "mmdet.DiceLoss"
    with pytest.raises(lf.LossError, match=r"with the library's name before it, got 'DiceLoss' \(monai\.DiceLoss, smp\.DiceLoss"):
        find("DiceLoss")
    with pytest.raises(lf.LossError, match=r"did you mean 'monai.DiceLoss'"):
        find("monai.DiceLos")
