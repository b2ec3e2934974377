"""What people write who come from elsewhere gets an answer that is right: options, values, class names, shapes."""

from __future__ import annotations

import copy
import urllib.error
import warnings
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

import lossfold as lf
from lossfold import metrics
from tests.contract.refusals import refused

WORDS: list[tuple[str, dict[str, Any], str]] = [
    ("DiceLoss", {"softmax": True}, "leave 'softmax' out"),
    ("DiceLoss", {"sigmoid": True}, "write link='sigmoid'"),
    ("DiceLoss", {"sigmoid": False}, "leave 'sigmoid' out"),
    ("DiceLoss", {"to_onehot_y": True}, "leave 'to_onehot_y' out: labels are class numbers"),
    ("DiceLoss", {"mode": "multiclass"}, "leave 'mode' out"),
    ("DiceLoss", {"mode": "multilabel"}, "write link='sigmoid'"),
    ("DiceLoss", {"from_logits": True}, "leave 'from_logits' out"),
    ("DiceLoss", {"from_logits": numpy.bool_(False)}, "write link='identity'"),
    ("DiceLoss", {"batch": True}, "leave 'batch' out"),
    ("DiceLoss", {"batch": False}, "write per_image=True"),
    ("DiceLoss", {"squared_pred": True}, "write squared=True"),
    ("DiceLoss", {"naive_dice": False}, "write squared=True"),
    ("DiceLoss", {"jaccard": True}, "JaccardLoss in place of this loss"),
    ("CrossEntropyLoss", {"weight": [1.0, 2.0]}, "write class_weight; pixel weights are an argument of the call"),
    ("CrossEntropyLoss", {"use_sigmoid": False}, "leave 'use_sigmoid' out"),
    ("CrossEntropyLoss", {"size_average": False}, "write reduction='sum'"),
    ("CrossEntropyLoss", {"smooth_factor": 0.1}, r"write label_smoothing=0\.1"),
    ("CrossEntropyLoss", {"reduction": "elementwise_mean"}, "that is 'mean'"),
    ("CrossEntropyLoss", {"reduction": None}, "that is 'none'"),
    ("BinaryCrossEntropyLoss", {"smooth_factor": 0.1}, r"write label_smoothing=0\.2"),
    ("BinaryCrossEntropyLoss", {"use_sigmoid": True}, "leave 'use_sigmoid' out"),
    ("BinaryCrossEntropyLoss", {"use_sigmoid": False}, "CrossEntropyLoss in place of this loss"),
    ("PerceptualLoss", {"layer_weights": {"4": 1.0}, "range_norm": True}, "write norm_img"),
    ("PerceptualLoss", {"layer_weights": {"4": 1.0}, "pretrained": "random", "criterion": "l2"}, "that is 'mse'"),
    ("GANLoss", {"gan_type": "wgan_softplus"}, "that is 'wgan-logistic-ns'"),
    ("R1GradientPenalty", {"interval": 16}, r"every= of a term in a set, or R1GradientPenaltyComps\(interval="),
    ("GeneratorPathRegularizer", {"interval": 4}, r"or GeneratorPathRegularizerComps\(interval="),
]


@pytest.mark.parametrize(("name", "options", "hint"), WORDS, ids=str)
def test_options_in_python_and_in_configurations(name: str, options: dict[str, Any], hint: str) -> None:
    refused(lambda: getattr(lf, name)(**options), name, hint)
    refused(lambda: lf.build({"type": name, **options}), name, hint)


def test_a_mode_by_position() -> None:
    refused(lambda: lf.DiceLoss("binary"), "keyword", "write link='sigmoid'")


@pytest.mark.slow  # as for MONAI
def test_smoothing_of_segmentation_models() -> None:
    """Their factor moves 0 and 1 by itself, ours by half of it; against the installed library."""
    peers = pytest.importorskip("segmentation_models_pytorch.losses")
    z, t = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8).round()
    torch.testing.assert_close(
        lf.BinaryCrossEntropyLoss(label_smoothing=0.2)(z, t), peers.SoftBCEWithLogitsLoss(smooth_factor=0.1)(z, t)
    )
    y = torch.randint(0, 3, (2, 8, 8))
    theirs = peers.SoftCrossEntropyLoss(smooth_factor=0.1)(z, y)
    torch.testing.assert_close(lf.CrossEntropyLoss(label_smoothing=0.1)(z, y), theirs)


