"""What a results' folder holds, and of what: a result counts as there only if this checkpoint made it of this image."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lossfold.files.lock import lock
from lossfold.predict.writing import write_text
from lossfold.train.errors import TrainError

FOLDERS = ("predictions", "probabilities", "sheet")


@dataclass(frozen=True)
class Settings:
    """What decides a result: a folder holds those of one checkpoint and one way to use it."""

    task: str
    checkpoint: str
    digest: str
    options: dict[str, Any]

    @classmethod
    def of(cls, task: str, source: Path, **options: Any) -> "Settings":
        """See what a checkpoint's file holds."""
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
        return cls(task, str(source), digest.hexdigest(), options)

    @property
    def fingerprint(self) -> str:
        """A short name of what decides."""
        return hashlib.sha256(json.dumps([self.digest, self.options], sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """A folder of results that this process alone writes, and its `log.jsonl`: a line of JSON for each image that is whole.

    Args:
        output: the folder; it is made.
        settings: of the results to come.
        overwrite: whether results of other settings may be replaced.

    Raises:
        TrainError: another process writes the folder, or it holds results of other settings.
    """

    def __init__(self, output: Path, settings: Settings, overwrite: bool) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.output, self.settings = output, settings.fingerprint
        self._entries: dict[str, dict[str, Any]] = {}
        self._owners: dict[str, str] = {}
        self._file = (output / "log.jsonl").open("a+b")
        try:
            self._claim(settings, overwrite)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _claim(self, settings: Settings, overwrite: bool) -> None:
        try:
            lock(self._file.fileno(), self.output)
        except FileExistsError as error:
            raise TrainError(str(error)) from error
        path = self.output / "predict.json"
        same = path.is_file() and self._same(path, settings, overwrite)
        self._file.seek(0)
        *lines, torn = self._file.read().split(b"\n")
        for line in [*lines, torn]:
            self._take(_read(line))
        if torn:
            self._file.write(b"\n")
        for folder in FOLDERS:  # what a killed process left
            for part in (self.output / folder).rglob("*.part"):
                part.unlink(missing_ok=True)
        if not same:
            if any(not self.of(key) for key in self._entries):
                self._write({"settings": self.settings})
            write_text(path, json.dumps(asdict(settings), indent=1) + "\n")

    def _same(self, path: Path, settings: Settings, overwrite: bool) -> bool:
        """Whether the folder's earlier results are of the same checkpoint and options."""
        earlier = _read(path.read_bytes())
        known = isinstance(earlier, dict) and {"checkpoint", "digest", "options"} <= earlier.keys()
        same = bool(known and (earlier["digest"], earlier["options"]) == (settings.digest, settings.options))
        if same or overwrite:
            return same
        if not known:
            raise TrainError(f"{path} is torn, or not of lossfold predict; name another folder with --output, or use --overwrite")
        raise TrainError(
            f"{self.output} holds results of {earlier['checkpoint']} with {earlier['options']}, or of an earlier state of that "
            "file; name another folder with --output, or replace them with --overwrite"
        )

    def _take(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            return
        key, files = entry.get("key"), entry.get("files")
        if isinstance(key, str) and isinstance(files, list) and all(isinstance(name, str) for name in files):
            self._entries[key] = entry
            self._owners.update(dict.fromkeys(files, key))
        elif "key" not in entry and "settings" in entry:  # from here on files of other settings may be replaced at any time
            for earlier in self._entries.values():
                if earlier.get("settings") != entry["settings"]:
                    earlier["settings"] = None

    def _write(self, entry: dict[str, Any]) -> None:
        self._take(entry)
        self._file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()

    def of(self, key: str) -> dict[str, Any] | None:
        """The line of an image that was predicted with these settings."""
        entry = self._entries.get(key)
        return entry if entry and entry.get("settings") == self.settings else None

    def others(self) -> int:
        """How many images have results of other settings."""
        strange = [entry for key, entry in self._entries.items() if not self.of(key)]
        return sum(any((self.output / name).is_file() for name in self._own(entry)) for entry in strange)

    def _own(self, entry: dict[str, Any]) -> list[str]:
        """The files of a line that no later one has replaced."""
        inside = [name for name in entry["files"] if name.split("/")[0] in FOLDERS and ".." not in name.split("/")]
        return [name for name in inside if self._owners[name] == entry["key"]]

    def has(self, key: str, stamps: list[list[str | int]] | None, wanted: str = "") -> bool:
        """Whether results are there, made with these settings of files that are as they were.

        Args:
            key: the image.
            stamps: of its files.
            wanted: a file that must be among the results.
        """
        entry = self.of(key)
        if entry is None or stamps is None or entry.get("stamps") != stamps or (wanted and wanted not in entry["files"]):
            return False
        return self._own(entry) == entry["files"] and all((self.output / name).is_file() for name in entry["files"])

    def check(self, images: dict[str, Path], seen: dict[str, list[list[str | int]] | None]) -> None:
        """Refuse to replace results of other images, which have the same names in another folder.

        Args:
            images: files by key.
            seen: the stamps of each.

        Raises:
            TrainError: there are such results.
        """
        lost = {key: earlier for key, path in images.items() if (earlier := self._of_another(key, path, seen[key]))}
        if lost:
            key, earlier = next(iter(lost.items()))
            raise TrainError(
                f"{self.output} holds the results of {len(lost)} other image(s) of the same names: {key} is of {earlier}, not of "
                f"{images[key]}; name another folder with --output, or the folder that both are in, or use --overwrite"
            )

    def _of_another(self, key: str, path: Path, seen: list[list[str | int]] | None) -> str:
        """The file that an image's results are of, if they are there and it is neither this one nor of its name."""
        entry = self._entries.get(key, {})
        try:
            earlier = str(entry["stamps"][0][0])
        except (KeyError, IndexError, TypeError):  # a sample, or one that could not be seen
            return ""
        same = not seen or earlier == seen[0][0] or entry.get("file") == named(path)  # a link may lead elsewhere now
        there = any((self.output / name).is_file() for name in self._own(entry))
        return earlier if there and not same else ""

    def add(self, key: str, files: list[Path], stamps: list[list[str | int]] | None, **facts: Any) -> None:
        """Write the line of an image whose results are in their places, and take away earlier ones that had other names.

        Args:
            key: the image.
            files: its results.
            stamps: of its files.
            facts: what else is known.
        """
        names = [path.relative_to(self.output).as_posix() for path in files]
        earlier = self._entries.get(key)
        for name in self._own(earlier) if earlier else ():
            if name not in names:
                (self.output / name).unlink(missing_ok=True)
        self._write({"key": key, **facts, "settings": self.settings, "stamps": stamps, "files": names})


def stamps(*files: Path | None) -> list[list[str | int]] | None:
    """Path, size and time of each file; None where one can't be seen."""
    try:
        return [[str(file.resolve()), (state := file.stat()).st_size, state.st_mtime_ns] for file in files if file]
    except OSError:
        return None


def named(path: Path) -> str:
    """A file as it was named, from any working directory."""
    return os.path.abspath(path)


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
