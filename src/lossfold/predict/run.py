"""Images of folders into files: read ahead, predicted, written, and skipped where they have been."""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lossfold.files.errors import FileError
from lossfold.predict.folders import results_of
from lossfold.predict.pictures import Picture
from lossfold.predict.predictor import Predictor
from lossfold.predict.sampler import Sampler
from lossfold.predict.sheet import Log, Thumbnail
from lossfold.predict.writing import LARGE, Numbers, Results, exists, write_text
from lossfold.train.errors import TrainError


@dataclass(frozen=True)
class Settings:
    """What decides a result: a folder holds those of one checkpoint and one way to use it."""

    task: str
    checkpoint: str
    digest: str
    options: dict[str, Any]

    @classmethod
    def of(cls, task: str, source: Path, **options: Any) -> "Settings":
        """See what a checkpoint's file holds."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
        return cls(task, str(source), digest.hexdigest(), options)

    def claim(self, output: Path, overwrite: bool) -> None:
        """See that a folder's earlier results, if they are to be kept, are of the same checkpoint and options.

        Raises:
            TrainError: they are not.
        """
        path = output / "predict.json"
        if path.is_file() and not overwrite:
            earlier = json.loads(path.read_text("utf-8"))
            if (earlier["digest"], earlier["options"]) != (self.digest, self.options):
                raise TrainError(
                    f"{output} holds results of {earlier['checkpoint']} with {earlier['options']}, or of an earlier state of that "
                    "file; name another folder with --output, or replace them with --overwrite"
                )
        output.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")


@dataclass
class Done:
    """How a call went.

    Args:
        made: keys of the images that it has predicted.
        skipped: keys of those that had been.
        failed: what could not be predicted, and why.
    """

    made: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def predict_images(
    predictor: Predictor,
    images: dict[str, Path],
    trimaps: dict[str, Path],
    output: Path,
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
        output: the folder.
        workers: threads that read ahead; 0: none.
        probabilities: whether `probabilities/KEY.npy` is written, too.
        overwrite: whether results that are there are made again.
        tell: is told of the image at work, and what share of it is done.
    """
    done, log = Done(), Log(output / "log.jsonl")
    for key in images:
        there = all(map(exists, results_of(output, predictor.task.parts, key)))
        there = there and (not probabilities or (output / "probabilities" / f"{key}.npy").exists())
        (done.skipped if there and not overwrite else done.made).append(key)
    waiting, done.made = done.made, []

    def read(key: str) -> Picture:
        picture = predictor.see(images[key], trimaps.get(key))
        return picture if picture.height * picture.width > LARGE else picture.in_memory()

    for key, future in _ahead(read, waiting, workers):
        started = time.perf_counter()
        tell(key, 0)
        try:
            picture = future.result()
            found = _predict(predictor, picture, key, output, probabilities, tell)
        except (FileError, TrainError) as error:
            done.failed[key] = str(error)
        else:
            seconds = round(time.perf_counter() - started, 2)
            log.add(key=key, file=str(images[key]), width=picture.width, height=picture.height, seconds=seconds, **found)
            done.made.append(key)
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
) -> dict[str, Any]:
    """Predict one image into its files; return what the log says of it."""
    task, top = predictor.task, int(picture.top) if picture.top > 1 else 65535
    height, width = task.scale * picture.height, task.scale * picture.width
    thumbnail = Thumbnail(task, picture, top)
    counts = np.zeros(len(predictor.class_names), np.int64)
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
    return {"shares": dict(zip(predictor.class_names, shares.round(5).tolist(), strict=True))} if len(counts) else {}


def predict_samples(
    sampler: Sampler, output: Path, count: int, seed: int, overwrite: bool, tell: Callable[[str, float], None]
) -> Done:
    """Make samples, each a file; see `predict_images`."""
    done = Done()
    for index in range(count):
        key = f"{index:06}"
        (path,) = results_of(output, ("",), key)
        if exists(path) and not overwrite:
            done.skipped.append(key)
        else:
            array = sampler(1, seed, index)[0]
            array = array[..., 0] if array.shape[2] == 1 else array
            results = Results([path], array.shape[0], array.shape[1], array.dtype, array.shape[2:])
            results.put(0, 0, array[None])
            results.keep()
            done.made.append(key)
        tell(key, 1)
    return done
