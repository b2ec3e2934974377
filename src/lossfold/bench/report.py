"""Results as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import predicted
from .cases import CASES
from .providers import PROVIDERS
from .results import beyond_gradient, of_kind

Row = dict[str, Any]

LEGEND = "~ marks restless rows"

ALLOCATOR_TITLES = {"plain": "PyTorch's allocator as it is", "thp": "THP_MEM_ALLOC_ENABLE=1"}

HEAD: tuple[str, ...] = (
    "",
    "forward",
    "backward",
    "both",
    "p20-p80",
    "ns/px",
    "vs eager",
    "of copy",
    "of exp",
    "memory",
    "beyond",
)

RESTLESS = 1.5
"""Above this p80/p20 a row is marked: something else was running."""


def case_title(name: str) -> str:
    """A case's title; the bare name for one that this version no longer has."""
    return CASES[name].title if name in CASES else name


def provider_title(key: str) -> str:
    """A provider's title; the bare key for one that this version no longer has."""
    return PROVIDERS[key].title if key in PROVIDERS else key


def describe_inputs(row: Row) -> str:
    """Shape, dtypes and kind of logits, alphas or images in words."""
    shape = ",".join(str(length) for length in row["shape"])
    leaf = row.get("leaf", "logits")  # result files of earlier versions know no other
    labels = f", {row['labels']} labels" if leaf == "logits" else ""
    return f"[{shape}] {row['dtype']}{labels}, {row['logits']} {leaf}"


def describe_all_inputs(timed: list[Row]) -> list[str]:
    """The inputs that most cases of a run have, then the others with the titles of their cases."""
    titles: dict[str, dict[str, None]] = {}
    for row in timed:
        titles.setdefault(describe_inputs(row), {})[case_title(row["case"])] = None
    common, *others = sorted(titles, key=lambda inputs: -len(titles[inputs]))
    return [common, *(f"{', '.join(titles[inputs])}: {inputs}" for inputs in others)]


def machine_line(rows: list[Row]) -> str:
    """The machine and the versions in one line."""
    machine = of_kind(rows, "machine")[0]
    engines = ", ".join(machine["lossfold"].get("engines", [])) or "not importable"
    simd = machine["lossfold"].get("simd")
    gpu = machine.get("gpu")
    where = f"{gpu['name']} (driver {gpu['driver']}, {gpu['runtime']}{_clock_words(gpu)}), " if gpu else ""
    return (
        f"{where}{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']} "
        f"({machine['torch_simd']}), lossfold engines: {engines}{f' ({simd})' if simd else ''}"
    )


def _clock_words(gpu: Row) -> str:
    clocks = gpu["clocks"]
    pairs = [(words, clocks[name]) for name, words in (("clocks.sm", "SM"), ("clocks.mem", "memory")) if name in clocks]
    return "".join(f", {words} {value:.0f} MHz" for words, value in pairs)


def render(rows: list[Row]) -> str:
    """The whole report: machine, limits, a table for every case and variant, scaling."""
    lines = [
        machine_line(rows),
        f"Units: u is the size of the logits, alphas or images; of copy and of exp (one a class and pixel) are shares of limits; "
        f"{LEGEND}",
        "Memory is the peak beyond the inputs: in u, the gradient included, and in bytes a label pixel beyond the gradient.",
    ]
    for limits in of_kind(rows, "calibration"):
        load = f", load {limits['load']:.1f}" if limits.get("load") is not None else ""
        lines.append(
            f"Limits ({limits['allocator']}): copy {limits['copy_bytes_per_second'] / 1e9:.1f} GB/s read + written, "
            f"exp {limits['exp_per_second'] / 1e9:.2f} G/s{load}"
        )
        if limits.get("load") and limits["load"] > of_kind(rows, "machine")[0]["threads"] + 1:
            lines.append("  The machine was busy with other work: these figures are not fit to be published.")
    keys = dict.fromkeys((row["case"], row["logits"], row["allocator"]) for row in of_kind(rows, "time"))
    for case, logits, allocator in keys:
        lines += ["", *_case_lines(rows, case, logits, allocator)]
    lines += _scaling_lines(rows)
    if "gpu" in of_kind(rows, "machine")[0]:
        lines += ["", f"Predicted of {predicted.GPU}, and measured here:", *predicted.table(rows)]
    return "\n".join(lines)


