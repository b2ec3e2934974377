"""Matting data: composites are exact, hair is thinner than a pixel, and wrong files are named."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

from lossfold.functional import region_from_trimap, trimap_from_alpha
from lossfold.train.data import AlphaFolderData, CompositeData
from lossfold.train.data.alpha_folders import BACKDROP, alpha_of, trimap_of
from lossfold.train.data.composites import Composites, composite
from lossfold.train.data.mattes import KINDS, SUPERSAMPLING, blur, coverage, defocus, glass, hair, solid, strands
from lossfold.train.data.sources import MATTING_HELD_OUT_PHOTOS, MATTING_TRAIN_PHOTOS
from lossfold.train.errors import TrainError

SIZE = 72


@pytest.fixture(scope="module")
def data() -> CompositeData:
    data = CompositeData(image_size=SIZE, train_images=8, val_images=6)
    data.setup("fit")
    return data


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texture() -> torch.Tensor:
    return torch.rand(3, SIZE, SIZE, generator=generator())


def test_a_composite_is_exact_and_rounded_once(data: CompositeData) -> None:
    for key in range(8):
        image, trimap, alpha = data.train_set[key]
        layers = data.train_set.layers(data.train_set._generator(key))  # type: ignore[attr-defined]
        a, front, back = (layer.double() for layer in (layers.alpha, layers.foreground, layers.background))
        assert image.dtype == torch.uint8 and (image / 255 - (a * front + (1 - a) * back)).abs().max() <= 0.5 / 255 + 1e-6
        assert torch.equal(alpha, layers.alpha) and alpha.min() == 0 and 0.2 < alpha.max() <= 1
        assert ((alpha * 255) - (alpha * 255).round()).abs().max() < 1e-4
        unknown = region_from_trimap(trimap) > 0
        assert torch.equal(trimap[~unknown], alpha[~unknown]) and unknown.any()  # what the trimap knows is true
        known = data.train_set.foreground(key)
        assert known is not None and (known / 255 - layers.foreground).abs().max() <= 0.5 / 255 + 1e-6


def test_composites_are_a_function_of_seed_and_key(data: CompositeData) -> None:
    again = CompositeData(image_size=SIZE, train_images=8, val_images=6)
    again.setup("fit")
    for part in range(3):
        assert torch.equal(data.train_set[3][part], again.train_set[3][part])
        assert not torch.equal(data.train_set[3][part], data.train_set[11][part])
        assert not torch.equal(data.train_set[3][part], data.val_set[3][part])
    assert torch.equal(data.val_set.backdrop(2), again.val_set.backdrop(2))


def test_training_and_held_out_images_share_no_photograph(data: CompositeData) -> None:
    assert not set(MATTING_TRAIN_PHOTOS) & set(MATTING_HELD_OUT_PHOTOS)
    flat = [torch.full((3, 90, 90), value) for value in (0.1, 0.5, 0.9)]
    samples = Composites(flat, 48, 4, 0)
    for key in range(12):
        layers = samples.layers(samples._generator(key))
        spread = layers.background.flatten(1).std(1).max()
        assert spread < 1e-5  # the ground is one photograph, the other gives the texture
        if layers.kind == "solid":
            assert layers.foreground.flatten(1).std(1).max() < 1e-5
    kinds = [data.train_set.layers(generator(seed)).kind for seed in range(40)]  # type: ignore[attr-defined]
    assert set(kinds) == set(KINDS) and kinds.count("hair") > 10


@pytest.mark.parametrize("seed", range(3))
def test_each_kind_is_soft_in_its_own_way(seed: int) -> None:
    mattes = {kind: draw(texture(), generator(seed)) for kind, draw in KINDS.items()}
    soft = {}
    for kind, (colours, alpha) in mattes.items():
        assert colours.shape == (3, SIZE, SIZE) and alpha.shape == (1, SIZE, SIZE), kind
        assert alpha.min() >= 0 and alpha.max() <= 1 + 1e-5
        soft[kind] = float(((alpha > 0.02) & (alpha < 0.98)).sum() / (alpha > 0.02).sum())
    assert soft["solid"] < 0.35 and soft["solid"] < min(soft["hair"], soft["defocus"]) and soft["glass"] > 0.8
    edge = mattes["solid"][1][0]
    assert ((edge > 0) & (edge < 1)).sum() < 4 * 3 * SIZE  # a line around it
    smooth = mattes["defocus"][1][0]
    assert smooth.diff(dim=0).abs().max() < 0.35 < edge.diff(dim=0).abs().max()


def test_a_strand_is_thinner_than_a_pixel_and_its_alpha_is_its_area() -> None:
    line = coverage(40, lambda pen: pen.line([(0, 82), (200, 82)], fill=255, width=1))
    assert line.sum(1).max() == pytest.approx(1 / SUPERSAMPLING, abs=1 / 255)  # a quarter of a pixel covered
    roots, outward = np.full((1, 2), 20.0), np.zeros(1)
    for seed in range(5):
        one = coverage(120, strands(roots, outward, 120, generator(seed)))
        length = math.hypot(*(one[0] > 0).nonzero().float().std(0).tolist())
        assert length > 2 and one.max() < 0.95 and (one > 0).sum() > 10


def test_glass_is_seen_through_and_hair_is_not() -> None:
    _, seen_through = glass(texture(), generator(1))
    _, covered = hair(texture(), generator(1))
    assert seen_through[seen_through > 0].median() < 0.75 and (covered == 1).any()
    colours, _ = solid(texture(), generator(1))
    assert torch.equal(colours, texture())
    assert not torch.equal(defocus(texture(), generator(1))[0], texture())
    assert blur(torch.ones(1, 9, 9), 2.0).allclose(torch.ones(1, 9, 9))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Eight images with a soft disc, as image/ alpha/ and as fg/ alpha/ bg/ trimap/; every second alpha has 16 bits."""
    root = tmp_path / "own"
    for folder in ("plain/image", "plain/alpha", "layers/fg", "layers/alpha", "layers/bg", "layers/trimap"):
        (root / folder).mkdir(parents=True)
    rows, columns = np.mgrid[:44, :52]
    for index in range(8):
        alpha = ((18 - np.hypot(rows - 22, columns - 22 - index)) / 4).clip(0, 1)
        front, back = (np.full((44, 52, 3), colour, float) for colour in ((200, 80, 40), (20, 90, 160)))
        bits = (alpha * 65535).round().astype(np.uint16) if index % 2 else (alpha * 255).round().astype(np.uint8)
        image = (alpha[..., None] * front + (1 - alpha[..., None]) * back).round().astype(np.uint8)
        trimap = (trimap_from_alpha(torch.from_numpy(alpha), 2, 2) * 255).ceil().numpy().astype(np.uint8)
        files = {"plain/image": image, "plain/alpha": bits, "layers/fg": front.astype(np.uint8), "layers/alpha": bits,
                 "layers/bg": back.astype(np.uint8), "layers/trimap": trimap}  # fmt: skip
        for folder, values in files.items():
            Image.fromarray(values).save(root / folder / f"{index}.png")
    return root


