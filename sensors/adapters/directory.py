"""A directory tree, looked at in pages and never left: what the file system says, without following one symbolic link.

In flow a root and a place to start, out flow pages of regular files in no particular order. Every folder is opened
relative to the one above it with O_NOFOLLOW, so a folder that is swapped for a link while we look leads nowhere. Memory
is one page and one open folder per level. All functions here block; call them off the loop.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

MAX_LEVELS: Final = 64  # two descriptors each
MAX_MESSAGES: Final = 3

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW: Final = _FOLDER | os.O_NOFOLLOW
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe in its place must not hold us
# Not there, no folder, or a link instead: nothing to see, and no error.
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_NAME: Final = frozenset({"", ".", ".."})  # steps that are no names, and could lead out of the root


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file: path relative to the root (as the file system API gives it), size, and nanoseconds since 1970."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(slots=True)
class Page:
    """What one look found. `folders` are those entered; `ignored` counts links, devices, pipes and what is too deep."""

    files: list[Found] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: int = 0
    errors: int = 0
    messages: list[str] = field(default_factory=list)
    done: bool = False

    def fail(self, path: str, error: OSError) -> None:
        """Count an error; the first few are kept as sentences."""
        self.errors += 1
        if len(self.messages) < MAX_MESSAGES:
            self.messages.append(f"{path or '.'!a}: {error.strerror or error}")


class FileChanged(OSError):
    """A file is not the version any more that was found: it is gone, or was written again."""


class Root:
    """The root, opened. `identity` names the directory itself, so that another one in its place is noticed."""

    def __init__(self, path: str) -> None:
        """Open it; the root itself may be a link, since the operator wrote it. Raises OSError."""
        self.fd = os.open(path, _FOLDER)
        about = os.fstat(self.fd)
        self.identity = f"{about.st_dev}:{about.st_ino}"
        self._folder = ""
        self._folder_fd = self.fd

    def stat(self, path: str) -> Found | Literal["folder", "other", "absent"]:
        """Look at one path below the root. Raises OSError when the question cannot be answered."""
        if not _NO_NAME.isdisjoint(path.split("/")):
            return "absent"
        folder, _, name = path.rpartition("/")
        try:
            if folder != self._folder:
                self._forget_folder()
                self._folder_fd = self.open_folder(folder)
                self._folder = folder
            about = os.stat(name, dir_fd=self._folder_fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return "absent"
            raise
        if stat.S_ISREG(about.st_mode):
            return Found(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        return "folder" if stat.S_ISDIR(about.st_mode) else "other"

    def open_folder(self, path: str) -> int:
        """Open a folder below the root, step by step; return its descriptor, the caller's to close. Raises OSError."""
        fd = os.dup(self.fd)
        for name in path.split("/") if path else ():
            try:
                below = os.open(name, _BELOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def read(self, found: Found, start: int, length: int) -> bytes:
        """Read at most `length` bytes of a file from `start`; a negative start counts from the end.

        Raises FileChanged unless it is the version that was found, before and after; other OSErrors as they come.
        """
        folder, _, name = found.path.rpartition("/")
        try:
            above = self.open_folder(folder)
            try:
                fd = os.open(name, _FILE, dir_fd=above)
            finally:
                os.close(above)
        except OSError as error:
            if error.errno in _ABSENT:
                raise FileChanged(f"{found.path!a} is gone") from error
            raise
        try:
            _require_version(fd, found)
            at = max(0, found.size + start) if start < 0 else start
            parts: list[bytes] = []
            while length > 0 and (part := os.pread(fd, length, at)):
                parts.append(part)
                at, length = at + len(part), length - len(part)
            _require_version(fd, found)
            return b"".join(parts)
        finally:
            os.close(fd)

    def _forget_folder(self) -> None:
        if self._folder_fd != self.fd:
            os.close(self._folder_fd)
        self._folder, self._folder_fd = "", self.fd

    def close(self) -> None:
        """Let go of it."""
        self._forget_folder()
        os.close(self.fd)


def _require_version(fd: int, found: Found) -> None:
    about = os.fstat(fd)
    if not stat.S_ISREG(about.st_mode) or (about.st_size, about.st_mtime_ns) != (found.size, found.mtime_ns):
        raise FileChanged(f"{found.path!a} was written again")


@dataclass(slots=True)
class _Level:
    fd: int
    path: str
    entries: Iterator["os.DirEntry[str]"]
    end: Callable[[], None]


class Walk:
    """A walk through a tree, a page at a time.

    `skips` is asked with each name, `enters` with each folder's path; what they turn down is neither listed nor
    counted.
    """

    def __init__(
        self, root: Root, start: str, *, skips: Callable[[str], bool], enters: Callable[[str], bool], deep: bool
    ) -> None:
        self._root = root
        self._start = start
        self._skips = skips
        self._enters = enters
        self._deep = deep
        self._levels: list[_Level] | None = None

    def page(self, limit: int) -> Page:
        """Look at about `limit` directory entries and return what they are. Not called again after `done`."""
        page = Page()
        if self._levels is None:
            self._levels = []
            try:
                self._enter(page, self._root.open_folder(self._start), self._start)
            except OSError as error:
                if error.errno not in _ABSENT:
                    page.fail(self._start, error)
        looked = 0
        while self._levels and looked < limit:
            level = self._levels[-1]
            try:
                entry = next(level.entries, None)
            except OSError as error:
                page.fail(level.path, error)
                entry = None
            if entry is None:
                self._leave()
                continue
            looked += 1
            if not self._skips(entry.name):
                self._look(page, level, entry)
        page.done = not self._levels
        return page

    def _look(self, page: Page, level: _Level, entry: "os.DirEntry[str]") -> None:
        path = f"{level.path}/{entry.name}" if level.path else entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                if not self._deep or not self._enters(path):
                    return
                if self._levels is not None and len(self._levels) >= MAX_LEVELS:
                    page.ignored += 1
                    return
                self._enter(page, os.open(entry.name, _BELOW, dir_fd=level.fd), path)
            elif entry.is_file(follow_symlinks=False):
                about = entry.stat(follow_symlinks=False)
                page.files.append(Found(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
            else:
                page.ignored += 1
        except OSError as error:
            if error.errno not in _ABSENT:
                page.fail(path, error)

    def _enter(self, page: Page, fd: int, path: str) -> None:
        try:
            listing = os.scandir(fd)
        except OSError:
            os.close(fd)
            raise
        if self._levels is not None:
            self._levels.append(_Level(fd, path, listing, listing.close))
        page.folders.append(path)

    def _leave(self) -> None:
        if self._levels:
            level = self._levels.pop()
            level.end()
            os.close(level.fd)

    def close(self) -> None:
        """Let go of all open folders."""
        while self._levels:
            self._leave()
