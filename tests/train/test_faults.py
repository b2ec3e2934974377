"""What the world does to a run's folder: torn logs, damaged checkpoints, full disks, two runs at once; each is said in one line."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

pytest.importorskip("lightning")

from lossfold.errors import LossError
from lossfold.nets.weights import read
from lossfold.train import main
from lossfold.train.checkpoints import SafeCheckpointIO, read_checkpoint
from lossfold.train.errors import TrainError
from lossfold.train.run_folder import LOST, RunFolder, RunLogger
from tests.train.tiny import Train

WHOLE = {"state_dict": {"a": torch.arange(2000.0)}, "global_step": 3, "loops": {}}


@pytest.mark.parametrize("tail", [b"1,2", b"1,2,0.", b"1,2,0.5", b"1,2,\0\0\0\r\n", b"\0" * 20, b"1,2,x\r\n"])
def test_a_torn_row_is_left_out(tmp_path: Path, tail: bytes) -> None:
    folder = RunFolder(str(tmp_path))
    folder.log.write_bytes(b"epoch,step,train/total\r\n0,0,0.25\r\n0,1,\r\n" + tail)
    rows = folder.rows()
    assert rows[:2] == [{"epoch": 0, "step": 0, "train/total": 0.25}, {"epoch": 0, "step": 1}]
    assert all("train/total" not in row for row in rows[2:])  # the NUL bytes alone leave a row without a value
    logger = RunLogger(folder, {"global_step": 2})
    logger.log_metrics({"train/total": 0.5, "new": 1.0}, 2)
    assert [row["step"] for row in folder.rows()] == [0, 1, 2] and folder.rows()[2]["new"] == 1


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    """Empty, pointers, truncated, flipped and foreign ones, by the way of resuming and by that of weights."""
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint(WHOLE, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["a"], WHOLE["state_dict"]["a"])  # type: ignore[index]
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[good.index(struct.pack("<f", 1234.0))] ^= 1
    assert torch.load(_written(tmp_path / "f", flipped), weights_only=True)["global_step"] == 3  # which torch does not notice
    for content, said in ((b"", "empty"), (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (good[:3000], "trunc"),
                          (bytes(flipped), "checksum of .*data"), (b"hello", "no checkpoint")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(TrainError, match=rf"last\.ckpt.*{said}.*try --ckpt_path best"):
            read_checkpoint(path)
    for content, said in ((b"", "empty"), (b"version https://git-lfs", "git lfs"), (good[:3000], "zip"),
                          (bytes(flipped), "checksum"), (b"\x89HDF\r\n\x1a\n" + bytes(99), "h5 files are not read")):  # fmt: skip
        with pytest.raises(LossError, match=said):
            read(str(_written(tmp_path / "w.pth", content)))
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(TrainError, match="it holds a, expected state_dict"):
        read_checkpoint(path)


def _written(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.ckpt"
    SafeCheckpointIO().save_checkpoint(WHOLE, path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainError, match=r"best\.ckpt can't be written .*No space left.*the one before it is kept"):
        SafeCheckpointIO().save_checkpoint(WHOLE | {"global_step": 4}, path)
    assert read_checkpoint(path)["global_step"] == 3 and [one.name for one in tmp_path.iterdir()] == ["best.ckpt"]


def test_losses_that_are_no_numbers_stop_the_run(tmp_path: Path) -> None:
    logger = RunLogger(RunFolder(str(tmp_path)), None)
    for step in range(LOST - 1):
        logger.log_metrics({"train/disc/total": float("nan")}, step)
    logger.log_metrics({"train/disc/total": 1.0}, 0)  # mixed precision has single ones
    logger.log_metrics({"val/total": float("nan")}, 0)
    with pytest.raises(TrainError, match=rf"train/gen/total has been inf in the last {LOST} logged steps, up to step {LOST - 1}"):
        for step in range(LOST):
            logger.log_metrics({"train/gen/total": float("inf")}, step)


def test_two_runs_and_folders_that_can_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["segmentation", "--trainer.accelerator=cpu", "--score_before=false"]
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):  # not the lock that this process would share
        assert main([*options, f"--run_dir={tmp_path / 'run'}"]) == 1
    assert "another process trains into" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([*options, f"--run_dir={tmp_path / 'file' / 'run'}"]) == 1
    assert "can't be written to (Not a directory)" in capsys.readouterr().err


def test_interrupts_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lossfold.train.segmentation.command.SegmentationCLI.check_config", interrupt)
    assert main(["segmentation", f"--run_dir={tmp_path / 'run'}"]) == 130
    assert "--ckpt_path last" in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_not_kept(train: Train) -> None:
    """Their scores may be the best by luck: logits of NaN are all of class 0."""
    options = ["--model.optimizer.lr=1e30", "--model.optimizer.class_path=torch.optim.SGD", "--save_every_steps=1"]
    folder = train(*options, "--trainer.max_epochs=2")
    kept = sorted((folder / "checkpoints").glob("*.ckpt"))
    assert [file.name for file in kept] == ["last.ckpt"]  # of the first step
    for file in kept:
        state = read_checkpoint(file)["state_dict"]
        assert all(value.isfinite().all() for value in state.values()), file.name
