"""The images that a call names, and where their results go."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lossfold.files.pairing import find, some
from lossfold.predict.journal import FOLDERS
from lossfold.train.errors import TrainError


def images_in(named: Iterable[str], output: Path) -> tuple[dict[str, Path], int]:
    """Find the images of files and folders, with their sub-folders, by key: the path inside the folder without its suffix.

    Args:
        named: files and folders.
        output: the results' folder, whose own pictures are passed over; images beside these are images.

    Returns:
        The images, and how many files were passed over.

    Raises:
        FileError: a folder is not there or holds no image.
        TrainError: a file is not there, two images would have the same result, or there is none.
    """
    found: dict[str, Path] = {}
    earlier, passed = set[Path](), set[Path]()
    results = {(output / folder).resolve() for folder in FOLDERS}
    for name in map(Path, named):
        if not name.exists() and not name.is_symlink():
            raise TrainError(f"there is no file or folder {name}")
        inside = find(name, recursive=True) if name.is_dir() else {name.stem: name}
        places = {key: path.parent.resolve() / path.name for key, path in inside.items()}
        for key, path in inside.items():
            if results.intersection(path.resolve().parents):
                passed.add(places[key])
                continue
            if places[key] in earlier:  # named twice, it counts once
                continue
            if key in found:
                raise TrainError(f"{found[key]} and {path} would have the same result {key}; predict them into different folders")
            found[key] = path
        earlier.update(places.values())
    if not found:
        own = f" but {len(passed)} result(s) of {output}" if passed else ""
        raise TrainError(f"there is no image to predict{own}; name files or folders")
    return found, len(passed)


def trimaps_of(keys: Iterable[str], folder: str) -> dict[str, Path]:
    """Find each image's trimap, which has its path up to the suffix.

    Raises:
        TrainError: the task needs trimaps and no folder is given, or an image has none.
    """
    if not folder:
        raise TrainError(
            "matting needs a trimap of each image (0 background, 128 unknown, 255 foreground): name their folder with --trimaps, "
            "where a trimap has its image's name"
        )
    found = find(Path(folder), recursive=True)
    lonely = [key for key in keys if key not in found]
    if lonely:
        raise TrainError(f"{len(lonely)} image(s) have no trimap in {folder}: {some(lonely)}")
    return found


def results_of(output: Path, parts: Sequence[str], key: str) -> list[Path]:
    """Where an image's results go, without their suffixes: a file, or one in a folder of each channel."""
    return [output / "predictions" / part / key for part in parts]
