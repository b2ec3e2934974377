"""Nobody is timed who computes something else."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import lossfold as lf
from lossfold.bench import definitions, similarity
from lossfold.bench.agreement import find_truth, judge
from lossfold.bench.case import Entry, LossFunction, Setting, Tolerance
from lossfold.bench.cases import CASES, ohem
from lossfold.bench.providers import PROVIDERS
from lossfold.bench.worker import short_reason, time_case

SETTING = Setting(size=(2, 4, 16, 32))
TASK = {"repeats": 2, "warmup": 0}


def timed_row(case: str, function: LossFunction) -> dict[str, Any]:
    """The row of a provider "eager" that does a case by the given function."""
    changed = replace(CASES[case], entries={"eager": Entry(lambda: function)})
    (row,) = time_case(changed, SETTING, {**TASK, "providers": ["eager"]}, None)
    return row


def resized(logits: Tensor, labels: Tensor, mode: str = "bilinear", **options: Any) -> Tensor:
    """Logits at the labels' resolution, by whatever interpolation."""
    return functional.interpolate(logits, labels.shape[1:], mode=mode, **options)


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
    ("lovasz", lambda logits, labels: definitions.lovasz(logits, labels, per_image=True)),
    ("lovasz", lambda logits, labels: 1.001 * definitions.lovasz(logits, labels)),
    ("ohem", lambda logits, labels: definitions.ohem(logits, labels, min_kept=800)),
    ("four", definitions.cross_entropy_dice_focal),
    ("ce-x4", lambda logits, labels: definitions.cross_entropy(resized(logits, labels, align_corners=True), labels)),
    ("ce-x8", lambda logits, labels: definitions.cross_entropy(resized(logits, labels, mode="nearest"), labels)),
    ("ce-dice-x4", definitions.upsampled(definitions.dice)),
    ("laplacian", partial(definitions.laplacian, levels=2)),
    ("laplacian", lambda pred, target: definitions.laplacian(pred, 1.001 * target)),
    ("matting", lambda pred, target, region: definitions.matting(pred, target, 1 - region)),
    ("matting", lambda pred, target, region: definitions.matting(pred, target, torch.ones_like(region))),
    ("matting", lambda *inputs: definitions.matting(*inputs) - 0.01 * definitions.known_l1(*inputs)),
    ("matting", lambda *inputs: definitions.matting(*inputs) - definitions.matting_gradient(*inputs, smoothness=1e-3)),
    ("ssim", lf.SSIMLoss(sigma=1.6)),
    ("ssim", lf.SSIMLoss(padding="reflect")),
    ("ssim", lambda pred, target: similarity.ssim(pred, 1.01 * target)),
    ("ssim", lambda pred, target: similarity.ssim(pred, target) / 2),
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


def test_a_wider_tolerance_is_told() -> None:
    sample = CASES["ce"].sample(SETTING)
    truth = find_truth(definitions.cross_entropy, sample)
    for error, status in ((1e-3, "ok"), (1e-2, "refused")):
        function = lambda *inputs, error=error: (1 + error) * definitions.cross_entropy(*inputs)  # noqa: E731
        found = judge(function, sample, truth, Tolerance(value=5e-3, gradient=5e-3))
        assert found.status == status
        assert "gradient off by 1.0e-0" in found.reason
        assert judge(function, sample, truth, Tolerance(value=5e-3)).status == "refused"
        assert judge(function, sample, truth, Tolerance(gradient=5e-3)).status == "refused"


def test_who_mixes_dtypes_is_refused_where_only_float64_could_tell() -> None:
    def mixed(logits: Tensor, labels: Tensor) -> Tensor:
        return 1.001 * definitions.cross_entropy(logits, labels).reshape(1) @ torch.ones(1)

    row = timed_row("ce", mixed)
    assert row["status"] == "refused"
    assert "computes something else" in row["reason"]


def test_label_resolution_fails_alone_where_there_are_no_images() -> None:
    task = {**TASK, "providers": ["lossfold-eager", "eager"]}
    for row in time_case(CASES["ce-x4"], Setting(size=(2, 4, 40)), task, None):
        assert row["status"] == "failed"
        assert "needs a size B,C,H,W" in row["reason"]


