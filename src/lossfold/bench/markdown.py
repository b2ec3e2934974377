"""Results as a Markdown table fit for the README."""

from __future__ import annotations

from typing import Any

from . import predicted
from .providers import PROVIDERS
from .report import (
    ALLOCATOR_TITLES,
    beside_parts,
    case_title,
    describe_all_inputs,
    machine_line,
    milliseconds,
    provider_title,
    times,
)
from .results import of_kind

Row = dict[str, Any]

COLUMNS = (
    "Forward + backward",
    "lossfold",
    "PyTorch eager",
    "torch.compile",
    "best other library",
    "vs eager",
    "vs best other",
    "extra memory: lossfold",
    "eager",
)


def render(rows: list[Row]) -> str:
    """One table for each kind of logits, with the machine, the inputs and the caveats of the peers below."""
    tables = [_table(rows, logits) for logits in dict.fromkeys(row["logits"] for row in of_kind(rows, "time"))]
    if "gpu" in of_kind(rows, "machine")[0]:
        tables.append("\n".join([f"Predicted of {predicted.GPU}, and measured:", "", *predicted.table(rows)]))
    return "\n\n".join(tables)


def _table(rows: list[Row], logits: str) -> str:
    timed = of_kind(rows, "time", logits=logits)
    cases = dict.fromkeys(row["case"] for row in timed)
    allocators = list(dict.fromkeys(row["allocator"] for row in timed))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(_cells(rows, case, logits, allocators)) + " |" for case in cases]
    pair = " Pairs: PyTorch's allocator as it is / on huge pages (`THP_MEM_ALLOC_ENABLE=1`)."
    lines += [
        "",
        f"{'; '.join(describe_all_inputs(timed))}; medians, every gradient allocated anew."
        f"{pair if len(allocators) > 1 else ''} {machine_line(rows)}.",
    ]
    notes = dict.fromkeys(_note(row) for row in timed if row["note"] or (row["reason"] and row["status"] != "absent"))
    for ratio in of_kind(rows, "ratio", logits=logits):
        if "dearest" in ratio:
            title = f"{provider_title(ratio['provider'])}, {case_title(ratio['case'])} ({ALLOCATOR_TITLES[ratio['allocator']]})"
            notes[f"{title}: {beside_parts(ratio)}"] = None
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)] if notes else lines)


def _cells(rows: list[Row], case: str, logits: str, allocators: list[str]) -> tuple[str, ...]:
    groups = [of_kind(rows, "time", case=case, logits=logits, allocator=name, status="ok") for name in allocators]
    own = _headline(groups[0])
    ratios = [row for name in allocators for row in of_kind(rows, "ratio", case=case, logits=logits, allocator=name, provider=own)]
    peaks = {row["provider"]: row["bytes"] for row in of_kind(rows, "memory", case=case, status="ok")}
    return (
        case_title(case),
        f"**{_pair(milliseconds(_time(group, own)) for group in groups)}**" if own else "–",
        _pair(milliseconds(_time(group, "eager")) for group in groups if _has(group, "eager")),
        _pair(milliseconds(_time(group, "compile")) for group in groups if _has(group, "compile")),
        _pair(_best_library(group) for group in groups),
        _pair(times(row["vs_eager"]) for row in ratios if "vs_eager" in row),
        _pair(f"{times(row['vs_best'])} ({provider_title(row['best'])})" for row in ratios if "best" in row),
        _megabytes(peaks.get(own)),
        _megabytes(peaks.get("eager")),
    )


def _headline(group: list[Row]) -> str:
    own = [key for key in ("lossfold-cpp", "lossfold-triton", "lossfold-eager") if _has(group, key)]
    return own[0] if own else ""


def _best_library(group: list[Row]) -> str:
    libraries = [row for row in group if row["provider"] in PROVIDERS and PROVIDERS[row["provider"]].library]
    if not libraries:
        return "–"
    best = min(libraries, key=lambda row: float(row["both_ms"]["median"]))
    return f"{milliseconds(best['both_ms']['median'])} ({provider_title(best['provider'])})"


def _note(row: Row) -> str:
    text = "; ".join(part for part in (row["note"], row["reason"]) if part)
    return f"{provider_title(row['provider'])}, {case_title(row['case'])}: {text}"


def _has(group: list[Row], provider: str) -> bool:
    return any(row["provider"] == provider for row in group)


def _time(group: list[Row], provider: str) -> float:
    return next((float(row["both_ms"]["median"]) for row in group if row["provider"] == provider), float("nan"))


def _pair(cells: Any) -> str:
    return " / ".join(dict.fromkeys(cells)) or "–"


def _megabytes(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:.0f} MB"
