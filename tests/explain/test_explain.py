"""Which term pulls how much: held against gradients taken one by one, with nothing of the network or the criterion changed."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lossfold as lf
from lossfold.cli.__main__ import main


def criterion() -> lf.LossSet:
    return lf.LossSet(ce=lf.CrossEntropyLoss(ignore_index=255), dice=0.5 * lf.DiceLoss(ignore_index=255), lovasz=lf.LovaszLoss())


def batch() -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 4, (3, 7, 9))
    labels[0, :2] = 255
    return torch.randn(3, 4, 7, 9), labels.masked_fill(labels == 255, 0)


def test_it_is_what_gradients_say() -> None:
    scores, labels = batch()
    found = criterion().explain(scores.requires_grad_(), labels)
    slopes = []
    for name, loss in zip(found.names, (lf.CrossEntropyLoss(), 0.5 * lf.DiceLoss(), lf.LovaszLoss()), strict=True):
        value = loss(scores, labels)
        slopes.append(torch.autograd.grad(value, scores)[0].double())
        assert found.weighted[name] == pytest.approx(value.item(), rel=1e-6)
    assert found.values["dice"] == pytest.approx(2 * found.weighted["dice"], rel=1e-6)
    norms = torch.stack([slope.norm() for slope in slopes])
    close = torch.testing.assert_close
    close(found.norms, norms, rtol=1e-5, atol=0)
    close(found.shares, norms / norms.sum(), rtol=1e-5, atol=0)
    flat = torch.stack([slope.flatten() / slope.norm() for slope in slopes])
    close(found.cosines, flat @ flat.mT, rtol=1e-5, atol=1e-6)
    total = sum(slopes).flatten()
    close(found.along, flat @ total / total.norm(), rtol=1e-5, atol=1e-6)
    for index, slope in enumerate(slopes):
        close(found.by_class["scores"][index], slope.movedim(1, 0).flatten(1).norm(dim=1), rtol=1e-5, atol=1e-9)
        close(found.by_image["scores"][index], slope.flatten(1).norm(dim=1), rtol=1e-5, atol=1e-9)
        close(found.maps["scores"][index].double(), slope.norm(dim=1), rtol=1e-5, atol=1e-8)
    (row, *_) = found.rows()
    assert row["term"] == "ce" and row["share"] == pytest.approx(found.shares[0].item()) and row["cosine/ce"] == pytest.approx(1)
    lines = str(found).splitlines()
    assert len(lines) == 4 and lines[1].startswith("ce ") and f"{found.shares[0]:.0%}" in lines[1]
    assert sum(found.log().values()) == pytest.approx(1) and set(found.log("a/")) == {"a/ce", "a/dice", "a/lovasz"}


def test_networks_and_random_numbers_stay_as_they_are() -> None:
    network, terms = nn.Conv2d(3, 4, 1), criterion()
    images, labels = torch.randn(3, 3, 7, 9), batch()[1]
    state = torch.get_rng_state()
    with torch.no_grad():  # as in an evaluation
        first = terms.explain(network(images), labels)
    again = terms.explain(network(images), labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(first.norms, again.norms)


def test_a_graph_that_stands_open_can_still_be_differentiated() -> None:
    """As in the middle of a training's step, with class weights that the graph holds."""
    terms = lf.LossSet(ce=lf.CrossEntropyLoss(class_weight=[0.5, 1.0, 2.0, 1.0]), dice=lf.DiceLoss())
    scores, labels = batch()
    scores.requires_grad_()
    for _ in range(4):
        out = terms(scores, labels)
        terms.explain(scores, labels)
        out.backward()


def test_several_heads_in_one_dict_and_halves() -> None:
    """Gradients at all of them together; a head that a term does not see has none of it."""
    scores, labels = batch()
    terms = lf.LossSet(
        main=lf.CrossEntropyLoss(inputs={"logits": "heads.1"}), aux=0.4 * lf.CrossEntropyLoss(inputs={"logits": "heads.0"})
    )
    heads = [scores.half().requires_grad_(), scores.clone().requires_grad_()]
    found = terms.explain({"heads": heads, "labels": labels, "weight": torch.ones(3, 7, 9)})
    assert set(found.maps) == {"heads.0", "heads.1"} and not found.maps["heads.0"][0].any() and found.maps["heads.0"][1].any()
    torch.testing.assert_close(found.shares, torch.tensor([1, 0.4], dtype=torch.float64) / 1.4, rtol=1e-3, atol=0)
    assert found.cosines[0, 1] == 0


def test_terms_without_a_gradient_and_single_losses() -> None:
    scores, labels = batch()
    rare = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.Term(lf.DiceLoss(), every=2))
    rare.advance()
    found = rare.explain(scores, labels)
    assert found.shares.tolist() == [1.0, 0.0] and found.cosines[0, 1] == 0 and found.values["dice"] == 0
    assert lf.DiceLoss().explain(scores, labels).names == ("dice_loss",)
    with pytest.raises(lf.LossError, match="LossSet: arguments"):
        rare.explain(labels, labels)


