"""The path-length regulariser of linear generators: lengths, their mean over time, what is kept, and what generators may return."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from tests.losses.adversarial.critics import images
from tests.losses.adversarial.oracles import number
from tests.seeds import seed


class Pixel(nn.Module):
    """G(w) = s·Σw, one pixel of one channel: with y ~ N(0, 1), every entry of g is s·y."""

    def __init__(self, s: float = 1.5) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(s, dtype=torch.float64))

    def forward(self, styles: Tensor) -> Tensor:
        return (self.s.to(styles.dtype) * styles.flatten(1).sum(1))[:, None, None, None]


class Linear(nn.Module):
    """G(w) = Aw as images of 2 channels and 4 × 5 pixels."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.a = nn.Parameter(images(40, size, seed=3))

    def forward(self, styles: Tensor) -> Tensor:
        return (styles @ self.a.to(styles.dtype).T).view(-1, 2, 4, 5)


def latents(*shape: int, seed: int = 0) -> Tensor:
    return images(*shape, seed=seed)


def lengths(generator: Any, given: Tensor, seed: int = 0) -> Tensor:
    torch.default_generator.manual_seed(seed)
    return lf.functional.path_lengths(generator, given)


def test_lengths_of_a_linear_generator() -> None:
    """g = Aᵀy with y of variance 1/(H·W): E‖g‖² = ‖A‖²/(H·W)."""
    generator = Linear()
    found = lengths(generator, latents(20_000, 6))
    assert found.shape == (20_000,) and found.dtype == torch.float64
    expected = number(generator.a.detach().square().sum()) / 20
    spread = number(found.detach().square().std()) / 20_000**0.5
    assert abs(number(found.square().mean()) - expected) < 4 * spread < 0.03 * expected


def test_lengths_of_one_pixel() -> None:
    """|y|·|s|·√D: a half-normal, of mean √(2/π)|s|√D and of second moment s²D."""
    found = lengths(Pixel(-1.5), latents(40_000, 4)).detach()
    assert number(found.mean()) == pytest.approx(3 * math.sqrt(2 / math.pi), rel=0.02)
    assert number(found.square().mean()) == pytest.approx(9, rel=0.03)
    assert number((found < 3).double().mean()) == pytest.approx(0.6827, abs=0.01)  # one standard deviation


def test_the_noise_is_divided_by_the_side_of_the_image() -> None:
    """√(H·W), not H·W and not the channels: E‖g‖² does not change when every pixel is enlarged to 2 × 8 of them."""

    class Large(Linear):
        def forward(self, styles: Tensor) -> Tensor:
            small = super().forward(styles)
            return small.repeat_interleave(2, 2).repeat_interleave(8, 3)

    def second_moment(generator: nn.Module) -> float:
        return number(lengths(generator, latents(20_000, 6)).detach().square().mean())

    # each latent moves 16 pixels at once, whose noises add up: variance 16 / (16·H·W)
    assert second_moment(Large()) == pytest.approx(second_moment(Linear()), rel=0.03)


def test_lengths_do_not_depend_on_where_a_linear_generator_is() -> None:
    generator = Linear()
    torch.testing.assert_close(lengths(generator, latents(5, 6)), lengths(generator, 1e3 * latents(5, 6, seed=1)))
    assert not torch.equal(lengths(generator, latents(5, 6)), lengths(generator, latents(5, 6), seed=1))


def test_shapes_of_styles() -> None:
    """[B, D]: √Σ; [B, L, D]: the mean over the layers of the sums over D; any other: √Σ over everything."""
    generator = Pixel()
    flat = lengths(generator, latents(4, 12)) / 12**0.5  # |y|·s
    torch.testing.assert_close(lengths(generator, latents(4, 3, 5)), flat * 5**0.5)
    torch.testing.assert_close(lengths(generator, latents(4, 1, 5)), flat * 5**0.5)
    torch.testing.assert_close(lengths(generator, latents(4, 3, 5, 1)), flat * 15**0.5)
    torch.testing.assert_close(lengths(generator, latents(4, 3, 2, 2)), flat * 12**0.5)


