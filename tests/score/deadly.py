"""A measure that kills its process: once for some images, always for others."""

from __future__ import annotations

import os
import signal

from lossfold.score.items import Item, Problem
from lossfold.score.rows import Row
from lossfold.score.settings import Settings
from lossfold.score.work import measure as honest


def measure(item: Item, settings: Settings) -> Row | Problem:
    marker = item.predictions[0].with_suffix(".died")
    if item.name == "03" or (item.name == "01" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(item, settings)
