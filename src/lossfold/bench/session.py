"""A run: which workers start, in which order, with which environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cases import CASES
from .machine import describe_machine
from .memory import PROMPT_RELEASE
from .options import SCALING_FACTORS, Plan
from .providers import PROVIDERS

Row = dict[str, Any]
Report = Callable[[str], None]

HUGE_PAGE_SWITCH = "THP_MEM_ALLOC_ENABLE"
ALLOCATOR_VARIABLES: dict[str, dict[str, str]] = {"plain": {}, "thp": {HUGE_PAGE_SWITCH: "1"}}
VERDICT_FIELDS = ("status", "reason", "value", "expected", "value_error", "gradient_error")


class WorkerError(RuntimeError):
    """A measuring process ended before its task."""


def measure(plan: Plan, report: Report) -> list[Row]:
    """Do everything a plan asks for.

    Args:
        plan: what to measure.
        report: takes a line about what is happening.

    Returns:
        Rows of the kinds run, machine, calibration, time, memory and scaling.
    """
    rows: list[Row] = [
        {
            "kind": "run",
            "quick": plan.quick,
            "repeats": plan.repeats,
            "warmup": plan.warmup,
            "allocators": list(plan.allocators),
        },
        {"kind": "machine", **describe_machine(plan.threads, plan.setting.device)},
    ]
    for allocator in plan.allocators:
        rows += _timed(plan, allocator, rows, report)
    for case in plan.cases:
        for provider in plan.memory:
            rows += _peak(plan, case, provider, rows, report)
    if plan.scaling:
        report("scaling")
        rows += run_worker(_scaling_task(plan))
    return rows


def run_worker(task: Row, variables: Mapping[str, str] = ALLOCATOR_VARIABLES["plain"]) -> Iterator[Row]:
    """Start a fresh process on a task, with these variables in its environment, and pass on its rows as they come."""
    environment = {name: value for name, value in os.environ.items() if name != HUGE_PAGE_SWITCH} | dict(variables)
    source = str(Path(__file__).resolve().parents[2])
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{source}{os.pathsep}{inherited}" if inherited else source
    command = [sys.executable, "-m", "lossfold.bench.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None and process.stdout is not None
        with process.stdin as stdin:
            json.dump(task, stdin)
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise WorkerError(f"the {task['do']} worker ended with {process.returncode}")


def _timed(plan: Plan, allocator: str, earlier: list[Row], report: Report) -> Iterator[Row]:
    task = {
        "do": "time",
        "work": [(case, asdict(plan.setting_of(case, logits))) for logits in plan.logits for case in plan.cases],
        "providers": plan.providers,
        "verdicts": _verdicts(earlier),
        "threads": plan.threads,
        "repeats": plan.repeats,
        "warmup": plan.warmup,
        "quick": plan.quick,
        "device": plan.setting.device,
    }
    seen = None
    for row in run_worker(task, ALLOCATOR_VARIABLES[allocator]):
        if row["kind"] == "time" and seen != (row["case"], row["logits"]):
            seen = (row["case"], row["logits"])
            case = CASES[row["case"]]
            where = f"{allocator} allocator" if plan.setting.device == "cpu" else "on the GPU"
            report(f"timed {case.title}, {row['logits']} {case.leaf}, {where}")
        if row["kind"] == "calibration":
            row["load"] = _load()
        yield {**row, "allocator": allocator}


def _load() -> float | None:
    """Runnable processes over the last minute: far above the threads of the run, others were busy too."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


def _peak(plan: Plan, case: str, provider: str, rows: list[Row], report: Report) -> list[Row]:
    judged = [row for row in rows if row["kind"] == "time" and (row["case"], row["provider"]) == (case, provider)]
    if not judged or any(row["status"] != "ok" for row in judged):
        return []
    report(f"memory of {CASES[case].title}, {PROVIDERS[provider].title}")
    task = {
        "do": "memory",
        "case": case,
        "provider": provider,
        "setting": asdict(plan.setting_of(case)),
        "threads": plan.threads,
    }
    try:
        return list(run_worker(task, PROMPT_RELEASE))
    except WorkerError as error:
        return [{"kind": "memory", "case": case, "provider": provider, "status": "failed", "reason": str(error)}]


def _verdicts(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """What an earlier worker judged, so that the next one (same code, another allocator) need not."""
    verdicts: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["kind"] == "time":
            judged = {name: row[name] for name in VERDICT_FIELDS if name in row}
            verdicts.setdefault(f"{row['case']}/{row['logits']}", {})[row["provider"]] = judged
    return verdicts


def _scaling_task(plan: Plan) -> Row:
    chosen = [key for key in plan.providers if PROVIDERS[key].ours or key == "eager"]
    return {
        "do": "scaling",
        "work": [(case, asdict(plan.setting_of(case))) for case in plan.cases],
        "providers": chosen,
        "factors": SCALING_FACTORS,
        "threads": plan.threads,
        "repeats": plan.repeats,
        "warmup": plan.warmup,
        "device": plan.setting.device,
    }
