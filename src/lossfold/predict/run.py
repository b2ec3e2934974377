"""Images of folders into files: read ahead, predicted, written, and skipped where they have been."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lossfold.files.errors import FileError
from lossfold.predict.folders import results_of
from lossfold.predict.journal import Journal, named, stamps
from lossfold.predict.pictures import Picture
from lossfold.predict.predictor import Predictor
from lossfold.predict.sampler import Sampler
from lossfold.predict.sheet import Thumbnail
from lossfold.predict.writing import LARGE, Numbers, Results
from lossfold.train.errors import TrainError

MANY = 0.01
"""Share of an image's values beyond which it is told that its file can't hold them."""


@dataclass
class Done:
    """How a call went.

    Args:
        made: keys of the images that it has predicted.
        skipped: keys of those that had been.
        failed: what could not be predicted, and why.
        doubts: what is wrong with files that have been written.
    """

    made: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)


def predict_images(
    predictor: Predictor,
    images: dict[str, Path],
    trimaps: dict[str, Path],
    journal: Journal,
    workers: int,
    probabilities: bool,
    overwrite: bool,
    tell: Callable[[str, float], None],
) -> Done:
    """Predict images into a folder.

    Args:
        predictor: what predicts.
        images: files by key.
        trimaps: their trimaps' files by key.
        journal: of the folder.
        workers: threads that read ahead; 0: none.
        probabilities: whether `probabilities/KEY.npy` is written, too.
        overwrite: whether results that are there are made again.
        tell: is told of the image at work, and what share of it is done.
    """
    done, waiting = Done(), list[str]()
    seen = {key: stamps(path, trimaps.get(key)) for key, path in images.items()}
    if not overwrite:
        journal.check(images, seen)
    for key in images:
        there = not overwrite and journal.has(key, seen[key], f"probabilities/{key}.npy" if probabilities else "")
        (done.skipped if there else waiting).append(key)

    def read(key: str) -> Picture:
        picture = predictor.see(images[key], trimaps.get(key))
        return picture if picture.height * picture.width > LARGE else picture.in_memory()

    for key, future in _ahead(read, waiting, workers):
        started = time.perf_counter()
        tell(key, 0)
        try:
            picture = future.result()
            files, found = _predict(predictor, picture, key, journal.output, probabilities, tell)
        except (FileError, TrainError) as error:
            done.failed[key] = str(error)
        else:
            seconds = round(time.perf_counter() - started, 2)
            size = {"width": picture.width, "height": picture.height}
            journal.add(key, files, seen[key], file=named(images[key]), **size, seconds=seconds, **found)
            done.made.append(key)
            if (lost := found.get("lost", 0)) > MANY:
                done.doubts[key] = f"{100 * lost:.1f} % of the {predictor.task.doubt}"
        tell(key, 1)
    return done


def _ahead(read: Callable[[str], Picture], keys: list[str], workers: int) -> Iterator[tuple[str, "Future[Picture]"]]:
    """Read in threads, so many images ahead; decoders let other threads run."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[tuple[str, Future[Picture]]] = deque()
        try:
            for key in keys:
                waiting.append((key, pool.submit(read, key)))
                if len(waiting) > workers:
                    yield waiting.popleft()
            yield from waiting
        finally:
            for _, future in waiting:
                future.cancel()


def _predict(
    predictor: Predictor, picture: Picture, key: str, output: Path, probabilities: bool, tell: Callable[[str, float], None]
) -> tuple[list[Path], dict[str, Any]]:
    """Predict one image into its files; return these, and what the log says of it."""
    task, top = predictor.task, int(picture.top) if picture.top > 1 else 65535
    height, width = task.scale * picture.height, task.scale * picture.width
    thumbnail = Thumbnail(task, picture, top)
    counts, lost = np.zeros(len(predictor.class_names), np.int64), 0
    files: list[Results | Numbers] = []
    try:
        for row, column, values in predictor.blocks(thumbnail.watch(picture)):
            parts = task.decide(values, top).numpy()
            if not files:
                colours = predictor.colours if task.name == "multiclass" else ()
                files.append(Results(results_of(output, task.parts, key), height, width, parts.dtype, parts.shape[3:], colours))
                if probabilities:
                    files.append(Numbers(output / "probabilities" / f"{key}.npy", (len(values), height, width)))
            for each, given in zip(files, (parts, values.numpy()), strict=False):
                each.put(row, column, given)
            thumbnail.put(row, column, parts)
            lost += task.lost(values)
            if task.name == "multiclass":
                counts += np.bincount(parts.ravel(), minlength=len(counts))
            elif len(counts):
                counts += (parts > 0).sum((1, 2))
            tell(key, min(0.999, (row + parts.shape[1] * (column + parts.shape[2]) / width) / height))
        thumbnail.save(output / "sheet" / f"{key}.jpg")
        for each in reversed(files):
            each.keep()
    finally:
        picture.close()
        for each in files:
            each.leave()
    shares = counts / (height * width)
    written = [path for each in files for path in each.paths]
    facts: dict[str, Any] = {"lost": lost / (height * width)} if lost else {}
    if len(counts):
        facts["shares"] = dict(zip(predictor.class_names, shares.round(5).tolist(), strict=True))
    return written, facts


def predict_samples(
    sampler: Sampler, journal: Journal, count: int, seed: int, overwrite: bool, tell: Callable[[str, float], None]
) -> Done:
    """Make samples, each a file; see `predict_images`."""
    done = Done()
    for index in range(count):
        key = f"{index:06}"
        if not overwrite and journal.has(key, []):
            done.skipped.append(key)
        else:
            array = sampler(1, seed, index)[0]
            array = array[..., 0] if array.shape[2] == 1 else array
            results = Results(results_of(journal.output, ("",), key), array.shape[0], array.shape[1], array.dtype, array.shape[2:])
            results.put(0, 0, array[None])
            results.keep()
            journal.add(key, results.paths, [])
            done.made.append(key)
        tell(key, 1)
    return done
