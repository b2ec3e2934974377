"""A fresh process that measures: it reads one task as JSON from stdin and answers in JSON lines on stdout.

Fresh, because the allocator's settings are read at start and a peak of memory belongs to the whole process.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from . import gpu, graphs, memory, timing
from .agreement import Truth, find_truth, judge, truth_key
from .calibration import calibrate
from .case import Case, LossFunction, Sample, Setting
from .cases import CASES
from .clocks import DeviceClock, HostClock, clock_of
from .providers import PROVIDERS

Row = dict[str, Any]


def setting_from(values: Row) -> Setting:
    """The setting that a task's JSON holds."""
    return Setting(**{**values, "size": tuple(values["size"])})


def time_task(task: Row) -> Iterator[Row]:
    """Check and time every piece of work, a case in a setting, and calibrate before and after each."""
    device = task["device"]
    clock = clock_of(device)
    limits = calibrate(task["quick"], device, clock)
    for name, values in task["work"]:
        setting = setting_from(values)
        verdicts = task["verdicts"].get(f"{name}/{setting.logits}")
        yield from time_case(CASES[name], setting, task, verdicts, clock)
        if device != "cpu":
            yield {"kind": "clocks", "case": name, **gpu.clocks()}
        limits = limits.best(calibrate(task["quick"], device, clock))
    yield {"kind": "calibration", **asdict(limits)}


def time_case(
    case: Case, setting: Setting, task: Row, verdicts: dict[str, Row] | None, clock: HostClock | DeviceClock = timing.HOST
) -> Iterator[Row]:
    """Rows of one case: build, judge, then time together whoever agrees, and the parts of a sum beside it.

    Args:
        case: the work.
        setting: its inputs.
        task: providers, repeats and warm-up.
        verdicts: what an earlier worker found on the same inputs, in place of judging again.
        clock: takes the time.
    """
    samples: dict[Any, Sample] = {}
    truths: dict[Any, Truth] = {}
    jobs: dict[str, timing.Job] = {}
    rows: dict[str, Row] = {}
    for provider in sorted(task["providers"], key=lambda key: _group(case, key)):
        rows[provider], entry = _open_row(case, provider, setting), case.entries.get(provider)
        if entry is None or rows[provider]["status"] == "absent":
            continue
        if verdicts is not None and verdicts[provider]["status"] != "ok":
            rows[provider].update(verdicts[provider])
            continue
        inputs, options = truth_key(case, provider)
        try:
            if inputs not in samples:
                samples[inputs] = case.sample(setting, **entry.inputs)
            sample = samples[inputs]
            function = entry.build()
            if verdicts is None:
                if (inputs, options) not in truths:
                    truths.clear()  # one float64 gradient at a time: the order keeps equal keys together
                    definition = _with_options(case.truth, entry.options)
                    truths[inputs, options] = find_truth(definition, sample)
                rows[provider].update(asdict(judge(function, sample, truths[inputs, options], case.tolerance)))
            else:
                rows[provider].update(verdicts[provider])
        except Exception as error:  # a provider's failure is a result, whatever it raises
            rows[provider].update(status="failed", reason=short_reason(error))
            continue
        if rows[provider]["status"] == "ok":
            jobs[provider] = (function, sample)
    truths.clear()
    alone = part_jobs(case, jobs)
    rounds = case.rounds(task["repeats"], task["warmup"])
    spreads = timing.measure({**jobs, **alone}, *rounds, clock)
    if isinstance(clock, DeviceClock):
        for provider, job in jobs.items():
            rows[provider].update(as_graph(clock, job, *rounds))
    for provider, (_, sample) in jobs.items():
        for part, spread in spreads[provider].items():
            rows[provider][f"{part}_ms"] = asdict(spread)
            rows[provider][f"{part}_minimal_bytes"] = case.minimal_bytes(sample, part)
        rows[provider]["exponentials"] = case.exponentials * setting.size[1] * setting.pixels
    for provider in task["providers"]:
        yield rows[provider]
    for provider, part in alone:
        both = asdict(spreads[provider, part]["both"])
        yield {"kind": "part", "case": case.name, "part": part, "provider": provider, **_described(setting), "both_ms": both}


def as_graph(clock: DeviceClock, job: timing.Job, repeats: int, warmup: int) -> Row:
    """What a job takes as a CUDA graph, one after the other because each keeps its memory; or why there is none."""
    try:
        return {"graph_ms": asdict(timing.Spread.of(graphs.replay_times(clock, *job, repeats, warmup)))}
    except Exception as error:  # whatever waits for the device can't be captured, and says so in many ways
        return {"graph_reason": short_reason(error)}


