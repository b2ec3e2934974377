"""`score`: find the files, leave out what the journal holds, measure the rest, put everything together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lossfold.errors import is_number, python_scalar
from lossfold.metrics.boundaries import TOLERANCE, WIDTH
from lossfold.score.cluster import over_ray
from lossfold.score.items import Folders, Item, Problem, find_items
from lossfold.score.processes import over_processes
from lossfold.score.rows import Journal, Row, collected
from lossfold.score.scores import Scores
from lossfold.score.settings import Settings, class_names, color_table, refuse
from lossfold.score.work import measure

JOURNAL = "rows.jsonl"


def score(
    predictions: str | Path,
    truth: str | Path,
    task: str = "segmentation",
    *,
    trimaps: str | Path | None = None,
    images: str | Path | None = None,
    out: str | Path | None = None,
    classes: int | Sequence[str] | None = None,
    ignore: int | None = None,
    metrics: Sequence[str] = (),
    truth_pattern: str | None = None,
    colors: Mapping[str, int] | None = None,
    threshold: float | None = None,
    empty: float | str = "skip",
    tolerance: float = TOLERANCE,
    width: float = WIDTH,
    keep_trimap: bool = True,
    normalize: bool = True,
    levels: str = "exact",
    whole: float = 25.0,
    data_range: float | None = None,
    crop_border: int = 0,
    to_y: bool = False,
    unit: float = 1.0,
    prediction_unit: float | None = None,
    least: float = 1e-3,
    most: float | None = None,
    scale_shift: str = "none",
    replicates: int = 1000,
    confidence: float = 95.0,
    seed: int = 0,
    workers: int = 1,
    ray: str | None = None,
    tile: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    worst: int = 8,
    progress: bool = False,
) -> Scores:
    """Score predictions against the truth, file by file.

    Files are put together by their path inside their folder, without the suffix; what has no partner, can't be read or does not
    fit is in ``problems`` of what comes back, and nothing else is counted for it. Images are seen in parts, so that memory does
    not grow with them where the format can be read in parts (.npy, TIFF in tiles or strips); all others are decoded once, and
    copied to the disk if they are large. The size of parts, the number of workers and the order change no digit.

    Args:
        predictions, truth: folders, with their sub-folders, or two files. Of the task multilabel, folders with one of each class.
        task: ``"segmentation"`` (class maps), ``"binary"`` and ``"multilabel"`` (masks of 0 and one other value), ``"matting"``
            (alphas), ``"restoration"`` (images) or ``"depth"`` (depth maps).
        trimaps: matting: folder of trimaps of 0, 128 and 255; errors are those of the unknown. None: of the whole image.
        images: folder of what was predicted from, to be shown.
        out: folder of the journal, by which a call that was killed goes on, and of ``scores.json``, ``summary.csv``,
            ``images.csv`` and ``report.html``. None: nothing is written.
        classes: names, or their number; labels beyond are a problem of their file. None: the labels that occur.
        ignore: label of the truth that does not count.
        metrics: some of the task's: ``iou``, ``dice``, ``accuracy``, ``boundary_iou``, ``boundary_f1``; ``sad``, ``mse``,
            ``grad``, ``conn``; ``psnr``, ``ssim``; ``abs_rel``, ``sq_rel``, ``rmse``, ``rmse_log``, ``silog``, ``delta1``,
            ``delta2``, ``delta3``. All by default.
        truth_pattern: how the truth's names look, ``{name}_mask``; by default the first of some usual ones that fits.
        colors: segmentation: the label of each colour, ``{"#804080": 0}``, in both folders.
        threshold: binary and multilabel: predictions are grey values, foreground above this share of white.
        empty: value, 0 to 1, of a class that is neither there nor predicted; ``"skip"`` leaves it out of means.
        tolerance: of the boundary F1, in pixels; below 1 a share of the image's diagonal.
        width: of the Boundary IoU, in pixels; below 1 a share of the image's diagonal.
        keep_trimap: predictions are set to 0 and 1 where the trimap is known, as published figures are made; Grad and Conn see it.
        normalize, levels: as for :func:`lossfold.metrics.matting_grad` and :func:`lossfold.metrics.matting_conn`.
        whole: megapixels up to which Conn is computed, as it needs the whole image at once; above it has no value.
        data_range: of restored images, between white and black; by default 255, 65535 or 1, by the files' depth.
        crop_border, to_y: as for :func:`lossfold.metrics.psnr`.
        unit: of depth maps, what a value of 1 in the files means: 0.001 for millimetres in 16 bits, to be scored in metres.
        prediction_unit: of the predictions; None: ``unit``.
        least, most: depths between which the truth counts; predictions beyond them count as they.
        scale_shift: how each prediction is brought to the truth's scale first: ``"none"``, ``"median"`` (times the ratio of the
            medians) or ``"least_squares"`` (the best factor and shift).
        replicates: resamples of the bootstrap over the images; 0: no intervals.
        confidence: of the intervals, in percent.
        seed: of the bootstrap.
        workers: processes; one: this process. They import the calling script, as ``multiprocessing`` does.
        ray: address of a Ray cluster that does the work instead; ``"local"`` starts one here, with so many workers.
        tile: rows and columns of a part.
        resume: whether what the journal of ``out`` holds is taken from there, where settings and files are the same.
        overwrite: whether what ``out`` holds of other options or files may be replaced.
        worst: images that the page shows.
        progress: whether a bar is drawn.

    Returns:
        Scores: ``summary``, ``images``, ``problems``; scores of other images add.

    Raises:
        LossError: an option makes no sense.
        FileError: a folder is missing, or nothing fits together.
        FileExistsError: another call writes to the same folder, or it holds scores of other options or files.

    Example:
        >>> scores = score("runs/m/predictions", "data/masks", classes=["road", "sky"], ignore=255)  # doctest: +SKIP
        >>> scores.value("iou"), scores.value("iou", "road"), len(scores.problems)  # doctest: +SKIP
        (71.3, 84.1, 0)
    """
    settings = Settings(
        task=task,
        metrics=tuple(metrics),
        classes=class_names(classes),
        ignore=python_scalar(ignore),
        colors=color_table(colors),
        threshold=python_scalar(threshold),
        tolerance=python_scalar(tolerance),
        width=python_scalar(width),
        data_range=python_scalar(data_range),
        crop_border=python_scalar(crop_border),
        to_y=to_y,
        keep_trimap=keep_trimap,
        normalize=normalize,
        levels=levels,
        tile=python_scalar(tile),
        whole=python_scalar(whole),
        unit=python_scalar(unit),
        prediction_unit=python_scalar(prediction_unit),
        least=python_scalar(least),
        most=python_scalar(most),
        scale_shift=scale_shift,
    )
    check_rest(empty, replicates, confidence, seed, workers, worst)
    refuse("out", not out or not Path(out).exists() or Path(out).is_dir(), "a folder", str(out))
    refuse("trimaps", trimaps is None or task == "matting", "left out but for matting", trimaps)
    folders = Folders(
        Path(predictions), Path(truth), Path(trimaps) if trimaps else None, Path(images) if images else None, truth_pattern
    )
    items, problems = find_items(folders, settings)
    of = {
        "settings": settings.fingerprint,
        "predictions": str(folders.predictions.absolute()),
        "truth": str(folders.truth.absolute()),
    }
    journal = Journal(Path(out) / JOURNAL, of, resume, overwrite) if out else None
    results = list(_measured(items, settings, journal, workers, ray, progress))
    rows, failed = collected([*results, *problems])
    scores = Scores(settings, tuple(rows), tuple(failed), empty, replicates, confidence, seed)
    if out:
        from lossfold.score.write import write

        write(scores, Path(out), folders, items, worst)
    return scores


def _measured(
    items: Sequence[Item], settings: Settings, journal: Journal | None, workers: int, ray: str | None, progress: bool
) -> Iterator[Row | Problem]:
    """Yield each image's row once: from the journal, or measured and written to it."""
    try:
        kept = {item.name: row for item in items if journal and (row := journal.kept(item))}
        yield from kept.values()
        left = [item for item in items if item.name not in kept]
        with _bar(len(items), len(kept), progress) as advance:
            for result in _work(left, settings, workers, ray):
                if journal and isinstance(result, Row):
                    journal.add(result)
                advance()
                yield result
    finally:
        if journal:
            journal.close()