@pytest.mark.parametrize("name", ["DiceLoss", "CrossEntropyLoss", "LovaszLoss", "L1Loss", "GANLoss", "CEDiceLoss", "MattingLoss"])
@pytest.mark.parametrize("option", [{"sync": True}, {"process_group": object()}], ids=["sync", "process_group"])
def test_sums_over_ranks_have_one_message(name: str, option: dict[str, Any]) -> None:
    if option.keys() <= getattr(lf, name).kinds.keys():
        pytest.skip("a set that takes it")
    given = {"gan_type": "hinge"} if name == "GANLoss" else {}
    expected = rf"{name} as a term of a set, which adds over ranks: LossSet\(\{{'loss': {name}\(\.\.\.\)\}}, sync=True\)"
    refused(lambda: getattr(lf, name)(**given, **option), expected)
    if "sync" in option:
        refused(lambda: lf.build({"type": name, **given, **option}), expected)


PEERS = {
    "BCEWithLogitsLoss": "BinaryCrossEntropyLoss",
    "SoftBCEWithLogitsLoss": "BinaryCrossEntropyLoss, whose label_smoothing is twice",
    "SoftCrossEntropyLoss": "CrossEntropyLoss",
    "NLLLoss": "CrossEntropyLoss, of the logits",
    "DiceCELoss": "CEDiceLoss",
    "MaskedDiceLoss": "DiceLoss, called with weight=mask",
    "WeightedTVLoss": "MaskedTVLoss",
    "MattingCriterion": r"MattingLoss\(reference_area=262144\)",
}


@pytest.mark.parametrize(("name", "ours"), PEERS.items())
def test_class_names_of_peers(name: str, ours: str) -> None:
    refused(lambda: lf.build({"type": name}), f"that is {ours}")
    refused(lambda: lf.build({"_target_": f"monai.losses.{name}"}), f"that is {ours}")
    refused(lambda: lf.LOSSES[name], f"that is {ours}")
    with pytest.raises(AttributeError, match=f"that is {ours}"):
        getattr(lf, name)


def test_the_options_of_stylegan2_lead_to_its_presets() -> None:
    options = {"r1_loss_weight": 80.0, "r1_interval": 16, "norm_mode": "HWC"}
    for config in (options, {"loss_config": options}, {"type": "LossSet", "loss_config": options}):
        refused(lambda config=config: lf.build(config), "stylegan2_discriminator")  # type: ignore[misc]


X, Y = torch.randn(2, 3, 8, 16), torch.randint(0, 3, (2, 8, 16))


@pytest.mark.parametrize("name", ["CrossEntropyLoss", "DiceLoss", "LovaszLoss", "FocalLoss", "OhemCrossEntropyLoss", "CEDiceLoss"])
def test_shapes_of_labels(name: str) -> None:
    loss = getattr(lf, name)()
    refused(lambda: loss(X[0], Y[0]), r"the batch dimension is missing: logits\[None\], labels\[None\]")
    refused(lambda: loss(X, Y.transpose(1, 2)), r"height and width are exchanged: labels\.transpose\(-2, -1\)")
    refused(lambda: loss(torch.randn(2, 3, 4), torch.randint(0, 3, (2, 8))), "for images and volumes")
    refused(lambda: loss(X, Y[:, None].float()), r"\.squeeze\(1\)\.long\(\)")
    refused(lambda: loss(X, Y[:, None]), r"\.squeeze\(1\)")
    large = torch.randint(0, 3, (2, 16, 32))
    exact = getattr(lf, name)(resize=False)
    refused(lambda: exact(X, large), "resize=False")
    exact(X, Y), loss(X, large)


def test_shapes_of_targets_and_images() -> None:
    loss = lf.BinaryCrossEntropyLoss(resize=False)
    refused(lambda: loss(X, torch.rand(2, 3, 16, 32)), "resize=False")
    refused(lambda: lf.BinaryCrossEntropyLoss()(X, torch.rand(2, 3, 16, 8)), "height and width are exchanged")
    refused(lambda: lf.DiceLoss(link="sigmoid")(torch.randn(1, 8, 9), torch.rand(8, 9).round()), "batch dimension is missing")
    refused(lambda: lf.SSIMLoss()(torch.rand(3, 32, 32), torch.rand(3, 32, 32)), r"the batch dimension is required: pred\[None\]")
    refused(lambda: lf.GradientLoss()(torch.rand(3, 32, 32), torch.rand(3, 32, 32)), "batch dimension")