def test_alphas_fail_alone_where_there_are_no_images() -> None:
    (row,) = time_case(CASES["matting"], Setting(size=(2, 1, 40)), {**TASK, "providers": ["eager"]}, None)
    assert row["status"] == "failed"
    assert "need a size B,C,H,W" in row["reason"]


def test_images_too_small_for_five_windows_fail_alone() -> None:
    for size, words in (((1, 1, 100, 200), "Kernel size"), ((1, 1, 200), "need a size B,C,H,W")):
        (row,) = time_case(CASES["ms-ssim"], Setting(size=size), {**TASK, "providers": ["lossfold-eager"]}, None)
        assert row["status"] == "failed" and words in row["reason"]


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


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_is_the_extension_of_the_jaccard_loss_by_hand(per_image: bool) -> None:
    """The sum over sets of the most wrong pixels, each set's Jaccard loss from Python sets; two images, one pixel ignored."""
    logits = 2 * torch.randn(2, 3, 7, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2, 2, 1, 0, 0], [1, 1, 0, 2, 0, 2, definitions.IGNORED]])
    p = logits.softmax(1)
    places = [(image, pixel) for image in range(2) for pixel in range(7) if labels[image, pixel] != definitions.IGNORED]
    groups = [[place for place in places if place[0] == image] for image in range(2)] if per_image else [places]
    losses = []
    for group, label in product(groups, range(3)):
        truth = {place for place in group if labels[place] == label}
        error = {(i, j): abs(float((i, j) in truth) - p[i, label, j].item()) for i, j in group}
        ordered = sorted(group, key=error.__getitem__, reverse=True)
        wrong = [set(ordered[:count]) for count in range(len(group) + 1)]
        jaccard = [1 - len(truth - places) / len(truth | places) for places in wrong]
        rises = [after - before for before, after in pairwise(jaccard)]
        losses.append(sum(error[place] * rise for place, rise in zip(ordered, rises, strict=True)))
    expected = torch.tensor(sum(losses) / len(losses), dtype=torch.float64)
    torch.testing.assert_close(definitions.lovasz(logits, labels, per_image), expected)


@pytest.mark.parametrize(("thresh", "min_kept", "kept"), [(0.2, 1, 2), (0.2, 4, 4), (0.0, 3, 4), (1.0, 1, 5), (0.5, 9, 5)])
def test_ohem_keeps_by_hand(thresh: float, min_kept: int, kept: int) -> None:
    """Five pixels from hard to easy, the third and the fourth equal, and an ignored one; the mean is over the first `kept`."""
    p = torch.tensor([0.05, 0.1, 0.4, 0.4, 0.9, 0.5], dtype=torch.float64)
    logits = torch.stack([p.log(), (1 - p).log()])[None]
    labels = torch.tensor([[0, 0, 0, 0, 0, definitions.IGNORED]])
    expected = -p[:kept].log().mean()
    torch.testing.assert_close(definitions.ohem(logits, labels, thresh, min_kept), expected)


def test_upsampled_interpolates_between_centres() -> None:
    logits = torch.tensor([[[[0.0, 4.0]], [[0.0, 0.0]]]])
    seen = []
    definitions.upsampled(lambda scores, labels: seen.append(scores) or scores.sum())(logits, torch.zeros(1, 1, 8))
    torch.testing.assert_close(seen[0][0, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.5, 2.5, 3.5, 4.0, 4.0]))


def test_matting_definitions_match_formulas_by_hand() -> None:
    """One soft pixel is wrong by a quarter: every filter's response is its kernel, and a sum of kernels is known."""
    target, region = torch.zeros(1, 1, 16, 16, dtype=torch.float64), torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    pred = target.clone()
    pred[0, 0, 8, 8] = 0.25
    region[..., 6:11, 6:11] = 1
    torch.testing.assert_close(definitions.unknown_l1(pred, target, region).item(), 0.25 / 25)
    torch.testing.assert_close(definitions.known_l1(pred, target, 1 - region).item(), 0.25 / 25)
    assert definitions.known_l1(pred, target, region) == 0
    torch.testing.assert_close(definitions.matting_gradient(pred, target, region).item(), 1.01 * 2 * 8 * 0.25 / 25)
    torch.testing.assert_close(definitions.matting_gradient(target, pred, region).item(), 2 * 8 * 0.25 / 25)
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=torch.float64) / 16
    torch.testing.assert_close(definitions.blur(pred)[0, 0, 6:11, 6:11], 0.25 * row[:, None] * row)


