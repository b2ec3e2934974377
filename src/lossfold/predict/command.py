"""`lossfold predict RUN IMAGES ...`: options first, and heavy imports when they make sense."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossfold.train import missing

if TYPE_CHECKING:
    from lossfold.predict.journal import Journal
    from lossfold.predict.predictor import Predictor
    from lossfold.predict.run import Done
    from lossfold.predict.sampler import Sampler

DESCRIPTION = """Predict images with what `lossfold train` has trained: class maps with a palette, masks of 0 and 255 for each
channel, alphas, restored images, at the images' own sizes; of a GAN samples. Images larger than a tile are seen in windows that
overlap, in the memory of a window. A call that was stopped goes on where it was when it is run again."""

LAYOUT = """Into the output folder go predictions/ (PNG; TIFF where an image is large), probabilities/ (.npy), index.html with a
small picture of each, log.jsonl. The exit status is 1 where an image could not be read, 2 where the options make no sense."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="lossfold predict", description=DESCRIPTION, epilog=LAYOUT)
    options.add_argument("run", help="a run's folder (runs/segmentation) or a checkpoint, of which you know where it comes from")
    options.add_argument("images", nargs="*", help="files and folders, with their sub-folders; none for a GAN or with --export")
    options.add_argument("-o", "--output", default="", help="where to; predictions/ in the run's folder by default")
    options.add_argument("--checkpoint", choices=("best", "last"), help="which of a run; best where there is one")
    options.add_argument("--trimaps", metavar="DIR", default="", help="matting: the images' trimaps, of the same names")
    options.add_argument("--probabilities", action="store_true", help="write probabilities/NAME.npy [K,H,W] float32, too")
    options.add_argument(
        "--tile",
        type=int,
        default=1024,
        help="largest window in pixels, a multiple of what the network takes, most often 32 (1024)",
    )
    options.add_argument("--overlap", type=int, default=128, help="least overlap of windows in pixels (128)")
    text = "reduce larger images to this longer side for the network; as in training by default, 0 for never"
    options.add_argument("--max-side", type=int, help=text)
    options.add_argument("--workers", type=int, default=2, help="images that are read ahead, each by a thread (2)")
    options.add_argument("--device", help="cpu, cuda, cuda:1; a GPU by default where there is one")
    options.add_argument("--overwrite", action="store_true", help="make again what is there")
    options.add_argument("--count", type=int, default=64, help="GAN: how many samples (64)")
    options.add_argument("--seed", type=int, default=0, help="GAN: decides the samples (0)")
    text = "write the network with what is done before and after it by torch.export; predict nothing if no image is named"
    options.add_argument("--export", metavar="FILE.pt2", default="", help=text)
    return options


def main(argv: list[str]) -> int:
    """Carry the command out and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    options = parser()
    try:
        given = options.parse_intermixed_args(argv)
        if given.workers < 0 or given.count < 1:
            options.error("--workers must be at least 0 and --count at least 1")
        if not Path(given.run).exists():
            options.error(f"there is no run or checkpoint {given.run}")
    except SystemExit as end:
        return int(end.code or 0)
    if lacking := missing("predict"):
        print(lacking, file=sys.stderr)
        return 1
    from lossfold.errors import LossError
    from lossfold.files.errors import FileError
    from lossfold.train.errors import TrainError

    try:
        return _carry_out(given)
    except (TrainError, FileError, LossError) as error:
        print(readable(f"lossfold predict: {error}"), file=sys.stderr)
        return 1
    except OSError as error:  # a full disk, a folder that can't be written
        print(readable(f"lossfold predict: {error}") + "; what is whole has been kept, run it again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to go on where it was", file=sys.stderr)
        return 130


def _carry_out(given: argparse.Namespace) -> int:
    from lossfold.predict.load import load_run
    from lossfold.predict.sampler import Sampler
    from lossfold.train.errors import TrainError

    started = time.perf_counter()
    predictor = load_run(given.run, given.checkpoint, given.device, given.tile, given.overlap, given.max_side)
    if given.export:
        from lossfold.predict.export import export

        print(export(predictor, Path(given.export)))
    samples = isinstance(predictor, Sampler)
    if given.export and not given.images:
        return 0
    if samples == bool(given.images):
        raise TrainError("a GAN makes images from nothing: name none" if samples else "name images to predict, files or folders")
    run = Path(given.run)
    output = Path(given.output) if given.output else (run if run.is_dir() else Path()) / "predictions"
    if isinstance(predictor, Sampler):
        return _samples(predictor, given, output, started)
    return _images(predictor, given, output, started)


def _images(predictor: "Predictor", given: argparse.Namespace, output: Path, started: float) -> int:
    from lossfold.predict.folders import images_in, trimaps_of
    from lossfold.predict.journal import Journal, Settings
    from lossfold.predict.run import predict_images
    from lossfold.predict.sheet import write_images_sheet

    images, passed = images_in(given.images, output)
    if passed:
        print(readable(f"lossfold predict: {passed} result(s) of {output} were passed over among the images"), file=sys.stderr)
    trimaps = trimaps_of(images, given.trimaps) if predictor.task.takes_trimap else {}
    options: dict[str, Any] = {"tile": predictor.tile, "overlap": predictor.overlap, "max_side": predictor.max_side}
    if trimaps:
        options["trimaps"] = str(Path(given.trimaps).resolve())
    with Journal(output, Settings.of(predictor.name, predictor.source, **options), given.overwrite) as journal:
        with _progress(len(images)) as tell:
            done = predict_images(predictor, images, trimaps, journal, given.workers, given.probabilities, given.overwrite, tell)
        write_images_sheet(journal, predictor, images, done)
        return _said(done, journal, started)


def _samples(sampler: "Sampler", given: argparse.Namespace, output: Path, started: float) -> int:
    from lossfold.predict.journal import Journal, Settings
    from lossfold.predict.run import predict_samples
    from lossfold.predict.sheet import write_samples_sheet

    with Journal(output, Settings.of(sampler.name, sampler.source, seed=given.seed), given.overwrite) as journal:
        with _progress(given.count) as tell:
            done = predict_samples(sampler, journal, given.count, given.seed, given.overwrite, tell)
        write_samples_sheet(output, sampler, given.count)
        return _said(done, journal, started)


def readable(text: str) -> str:
    """A text with names of files that are no UTF-8, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _progress(count: int) -> Any:
    from lossfold.predict.progress import progress

    return progress(count)


def _said(done: "Done", journal: "Journal", started: float) -> int:
    for key, reason in done.failed.items():
        print(readable(f"lossfold predict: {key}: {reason}"), file=sys.stderr)
    for key, doubt in done.doubts.items():
        print(readable(f"lossfold predict: {key}: {doubt}"), file=sys.stderr)
    if others := journal.others():
        text = "still have results of another checkpoint or other options; name them, too, to replace these"
        print(f"lossfold predict: {others} image(s) {text}", file=sys.stderr)
    seconds = time.perf_counter() - started
    skipped = f", {len(done.skipped)} were there" if done.skipped else ""
    failed = f", {len(done.failed)} could not be" if done.failed else ""
    print(
        f"{len(done.made)} predicted{skipped}{failed}, in {seconds:.0f} s. Look at {readable(str(journal.output / 'index.html'))}"
    )
    return 1 if done.failed else 0
