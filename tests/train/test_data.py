"""The data: what trains is never scored, labels are what the files say, and wrong files are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

from lossfold.train.data import CollageData, FolderData
from lossfold.train.data.augment import Augment
from lossfold.train.data.base import PAD_COLOUR, PadCollate
from lossfold.train.data.collage import Collages, borders
from lossfold.train.data.folders import PairFolders
from lossfold.train.data.masks import MaskReader, occurring
from lossfold.train.data.sampling import EvaluationSampler, ResumingSampler
from lossfold.train.data.sources import HELD_OUT_PHOTOS, TEXTURES, TRAIN_PHOTOS, load_sources, open_image
from lossfold.train.errors import TrainError


@pytest.fixture(scope="module")
def collage() -> CollageData:
    data = CollageData(image_size=48, train_images=6, val_images=5)
    data.setup("fit")
    return data


def test_a_collage_is_a_function_of_seed_and_key(collage: CollageData) -> None:
    again = CollageData(image_size=48, train_images=6, val_images=5)
    again.setup("fit")
    other = CollageData(image_size=48, train_images=6, val_images=5, seed=1)
    other.setup("fit")
    for part in range(2):
        assert torch.equal(collage.train_set[3][part], again.train_set[3][part])
        assert not torch.equal(collage.train_set[3][part], collage.train_set[9][part])
        assert not torch.equal(collage.train_set[3][part], collage.val_set[3][part])
        assert not torch.equal(collage.train_set[3][part], other.train_set[3][part])


def test_a_collage_is_made_of_its_classes_with_an_ignored_border(collage: CollageData) -> None:
    image, labels = collage.train_set[0]
    assert image.dtype == labels.dtype == torch.uint8
    assert image.shape == (3, 48, 48) and labels.shape == (48, 48)
    present = set(labels.unique().tolist())
    assert 255 in present and 3 <= len(present) <= 6 and max(present - {255}) < collage.num_classes
    assert 0.02 < (labels == 255).float().mean() < 0.4
    flat = [[torch.full((3, 20, 20), index / 10)] for index in range(4)]
    image, labels = Collages(flat, 48, 1, 0)[0]
    assert len({int(label) for label in labels.unique()} - {255}) >= 2


def test_borders_are_the_pixels_beside_another_region() -> None:
    region = torch.zeros(4, 6, dtype=torch.int64)
    region[:, 3:] = 1
    assert borders(region).tolist() == [[False, False, True, True, False, False]] * 4


def test_held_out_sources_share_nothing_with_training() -> None:
    assert not set(TRAIN_PHOTOS) & set(HELD_OUT_PHOTOS)
    train, held_out = load_sources(False), load_sources(True)
    assert [len(images) for images in train] == [len(TRAIN_PHOTOS), *[1] * len(TEXTURES)]
    for ours, theirs, texture in zip(train[1:], held_out[1:], TEXTURES, strict=True):
        across = (texture.box[2] - texture.box[0]) * open_image(texture.file).width / texture.shrink
        assert 0.9 * across < ours[0].shape[2] + theirs[0].shape[2] < 0.98 * across  # a strip between them is unused


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainError, match=r"scikit-image(.|\n)*pip install \"lossfold\[train\]\""):
        load_sources(False)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_resumed_order_is_the_rest_of_the_whole_order(rank: int) -> None:
    def order(done: int) -> list[int]:
        return list(ResumingSampler(range(21), 2, 7, lambda: (done, 5), 2, rank))

    assert len(order(0)) == 10 and len(set(order(0))) == 10
    assert order(3) == order(0)[6:]
    assert order(5) != order(0) and {key // 21 for key in order(5)} == {1}
    assert order(7) == order(5)[4:]


def test_ranks_share_an_epoch_without_overlap() -> None:
    orders = [list(ResumingSampler(range(20), 2, 7, lambda: (0, 5), 2, rank)) for rank in (0, 1)]
    assert sorted(orders[0] + orders[1]) == list(range(20))


def test_evaluation_sees_every_sample_once_on_any_number_of_ranks() -> None:
    shares = [list(EvaluationSampler(range(7), 3, rank)) for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert [len(EvaluationSampler(range(7), 3, rank)) for rank in range(3)] == [len(share) for share in shares]


def test_every_rank_needs_a_held_out_image() -> None:
    data = CollageData(image_size=32, train_images=8, val_images=1, batch_size=4)
    data.setup("fit")
    for rank in (0, 1):
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)  # type: ignore[assignment]
        with pytest.raises(TrainError, match=r"1 held-out image\(s\) for 2 ranks.*trainer\.devices"):
            data.val_dataloader()


def test_folders_are_split_and_read(folders: Path) -> None:
    data = FolderData(str(folders), classes=["ground", "left", "right"], crop_size=32)
    data.prepare_data()
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (8, 2)
    for index in range(2):
        labels = data.val_set[index][1]
        assert labels.dtype == torch.uint8
        assert labels.shape[0] >= 40 and set(labels.unique().tolist()) == {0, 1, 2, 255}
    images, labels = data.collate([data.val_set[0], data.val_set[1]])
    assert images.shape == (2, 3, 64, 64) and labels.shape == (2, 64, 64)
    assert (labels[:, 50:] == 255).all() and images[0, :, -1, -1].tolist() == list(PAD_COLOUR)
    assert data.train_set[0][0].shape == (3, 32, 32)


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_train_and_val_folders_are_the_split(folders: Path, layout: str) -> None:
    for kind in ("images", "masks"):
        files = sorted((folders / kind).iterdir())
        for index, file in enumerate(files):
            target = folders / layout.format(split="val" if index < 3 else "train", kind=kind)
            target.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target / file.name)
    training, held_out = PairFolders(folders).split(0.5, 0)
    assert [pair.image.stem for pair in held_out] == ["00", "01", "02"] and len(training) == 7
    assert all(pair.image.stem == pair.mask.stem for pair in training + held_out)


def test_the_split_follows_the_seed(folders: Path) -> None:
    first, again, other = (PairFolders(folders).split(0.3, seed)[1] for seed in (0, 0, 1))
    assert first == again != other and len(first) == 3


def test_missing_partners_and_folders_are_named(folders: Path) -> None:
    (folders / "masks" / "03.png").unlink()
    with pytest.raises(TrainError, match=r"1 image\(s\) without a partner in .*masks: 03\.jpg"):
        PairFolders(folders).split(0.2, 0)
    (folders / "images" / "03.jpg").unlink()
    (folders / "images" / "04.jpg").unlink()
    with pytest.raises(TrainError, match=r"1 mask\(s\) without a partner in .*images: 04\.png"):
        PairFolders(folders).split(0.2, 0)
    shutil.rmtree(folders / "masks")
    with pytest.raises(TrainError, match=r"there is no folder .*masks"):
        PairFolders(folders).split(0.2, 0)


def test_wrong_masks_are_named(folders: Path) -> None:
    mask = folders / "masks" / "03.png"
    with pytest.raises(TrainError, match=r"00\.png has 2; 01\.png has 2.*Expected 0\.\.1, or 255"):
        FolderData(str(folders), classes=2).prepare_data()
    Image.fromarray(np.arange(43 * 50 * 3).reshape(43, 50, 3).astype(np.uint8)).save(mask)
    with pytest.raises(TrainError, match=r"03\.png holds colours.*mask_colors"):
        FolderData(str(folders), classes=3).prepare_data()
    Image.fromarray(np.zeros((43, 49), np.uint8)).save(mask)
    with pytest.raises(TrainError, match=r"03\.png is 49 x 43 pixels, its image 03\.jpg 50 x 43"):
        FolderData(str(folders), classes=3).prepare_data()
    (folders / "images" / "07.jpg").write_bytes((folders / "images" / "07.jpg").read_bytes()[:300])
    with pytest.raises(TrainError, match=r"2 of 10 can't be used:(.|\n)*03\.png is 49(.|\n)*07\.jpg can't be decoded .*truncated"):
        FolderData(str(folders), classes=3).prepare_data()


def test_black_and_white_masks_need_their_values(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(path)
    with pytest.raises(TrainError, match=r"nothing would be learned.*data.foreground: 255"):
        MaskReader(2, 255).check([(path, occurring(MaskReader(2, 255).raw(path)))])
    for reader in (MaskReader(2, -100, (0, 255)), FolderData("", classes=2, foreground=255).samples.reader):
        reader.check([(path, {0, 255})])
        assert reader.read(path).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(TrainError, match="lists 3 values for 2 classes"):
        MaskReader(2, 255, (0, 1, 2))


def test_values_are_mapped_and_ignored_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[7, 11, 0]], np.uint8)).save(path)
    assert MaskReader(3, 255, (0, 7, 11)).read(path).tolist() == [[1, 2, 0]]
    Image.fromarray(np.array([[300, 2]], np.uint16)).save(path)
    labels = MaskReader(301, 255).read(path)
    assert labels.dtype == np.int32 and labels.tolist() == [[300, 2]]


def test_augmented_labels_stay_with_their_pixels() -> None:
    labels = (torch.arange(60)[:, None] // 10 + 3 * (torch.arange(80)[None] // 20)).to(torch.uint8)
    image = (labels * 14).expand(3, -1, -1).contiguous()
    crop = Augment(32, 255, seed=0)
    for key in range(20):
        seen, marked = crop(image, labels, key)
        assert seen.shape == (3, 32, 32) and marked.shape == (32, 32) and marked.dtype == torch.uint8
        values = [seen[0][marked == label].float() for label in marked.unique() if label != 255]
        medians = torch.stack([value.median() for value in values if len(value) > 40])  # slivers are blended
        assert (medians.diff() >= 0).all()  # brightness still grows with the label
    again = crop(image, labels, 3)
    assert all(torch.equal(one, two) for one, two in zip(crop(image, labels, 3), again, strict=True))
    plain, same = Augment(32, 255, seed=0, vary=False)(image, labels, 1)
    assert torch.equal(plain[0], same * 14)


def test_padding_is_ignored() -> None:
    image, labels = torch.zeros(3, 5, 9, dtype=torch.uint8), torch.zeros(5, 9, dtype=torch.uint8)
    images, marked = PadCollate(255, 8)([(image, labels)])
    assert images.shape == (1, 3, 8, 16) and (marked == 255).sum() == 8 * 16 - 45
