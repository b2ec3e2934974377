"""`lossfold bench` from arguments to exit code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from . import floors, markdown, report, results
from .options import Plan, parse_plan
from .session import Row, WorkerError, measure


def main(argv: list[str]) -> int:
    """Measure, report, and compare with the floors where asked.

    Args:
        argv: the arguments after `lossfold bench`.

    Returns:
        0, or 1 where a ratio fell below its floor, no case could be measured, or a measuring process died.
    """
    plan = parse_plan(argv)
    try:
        rows = results.read(plan.read) if plan.read else results.finish(measure(plan, _progress))
    except WorkerError as error:
        print(f"lossfold bench: {error}", file=sys.stderr)
        return 1
    print(report.render(rows))
    _write_outputs(plan, rows)
    if not results.of_kind(rows, "time", status="ok"):
        print("lossfold bench: nothing could be measured", file=sys.stderr)
        return 1
    return _check(plan, rows) if plan.check else 0


def _write_outputs(plan: Plan, rows: list[Row]) -> None:
    if plan.out or not (plan.read or plan.quick):
        path = plan.out or results.default_path(rows)
        results.write(rows, path)
        _progress(f"wrote {path}")
    if plan.markdown == "-":
        print(f"\n{markdown.render(rows)}")
    elif plan.markdown:
        Path(plan.markdown).write_text(markdown.render(rows) + "\n")
        _progress(f"wrote {plan.markdown}")
    if plan.plot:
        from .plot import draw

        try:
            draw(rows, plan.plot)
            _progress(f"wrote {plan.plot}")
        except ImportError:
            _progress("no plot: matplotlib is not installed")


def _check(plan: Plan, rows: list[Row]) -> int:
    run = "quick" if results.of_kind(rows, "run")[0]["quick"] else "full"
    recorded = floors.load(plan.floors)
    falls = floors.find_falls(rows, recorded, run)
    if falls and not plan.read:
        # Noise can slow one case once; a real fall shows again.
        _progress("measuring the cases below their floors once more")
        fallen = tuple(case for case in plan.cases if case in falls)
        again = replace(plan, cases=fallen, scaling=False)
        repeated = floors.find_falls(results.finish(measure(again, _progress)), recorded, run)
        falls = {case: sentences for case, sentences in repeated.items() if case in falls}
    sentences = [sentence for found in falls.values() for sentence in found]
    print("\nCheck: " + ("\n  ".join(["below the floor", *sentences]) if falls else "no ratio below its floor"))
    return 1 if falls else 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