def test_both_layouts_give_the_same_images(own: Path) -> None:
    sides = []
    for layout in ("plain", "layers"):
        data = AlphaFolderData(str(own / layout), crop_size=32, val_fraction=0.5, num_workers=0)
        data.prepare_data()
        data.setup("fit")
        assert (len(data.train_set), len(data.val_set), data.val_batch_size) == (4, 4, 1)
        sides.append(data)
    plain, layers = sides
    for key in range(4):
        one, two = plain.val_set[key], layers.val_set[key]
        assert one.alpha.shape == (1, 44, 52) and torch.equal(one.alpha, two.alpha)
        assert (one.image.int() - two.image.int()).abs().max() <= 1  # alphas of 8 bits were composed from exact ones
        assert one.trimap.unique().tolist() == two.trimap.unique().tolist() == [0, 0.5, 1]
        assert (one.trimap == 0.5).sum() > (two.trimap == 0.5).sum()  # made with wider borders than the files'
        colour = layers.val_set.foreground(key)
        assert plain.val_set.foreground(key) is None and colour is not None and colour[:, 0, 0].tolist() == [200, 80, 40]
        assert plain.val_set.backdrop(key)[:, 5, 5].tolist() == list(BACKDROP)


def test_crops_lie_at_soft_pixels_and_follow_the_key(own: Path) -> None:
    data = AlphaFolderData(str(own / "plain"), crop_size=16, num_workers=0)
    data.setup("fit")
    for key in range(12):
        image, trimap, alpha = data.train_set[key]
        assert image.shape == (3, 16, 16) and trimap.shape == alpha.shape == (1, 16, 16)
        assert ((alpha > 0) & (alpha < 1)).any() and (trimap[(alpha > 0) & (alpha < 1)] == 0.5).all()
        assert all(torch.equal(first, second) for first, second in zip(data.train_set[key], data.train_set[key], strict=True))
    plain = AlphaFolderData(str(own / "plain"), crop_size=64, num_workers=0, augment=False)
    plain.setup("fit")
    image, _, alpha = plain.train_set[0]
    expected = alpha * torch.tensor([200, 80, 40])[:, None, None] + (1 - alpha) * torch.tensor([20, 90, 160])[:, None, None]
    assert image.shape == (3, 64, 64) and (image - expected).abs().max() < 1.5  # layers are cropped together


