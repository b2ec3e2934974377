"""Configurations from files: YAML 1.2's numbers, plain values only, and errors with file, line and path."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import lossfold as lf
from lossfold.config.files import load

pytest.importorskip("yaml")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str | bytes, name: str = "losses.yaml") -> Path:
        file = tmp_path / name
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return written


def refused(file: Path, *words: str, **options: Any) -> str:
    with pytest.raises(lf.LossError) as caught:
        lf.build(file, **options)
    message = str(caught.value)
    for word in words:
        assert re.search(word, message), f"{word!r} is not in: {message}"
    assert len(message) < 2000
    return message


PLAIN = {
    **{
        "1e-3": 1e-3,
        "1E5": 1e5,
        "-1.5e+3": -1500.0,
        ".5": 0.5,
        "1.": 1.0,
        "+3": 3,
        "0o17": 15,
        "0x1F": 31,
        "017": 17,
        "1:30": "1:30",
    },
    **{"1_000": "1_000", "yes": "yes", "off": "off", "true": True, "False": False, "null": None, "~": None, "": None, "e3": "e3"},
    **{"2020-01-01": "2020-01-01", "'1e-3'": "1e-3", '"true"': "true", "-.inf": -float("inf"), "=": "="},
    **{"!!float 3": 3.0, "!!str 3": "3", "!!int 3": 3, "!!bool true": True, "!!null ~": None},
}


@pytest.mark.parametrize("text", PLAIN)
def test_plain_values(text: str, write: Any) -> None:
    (value,) = load(write(f"a: {text}\n"))[0].values()
    assert type(value) is type(PLAIN[text]) and value == PLAIN[text]


def test_nan(write: Any) -> None:
    value = load(write("a: .nan\n"))[0]["a"]
    assert value != value
    refused(write("type: DiceLoss\nsmooth: .nan\n"), "smooth")


def test_a_file_builds_by_path_string_and_key(write: Any) -> None:
    file = write("model:\n  loss: {type: DiceLoss, smooth: 1e-3}\n")
    for path in (file, str(file)):
        assert repr(lf.build(path, key="model.loss")) == "DiceLoss(smooth=0.001)"
    refused(file, "losses.yaml:1: cfg must be a dict with 'los'|'los'", key="los")
    refused(file, r"losses\.yaml:2: model must be .*'los'.*did you mean 'loss'", key="model.los")


def test_errors_carry_file_line_path_and_the_nearest_name(write: Any) -> None:
    text = "model:\n  loss:\n    type: LossSet\n    ce: {type: CrossEntropyLoss}\n    dice:\n      type: DiceLoss\n      %s\n"
    key = {"key": "model.loss"}
    refused(
        write(text % "smoth: 1"),
        r"^losses\.yaml:7: model\.loss\.dice\.smoth must be an option of DiceLoss, got 1 ",
        "'smooth'",
        **key,
    )
    refused(write(text % "smooth: -1"), r"^losses\.yaml:7: model\.loss\.dice\.smooth must be a number >= 0, got -1", **key)
    refused(
        write(text.replace("DiceLoss", "DiceLos") % ""),
        r"^losses\.yaml:6: model\.loss\.dice\.type .*did you mean 'DiceLoss'",
        **key,
    )
    refused(write("- type: L1Loss\n- type: L1Los\n"), r"^losses\.yaml:2: 1\.type must be")
    refused(write('{"a": {"type": "DiceLos"}}', "a.json"), r"^a\.json: a\.type must be")


def test_anchors_and_merges(write: Any) -> None:
    file = write("""
base: &base {type: DiceLoss, ignore_index: 255}
loss:
  one: *base
  two: {<<: *base, loss_weight: 5e-1}
  three: {loss_weight: 2, <<: [{ignore_index: 3}, *base]}
