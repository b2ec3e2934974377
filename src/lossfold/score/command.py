"""`lossfold score PREDICTIONS TRUTH`: options first, and heavy imports when they make sense."""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
import time
from typing import TYPE_CHECKING

from lossfold.errors import LossError

if TYPE_CHECKING:
    from lossfold.score.scores import Scores

REQUIRED = ("numpy", "PIL", "jinja2", "rich")

DESCRIPTION = """Score predictions against the truth, file by file: class maps, masks, alphas, restored images, depth maps, in two
folders whose files share their names. Prints a table with confidence intervals and writes scores.json, summary.csv, images.csv and
report.html. A call that was stopped goes on where it was when it is run again."""

STATUS = """The exit status is 0; 1 where files could not be read or have no partner, which are listed; 2 where the options make no
sense."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="lossfold score", description=DESCRIPTION, epilog=STATUS, allow_abbrev=False)
    options.add_argument("predictions", help="a folder (its sub-folders too), or a file; multilabel: with a folder of each class")
    options.add_argument("truth", help="the same of the truth")
    tasks = ("segmentation", "binary", "multilabel", "matting", "restoration", "depth")
    options.add_argument("--task", choices=tasks, default="segmentation", help="what the files are (segmentation: class maps)")
    options.add_argument("-o", "--out", default="scores", help="folder of what is written (scores)")
    options.add_argument(
        "--classes", nargs="+", metavar="NAME", help="the classes' names in the order of their labels, or their number"
    )
    options.add_argument("--ignore", type=int, metavar="LABEL", help="label of the truth that does not count, such as 255")
    options.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="some of the task's metrics; all by default")
    options.add_argument("--images", metavar="DIR", help="what was predicted from, to be shown on the page")
    options.add_argument("--truth-pattern", metavar="PATTERN", help="how the truth's names look up to the suffix, {name}_mask")

    labels = options.add_argument_group("class maps and masks")
    labels.add_argument("--colors", nargs="+", default=[], metavar="COLOR=LABEL", help="class maps in colours: 804080=0 ff0000=1")
    labels.add_argument("--threshold", type=float, help="predictions are grey: foreground is above this share of white")
    labels.add_argument("--empty", default="skip", help="value, 0 to 1, of a class neither there nor predicted; skip by default")
    text = "of the boundary F1, in pixels; below 1 a share of the image's diagonal (0.0075)"
    labels.add_argument("--tolerance", type=float, default=0.0075, help=text)
    text = "of the Boundary IoU's bands, in pixels; below 1 a share of the image's diagonal (0.02)"
    labels.add_argument("--width", type=float, default=0.02, help=text)

    mattes = options.add_argument_group("matting")
    mattes.add_argument("--trimaps", metavar="DIR", help="trimaps of 0, 128, 255; without, the whole image counts")
    text = "set predictions to 0 and 1 where the trimap is known, as published figures do (yes)"
    mattes.add_argument("--keep-trimap", action=argparse.BooleanOptionalAction, default=True, help=text)
    text = "Grad of alphas stretched to 0 and 1, as published figures are (yes)"
    mattes.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=True, help=text)
    mattes.add_argument(
        "--levels", choices=("exact", "published"), default="exact", help="of Conn; see lossfold.metrics.matting_conn"
    )
    mattes.add_argument("--whole", type=float, default=25.0, metavar="MEGAPIXELS", help="largest image for Conn (25)")

    images = options.add_argument_group("restoration")
    images.add_argument("--data-range", type=float, help="between white and black; by default 255, 65535 or 1, by the files' depth")
    images.add_argument("--crop-border", type=int, default=0, metavar="PIXELS", help="pixels at each edge that do not count (0)")
    images.add_argument("--to-y", action="store_true", help="compare the luma of colours")

    depths = options.add_argument_group("depth")
    text = "what a value of 1 means: 0.001 for millimetres to be scored in metres, 1/256 for KITTI's files (1)"
    depths.add_argument("--unit", type=fraction, default=1.0, help=text)
    depths.add_argument("--prediction-unit", type=fraction, metavar="UNIT", help="of the predictions, if it is another one")
    text = "nearest depth of the truth that counts, which nearer predictions count as (0.001)"
    depths.add_argument("--least", type=float, default=1e-3, metavar="DEPTH", help=text)
    depths.add_argument("--most", type=float, metavar="DEPTH", help="the farthest, such as 80 (none)")
    text = "bring each prediction to the truth's scale first: by the medians' ratio, or the best factor and shift (none)"
    depths.add_argument("--scale-shift", choices=("none", "median", "least_squares"), default="none", help=text)

    work = options.add_argument_group("work")
    work.add_argument("--workers", type=int, default=1, help="processes (1)")
    work.add_argument("--ray", metavar="ADDRESS", help="work on a Ray cluster: host:6379, auto; local starts one with --workers")
    work.add_argument("--tile", type=int, metavar="PIXELS", help="side of the parts that are looked at at once; changes no digit")
    work.add_argument("--fresh", action="store_true", help="score again what the output folder's journal holds")
    work.add_argument("--overwrite", action="store_true", help="replace scores of other options or files in the output folder")
    work.add_argument("--quiet", action="store_true", help="no bar and no table")

    more = options.add_argument_group("table and page")
    more.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="resamples for the intervals; 0 for none (1000)")
    more.add_argument("--confidence", type=float, default=95.0, help="of the intervals, in percent (95)")
    more.add_argument("--seed", type=int, default=0, help="of the resamples (0)")
    more.add_argument("--worst", type=int, default=8, metavar="N", help="images that the page shows (8)")
    return options


def fraction(text: str) -> float:
    """Return a number, or what 1/256 is."""
    above, _, below = text.partition("/")
    if below and float(below) == 0:
        raise ValueError(text)
    return float(above) / float(below) if below else float(above)


def main(argv: list[str]) -> int:
    """Carry the command out and return the exit status.

    Args:
        argv: the options, as on the command line.
    """
    options = parser()
    given = options.parse_args(argv)
    colors = {}
    for text in given.colors:
        color, _, label = text.partition("=")
        if not label.lstrip("-").isdigit():
            options.error(f"argument --colors: expected COLOR=LABEL, got {text!r}")
        colors[color] = int(label)
    if given.empty != "skip":
        try:
            given.empty = float(given.empty)
        except ValueError:
            options.error(f"argument --empty: expected a number or skip, got {given.empty!r}")
    classes = given.classes
    if classes and len(classes) == 1 and classes[0].isdigit():
        classes = int(classes[0])
    missing = [name for name in REQUIRED + ("ray",) * bool(given.ray) if importlib.util.find_spec(name) is None]
    if missing:
        extra = "score,ray" if given.ray else "score"
        print(f'lossfold score: not installed: {", ".join(missing)}; pip install "lossfold[{extra}]"', file=sys.stderr)
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    from lossfold.files import FileError
    from lossfold.score.run import score

    start = time.monotonic()
    try:
        scores = score(
            given.predictions,
            given.truth,
            given.task,
            trimaps=given.trimaps,
            images=given.images,
            out=given.out,
            classes=classes,
            ignore=given.ignore,
            metrics=given.metrics,
            truth_pattern=given.truth_pattern,
            colors=colors,
            threshold=given.threshold,
            empty=given.empty,
            tolerance=given.tolerance,
            width=given.width,
            keep_trimap=given.keep_trimap,
            normalize=given.normalize,
            levels=given.levels,
            whole=given.whole,
            data_range=given.data_range,
            crop_border=given.crop_border,
            to_y=given.to_y,
            unit=given.unit,
            prediction_unit=given.prediction_unit,
            least=given.least,
            most=given.most,
            scale_shift=given.scale_shift,
            replicates=given.bootstrap,
            confidence=given.confidence,
            seed=given.seed,
            workers=given.workers,
            ray=given.ray,
            tile=given.tile,
            resume=not given.fresh,
            overwrite=given.overwrite,
            worst=given.worst,
            progress=not given.quiet and sys.stderr.isatty(),
        )
    except LossError as error:
        print(error, file=sys.stderr)
        return 2
    except (FileError, OSError, RuntimeError) as error:
        print(f"lossfold score: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nlossfold score: stopped; the same command goes on from {given.out}", file=sys.stderr)
        return 130
    if not given.quiet:
        show(scores, given.out, time.monotonic() - start)
    for problem in scores.problems[:20]:
        print(f"lossfold score: not scored: {problem.name}: {problem.reason}", file=sys.stderr)
    if len(scores.problems) > 20:
        print(f"lossfold score: and {len(scores.problems) - 20} more, in {given.out}/scores.json", file=sys.stderr)
    return 1 if scores.problems else 0


def show(scores: Scores, out: str, seconds: float) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from lossfold.score.page import TITLES, by_class, number, overall, span
    from lossfold.score.settings import LABELS

    labels, console = scores.settings.task in LABELS, Console()
    interval = [f"{scores.confidence:g} %"] if scores.replicates else []
    shown = Table("", "all pixels" if labels else "mean", *interval, *["mean of images"] * labels, "images")
    for line in overall(scores):
        cells = [number(line.value, line.metric), span(line.low, line.high, line.metric)][: 1 + len(interval)]
        if labels:
            cells.append(number(line.image_mean, line.metric))
        shown.add_row(*map(Text, (TITLES[line.metric], *cells, str(line.images))))
    tables = [shown]
    if by_class(scores):
        tables.append(Table("all pixels", *(TITLES[name] for name in scores.settings.metrics), "images"))
        for name, lines in by_class(scores):
            cells = [number(line.value, line.metric) for line in lines]
            tables[1].add_row(*map(Text, (name, *cells, str(lines[0].images))))
    for table in tables:
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)
    for note in scores.notes:
        console.print(Text(f"{note}."))
    images = f"{len(scores.rows)} image{'s' * (len(scores.rows) != 1)} in {seconds:.1f} s"
    console.print(Text(f"{images}; {out}/report.html, scores.json, summary.csv, images.csv"), soft_wrap=True)
