"""Images over a cluster, by Ray: its tasks, its retries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from lossfold.score.items import Item, Problem
from lossfold.score.rows import Row
from lossfold.score.settings import Settings
from lossfold.score.work import measure

RETRIES = 2


def over_ray(items: Iterable[Item], settings: Settings, address: str, workers: int) -> Iterator[Row | Problem]:
    """Yield the row of each image, in the order in which they come.

    Args:
        items: the images; their folders, and lossfold, are on every machine.
        settings: how they are scored.
        address: of the cluster, `host:6379`, `ray://host:10001` or `auto`; `local` starts one here.
        workers: images at once on a cluster that is started here.

    Raises:
        ConnectionError: there is no cluster.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        cpus = max(1, workers) if address == "local" else None
        try:
            ray.init(address=address, num_cpus=cpus, log_to_driver=False, logging_level=logging.ERROR)
        except (ValueError, RuntimeError, ConnectionError) as error:
            raise ConnectionError(f"there is no Ray cluster at {address!r}: {error}") from error
    try:
        cpus = int(ray.cluster_resources().get("CPU", 1))
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(measure)
        waiting = (_everywhere(item) for item in items)
        flying: dict[Any, Item] = {}
        while True:
            room = 2 * cpus - len(flying)
            flying |= {task.remote(item, settings): item for item in islice(waiting, max(0, room))}
            if not flying:
                return
            for done in ray.wait(list(flying), num_returns=1)[0]:
                item = flying.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:
                    said = str(error).strip().splitlines() or [""]
                    yield Problem(item.name, f"was lost {RETRIES + 1} times: {type(error).__name__}: {said[0]}")
    finally:
        if started:
            ray.shutdown()


def _everywhere(item: Item) -> Item:
    """The item by absolute paths: workers stand in folders of their own."""
    predictions, truths = (tuple(path.absolute() for path in paths) for paths in (item.predictions, item.truths))
    return replace(item, predictions=predictions, truths=truths, trimap=item.trimap and item.trimap.absolute())
