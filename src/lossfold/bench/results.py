"""From rows to figures: shares of the limits, ratios between providers, growth with size, JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import count, groupby, pairwise
from pathlib import Path
from typing import Any

from .machine import slug
from .providers import PROVIDERS
from .timing import PARTS

Row = dict[str, Any]

RESULTS = Path("benchmarks/results")


def of_kind(rows: Iterable[Row], kind: str, **wanted: Any) -> list[Row]:
    """The rows of a kind whose fields have the wanted values."""
    return [row for row in rows if row["kind"] == kind and all(row.get(key) == wanted[key] for key in wanted)]


def finish(rows: list[Row]) -> list[Row]:
    """Add what follows from the measured: shares of the limits, and rows of the kinds ratio and growth."""
    for calibration in of_kind(rows, "calibration"):
        for row in of_kind(rows, "time", allocator=calibration["allocator"], status="ok"):
            _add_shares(row, calibration)
    return [*rows, *ratios(rows), *growth(rows)]


def ratios(rows: list[Row]) -> Iterator[Row]:
    """How much faster and smaller each lossfold engine is than eager PyTorch and than the best of all others.

    The best is the fastest that agrees with the truth, among everybody but lossfold, eager PyTorch included.
    """
    for (case, logits, allocator), timed in _groups(of_kind(rows, "time", status="ok")):
        by_provider = {row["provider"]: row for row in timed}
        rivals = [row for row in timed if not PROVIDERS[row["provider"]].ours]
        best = min(rivals, key=_total, default=None)
        eager = by_provider.get("eager")
        peaks = {row["provider"]: row["bytes"] for row in of_kind(rows, "memory", case=case, status="ok")}
        for own in timed:
            if not PROVIDERS[own["provider"]].ours:
                continue
            ratio: Row = {
                "kind": "ratio",
                "case": case,
                "logits": logits,
                "allocator": allocator,
                "provider": own["provider"],
            }
            if eager is not None:
                ratio["vs_eager"] = _total(eager) / _total(own)
            if best is not None:
                ratio["vs_best"] = _total(best) / _total(own)
                ratio["best"] = best["provider"]
            if "graph_ms" in own:
                ratio |= _of_graphs(own, eager, rivals)
            if peaks.get("eager") and peaks.get(own["provider"]):
                ratio["memory_vs_eager"] = peaks["eager"] / peaks[own["provider"]]
            yield ratio | _beside_parts(rows, own)


def _of_graphs(own: Row, eager: Row | None, rivals: list[Row]) -> Row:
    """The same ratios of CUDA graphs, of those that could be captured."""
    found: Row = {}
    captured = [row for row in rivals if "graph_ms" in row]
    if eager is not None and "graph_ms" in eager:
        found["graph_vs_eager"] = eager["graph_ms"]["median"] / own["graph_ms"]["median"]
    if captured:
        best = min(captured, key=lambda row: float(row["graph_ms"]["median"]))
        found |= {"graph_vs_best": best["graph_ms"]["median"] / own["graph_ms"]["median"], "graph_best": best["provider"]}
    return found


def beyond_gradient(peak: Row) -> float:
    """Bytes a label pixel that a memory row adds to the gradient, which is one unit."""
    share: float = peak["bytes_per_pixel"] * (1 - 1 / peak["units"])
    return share


def growth(rows: list[Row]) -> Iterator[Row]:
    """By how much the time per pixel rises when the pixels double, at worst and from first to last."""
    scaled = sorted(of_kind(rows, "scaling"), key=lambda row: (row["case"], row["provider"], row["pixels"]))
    for (case, provider), group in groupby(scaled, key=lambda row: (row["case"], row["provider"])):
        costs = [row["ns_per_pixel"] for row in group]
        steps = [later / earlier for earlier, later in pairwise(costs)]
        if steps:
            yield {
                "kind": "growth",
                "case": case,
                "provider": provider,
                "worst_doubling": max(steps),
                "first_to_last": costs[-1] / costs[0],
            }


def default_path(rows: list[Row]) -> Path:
    """A new file in benchmarks/results, named after the machine and the day."""
    machine = of_kind(rows, "machine")[0]
    stem = f"{slug(machine)}-{date.today().isoformat()}"
    for number in count(1):
        path = RESULTS / f"{stem}{'' if number == 1 else f'-{number}'}.jsonl"
        if not path.exists():
            return path
    raise AssertionError("count never ends")


def write(rows: list[Row], path: Path) -> None:
    """Write JSON lines, making the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(_rounded(row)) + "\n" for row in rows))


def read(path: Path) -> list[Row]:
    """Read the rows of a result file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _add_shares(row: Row, calibration: Row) -> None:
    for part in PARTS:
        seconds = row[f"{part}_ms"]["median"] / 1000
        copying = row[f"{part}_minimal_bytes"] / calibration["copy_bytes_per_second"]
        row[f"{part}_share_of_copy"] = copying / seconds
    raising = row["exponentials"] / calibration["exp_per_second"]
    row["both_share_of_exp"] = raising / (row["both_ms"]["median"] / 1000)
    row["ns_per_pixel"] = 1e6 * row["both_ms"]["median"] / row["pixels"]


def _beside_parts(rows: list[Row], own: Row) -> Row:
    """How fast a set is beside its dearest term alone (1 / 1.5 where it costs 1.5 times as much), and beside all in turn."""
    wanted = {name: own[name] for name in ("case", "logits", "allocator", "provider")}
    alone = {row["part"]: _total(row) for row in of_kind(rows, "part", **wanted)}
    if not alone:
        return {}
    dearest = max(alone, key=lambda part: alone[part])
    return {"dearest": dearest, "vs_dearest": alone[dearest] / _total(own), "vs_parts": sum(alone.values()) / _total(own)}


def _groups(timed: list[Row]) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
    keys = dict.fromkeys((row["case"], row["logits"], row["allocator"]) for row in timed)
    for key in keys:
        yield key, [row for row in timed if (row["case"], row["logits"], row["allocator"]) == key]


def _total(row: Row) -> float:
    median: float = row["both_ms"]["median"]
    return median


def _rounded(value: Any) -> Any:
    """Seven digits are more than any figure here is good for, and keep the files readable."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