class Mapped(nn.Module):
    """Latents mapped to styles by a factor: what the styles see is s, what the latents see is factor·s."""

    def __init__(self, form: str, factor: float = 7.0) -> None:
        super().__init__()
        self.form, self.factor, self.pixel = form, factor, Pixel()

    def forward(self, given: Tensor) -> Any:
        styles = self.factor * given
        made = self.pixel(styles)
        if self.form == "dict":
            return {"fake_img": made, "latent": styles, "noise": None}
        return (made, styles) if self.form == "pair" else made


def test_generators_that_return_their_styles() -> None:
    """The gradient is for the styles if the generator says them, and for the latents if not."""
    given = latents(6, 4)
    expected = lengths(Pixel(), given)
    for form in ("pair", "dict"):
        torch.testing.assert_close(lengths(Mapped(form), given), expected)
        seed()
        value = lf.GeneratorPathRegularizer(batch_shrink=1, decay=1.0)(Mapped(form), given)
        torch.testing.assert_close(value, expected.var(unbiased=False))
    torch.testing.assert_close(lengths(Mapped("alone"), given), 7 * expected)


def test_lengths_have_a_graph_and_styles_that_are_mapped_pass_it_on() -> None:
    generator, given = Mapped("pair"), latents(6, 4)
    (slope,) = torch.autograd.grad(lengths(generator, given).sum(), generator.pixel.s)
    torch.testing.assert_close(slope, (lengths(Pixel(1.0), given)).sum().detach())


def test_steps_by_hand() -> None:
    """a = m + d(mean of lengths - m), the value the mean of (length - a)², m becomes a; the gradient goes through a too."""
    generator, decay = Pixel(), 0.25
    regulariser = lf.GeneratorPathRegularizer(decay=decay, batch_shrink=1, loss_weight=2.0)
    mean = 0.0
    assert number(regulariser.mean_path_length) == 0
    for step in range(5):
        given = latents(8, 4, seed=step)
        unit = lengths(Pixel(1.0), given, seed=step).detach()
        seed(step)
        value = regulariser(generator, given)
        (slope,) = torch.autograd.grad(value, generator.s)
        s = number(generator.s)
        anchor = mean + decay * (s * number(unit.mean()) - mean)
        expected = 2 * (s * unit - anchor).square().mean()
        expected_slope = 2 * (2 * (s * unit - anchor) * (unit - decay * unit.mean())).mean()
        torch.testing.assert_close(value.detach(), expected)
        torch.testing.assert_close(slope, expected_slope)
        torch.testing.assert_close(
            regulariser.mean_path_length.double(), torch.tensor(anchor, dtype=torch.float64), rtol=1e-6, atol=0
        )
        assert not regulariser.mean_path_length.requires_grad
        mean = number(regulariser.mean_path_length)
    assert mean > 0


def test_the_mean_settles_at_the_expectation() -> None:
    regulariser, generator = lf.GeneratorPathRegularizer(decay=0.05, batch_shrink=1), Pixel()
    for turn in range(150):
        seed(turn)
        regulariser(generator, latents(200, 4))
    assert number(regulariser.mean_path_length) == pytest.approx(3 * math.sqrt(2 / math.pi), rel=0.03)


@pytest.mark.parametrize(("shrink", "batch", "used"), [(2, 8, 4), (2, 7, 3), (2, 1, 1), (4, 3, 1), (1, 5, 5), (3, 8, 2)])
def test_the_first_part_of_the_batch_is_used(shrink: int, batch: int, used: int) -> None:
    seen: list[Tensor] = []
    generator = Pixel()

    def watched(given: Tensor) -> Tensor:
        seen.append(given.detach().clone())
        return generator(given)

    given = latents(batch, 4)
    lf.GeneratorPathRegularizer(batch_shrink=shrink)(watched, given)
    assert len(seen) == 1 and torch.equal(seen[0], given[:used])
    assert lf.GeneratorPathRegularizer().batch_shrink == 2 and lf.GeneratorPathRegularizer().decay == 0.01


def moved(regulariser: lf.GeneratorPathRegularizer) -> float:
    """By how much a call moves the mean."""
    before = number(regulariser.mean_path_length)
    regulariser(Pixel(), latents(8, 4))
    return number(regulariser.mean_path_length) - before


def test_what_moves_the_mean() -> None:
    regulariser = lf.GeneratorPathRegularizer(decay=0.5)
    assert moved(regulariser) > 0
    assert moved(regulariser.eval()) == 0
    assert moved(regulariser.train()) != 0
    with torch.no_grad():
        assert moved(regulariser) == 0
        assert torch.isfinite(regulariser(Pixel(), latents(8, 4)))
    wrapped = lf.LossSet(path=regulariser).eval()
    assert not regulariser.training and moved(regulariser) == 0
    wrapped.train()
    assert moved(regulariser) != 0


