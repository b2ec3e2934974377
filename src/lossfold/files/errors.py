"""The one error about a file: which, what is wrong with it, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LFS, ANNEX = b"version https://git-lfs", b"/annex/objects/"


class FileError(ValueError):
    """A file can't be read as what it should be.

    Args:
        path: the file.
        reason: what is wrong with it.
        advice: what to do.
    """

    def __init__(self, path: Path, reason: str, advice: str = "") -> None:
        self.path, self.reason, self.advice = path, reason, advice
        super().__init__(path, reason, advice)  # so that it can be pickled, out of a loader's process

    def __str__(self) -> str:
        return f"{self.path} {self.reason}" + f"; {self.advice}" * bool(self.advice)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within it whatever a decoder raises becomes a `FileError`: broken bytes can make it raise anything."""
    try:
        yield
    except FileError:
        raise
    except MemoryError as error:
        raise FileError(path, "does not fit in memory", "cut it into tiles, or save it as a tiled TIFF or as .npy") from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise FileError(path, f"can't be decoded ({said})", "it is truncated or damaged: copy it again, or take it away") from error


def check_bytes(path: Path) -> bytes:
    """Return the first bytes of a file, at most 64.

    Raises:
        FileError: there is no such file, or it is what tools leave in place of one.
    """
    if path.is_symlink() and not path.exists():
        raise FileError(path, f"is a link to {path.readlink()}, which is not there", "mend the link, or take it away")
    if not path.is_file():
        raise FileError(path, "is no file", "see the path")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise FileError(path, f"can't be opened ({error.strerror})", "see its permissions") from error
    if not start:
        raise FileError(path, "is empty", "copy it again, or take it away")
    if start.startswith(LFS):
        raise FileError(path, "is a pointer of Git LFS, not the file", "fetch the files with `git lfs pull`")
    if start.startswith(ANNEX):
        raise FileError(path, "is a pointer of git-annex, not the file", "fetch the files with `git annex get`")
    if start.lstrip()[:6].lower() in (b"<!doct", b"<html>", b"<html "):
        raise FileError(path, "is a web page", "the download failed: fetch it again")
    return start