def test_masks_that_are_read_as_channels() -> None:
    z, masks = torch.randn(2, 32, 32), torch.rand(2, 32, 32) > 0.5
    for t in (masks, masks.long(), masks.float()):
        with pytest.warns(UserWarning, match=r"are read as 32 channels of 32 pixels; one channel is logits\[:, None\]"):
            lf.DiceLoss(link="sigmoid")(z, t)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lf.DiceLoss(link="sigmoid")(z[:, None], masks[:, None])
        lf.DiceLoss(link="sigmoid")(z[..., :5], masks[..., :5])  # 32 channels of 5 pixels, perhaps
        lf.DiceLoss(link="sigmoid")(z, torch.rand(2, 32, 32))
        lf.BinaryCrossEntropyLoss()(z, masks)  # the same either way
        lf.presets.mask_losses()(z, masks)


def test_values_that_are_surely_wrong() -> None:
    y, p = torch.randint(0, 3, (2, 9)), torch.rand(2, 3, 9)
    for name in ("CrossEntropyLoss", "DiceLoss", "JaccardLoss", "TverskyLoss", "GeneralizedDiceLoss", "FocalLoss", "LovaszLoss"):
        loss = getattr(lf, name)(link="identity")
        refused(lambda loss=loss: loss(10 * torch.randn(2, 3, 9), y), r"probabilities in \[0, 1\] with link='identity'", "softmax")  # type: ignore[misc]
        loss(p * 1.0001, y)
        marked = p.clone()
        marked[0, :, 2] = 7
        loss(marked, y.masked_fill(torch.arange(9) == 2, -100)), loss(marked, y, torch.arange(9).ne(2).expand(2, 9))
    refused(lambda: lf.BinaryCrossEntropyLoss(link="identity")(5 * p, p), "link='identity'", "sigmoid")
    refused(lambda: lf.OhemCrossEntropyLoss(link="identity")(5 * p, y), "link='identity'")
    alphas = torch.rand(1, 1, 16, 16)
    for loss in (lf.MattingLoss(), lf.MixedMattingLoss(), lf.UnknownL1Loss(), lf.MattingGradientLoss()):
        refused(
            lambda loss=loss: loss(255 * alphas, 255 * alphas, torch.ones(1, 1, 16, 16)), r"alphas in \[0, 1\]", "divide by 255"
        )  # type: ignore[misc]
    refused(lambda: metrics.psnr(65535 * alphas, 65535 * alphas.flip(3)), "data_range=65535")
    refused(lambda: lf.SSIMLoss()(255 * alphas, 255 * alphas.flip(3)), "data_range=255")
    refused(lambda: metrics.ssim(255 * alphas, 255 * alphas.flip(3)), "data_range=255")
    metrics.psnr(1.2 * alphas, 1.2 * alphas.flip(3)), lf.SSIMLoss(data_range=255)(255 * alphas, 255 * alphas)


def test_values_that_probably_mean_something_else() -> None:
    z, masks = torch.randn(2, 1, 9, 9), 255 * torch.randint(0, 2, (2, 1, 9, 9), dtype=torch.uint8)
    with pytest.warns(UserWarning, match="of masks of 0 and 255 take masks > 0"):
        lf.DiceLoss(link="sigmoid", ignore_index=255)(z, masks)
    with pytest.warns(UserWarning, match="ignore=255"):
        metrics.iou_binary(z > 0, masks, ignore=255)
    refused(lambda: lf.DiceLoss(link="sigmoid")(z, masks), "take masks > 0")
    masks[..., 0] = 1
    refused(lambda: lf.DiceLoss(link="sigmoid")(z, masks), "ignore_index=255")
    alpha, trimap = torch.rand(1, 1, 9, 9), torch.tensor([0, 0.5, 1])[torch.arange(81) % 3].view(1, 1, 9, 9)
    with pytest.warns(UserWarning, match="region_from_trimap"):
        lf.UnknownL1Loss()(alpha, alpha, trimap)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lf.DiceLoss(link="sigmoid", ignore_index=255)(z, masks)
        lf.UnknownL1Loss()(alpha, alpha, lf.functional.region_from_trimap(trimap))


