"""Figures that follow from rows: shares, ratios, growth, floors, text."""

import math
from pathlib import Path
from typing import Any

import pytest

from lossfold.bench import floors, markdown, report, results
from lossfold.bench.case import Sample, Setting
from lossfold.bench.cases import CASES
from lossfold.bench.inputs import label_sample
from lossfold.bench.machine import slug
from lossfold.bench.timing import Spread

Row = dict[str, Any]


def timed(provider: str, both: float, status: str = "ok", note: str = "") -> Row:
    """A row as a worker sends it, all parts derived from the whole."""
    row: Row = {
        "kind": "time", "case": "ce", "provider": provider, "logits": "random", "allocator": "plain", "shape": [1, 2, 10, 10],
        "dtype": "float32", "labels": "int64", "pixels": 100, "status": status,
        "reason": "" if status == "ok" else "why", "note": note,
    }  # fmt: skip
    if status == "ok":
        for part, share in (("forward", 0.25), ("backward", 0.75), ("both", 1.0)):
            row[f"{part}_ms"] = {"median": share * both, "p20": share * both, "p80": share * both}
            row[f"{part}_minimal_bytes"] = 1e6
        row["exponentials"] = 200
    return row


MACHINE: Row = {
    "kind": "machine", "cpu": "Some(R) CPU @ 2.00GHz", "cores": 2, "threads": 2, "torch": "2.14.1", "torch_simd": "AVX2",
    "lossfold": {"engines": ["eager", "cpp"], "simd": "v3"},
}  # fmt: skip


@pytest.fixture
def rows() -> list[Row]:
    """A small run."""
    return results.finish(
        [
            {"kind": "run", "quick": True},
            dict(MACHINE),
            timed("lossfold-cpp", 10.0),
            timed("lossfold-eager", 200.0),
            timed("eager", 100.0),
            timed("monai", 40.0, note="a caveat"),
            timed("kornia", 1.0, status="refused"),
            {"kind": "calibration", "allocator": "plain", "copy_bytes_per_second": 1e9, "exp_per_second": 1e6, "load": 0.5},
            {
                "kind": "memory",
                "case": "ce",
                "provider": "eager",
                "status": "ok",
                "bytes": 3000,
                "bytes_per_pixel": 30.0,
                "units": 3.0,
            },
            {
                "kind": "memory",
                "case": "ce",
                "provider": "lossfold-cpp",
                "status": "ok",
                "bytes": 1000,
                "bytes_per_pixel": 10.0,
                "units": 1.0,
            },
            *(
                {"kind": "scaling", "case": "ce", "provider": "eager", "pixels": pixels, "ns_per_pixel": cost}
                for pixels, cost in ((400, 6.0), (100, 4.0), (200, 5.0))
            ),
        ]
    )


def test_ratios_are_against_eager_and_the_best_that_agrees(rows: list[Row]) -> None:
    (ratio,) = results.of_kind(rows, "ratio", provider="lossfold-cpp")
    assert ratio["vs_eager"] == 10.0
    assert (ratio["best"], ratio["vs_best"]) == ("monai", 4.0)
    assert ratio["memory_vs_eager"] == 3.0


@pytest.fixture
def with_parts() -> list[Row]:
    """A set that takes 12 ms, its terms alone 4 and 8 ms; on huge pages 6 ms, and one of its terms 8 ms."""
    run: list[Row] = [{"kind": "run", "quick": True}, dict(MACHINE)]
    for allocator, whole, parts in (("plain", 12.0, {"ce": 4.0, "lovasz": 8.0}), ("thp", 6.0, {"ce": 8.0})):
        variant = {"case": "four", "allocator": allocator}
        run += [{**timed("lossfold-cpp", whole), **variant}, {**timed("eager", 60.0), **variant}]
        run += [{**timed("lossfold-cpp", both), **variant, "kind": "part", "part": part} for part, both in parts.items()]
        run += [{"kind": "calibration", "allocator": allocator, "copy_bytes_per_second": 1e9, "exp_per_second": 1e6}]
    return results.finish(run)


def test_a_set_is_compared_with_its_dearest_term(with_parts: list[Row]) -> None:
    plain, huge = results.of_kind(with_parts, "ratio")
    assert (plain["dearest"], plain["vs_eager"], plain["vs_best"]) == ("lovasz", 5.0, 5.0)
    assert plain["vs_dearest"] == pytest.approx(8 / 12)
    assert plain["vs_parts"] == pytest.approx(1.0)
    assert huge["vs_dearest"] == huge["vs_parts"] == pytest.approx(8 / 6)
    assert "1.50x the time of its dearest term alone (Lovász-Softmax), 1.00x as fast as its terms" in report.render(with_parts)
    assert "1.50x the time of its dearest term alone" in markdown.render(with_parts)
    assert not floors.find_falls(with_parts, {"provider": "lossfold-cpp", "quick": {"four": {"vs_dearest": 0.66}}}, "quick")
    assert floors.find_falls(with_parts, {"provider": "lossfold-cpp", "quick": {"four": {"vs_dearest": 0.67}}}, "quick")


def test_memory_is_told_beyond_the_gradient(rows: list[Row]) -> None:
    eager, own = results.of_kind(rows, "memory")
    assert results.beyond_gradient(eager) == pytest.approx((3000 - 1000) / 100)
    assert results.beyond_gradient(own) == 0.0
    small = {"bytes_per_pixel": 9.0, "units": 1.8}  # 5 bytes a pixel of gradient and 4 of something else
    assert results.beyond_gradient(small) == pytest.approx(4.0)
    (line,) = [line for line in report.render(rows).splitlines() if line.startswith("  PyTorch eager")]
    assert line.endswith("3.00 u  20.0 B/px")