def test_gan_objectives() -> None:
    """Modules among the arguments, and random numbers drawn inside."""
    disc = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    terms = lf.build(
        {
            "gan": {"type": "GANLoss", "gan_type": "hinge", "target_is_real": True, "inputs": {"input": "disc_pred_fake"}},
            "shift": {"type": "DiscShiftLoss", "inputs": {"pred": "disc_pred_fake"}},
        }
    )
    fake = torch.rand(4, 3, 2, 2, requires_grad=True)
    found = terms.explain({"disc": disc, "fake_imgs": fake, "disc_pred_fake": disc(fake)})
    assert found.names == ("gan", "shift") and found.shares.sum() == pytest.approx(1) and found.shares.min() > 0
    assert fake.grad is None and all(parameter.grad is None for parameter in disc.parameters())


def test_pictures_and_pages(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = criterion().explain(*batch())
    found.picture(tmp_path / "a.png", image=1)
    found.page(tmp_path / "a.html", "a <b>")
    text = (tmp_path / "a.html").read_text()
    assert (tmp_path / "a.png").stat().st_size > 5000 and "a &lt;b&gt;" in text and text.count("<img") == 3
    lf.LossSet(a=lf.L1Loss(), b=lf.MSELoss()).explain(torch.rand(2, 3, 9), torch.rand(2, 3, 9)).picture(tmp_path / "line.png")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tiny run, whose log has the shares, and its page; nothing of the run changes."""
    pytest.importorskip("lightning")
    from tests.train.tiny import COLLAGE, TRAINER, UNET

    run = tmp_path / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["train", "segmentation", *TRAINER, *COLLAGE, *UNET, f"--run_dir={run}", "--explain_every_steps=2"]) == 0
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert main(["explain", str(run)]) == 0
    said = capsys.readouterr().out
    assert "criterion, step " in said and "share" in said and (run / "explain.html").is_file()
    assert all(path.read_bytes() == held for path, held in before.items())
    head = (run / "metrics.csv").read_text().splitlines()[0]
    assert "share/ce" in head and "share/dice" in head and "share of the gradient" not in head
    assert main(["explain", str(tmp_path / "none")]) == 1
    assert "best or last.ckpt" in capsys.readouterr().err


def test_states_of_losses_stay_as_they_are() -> None:
    terms = lf.LossSet(lecam=lf.LeCamRegularizer())
    real, fake = torch.randn(5, requires_grad=True), torch.randn(5)
    terms(real, fake)
    before = [one.clone() for one in terms.buffers()]
    terms.explain(real + 3, fake - 3)
    assert all(torch.equal(one, other) for one, other in zip(before, terms.buffers(), strict=True))


def test_in_inference_mode() -> None:
    scores, labels = batch()
    shares = criterion().explain(scores, labels).shares
    with torch.inference_mode():
        torch.testing.assert_close(criterion().explain(1 * scores, 1 * labels).shares, shares)
    torch.testing.assert_close(criterion().explain(scores, labels).shares, shares)


def test_all_heads_of_a_list() -> None:
    """Are the first argument, where none asks for a gradient: also beside a weight of floats."""
    scores, labels = batch()
    heads = [scores, torch.randn(3, 4, 4, 5)]
    found = lf.presets.deep_supervision(lf.CrossEntropyLoss(), 2).explain(heads, labels, torch.ones(3, 7, 9))
    assert set(found.maps) == {"scores.0", "scores.1"} and found.shares.min() > 0


def test_broken_scores_are_no_zeros() -> None:
    scores, labels = batch()
    assert lf.LossSet(ce=lf.CrossEntropyLoss()).explain(scores * torch.nan, labels).shares.isnan().all()


def test_a_balanced_term_has_its_last_weight() -> None:
    """Scores are taken without the network behind them, whose weights no gradient reaches then."""
    network, images = nn.Conv2d(1, 1, 1), torch.rand(2, 1, 4, 4)
    inputs = {"pred": "out", "target": "images"}
    mse = lf.Term(lf.MSELoss(inputs=inputs), balance="l1", balance_at="net.weight")
    terms = lf.LossSet(l1=lf.L1Loss(inputs=inputs), mse=mse)
    given = {"out": network(images), "images": images, "net": network}
    weighted = terms(given).weighted["mse"].item()
    assert terms.explain(given).weighted["mse"] == pytest.approx(weighted) and weighted != terms(given).terms["mse"]


def test_classes_have_their_names() -> None:
    """Where there are as many, long ones cut; else the numbers of the classes."""
    from lossfold.explain.picture import drawn

    scores, labels = batch()
    found = criterion().explain(scores, labels)

    def said(names: list[str]) -> list[str]:
        axes = drawn(found, class_names=names).subfigs[0].axes[2]
        return [text.get_text() for text in axes.get_xticklabels()]

    names = ["road", "$car", "sky", "something with a long name"]
    assert said(names) == ["road", "$car", "sky", "something with …"]
    assert "road" not in said(names[:3])