def part_jobs(case: Case, jobs: Mapping[str, timing.Job]) -> dict[tuple[str, str], timing.Job]:
    """The terms of a sum, each alone, by the first of lossfold's engines that serves the sum, on the same inputs."""
    own = [provider for provider in PROVIDERS if PROVIDERS[provider].ours and provider in jobs][:1]
    return {(key, part): (CASES[part].entries[key].build(), jobs[key][1]) for key in own for part in case.parts}


def memory_task(task: Row) -> Iterator[Row]:
    """Peak growth of one provider on one case."""
    case, provider, setting = CASES[task["case"]], task["provider"], setting_from(task["setting"])
    entry = case.entries[provider]
    row: Row = {"kind": "memory", "case": case.name, "provider": provider, **_described(setting)}
    if not memory.measurable(setting.device):
        yield {**row, "status": "absent", "reason": "this system tells no resettable peak"}
        return
    sample = case.sample(setting, **entry.inputs)
    measured = memory.peak_growth if setting.device == "cpu" else memory.peak_allocated
    growth = measured(entry.build(), sample)
    yield {
        **row,
        "status": "ok",
        "bytes": growth,
        "bytes_per_pixel": growth / setting.pixels,
        "units": growth / sample.leaf_bytes,
    }


def scaling_task(task: Row) -> Iterator[Row]:
    """Time per pixel while the first spatial axis doubles."""
    clock = clock_of(task["device"])
    for name, values in task["work"]:
        setting = setting_from(values)
        for factor in task["factors"]:
            batch, classes, length, *others = setting.size
            larger = replace(setting, size=(batch, classes, max(1, int(length * factor)), *others))
            jobs: dict[str, timing.Job] = {}
            for provider in task["providers"]:
                entry = CASES[name].entries.get(provider)
                if entry is not None and PROVIDERS[provider].installed:
                    try:
                        job = entry.build(), CASES[name].sample(larger, **entry.inputs)
                        clock.run_once(*job)
                        jobs[provider] = job
                    except Exception as error:  # a provider's failure is a result, whatever it raises
                        yield {
                            "kind": "failure",
                            "case": name,
                            "provider": provider,
                            "reason": short_reason(error),
                        }
            for provider, parts in timing.measure(jobs, *CASES[name].rounds(task["repeats"], task["warmup"]), clock).items():
                yield {
                    "kind": "scaling",
                    "case": name,
                    "provider": provider,
                    **_described(larger),
                    "pixels": larger.pixels,
                    "both_ms": asdict(parts["both"]),
                    "ns_per_pixel": 1e6 * parts["both"].median / larger.pixels,
                }


TASKS: dict[str, Callable[[Row], Iterator[Row]]] = {
    "time": time_task,
    "memory": memory_task,
    "scaling": scaling_task,
}


def short_reason(error: BaseException) -> str:
    """One line about an error, without paths of the machine."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    text = re.sub(r"(?<![\w.])(/[\w.@+-]+){2,}", "...", lines[0])
    return f"{type(error).__name__}: {text}"[:200]


def _open_row(case: Case, provider: str, setting: Setting) -> Row:
    entry = case.entries.get(provider)
    row: Row = {"kind": "time", "case": case.name, "provider": provider, **_described(setting)}
    row.update(leaf=case.leaf, pixels=setting.pixels, note=entry.note if entry else "")
    if not PROVIDERS[provider].installed:
        return {**row, "status": "absent", "reason": "not installed"}
    if entry is None:
        return {**row, "status": "absent", "reason": case.lacking.get(provider, "not offered")}
    return {**row, "status": "ok", "reason": ""}


def _described(setting: Setting) -> Row:
    values = asdict(setting)
    return {"shape": list(values.pop("size")), **values}


def _group(case: Case, provider: str) -> str:
    return str(truth_key(case, provider)) if provider in case.entries else ""


def _with_options(definition: LossFunction, options: Any) -> LossFunction:
    return lambda *inputs: definition(*inputs, **options)


def main() -> int:
    """Run the task on stdin; whatever a library prints goes to stderr, so that stdout holds rows alone."""
    with os.fdopen(os.dup(1), "w") as rows:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        task = json.load(sys.stdin)
        torch.set_num_threads(task["threads"])
        for row in TASKS[task["do"]](task):
            print(json.dumps(row), file=rows, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