def test_shares_are_of_the_measured_limits(rows: list[Row]) -> None:
    (own,) = results.of_kind(rows, "time", provider="lossfold-cpp")
    assert own["both_share_of_copy"] == pytest.approx(0.1)
    assert own["forward_share_of_copy"] == pytest.approx(0.4)
    assert own["both_share_of_exp"] == pytest.approx(0.02)
    assert own["ns_per_pixel"] == pytest.approx(1e5)


def test_growth_is_between_neighbouring_sizes(rows: list[Row]) -> None:
    (found,) = results.of_kind(rows, "growth")
    assert found["worst_doubling"] == pytest.approx(1.25)
    assert found["first_to_last"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("floor", "falls"),
    [
        ({"ce": {"vs_eager": 9.0, "vs_best": 3.0}}, 0),
        ({"ce": {"vs_eager": 11.0, "vs_best": 3.0}}, 1),
        ({"ce": {"vs_eager": 11.0, "vs_best": 5.0}}, 2),
        ({"ce": {"vs_nobody": 1.0}}, 1),
        ({"dice": {"vs_eager": 11.0}}, 0),
    ],
)
def test_falls_are_found_in_measured_cases(rows: list[Row], floor: Row, falls: int) -> None:
    found = floors.find_falls(rows, {"provider": "lossfold-cpp", "quick": floor}, "quick")
    assert len(found.get("ce", [])) == falls


def test_packaged_floors_name_known_cases_and_ratios() -> None:
    recorded = floors.load()
    for run in ("full", "quick"):
        for case, wanted in recorded[run].items():
            assert case in CASES
            assert set(wanted) <= {"vs_eager", "vs_best", "vs_dearest", "memory_vs_eager"}


def test_files_round_trip_in_seven_digits(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    results.write([*rows, {"kind": "extra", "value": 1 / 3}], path)
    again = results.read(path)
    assert len(again) == len(rows) + 1
    assert again[-1]["value"] == 0.3333333


def test_text_names_the_machine_the_ratio_and_every_caveat(rows: list[Row]) -> None:
    text = report.render(rows)
    for words in (
        "Some(R) CPU",
        "10.0x as fast as eager",
        "4.0x as fast as the best other (MONAI)",
        "a caveat",
        "kornia: why",
        "3.00 u",
    ):
        assert words in text, words


def test_markdown_rows_have_as_many_cells_as_the_head(rows: list[Row]) -> None:
    lines = [line for line in markdown.render(rows).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "| CE | **10.0 ms** | 100 ms | – | 40.0 ms (MONAI) | 10.0x | 4.0x (MONAI) |" in lines[2]


def test_minimal_bytes_count_readings_and_the_written_gradient() -> None:
    sample: Sample = label_sample(Setting(size=(1, 2, 4, 8), labels="uint8"))
    logits, labels = 64 * 4, 32
    expected = {
        "ce": {"forward": logits + labels, "backward": 2 * logits + labels, "both": 2 * logits + labels},
        "dice": {"forward": logits + labels, "backward": 2 * logits + labels, "both": 3 * logits + 2 * labels},
    }
    for name, parts in expected.items():
        for part, count in parts.items():
            assert CASES[name].minimal_bytes(sample, part) == count, (name, part)


def test_minimal_bytes_at_label_resolution_are_of_the_small_logits() -> None:
    case = CASES["ce-x4"]
    sample = case.sample(Setting(size=(1, 2, 16, 32), labels="uint8"))
    logits, labels = 64 * 4, 512
    assert sample.leaf_bytes == logits
    assert case.minimal_bytes(sample, "both") == 2 * logits + labels


def test_alphas_are_described_beside_the_logits_and_have_no_exponentials(rows: list[Row]) -> None:
    """A run of an earlier version has no name for its leaf: logits."""
    alphas = {"case": "matting", "leaf": "alphas", "shape": [4, 1, 8, 8], "exponentials": 0}
    mixed = results.finish([*rows, {**timed("eager", 30.0), **alphas}])
    text, table = report.render(mixed), markdown.render(mixed)
    assert "[1,2,10,10] float32, int64 labels, random logits" in text
    heading, _, line = text.partition("Matting: 4 terms · ")[2].splitlines()[:3]
    assert heading.startswith("[4,1,8,8] float32, random alphas · ")
    assert line.count("%") == 1
    assert "[1,2,10,10] float32, int64 labels, random logits; Matting: 4 terms: [4,1,8,8] float32, random alphas; medians" in table


def test_minimal_bytes_of_alphas_read_twice_what_is_written_once() -> None:
    for name, others in (("laplacian", 1), ("matting", 2)):
        case = CASES[name]
        sample = case.sample(Setting(size=(2, 1, 16, 16)))
        unit = 4 * 2 * 256
        assert case.minimal_bytes(sample, "forward") == (1 + others) * unit
        assert case.minimal_bytes(sample, "both") == (2 + others) * unit


def test_rounds_are_fewer_where_each_takes_long() -> None:
    assert CASES["matting"].rounds(7, 2) == (7, 2)
    assert CASES["matting-large"].rounds(7, 2) == (3, 1)
    assert CASES["matting-large"].rounds(2, 0) == (2, 0)


def test_best_library_is_any_peer(rows: list[Row]) -> None:
    rows = [*rows, timed("toolbelt", 20.0)]
    assert "20.0 ms (toolbelt)" in markdown.render(rows)


def test_spread_of_few_rounds() -> None:
    assert Spread.of([0.002]) == Spread(2.0, 2.0, 2.0)
    spread = Spread.of([0.001, 0.002, 0.003, 0.004, 0.1])
    assert spread.median == 3.0
    assert math.isclose(spread.p20, 1.8)


def test_slug_is_a_plain_file_name() -> None:
    assert slug(MACHINE) == "some-2t"
