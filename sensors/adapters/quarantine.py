"""Moves refused files out of a watched tree. All of it blocks; call it off the loop.

A file keeps its relative path; where that is taken its token is added to the name, so that nothing is overwritten.
Moving is done once or again with the same end: what is not there any more, or is another version by now, is left alone.
"""

import contextlib
import errno
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from sensors.adapters.directory import Found, Root

_OTHER_DEVICE = errno.EXDEV


class Quarantine:
    """The folder `path`, made when the first file comes, for the tree at `watched`; both are absolute.

    `left_out` says of a folder below the watched one whether nothing in it is looked at. Raises ValueError where what
    is moved away would be found again.
    """

    def __init__(self, path: str, watched: str, left_out: Callable[[str], bool]) -> None:
        self.path = path
        self._watched = watched
        self._left_out = left_out
        self._check(path, watched)

    def take(self, root: Root, found: Found) -> str | None:
        """Move a file here if it is still the version that was found; return where it is now. Raises OSError."""
        try:  # again, now that links can be followed
            self._check(os.path.realpath(self.path), os.path.realpath(self._watched))
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from error
        folder, _, name = found.path.rpartition("/")
        try:
            source = root.open_folder(folder)
        except FileNotFoundError:
            return None
        try:
            if not _is(found, name, source):
                return None
            target = Path(self.path, folder)
            target.mkdir(parents=True, exist_ok=True)
            return self._move(source, name, target, found)
        finally:
            os.close(source)

    def _check(self, path: str, watched: str) -> None:
        if _lies_in(watched, path):
            raise ValueError(
                "the quarantine of `on_violation` holds the watched folder; choose one beside it, such as ./quarantine"
            )
        if _lies_in(path, watched) and not self._left_out(os.path.relpath(path, watched)):
            raise ValueError(
                "the quarantine of `on_violation` lies inside the watched folder; choose one beside it, or one that "
                "`ignore` leaves out"
            )

    def _move(self, source: int, name: str, target: Path, found: Found) -> str | None:
        place = _reserve(target, name, f"{found.size}+{found.mtime_ns}")
        try:
            os.rename(name, place, src_dir_fd=source)
        except OSError as error:
            try:
                if error.errno == errno.ENOENT:
                    place.unlink()
                    return None
                if error.errno != _OTHER_DEVICE:
                    raise
                return _copied(source, name, place, found)
            except BaseException:
                with contextlib.suppress(OSError):
                    place.unlink()
                raise
        if not _is(found, place.name, None, place):  # replaced by another version just now: that one goes back
            with contextlib.suppress(FileExistsError):
                os.link(place, name, dst_dir_fd=source, follow_symlinks=False)
                place.unlink()
            return None
        return str(place)


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is(found: Found, name: str, folder: int | None, path: Path | None = None) -> bool:
    try:
        about = os.stat(name if path is None else path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(about.st_mode) and (about.st_size, about.st_mtime_ns) == (found.size, found.mtime_ns)


def _reserve(target: Path, name: str, token: str) -> Path:
    """Make an empty file under the first name that is free, and return its path."""
    for candidate in _names(name, token):
        place = target / candidate
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            continue
        return place
    raise AssertionError("names never end")


def _names(name: str, token: str) -> Iterator[str]:
    yield name
    stem, dot, ending = name.rpartition(".")
    stem, ending = (stem, dot + ending) if stem else (name, "")
    room = 255 - len(os.fsencode(ending)) - len(token) - 8
    while len(os.fsencode(stem)) > room and len(stem) > 1:
        stem = stem[:-1]
    yield f"{stem}~{token}{ending}"
    for number in itertools.count(2):
        yield f"{stem}~{token}~{number}{ending}"


def _copied(source: int, name: str, place: Path, found: Found) -> str | None:
    """Move to another file system: copy all, make that durable, then take the file away."""
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=source), "rb") as file:
        with place.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        about = os.fstat(file.fileno())
    os.utime(place, ns=(about.st_atime_ns, about.st_mtime_ns))
    if not _is(found, name, source) or not _is(found, "", None, place):
        place.unlink()
        return None
    os.unlink(name, dir_fd=source)
    return str(place)
