"""Nobody is timed who computes something else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lossfold.bench import definitions
from lossfold.bench.agreement import find_truth, judge
from lossfold.bench.case import Entry, LossFunction, Setting
from lossfold.bench.cases import CASES
from lossfold.bench.providers import PROVIDERS
from lossfold.bench.worker import short_reason, time_case

SETTING = Setting(size=(2, 4, 16, 32))
TASK = {"repeats": 2, "warmup": 0}


def timed_row(case: str, function: LossFunction) -> dict[str, Any]:
    """The row of a provider "eager" that does a case by the given function."""
    changed = replace(CASES[case], entries={"eager": Entry(lambda: function)})
    (row,) = time_case(changed, SETTING, {**TASK, "providers": ["eager"]}, None)
    return row


def with_wrong_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """The right value with a gradient of twice the size."""
    value = definitions.dice(logits, labels)
    return 2 * value - value.detach()


WRONG: list[tuple[str, LossFunction]] = [
    ("ce", lambda logits, labels: 1.001 * definitions.cross_entropy(logits, labels)),
    ("dice", lambda logits, labels: definitions.dice(logits, labels, smooth=2.0)),
    ("dice", lambda logits, labels: definitions.dice(logits, labels, per_image=True)),
    ("dice", with_wrong_gradient),
    ("focal", lambda logits, labels: definitions.focal(logits, labels, gamma=1.9)),
    ("ce", lambda logits, labels: definitions.cross_entropy(logits, labels) * float("nan")),
]


@pytest.mark.parametrize(("case", "wrong"), WRONG)
def test_a_wrong_provider_is_refused_and_not_timed(case: str, wrong: LossFunction) -> None:
    row = timed_row(case, wrong)
    assert row["status"] == "refused"
    assert "computes something else" in row["reason"]
    assert "both_ms" not in row


def test_the_definition_itself_is_timed() -> None:
    row = timed_row("ce", definitions.cross_entropy)
    assert row["status"] == "ok"
    assert row["both_ms"]["p20"] <= row["both_ms"]["median"] <= row["both_ms"]["p80"]
    assert row["gradient_error"] < 1e-6


def test_rounding_is_told_and_ranked_but_not_nonsense() -> None:
    def rounded(logits: Tensor, labels: Tensor) -> Tensor:
        return definitions.cross_entropy(logits, labels) * (1.001 if logits.dtype == torch.float32 else 1.0)

    def overflowing(logits: Tensor, labels: Tensor) -> Tensor:
        return definitions.cross_entropy(logits, labels) * (float("nan") if logits.dtype == torch.float32 else 1.0)

    row = timed_row("ce", rounded)
    assert row["status"] == "ok"
    assert "right in float64, imprecise in float32" in row["reason"]
    assert "both_ms" in row
    assert timed_row("ce", overflowing)["status"] == "refused"


def test_a_provider_that_raises_fails_alone() -> None:
    def broken(*_: Tensor) -> Tensor:
        raise RuntimeError("no such kernel in /usr/lib/somewhere/kernel.so\nmore")

    row = timed_row("ce", broken)
    assert row["status"] == "failed"
    assert row["reason"] == "RuntimeError: no such kernel in ..."


def test_reasons_keep_words_with_slashes() -> None:
    assert short_reason(ValueError("GB/s and/or")) == "ValueError: GB/s and/or"


def test_definitions_match_formulas_by_hand() -> None:
    """The truth itself, on two pixels and two classes, one more pixel ignored."""
    logits = torch.tensor([[[2.0, 0.0, 9.0], [0.0, 1.0, 0.0]]], dtype=torch.float64)
    labels = torch.tensor([[0, 1, definitions.IGNORED]])
    p = [1 / (1 + torch.exp(torch.tensor(-2.0, dtype=torch.float64))), 1 / (1 + torch.exp(torch.tensor(-1.0, dtype=torch.float64)))]
    entropy = -(p[0].log() + p[1].log()) / 2
    focal = -((1 - p[0]) ** 2 * p[0].log() + (1 - p[1]) ** 2 * p[1].log()) / 2
    first = 1 - (2 * p[0] + 1) / (p[0] + (1 - p[1]) + 1 + 1)
    second = 1 - (2 * p[1] + 1) / ((1 - p[0]) + p[1] + 1 + 1)
    torch.testing.assert_close(definitions.cross_entropy(logits, labels), entropy)
    torch.testing.assert_close(definitions.focal(logits, labels), focal)
    torch.testing.assert_close(definitions.dice(logits, labels), (first + second) / 2)
    torch.testing.assert_close(definitions.cross_entropy_dice_focal(logits, labels), entropy + focal + (first + second) / 2)


def judged(case: str, provider: str, setting: Setting) -> bool:
    """Whether an entry agrees with its truth."""
    entry = CASES[case].entries[provider]
    sample = CASES[case].sample(setting, **entry.inputs)
    definition: Callable[..., Tensor] = lambda *inputs: CASES[case].truth(*inputs, **entry.options)  # noqa: E731
    return judge(entry.build(), sample, find_truth(definition, sample)).status == "ok"


@pytest.mark.parametrize("logits", ["random", "trained"])
@pytest.mark.parametrize("case", CASES)
def test_the_eager_engine_agrees_on_every_case(case: str, logits: str) -> None:
    for provider in ("eager", "lossfold-eager"):
        assert judged(case, provider, replace(SETTING, logits=logits)), provider


REFUSED = {("smp", "focal"), ("smp", "ce-dice-focal")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("provider", ["monai", "smp", "kornia"])
def test_peers_agree_but_for_those_known_to_differ(provider: str) -> None:
    if not PROVIDERS[provider].installed:
        pytest.skip(f"{provider} is not installed")
    setting = Setting(size=(2, 5, 64, 128), labels="uint8")
    found = {name: judged(name, provider, setting) for name, case in CASES.items() if provider in case.entries}
    assert found == {name: (provider, name) not in REFUSED for name in found}