def _case_lines(rows: list[Row], case: str, logits: str, allocator: str) -> Iterator[str]:
    timed = of_kind(rows, "time", case=case, logits=logits, allocator=allocator)
    on_gpu = "gpu" in of_kind(rows, "machine")[0]
    yield f"{case_title(case)} · {describe_inputs(timed[0])} · {'on the GPU' if on_gpu else ALLOCATOR_TITLES[allocator]}"
    eager = next((row for row in timed if row["provider"] == "eager" and row["status"] == "ok"), None)
    peaks = {row["provider"]: row for row in of_kind(rows, "memory", case=case, status="ok")}
    table = [(*HEAD, "graph") if on_gpu else HEAD]
    remarks = []
    for row in timed:
        title = provider_title(row["provider"])
        if row["status"] != "ok":
            remarks.append(f"  {title}: {row['reason']}{_bracketed(row['note'])}")
            continue
        if row["note"] or row["reason"]:
            remarks.append(f"  {title}: {'; '.join(filter(None, (row['note'], row['reason'])))}")
        if "graph_reason" in row:
            remarks.append(f"  {title}: not as a CUDA graph: {row['graph_reason']}")
        graph = (milliseconds(row["graph_ms"]["median"]) if "graph_ms" in row else "",) if on_gpu else ()
        table.append((title, *_figures(row, eager, peaks.get(row["provider"])), *graph))
    yield from _aligned(table)
    yield from remarks
    for ratio in of_kind(rows, "ratio", case=case, logits=logits, allocator=allocator):
        yield f"  {_ratio_text(ratio)}"


def _figures(row: Row, eager: Row | None, peak: Row | None) -> tuple[str, ...]:
    both = row["both_ms"]
    return (
        *(milliseconds(row[f"{part}_ms"]["median"]) for part in ("forward", "backward", "both")),
        f"{digits(both['p20'])}-{digits(both['p80'])}{'~' if both['p80'] > RESTLESS * both['p20'] else ''}",
        f"{row['ns_per_pixel']:.1f}",
        times(eager["both_ms"]["median"] / both["median"]) if eager else "",
        f"{row['both_share_of_copy']:.0%}",
        f"{row['both_share_of_exp']:.0%}" if row["exponentials"] else "",
        f"{peak['units']:.2f} u" if peak else "",
        f"{beyond_gradient(peak):.1f} B/px" if peak else "",
    )


def _ratio_text(ratio: Row) -> str:
    parts = []
    if "vs_eager" in ratio:
        parts.append(f"{times(ratio['vs_eager'])} as fast as eager")
    if "vs_best" in ratio:
        parts.append(f"{times(ratio['vs_best'])} as fast as the best other ({provider_title(ratio['best'])})")
    if "graph_vs_eager" in ratio:
        parts.append(f"as CUDA graphs {times(ratio['graph_vs_eager'])} as fast as eager")
    if "graph_vs_best" in ratio:
        parts.append(f"{times(ratio['graph_vs_best'])} as fast as the best other ({provider_title(ratio['graph_best'])})")
    if "memory_vs_eager" in ratio:
        parts.append(f"eager needs {times(ratio['memory_vs_eager'])} the memory")
    if "dearest" in ratio:
        parts.append(beside_parts(ratio))
    return f"{provider_title(ratio['provider'])}: {', '.join(parts) or 'nobody to compare with'}"


def beside_parts(ratio: Row) -> str:
    """What a set costs beside its terms."""
    dearest = f"{times(1 / ratio['vs_dearest'])} the time of its dearest term alone ({case_title(ratio['dearest'])})"
    return f"{dearest}, {times(ratio['vs_parts'])} as fast as its terms one by one"


def _scaling_lines(rows: list[Row]) -> Iterator[str]:
    scaled = of_kind(rows, "scaling")
    if not scaled:
        return
    yield ""
    yield "Scaling: ns per pixel, forward + backward, while the pixels double"
    sizes = sorted({row["pixels"] for row in scaled})
    table: list[tuple[str, ...]] = [("", "", *(f"{size / 1e6:.2f} M" for size in sizes), "worst doubling")]
    for found in of_kind(rows, "growth"):
        costs = {
            row["pixels"]: f"{row['ns_per_pixel']:.1f}"
            for row in scaled
            if (row["case"], row["provider"]) == (found["case"], found["provider"])
        }
        cells = (costs.get(size, "") for size in sizes)
        names = case_title(found["case"]), provider_title(found["provider"])
        table.append((*names, *cells, f"x{found['worst_doubling']:.2f}"))
    yield from _aligned(table, left=2)
    for row in of_kind(rows, "failure"):
        yield f"  {case_title(row['case'])}, {provider_title(row['provider'])}: {row['reason']}"


def milliseconds(value: float) -> str:
    """Three digits, with the unit."""
    return f"{digits(value)} ms"


def digits(value: float) -> str:
    """Three digits, or the whole part."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(value: float) -> str:
    """A ratio: "4.2x", "21x"."""
    return f"{value:.0f}x" if value >= 20 else f"{value:.1f}x" if value >= 2 else f"{value:.2f}x"


def _aligned(table: list[tuple[str, ...]], left: int = 1) -> Iterator[str]:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  " + "  ".join(cells).rstrip()


def _bracketed(note: str) -> str:
    return f" ({note})" if note else ""