def test_sets_give_what_scalars_give() -> None:
    x = X.clone().requires_grad_()
    criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=0.5 * lf.DiceLoss())
    out = criterion(x, Y)
    total = out.total
    assert float(out) == out.item() == total.item() and not out.detach().requires_grad
    for found, expected in (
        (0.5 * out, 0.5 * total),
        (out * 2, 2 * total),
        (out / 2, total / 2),
        (sum([out, out]), 2 * total),
        (out + 1.0, total + 1),
        (1 - out, 1 - total),
        (-out, -total),
        (torch.tensor(1.0) + out, total + 1),
        (torch.tensor(2.0) * out, 2 * total),
        (torch.stack([out, out]).mean(), total),
        (torch.isfinite(out), torch.tensor(True)),
    ):
        assert type(found) is torch.Tensor
        torch.testing.assert_close(found, expected)
    heads = sum(weight * criterion(head, Y) for weight, head in ((1.0, x), (0.4, x[:, :, ::2, ::2])))
    heads.backward()
    assert x.grad is not None
    with pytest.raises(AttributeError, match=r"its scalar is \.total"):
        out.cpu()
    with pytest.raises(AttributeError, match=r"no 'other'$"):
        out.other  # noqa: B018
    out = criterion(x, Y)
    out.backward(retain_graph=True)
    out.backward()


@pytest.mark.slow  # it takes MONAI ten seconds to be imported
def test_deep_supervision_of_monai_around_a_set() -> None:
    losses = pytest.importorskip("monai.losses")
    loss = losses.DeepSupervisionLoss(lf.LossSet(ce=lf.CrossEntropyLoss()), weights=[1.0, 0.5])
    soft = torch.rand_like(X)
    torch.testing.assert_close(loss([X, X], soft), 1.5 * lf.CrossEntropyLoss()(X, soft))


def test_export_of_a_set() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.criterion = lf.LossSet(ce=lf.CrossEntropyLoss(), dice=lf.Term(lf.DiceLoss(), every=1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> lf.LossOutput:
            out: lf.LossOutput = self.criterion(x, y)
            return out

    model = Model()
    out = torch.export.export(model, (X, Y)).module()(X, Y)
    assert type(out) is lf.LossOutput
    torch.testing.assert_close(out.total, model(X, Y).total)
    values, spec = torch.utils._pytree.tree_flatten(out)
    assert len(values) == 5 and torch.utils._pytree.tree_unflatten(values, spec) == out


def test_terms_come_and_go_between_checkpoints() -> None:
    def path() -> lf.GeneratorPathRegularizer:
        return lf.GeneratorPathRegularizer(inputs={"generator": "gen", "latents": "z"})

    def built(wrap: Callable[..., torch.nn.Module]) -> lf.LossSet:
        inner = lf.LossSet(a=wrap(lf.CrossEntropyLoss()), path=wrap(path()))
        return lf.LossSet(outer=inner, b=wrap(lf.DiceLoss()))

    plain, wrapped = built(lambda loss: loss), built(lambda loss: lf.Term(loss, every=3))
    wrapped.advance(4)
    plain["outer"]["path"].mean_path_length.fill_(0.25)
    wrapped["outer"]["path"].loss.mean_path_length.fill_(0.5)
    state, other = (copy.deepcopy(one.state_dict()) for one in (wrapped, plain))
    plain.load_state_dict(state)
    assert plain["outer"]["path"].mean_path_length == 0.5
    wrapped.load_state_dict(other)
    assert wrapped["outer"]["path"].loss.mean_path_length == 0.25 and wrapped["b"].step == 4
    fresh = built(lambda loss: lf.Term(loss, every=3))
    fresh.load_state_dict(state)
    assert fresh["b"].step == fresh["outer"]["a"].step == 4
    fewer = lf.LossSet(outer=lf.LossSet(path=path()))
    fewer.load_state_dict(state)
    with pytest.raises(RuntimeError, match="Missing key"):
        lf.LossSet(other=lf.GeneratorPathRegularizer(), outer=lf.LossSet(path=path())).load_state_dict(state)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        lf.LossSet(b=lf.DiceLoss()).load_state_dict(state)


def test_adapters_without_an_import() -> None:
    assert set(lf.adapters.NAMES) <= set(dir(lf.adapters))
    with pytest.raises(AttributeError, match="there are hugging_face, lightning, mmengine"):
        lf.adapters.keras  # noqa: B018


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")

    def offline(*args: object, **named: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    refused(
        lambda: lf.PerceptualLoss(layer_weights={"4": 1.0}, pretrained="torchvision"),
        "PerceptualLoss: pretrained must be",
        "Name or service not known",
        r"download\.pytorch\.org|vgg19",
        "pretrained='/path/to/",
    )


def test_a_mask_is_a_weight() -> None:
    scores, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    for loss in (lf.DiceLoss(), lf.LossSet(dice=lf.DiceLoss())):
        refused(lambda loss=loss: loss(scores, labels, mask=labels > 0), "mask=", "weight= takes masks, too")
