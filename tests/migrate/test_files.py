"""Configs are read without being run, and the command prints what becomes of their losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lossfold as lf
from lossfold.cli.__main__ import main
from lossfold.migrate import command
from lossfold.migrate.python_config import Unread, read

BASE = """
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    decode_head=dict(type='FCNHead', num_classes=19, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(loss_decode=dict(type='DiceLoss'), channels=8),
    neck=[dict(loss_decode=dict(type='LovaszLoss', reduction='none'))])
"""
TOP = """
import os
from mmseg.models.losses import TverskyLoss
_base_ = ['./base.py']
default_scope = 'mmseg'
num = 4
weight = [1.0] * num + [0.1]
head = dict(loss_decode=[dict(type='CrossEntropyLoss', class_weight=weight, loss_weight=2 * 0.5), dict(type=TverskyLoss)])
model = dict(
    decode_head=dict(head, num_classes=num + 1),
    auxiliary_head=dict(_delete_=True, loss_decode=dict(type='OhemCrossEntropy', thres=-(-0.9))),
    copy={{_base_.model.decode_head.num_classes}},
    other=_base_.norm_cfg.type)
model['decode_head'].update(dropout=0.1)
folder = os.path.join('data', 'x')
lists = [dict(type='DiceLoss') for _ in range(3)]
for one in (1, 2):
    num = one
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text(BASE)
    (tmp_path / "top.py").write_text(TOP)
    return tmp_path / "top.py"


def test_a_python_config_is_read(config: Path) -> None:
    values, notes = read(config)
    model = values["model"]
    assert model["decode_head"]["loss_decode"] == [
        {"type": "CrossEntropyLoss", "class_weight": [1.0, 1.0, 1.0, 1.0, 0.1], "loss_weight": 1.0},
        {"type": "mmseg.TverskyLoss"},
    ]
    assert model["decode_head"]["num_classes"] == 5 and model["decode_head"]["type"] == "FCNHead"
    assert model["decode_head"]["dropout"] == 0.1
    assert model["auxiliary_head"] == {"loss_decode": {"type": "OhemCrossEntropy", "thres": 0.9}}
    assert model["neck"] == [{"loss_decode": {"type": "LovaszLoss", "reduction": "none"}}]
    assert (model["copy"], model["other"], model["type"]) == (19, "BN", "EncoderDecoder")
    assert values["folder"] == Unread("os.path.join('data', 'x')", 15) and isinstance(values["lists"], Unread)
    assert notes == ["top.py:17: for is not followed"]


@pytest.mark.filterwarnings("ignore")  # what MMEngine says about itself
def test_it_is_what_mmengine_reads(config: Path) -> None:
    mmengine = pytest.importorskip("mmengine")
    text = config.read_text().replace("from mmseg.models.losses import TverskyLoss", "TverskyLoss = 'mmseg.TverskyLoss'")
    config.write_text(text.partition("folder = ")[0].replace("import os", ""))
    theirs = mmengine.Config.fromfile(str(config))._cfg_dict.to_dict()
    ours = read(config)[0]
    assert json.dumps(ours["model"], sort_keys=True) == json.dumps(theirs["model"], sort_keys=True)


def test_nothing_is_run(tmp_path: Path) -> None:
    """Nor is anything made that a few words make large."""
    file, mark = tmp_path / "attack.py", tmp_path / "ran"
    file.write_text(
        f"import os\nopen({str(mark)!r}, 'w').write('x')\na = __import__('os').system('touch {mark}')\n"
        "b = [1] * 10 ** 9\nc = [0] * 1000000000\nd = 'x' * 10**9\ne = 9 ** 9 ** 9\nf = (lambda: 1)()\n"
        "model = dict(loss=dict(type='DiceLoss', eps=eval('1')))\n_base_ = ['attack.py', '/nowhere/else.py']\n"
    )
    values, notes = read(file)
    assert not mark.exists() and all(isinstance(values[name], Unread) for name in "abcdef")
    assert any("part of itself" in note or "attack.py" in note for note in notes) and any("else.py" in note for note in notes)
    assert isinstance(values["model"]["loss"]["eps"], Unread)
    (tmp_path / "deep.py").write_text("x = " + "[" * 3000 + "]" * 3000)
    (tmp_path / "text.py").write_text("x = (")
    for name in ("deep.py", "text.py", "none.py"):
        with pytest.raises(lf.LossError, match="lossfold migrate: file must be a Python config that can be read"):
            read(tmp_path / name)


def test_the_command(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", str(config)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# top.py, in the words of mmseg: 6 losses\n")
    lines = {line.partition(": ")[0]: line.partition(": ")[2] for line in out.splitlines()}
    first = json.loads(lines["model.decode_head.loss_decode.0"])
    assert first == {"type": "CrossEntropyLoss", "ignore_index": 255, "class_weight": [1.0] * 4 + [0.1], "loss_name": "loss_ce"}
    assert lines["#   changes"] == "its mean divides by ignored pixels too (avg_non_ignore=False); here by those that count"
    for path, text in lines.items():
        if path.startswith("model"):
            lf.build(json.loads(text))
    assert "# not followed: top.py:17: for is not followed" in out


def test_refusals_and_files_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option = tmp_path / "option.yml"
    option.write_text(
        "network_g: {type: EDSR}\ntrain:\n  pixel_opt: {type: L1Loss, loss_weight: !!float 1e-2, reduction: mean}\n"
        "  feature_matching_opt: {type: GANFeatLoss, loss_weight: 10.0}\n"
    )
    assert main(["migrate", str(option)]) == 1
    out = capsys.readouterr().out
    assert 'train.pixel_opt: {"type": "L1Loss", "loss_weight": 0.01}' in out
    assert "# train.feature_matching_opt: option.yml:4: train.feature_matching_opt.type must be a loss that there is here" in out
    (tmp_path / "c.py").write_text("loss = dict(type='L1Loss', loss_weight=float('1'))\n")
    assert main(["migrate", str(tmp_path / "c.py"), "--from", "mmagic"]) == 1
    assert "loss_weight must be a plain value" in capsys.readouterr().out
    assert main(["migrate", str(tmp_path / "c.py")]) == 2
    assert "--from must be one of mmseg, mmdet, mmagic, mmgen, basicsr" in capsys.readouterr().err


def test_show_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--from", "monai.DiceCELoss"]) == 0
    out = capsys.readouterr().out
    assert "CEDiceLoss(dice_weight=0.7, ce_weight=1.3, absent='count', smooth=1e-5)" in out and "equal    value and gradient" in out
    assert main(["show", "--from", "DiceLoss"]) == 0
    assert {"monai.DiceLoss", "smp.DiceLoss", "mmseg.DiceLoss"} <= set(capsys.readouterr().out.splitlines())
    assert main(["show", "--from", "monai.DiceLos"]) == 2
    assert "did you mean 'monai.DiceLoss'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["show"])


def test_nothing_found_is_said(tmp_path: Path) -> None:
    """And so is a base that is not there, where it could have said whose words these are."""
    (tmp_path / "bundle.json").write_text('{"loss": {"_target_": "monai.losses.DiceCELoss"}}')
    (tmp_path / "child.py").write_text('_base_ = ["./base.py"]\nmodel = dict(a=1)\n')
    with pytest.raises(lf.LossError, match=r"names losses, got none in .*lossfold show --from"):
        command.main(str(tmp_path / "bundle.json"), "mmseg")
    with pytest.raises(lf.LossError, match=r"--from must be one of .*base\.py' is not read"):
        command.main(str(tmp_path / "child.py"))