def test_similarity_of_flat_images_by_hand() -> None:
    """There is nothing but luminance, which MS-SSIM takes at its last scale alone."""
    dark, light = torch.full((1, 2, 176, 176), 0.25, dtype=torch.float64), torch.full((1, 2, 176, 176), 0.5, dtype=torch.float64)
    luminance = torch.tensor((2 * 0.25 * 0.5 + 1e-4) / (0.25**2 + 0.5**2 + 1e-4), dtype=torch.float64)
    torch.testing.assert_close(similarity.ssim(dark, light), 1 - luminance)
    torch.testing.assert_close(similarity.ms_ssim(dark, light), 1 - luminance**0.1333)


def test_a_laplacian_pyramid_by_matrices() -> None:
    """Down and up as matrices over a row of pixels, the borders reflected by indices; the second level stops at sides of 4."""

    def blurring(length: int) -> Tensor:
        matrix = torch.zeros(length, length, dtype=torch.float64)
        for place, (step, share) in product(range(length), ((-2, 1), (-1, 4), (0, 6), (1, 4), (2, 1))):
            reflected = abs(place + step)
            matrix[place, min(reflected, 2 * (length - 1) - reflected)] += share / 16
        return matrix

    torch.manual_seed(0)
    pred, target = torch.rand(2, 2, 1, 9, 8, dtype=torch.float64)
    details, image = [], (pred - target)[..., :8, :]
    for length in (8, 4):
        down, up = blurring(length)[::2], 2 * blurring(length)[:, ::2]
        small = down @ image @ down.T
        details.append(image - up @ small @ up.T)
        image = small
    assert len(definitions.pyramid(pred, 5)) == 2
    expected = (details[0].abs().mean() + 2 * details[1].abs().mean()) / 5
    torch.testing.assert_close(definitions.laplacian(pred, target), expected)


def judged(case: str, provider: str, setting: Setting) -> bool:
    """Whether an entry agrees with its truth; of volumes where it is about them, of five scales on images that they fit."""
    entry = CASES[case].entries[provider]
    if len(CASES[case].sizes.full) == 5:
        setting = replace(setting, size=(2, 2, 12, 13, 14) if case == "ssim-3d" else (2, 4, 8, 12, 16))
    if case == "ms-ssim":
        setting = replace(setting, size=(2, 2, 192, 208))
    sample = CASES[case].sample(setting, **entry.inputs)
    definition: Callable[..., Tensor] = lambda *inputs: CASES[case].truth(*inputs, **entry.options)  # noqa: E731
    return judge(entry.build(), sample, find_truth(definition, sample), CASES[case].tolerance).status == "ok"


OWN = [f"lossfold-{engine}" for engine in lf.engines.available()]


@pytest.mark.parametrize("logits", ["random", "trained"])
@pytest.mark.parametrize(
    ("provider", "case"), [(key, name) for key in ("eager", *OWN) for name, case in CASES.items() if key in case.entries]
)
def test_own_engines_and_plain_pytorch_agree_on_every_case(provider: str, case: str, logits: str) -> None:
    assert judged(case, provider, replace(SETTING, logits=logits))


@pytest.mark.parametrize("provider", OWN)
def test_ohem_agrees_where_it_leaves_pixels_out(provider: str) -> None:
    """More pixels than min_kept, most of them easy."""
    setting = Setting(size=(1, 3, 384, 384), logits="trained")
    labels = CASES["ohem"].sample(setting).rest[0]
    assert (labels != definitions.IGNORED).sum() > 1.2 * ohem.MIN_KEPT
    assert judged("ohem", provider, setting)


REFUSED = {("smp", "focal"), ("smp", "ce-dice-focal")}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("provider", [key for key in PROVIDERS if PROVIDERS[key].library])
def test_peers_agree_but_for_those_known_to_differ(provider: str) -> None:
    if not PROVIDERS[provider].installed:
        pytest.skip(f"{provider} is not installed")
    setting = Setting(size=(2, 5, 64, 128), labels="uint8")
    found = {name: judged(name, provider, setting) for name, case in CASES.items() if provider in case.entries}
    assert found == {name: (provider, name) not in REFUSED for name in found}