def _work(items: Sequence[Item], settings: Settings, workers: int, ray: str | None) -> Iterable[Row | Problem]:
    if not items:
        return ()
    if ray:
        return over_ray(items, settings, ray, workers)
    if workers > 1:
        return over_processes(items, settings, min(workers, len(items)))
    return (measure(item, settings) for item in items)


class _bar:  # noqa: N801 - reads as a verb
    """A bar of the images that are done, or nothing."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self.total, self.done, self.bar = total, done, None
        if shown:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())

    def __enter__(self) -> Callable[[], None]:
        if self.bar is None:
            return lambda: None
        bar = self.bar
        bar.start()
        task = bar.add_task("", total=self.total, completed=self.done)
        return lambda: bar.advance(task)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def check_rest(empty: object, replicates: object, confidence: object, seed: object, workers: object, worst: object) -> None:
    """Refuse options that change no row."""
    refuse("empty", empty == "skip" or (is_number(empty) and 0 <= empty <= 1), "a number from 0 to 1, or 'skip'", empty)  # type: ignore[operator]
    refuse("confidence", is_number(confidence) and 0 < confidence < 100, "percent between 0 and 100", confidence)  # type: ignore[operator]
    for name, value, least in (("replicates", replicates, 0), ("seed", seed, 0), ("workers", workers, 1), ("worst", worst, 0)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        refuse(name, whole, f"an integer of at least {least}", value)
