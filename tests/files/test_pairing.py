"""Files of two folders by name, by pattern, in sub-folders."""

from pathlib import Path

import pytest

from lossfold.files import FileError, find, pair


def touched(root: Path, *names: str) -> Path:
    """A folder with empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def keys(pairs: object) -> list[tuple[str, str]]:
    """The names of each pair."""
    return [(one.name, two.name) for one, two in pairs.both.values()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("pattern", [None, "{name}_mask"])
def test_patterns(tmp_path: Path, pattern: str | None) -> None:
    """`name_mask.png` is found with and without being told, in a folder of its own and beside the images."""
    images, masks = (
        touched(tmp_path / "i", "a.jpg", "b.PNG", ".c.png", "notes.txt"),
        touched(tmp_path / "m", "a_mask.png", "b_mask.tif"),
    )
    assert keys(pair(find(images), find(masks), pattern)) == [("a.jpg", "a_mask.png"), ("b.PNG", "b_mask.tif")]
    both = find(touched(tmp_path / "both", "a.jpg", "a_mask.png", "b.jpg", "b_mask.png"))
    assert keys(pair(both, both, pattern)) == [("a.jpg", "a_mask.png"), ("b.jpg", "b_mask.png")]


def test_subfolders_and_other_patterns(tmp_path: Path) -> None:
    """Keys hold the sub-folder, so that equal names in two of them stay apart; * stands for anything."""
    images = touched(tmp_path / "i", "x/a_rgb.png", "y/a_rgb.png")
    masks = touched(tmp_path / "m", "x/a_001_seg.png", "y/a_002_seg.png", "y/a.png")
    pairs = pair(find(images, recursive=True), find(masks, recursive=True), "{name}_*_seg", "{name}_rgb")
    assert list(pairs.both) == ["x/a", "y/a"] and not pairs.lonely and not pairs.spare
    with pytest.raises(FileError, match="sub-folders"):
        find(images)


def test_mismatches_are_listed(tmp_path: Path) -> None:
    """Files without a partner on both sides, equal stems, and patterns without a name."""
    images, masks = find(touched(tmp_path / "i", "a.png", "b.png")), find(touched(tmp_path / "m", "a.png", "c.png"))
    pairs = pair(images, masks)
    assert [path.name for path in (*pairs.lonely, *pairs.spare)] == ["b.png", "c.png"]
    with pytest.raises(FileError, match=r"1 image\(s\) without a partner: b.png"):
        pairs.check("image", "mask")
    with pytest.raises(FileError, match="same stem"):
        find(touched(tmp_path / "twice", "a.png", "a.jpg"))
    with pytest.raises(FileError, match=r"without one \{name\}"):
        pair(images, masks, "mask")
    with pytest.raises(FileError, match="are both"):
        pair(images, find(touched(tmp_path / "n", "a_1.png", "a_2.png")), "{name}_*")


def test_line_breaks_and_links(tmp_path: Path) -> None:
    """Names with line breaks have partners; linked sub-folders are searched, and circles of links end."""
    images, masks = touched(tmp_path / "i", "new\nline.png", "sub/c.png"), touched(tmp_path / "m", "new\nline_mask.png")
    (images / "far").symlink_to(touched(tmp_path / "elsewhere", "b.png"))
    (images / "sub" / "up").symlink_to(images)
    assert keys(pair(find(images), find(masks))) == [("new\nline.png", "new\nline_mask.png")]
    assert list(find(images, recursive=True)) == ["far/b", "new\nline", "sub/c"]


def test_the_usual_pattern_that_fits_most_is_meant(tmp_path: Path) -> None:
    """So that one missing mask is told, and not that all are."""
    pairs = pair(
        find(touched(tmp_path / "i", "a.jpg", "b.jpg", "c.jpg")), find(touched(tmp_path / "m", "a_mask.png", "c_mask.png"))
    )
    assert keys(pairs) == [("a.jpg", "a_mask.png"), ("c.jpg", "c_mask.png")] and [path.name for path in pairs.lonely] == ["b.jpg"]
