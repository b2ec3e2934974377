"""The table: one module for each library, one row for each of its classes."""

from __future__ import annotations

from lossfold.errors import LossError, nearest
from lossfold.migrate.rows import Peer, Row
from lossfold.migrate.table.basicsr import BASICSR
from lossfold.migrate.table.kornia import KORNIA
from lossfold.migrate.table.lovasz_softmax import LOVASZ_SOFTMAX
from lossfold.migrate.table.mmagic import MMAGIC
from lossfold.migrate.table.mmdet import MMDET
from lossfold.migrate.table.mmseg import MMSEG
from lossfold.migrate.table.monai import MONAI
from lossfold.migrate.table.smp import SMP
from lossfold.migrate.table.toolbelt import TOOLBELT
from lossfold.migrate.table.torch import TORCH
from lossfold.migrate.table.torchmetrics import TORCHMETRICS
from lossfold.migrate.table.torchvision import TORCHVISION
from lossfold.migrate.table.vitmatte import VITMATTE

PEERS: dict[str, Peer] = {
    one.name: one
    for one in (
        TORCH,
        TORCHVISION,
        MONAI,
        SMP,
        KORNIA,
        MMSEG,
        MMDET,
        MMAGIC,
        BASICSR,
        TOOLBELT,
        LOVASZ_SOFTMAX,
        VITMATTE,
        TORCHMETRICS,
    )
}
"""The libraries by their short names."""


def rows_named(name: str) -> list[Row]:
    """Return the rows of a class: of one library for ``"monai.DiceLoss"`` or its full path, of all for ``"DiceLoss"``."""
    path, _, cls = name.rpartition(".")
    if path in ("segmentation_models_pytorch", "pytorch_toolbelt"):
        path += ".losses"
    found = []
    for one in PEERS.values():
        named = not path or path == one.name or any(place == path or place.startswith(path + ".") for place in one.modules)
        named = named or any(path.startswith(place + ".") for place in one.modules)
        found += [row for row in one.rows if named and row.name == f"{one.name}.{cls}"]
    return found


def find(name: str) -> Row:
    """Return the row of a class by the library's short name or full path and its own: ``"monai.DiceCELoss"``.

    Raises:
        LossError: there is none, or it is the name of a class of several libraries.
    """
    rows = rows_named(name) if isinstance(name, str) else []
    if len(rows) == 1:
        return rows[0]
    who = "lossfold.migrate.find"
    if rows:
        raise LossError(who, "name", "with the library's name before it", repr(name), ", ".join(row.name for row in rows))
    known = [row.name for one in PEERS.values() for row in one.rows]
    hint = nearest(name, known, f"libraries: {', '.join(PEERS)}")
    raise LossError(who, "name", "a library and a class of it, monai.DiceLoss", repr(name), hint)