def test_max_side_reduces_all_of_a_sample(own: Path) -> None:
    data = AlphaFolderData(str(own / "layers"), max_side=26, num_workers=0)
    data.setup("fit")
    image, trimap, alpha = data.val_set[0]
    assert image.shape == (3, 22, 26) and alpha.shape == trimap.shape == (1, 22, 26)
    assert set(trimap.unique().tolist()) == {0, 0.5, 1}


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_train_and_val_folders_are_the_split(own: Path, layout: str) -> None:
    root = own / "layers"
    for kind in ("fg", "alpha", "bg", "trimap"):
        for index, file in enumerate(sorted((root / kind).iterdir())):
            target = root / layout.format(split="val" if index < 3 else "train", kind=kind)
            target.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target / file.name)
    training, held_out = AlphaFolderData(str(root)).folders.split(0.5, 0)
    assert [files.alpha.stem for files in held_out] == ["0", "1", "2"] and len(training) == 5
    assert all(files.trimap and files.fg and files.trimap.stem == files.fg.stem for files in training + held_out)


def test_alphas_of_8_and_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 32768, 65535]], np.uint16)).save(path)
    assert alpha_of(path)[0, 0].tolist() == pytest.approx([0, 1 / 65535, 32768 / 65535, 1])
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(path)
    assert alpha_of(path)[0, 0].tolist() == pytest.approx([0, 0.2, 1])
    Image.fromarray(np.array([[False, True]])).save(path)
    assert alpha_of(path)[0, 0].tolist() == [0, 1]
    Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(path)
    assert trimap_of(path)[0, 0].tolist() == [0, 0.5, 1]


def test_wrong_files_are_named(own: Path) -> None:
    root = own / "layers"
    check = AlphaFolderData(str(root), num_workers=0).prepare_data
    Image.fromarray(np.full((44, 52), 127, np.uint8)).save(root / "trimap" / "3.png")
    with pytest.raises(TrainError, match=r"3\.png holds 127; a trimap holds 0 .background., 128"):
        check()
    Image.fromarray(np.zeros((43, 52), np.uint8)).save(root / "trimap" / "3.png")
    with pytest.raises(TrainError, match=r"3\.png is 52 x 43 pixels, its alpha 3\.png 52 x 44"):
        check()
    Image.fromarray(np.full((44, 52, 3), 7, np.uint8)).save(root / "trimap" / "3.png")
    with pytest.raises(TrainError, match=r"3\.png holds 7; a trimap holds"):
        check()
    shutil.rmtree(root / "trimap")
    check()
    Image.fromarray(np.zeros((44, 52, 4), np.uint8)).save(root / "alpha" / "3.png")
    with pytest.raises(TrainError, match=r'alpha.*3\.png holds colours .*getchannel\("A"\)'):
        check()
    (root / "bg" / "3.png").unlink()
    with pytest.raises(TrainError, match=r"1 foreground\(s\) without a partner in .*bg: 3\.png"):
        check()
    (root / "fg" / "3.png").unlink()
    with pytest.raises(TrainError, match=r"1 alpha\(s\) without a partner in .*fg: 3\.png"):
        check()
    (root / "image").mkdir()
    with pytest.raises(TrainError, match=r"holds image/ as well as fg/ or bg/"):
        check()
    with pytest.raises(TrainError, match=r"there is no folder .*nowhere.image\. Expected image/ and alpha/"):
        AlphaFolderData(str(own / "nowhere")).prepare_data()


def test_composite_rounds_to_the_nearest() -> None:
    one, none = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
    assert composite(one, none, torch.tensor([[[0.4995 / 1]]]))[:, 0, 0].tolist() == [127] * 3
    assert composite(one, none, torch.tensor([[[0.5005]]]))[:, 0, 0].tolist() == [128] * 3


def test_files_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.png", tmp_path / "binary.png"
    broken.write_bytes(b"no image")
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(binary)
    with pytest.raises(TrainError, match=r"broken\.png is no image that can be read"):
        alpha_of(broken)
    with pytest.raises(TrainError, match=r"binary\.png holds only 0 and 1.*multiply the alpha by 255"):
        alpha_of(binary)
