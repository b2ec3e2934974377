"""The command line of `lossfold bench`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import torch

from . import gpu
from .case import DTYPES, LABEL_DTYPES, Setting
from .cases import CASES
from .providers import PROVIDERS, on

LOGITS = ("random", "trained")
ALLOCATORS = ("plain", "thp")
SCALING_FACTORS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Plan:
    """Everything a run does, decided.

    Args:
        cases, providers: keys, in the order of the registries.
        setting: of the inputs, but for its `logits` and its size; see `setting_of`.
        size: of every case's inputs, None for each case's own.
        logits, allocators: the variants to time.
        memory: the providers whose peak is measured.
        scaling: also time every size that `SCALING_FACTORS` give.
        threads, repeats, warmup: of the timing.
        quick: short calibration, and the floors of short runs.
        check: compare with the floors in `floors`, None for the packaged ones.
        read: results to report in place of a new run.
        out, markdown, plot: files to write; `markdown` "-" is the terminal.
    """

    cases: tuple[str, ...]
    providers: tuple[str, ...]
    setting: Setting
    size: tuple[int, ...] | None
    logits: tuple[str, ...]
    allocators: tuple[str, ...]
    memory: tuple[str, ...]
    scaling: bool
    threads: int
    repeats: int
    warmup: int
    quick: bool
    check: bool
    floors: Path | None
    read: Path | None
    out: Path | None
    markdown: str | None
    plot: Path | None

    def setting_of(self, case: str, logits: str | None = None) -> Setting:
        """The inputs of a case, with the first kind of logits where none is named."""
        sizes = CASES[case].sizes
        own = sizes.quick if self.quick else sizes.full
        return replace(self.setting, size=self.size or own, logits=logits or self.logits[0])


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="lossfold bench",
        description="Time and memory of the losses beside eager PyTorch, torch.compile and peer libraries.",
        epilog=f"Cases: {', '.join(CASES)}. Providers: {', '.join(PROVIDERS)}. "
        "Names may be given several times or separated by commas.",
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument("--case", action="append", metavar="NAME", help="default: all")
    what.add_argument("--provider", action="append", metavar="NAME", help="default: all of the device; with --quick not compile")
    what.add_argument("--size", metavar="B,C,H,W", help="of labels and classes; default: each case's, mostly 2,19,512,1024")
    what.add_argument("--dtype", choices=DTYPES, default="float32", help="of logits, alphas and images (default: %(default)s)")
    what.add_argument("--labels", choices=LABEL_DTYPES, default="int64", help="dtype (default: %(default)s)")
    what.add_argument("--logits", choices=(*LOGITS, "both"), help="noise, trained-like, or both (the default)")
    what.add_argument("--allocator", choices=(*ALLOCATORS, "both"), help="of the CPU: PyTorch's as it is, on huge pages, or both")
    what.add_argument("--memory", action=argparse.BooleanOptionalAction, help="peak extra memory of every provider")
    what.add_argument("--scaling", action="store_true", help="also the time per pixel while the pixels double")
    how = parser.add_argument_group("how")
    how.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda: a GPU, also AMD's (default: %(default)s)")
    how.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: %(default)s")
    how.add_argument("--repeats", type=int, help="rounds that count; default 7, on a GPU 50")
    how.add_argument("--warmup", type=int, help="rounds before them; default 2, on a GPU 10")
    how.add_argument("--quick", action="store_true", help="small, few rounds, plain allocator, no memory: for CI")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=Path, metavar="FILE", help="JSON lines; default benchmarks/results/...")
    output.add_argument("--markdown", nargs="?", const="-", metavar="FILE", help="a Markdown table")
    output.add_argument("--plot", type=Path, metavar="FILE", help="bars of time and memory as PNG (needs matplotlib)")
    output.add_argument("--read", type=Path, metavar="FILE", help="report this result file; measure nothing")
    output.add_argument("--check", action="store_true", help="exit with 1 where a ratio is below its floor")
    output.add_argument("--floors", type=Path, metavar="FILE", help="floors other than the packaged ones")
    return parser


def parse_plan(argv: list[str]) -> Plan:
    """Decide a run; unknown names and sizes end the program with a message, as argparse does."""
    parser = build_parser()
    given = parser.parse_args(argv)
    quick: bool = given.quick
    device: str = given.device
    missing = gpu.missing() if device == "cuda" and not given.read else ""
    if missing:
        parser.exit(2, f"{parser.prog}: --device cuda: {missing}\n")
    providers = _chosen(parser, "--provider", given.provider, on(device))
    if quick and not given.provider:
        providers = tuple(name for name in providers if name != "compile")
    if given.check and device != "cpu":
        parser.error("--check compares with floors of CPUs: leave out --device")
    if given.check and given.size and not given.floors:
        parser.error("--check compares with floors of the default size: leave out --size, or give --floors")
    cases = _chosen(parser, "--case", given.case, tuple(CASES))
    fewest = max(CASES[case].sizes.fewest_channels for case in cases)
    for name in ("threads", "repeats"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            parser.error(f"--{name}: expected 1 or more")
    measures_memory = not quick if given.memory is None else given.memory
    return Plan(
        cases=cases,
        providers=providers,
        setting=Setting(dtype=given.dtype, labels=given.labels, device=device),
        size=_size(parser, given.size, fewest) if given.size else None,
        logits=_variants(given.logits, LOGITS, quick),
        allocators=_variants(given.allocator, ALLOCATORS, quick) if device == "cpu" else ALLOCATORS[:1],
        memory=providers if measures_memory else (),
        scaling=given.scaling,
        threads=given.threads,
        repeats=given.repeats or ((5 if quick else 7) if device == "cpu" else 50),
        warmup=given.warmup if given.warmup is not None else ((1 if quick else 2) if device == "cpu" else 10),
        quick=quick,
        check=given.check,
        floors=given.floors,
        read=given.read,
        out=given.out,
        markdown=given.markdown,
        plot=given.plot,
    )


def _chosen(parser: argparse.ArgumentParser, flag: str, given: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    if not given:
        return known
    names = {name for text in given for name in text.split(",") if name}
    unknown = sorted(names - set(known))
    if unknown:
        parser.error(f"{flag}: {', '.join(unknown)} unknown; choose from {', '.join(known)}")
    return tuple(name for name in known if name in names)


def _size(parser: argparse.ArgumentParser, text: str, fewest: int) -> tuple[int, ...]:
    def refuse() -> NoReturn:
        parser.error(f"--size: {text!r}; expected B,C,H,W (or one to three spatial sizes), C from {fewest} to 255")

    try:
        size = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        refuse()
    if not 3 <= len(size) <= 5 or min(size) < 1 or not fewest <= size[1] <= 255:
        refuse()
    return size


def _variants(given: str | None, known: tuple[str, ...], quick: bool) -> tuple[str, ...]:
    if given is None:
        return known[:1] if quick else known
    return known if given == "both" else (given,)
