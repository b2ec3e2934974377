"""Images over processes: one that dies is replaced, and its image tried again by itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from lossfold.score.items import Item, Problem
from lossfold.score.rows import Row
from lossfold.score.settings import Settings
from lossfold.score.work import measure

START = "spawn"
TRIES = 3
"""Times that an image's process may die, two of them with the image by itself; and that the first process may, as it starts."""
REFUSED = (
    "the worker processes can't be started; a script that asks for workers calls score() under"
    ' `if __name__ == "__main__":`, as they import it'
)


def over_processes(items: Iterable[Item], settings: Settings, workers: int) -> Iterator[Row | Problem]:
    """Yield the row of each image, in the order in which they come.

    When a process dies, nobody knows whose image it was: all that were under way are tried again, one at a time.

    Raises:
        RuntimeError: no process can be started.
    """
    waiting, suspects, deaths, started = deque(items), deque[Item](), Counter[str](), False
    refused = 0
    while waiting or suspects:
        alone = bool(suspects)
        queue, count = (suspects, 1) if alone else (waiting, workers)
        flying: dict[Future[Row | Problem], Item] = {}
        with _pool(count) as pool:
            if not started and not (started := _start(pool)):
                if (refused := refused + 1) == TRIES:
                    raise RuntimeError(REFUSED)
                continue
            broken = False
            while (queue or flying) and not broken:
                while queue and len(flying) < (1 if alone else 2 * count) and not broken:
                    try:
                        flying[pool.submit(measure, queue[0], settings)] = queue[0]
                        queue.popleft()
                    except BrokenProcessPool:
                        broken = True
                for future in wait(flying, return_when=FIRST_COMPLETED).done if flying else ():
                    if isinstance(future.exception(), BrokenProcessPool):
                        broken = True
                    else:
                        del flying[future]
                        yield future.result()
        for future, item in flying.items():  # of a pool that broke
            if future.exception() is None:
                yield future.result()
                continue
            deaths[item.name] += 1
            if deaths[item.name] < TRIES:
                suspects.append(item)
            else:
                yield Problem(item.name, f"killed its process {TRIES} times (out of memory?); fewer workers leave more to each")


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context(START), _prepare)


def _start(pool: ProcessPoolExecutor) -> bool:
    """Whether the first process of a pool can say hello."""
    try:
        return pool.submit(os.getpid).result() > 0
    except BrokenProcessPool:
        return False


def _prepare() -> None:
    """Compute with one thread, leave Ctrl-C to the parent, and end with it, however it ends."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)