def test_a_checkpoint_keeps_the_mean() -> None:
    regulariser = lf.GeneratorPathRegularizer(decay=0.5)
    moved(regulariser)
    mean = regulariser.mean_path_length.clone()
    assert mean > 0 and "mean_path_length" in regulariser.state_dict()
    fresh = lf.GeneratorPathRegularizer(decay=0.5)
    fresh.load_state_dict(regulariser.state_dict())
    loaded = pickle.loads(pickle.dumps(regulariser))
    sets = lf.LossSet(path=lf.GeneratorPathRegularizer(decay=0.5))
    sets.load_state_dict(lf.LossSet(path=regulariser).state_dict())
    weighed = 2.0 * regulariser
    for one in (fresh, loaded, copy.deepcopy(regulariser), sets.members[0], weighed):
        assert torch.equal(one.mean_path_length, mean) and one.mean_path_length is not regulariser.mean_path_length
    for change in (lambda m: m.double(), lambda m: m.to("cpu"), lambda m: m.float(), lambda m: m.half()):
        torch.testing.assert_close(change(copy.deepcopy(regulariser)).mean_path_length.float(), mean.float(), rtol=1e-6, atol=0)
    regulariser.decay = 0.25  # an option that is changed leaves it, too
    assert torch.equal(regulariser.mean_path_length, mean)
    with pytest.raises(lf.LossError):
        regulariser.decay = -1.0
    assert torch.equal(regulariser.mean_path_length, mean) and regulariser.decay == 0.25
    values = []
    for one in (regulariser, fresh):
        one.decay = 0.5
        seed(3)
        values.append(one(Pixel(), latents(8, 4)))
    assert torch.equal(*values)


def test_several_backwards_and_steps() -> None:
    """The graph of one step does not reach into the next, and the buffer is not changed in place under a graph."""
    regulariser, generator = lf.GeneratorPathRegularizer(decay=0.5), Linear()
    losses = [regulariser(generator, latents(8, 6, seed=seed)) for seed in range(3)]
    (losses[0] + losses[1] + losses[2]).backward()
    assert torch.isfinite(generator.a.grad).all() and generator.a.grad.any()


def test_derivatives_are_exact() -> None:
    mixing = images(3, 8, seed=4).requires_grad_()
    given = latents(6, 3)

    def call(matrix: Tensor) -> Tensor:
        def generator(styles: Tensor) -> Tensor:
            return (styles @ matrix).tanh().view(-1, 2, 2, 2)

        seed()
        return lf.GeneratorPathRegularizer(decay=0.3)(generator, given)

    assert torch.autograd.gradcheck(call, mixing)
    assert torch.autograd.gradgradcheck(call, mixing)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64], ids=str)
def test_zero_gradients(precision: torch.dtype) -> None:
    """A generator that has collapsed: lengths 0, a value of 0 and finite gradients."""
    generator = Pixel(0.0).to(precision)
    value = lf.GeneratorPathRegularizer()(generator, latents(8, 4).to(precision))
    assert value.dtype == precision and number(value) == pytest.approx(0, abs=1e-8)
    (slope,) = torch.autograd.grad(value, generator.s)
    assert torch.isfinite(slope)


def test_the_functional_form() -> None:
    """The mean is handed in and given back, so that steps in a row are those of the module."""
    generator, regulariser = Pixel(), lf.GeneratorPathRegularizer(decay=0.5, batch_shrink=3)
    mean: Any = 0.0
    for step in range(3):
        given = latents(8, 4, seed=step)
        seed(step)
        expected = regulariser(generator, given)
        seed(step)
        value, mean = lf.functional.generator_path_regularizer(generator, given, mean, decay=0.5, batch_shrink=3)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(mean, regulariser.mean_path_length)
        assert value.requires_grad and not mean.requires_grad
    assert lengths(generator, given).shape == (8,)


def test_latents_get_no_gradient_they_did_not_ask_for() -> None:
    given = latents(8, 4)
    lf.GeneratorPathRegularizer()(Pixel(), given).backward()
    assert given.grad is None and not given.requires_grad
