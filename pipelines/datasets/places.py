"""Where files lie: the port that layouts of files are written against, and its local implementation.

`swap` is the one step that publishes: it puts new content under a name if, and only if, what is there is still what was
read. Whoever comes too late is told (`Moved`) and reads again. Everything else writes under names that are used once.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from pipelines.datasets.written import TargetUnusable


class Moved(Exception):
    """What is under the name is no longer what was read; read it again."""


class Files(Protocol):
    """Files by their path. All methods raise TargetUnusable when the place does not answer, or refuses."""

    def shown(self, path: str) -> str:
        """Return how messages name a file."""
        ...

    def fetch(self, path: str) -> tuple[bytes, str] | None:
        """Return a file's content and its tag, which changes with every write; None when there is none."""
        ...

    def tail(self, path: str, size: int) -> tuple[bytes, str, int] | None:
        """Return the last `size` bytes of a file, its tag and its length; None when there is none."""
        ...

    def put(self, path: str, data: bytes) -> None:
        """Write a file under a name that nobody else uses."""
        ...

    def swap(self, path: str, data: bytes, tag: str | None) -> None:
        """Replace the file whose tag this is (None: that is not there) at once. Raises Moved."""
        ...

    def names(self, folder: str) -> Mapping[str, int]:
        """Return the files below a folder, with the moment of their last change in UTC microseconds."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files; one that is not there is no trouble."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class LocalFiles:
    """Files of this machine: written aside, synced, and renamed under a lock that ends with the process."""

    def shown(self, path: str) -> str:
        return path

    def fetch(self, path: str) -> tuple[bytes, str] | None:
        found = self.tail(path, -1)
        return None if found is None else found[:2]

    def tail(self, path: str, size: int) -> tuple[bytes, str, int] | None:
        with _told(path):
            try:
                with Path(path).open("rb") as file:
                    stat = os.fstat(file.fileno())
                    if size >= 0:
                        file.seek(max(0, stat.st_size - size))
                    return file.read(), _tag(stat), stat.st_size
            except FileNotFoundError:
                return None

    def put(self, path: str, data: bytes) -> None:
        with _told(path):
            place = Path(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            _replace(place, data)

    def swap(self, path: str, data: bytes, tag: str | None) -> None:
        with _told(path):
            place = Path(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with _locked(place.with_name(f".{place.name}.lock")):
                there = None
                with suppress(FileNotFoundError):
                    there = _tag(place.stat())
                if there != tag:
                    raise Moved(path)
                _replace(place, data)

    def names(self, folder: str) -> Mapping[str, int]:
        with _told(folder):
            return {str(path): path.stat().st_mtime_ns // 1000 for path in Path(folder).rglob("*") if path.is_file()}

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            with _told(path):
                Path(path).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TargetUnusable(f"{path} could not be used: {error}") from error


def _tag(stat: os.stat_result) -> str:
    return f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"


def _replace(path: Path, data: bytes) -> None:
    """Put content under a name at once and for good; the name aside is always the same: nothing is left over."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process; wait for whoever has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