""")
    built = lf.build(file, key="loss")
    assert repr(built) == repr(
        lf.LossSet(
            one=lf.DiceLoss(ignore_index=255),
            two=lf.DiceLoss(ignore_index=255, loss_weight=0.5),
            three=lf.DiceLoss(ignore_index=3, loss_weight=2),
        )
    )
    refused(write("type: DiceLoss\n<<: 3\n"), "a dict, or a list of dicts")


LAUGHS = "a0: &a0 {type: DiceLoss}\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
BAD: dict[str, tuple[str | bytes, str]] = {
    "a key twice": ("type: DiceLoss\nsmooth: 1\nsmooth: 2\n", r"losses\.yaml:3: smooth must be a key that comes once"),
    "laughs": (LAUGHS, "at most 100000 values"),
    "an alias in itself": ("&a [*a]", "part of itself"),
    "deep": ("[" * 5000, "at most 64 deep|YAML"),
    "deep blocks": ("".join(" " * n + "a:\n" for n in range(200)), "at most 64 deep"),
    "large": ("# " + "x" * (1 << 20), "bytes"),
    "nothing": ("", "an empty file"),
    "two documents": ("a: 1\n---\nb: 2\n", "one document"),
    "no YAML": ("a: [1, 2\nb: }", r"losses\.yaml:\d"),
    "a tab": ("a:\n\t- b", "YAML"),
    "a list as a key": ("? [a]\n: b\n", "keys that are words"),
    "no text": (b"\xff\xfe\x00a", "can be read"),
    "control characters": ("a: \x00", "YAML"),
    "a huge integer": ("type: DiceLoss\nsmooth: " + "9" * 5000, "numbers that a float can hold"),
    "a huge hexadecimal": ("type: DiceLoss\nsmooth: 0x" + "f" * 5000, "a float can hold"),
    "binary": ("type: !!binary aGk=\n", "!!binary"),
    "a set": ("!!set {a, b}\n", "!!set"),
    "a tag of somebody's": ("!mine {type: DiceLoss}\n", "!mine"),
    "a wrong tag": ("type: DiceLoss\nsmooth: !!int abc\n", "!!int"),
    "an unknown alias": ("a: *b\n", "undefined alias"),
    "a word": ("DiceLoss\n", "a dict with the name of a loss"),
}


LARGE = {
    "a long list": ("a.yaml", f"type: DiceLoss\nclass_weight: [{'1,' * 400_000}1]", "at most 20000 words"),
    "many keys": ("a.json", "{" + ",".join(f'"k{n}":1' for n in range(60_000)) + "}", "the name of a loss"),
    "many brackets": ("a.yaml", "[" * 100_000, "at most 64 deep"),
}


@pytest.mark.parametrize("what", LARGE)
def test_large_files_are_refused_in_a_moment(what: str, write: Any) -> None:
    name, text, words = LARGE[what]
    file, begin = write(text, name), time.process_time()
    refused(file, words)
    assert time.process_time() - begin < 10  # 20 s and more for the first two where nothing is counted


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused(what: str, write: Any) -> None:
    text, words = BAD[what]
    refused(write(text), words)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{", "[" * 100000, "9" * 5000, '{"type": "DiceLoss", "smooth": NaN}', ""])
def test_bad_json_is_refused(text: str, write: Any) -> None:
    refused(write(text, "losses.json"), "losses.json")


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.yaml", "can be read", "none.yaml")
    refused(tmp_path, "a file of .yaml, .yml, .json")
    (tmp_path / "a.yaml").mkdir()
    refused(tmp_path / "a.yaml", "can be read")


def test_without_pyyaml(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    refused(write("type: DiceLoss"), r"pip install 'lossfold\[yaml\]'")
    assert repr(lf.build(write('{"type": "DiceLoss"}', "a.json"))) == "DiceLoss()"


def test_paths_inside_of_configs_are_not_opened(write: Any) -> None:
    file = write("type: DiceLoss")
    with pytest.raises(lf.LossError, match="a dict with the name of a loss"):
        lf.build({"type": "LossSet", "a": str(file)})
