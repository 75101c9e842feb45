"""Which code a run runs: the first version of each file that one of its tasks imported, to its end.

In flow the user's folders and the run's manifest; modules below these folders are imported through here, so that what
was executed is known byte for byte. Each file is kept once, by its hash, in `store`; the manifest of a run names the
hashes. A run without one takes what is on disk and writes it down. A worker that has imported another version than it
should is of no use to a run (`fits` says so): Python cannot import a module anew without leaving parts of it behind.
"""

import fcntl
import hashlib
import importlib.machinery
import linecache
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import orjson

MANIFEST = "code.json"
Marks = tuple[int, int, int]
_ROOT = Path(__file__).resolve().parents[2]
_OWN = tuple(f"{_ROOT / name}/" for name in ("sensors", "triggers", "pipelines", "config", "tidegate"))


class CodeGone(ImportError):
    """A version of a file that a run is bound to is not kept any more."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was imported of a file: its hash, and how the file looked on disk (None: it came from the store)."""

    version: str
    marks: Marks | None


class UserCode:
    """The user's modules in one process."""

    def __init__(self) -> None:
        self._folders: tuple[str, ...] = ()
        self._loaded: dict[str, _Loaded] = {}
        self._bound: Mapping[str, str] = {}
        self._manifest: Path | None = None
        self._store: Path | None = None
        self._hooked = False

    @property
    def bare(self) -> bool:
        """Say whether this knows no folders: nobody would notice that a file has changed, so it is read each time."""
        return not self._folders

    def fits(self, folders: Sequence[str], manifest: Path | None, store: Path | None) -> bool:
        """Begin a job of a run: say whether what was imported here is what the run is bound to, or else is on disk."""
        self._follow(folders)
        self._manifest, self._store = manifest, store
        self._bound = _read(manifest)
        return all(self._current(file, loaded) for file, loaded in self._loaded.items())

    def forget(self) -> None:
        """Take all that was imported out of Python's hands: it will be imported anew. What holds it keeps it."""
        for name, module in list(sys.modules.items()):
            if getattr(module, "__file__", None) in self._loaded:
                del sys.modules[name]
        self._loaded.clear()

    def close(self) -> None:
        """Leave Python's import system as it was found."""
        self.forget()
        self._folders = ()
        if self._hooked:
            self._hooked = False
            sys.path_hooks.remove(self._finder)
            for path, finder in list(sys.path_importer_cache.items()):
                if isinstance(finder, _Finder):
                    del sys.path_importer_cache[path]

    def bind(self) -> None:
        """Write down for the run what has been imported and is not in its manifest yet; others' entries stay."""
        new = {file: one.version for file, one in self._loaded.items() if file not in self._bound}
        if not new or self._manifest is None or self._store is None:
            return
        self._manifest.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._manifest.with_suffix(".lock")):
            self._bound = {**new, **_read(self._manifest)}
            _place(self._manifest, orjson.dumps(self._bound))

    def read(self, file: str) -> bytes:
        """Return the bytes of a file that is being imported, and remember which they were."""
        wanted = self._bound.get(file)
        marks = _marks(file)
        with suppress(OSError):
            data = Path(file).read_bytes()
            version = hashlib.sha256(data).hexdigest()
            if wanted is None or version == wanted:
                self._keep(version, data)
                self._loaded[file] = _Loaded(version, marks)
                return data
        if wanted is None:
            raise FileNotFoundError(file)
        data = self._kept(wanted, file)
        self._loaded[file] = _Loaded(wanted, None)
        return data

    def _current(self, file: str, loaded: _Loaded) -> bool:
        wanted = self._bound.get(file)
        if wanted is not None:
            return wanted == loaded.version
        marks = _marks(file)
        if marks is None or loaded.marks == marks:
            return marks is not None
        with suppress(OSError):  # touched, or written anew as it was?
            if hashlib.sha256(Path(file).read_bytes()).hexdigest() == loaded.version:
                self._loaded[file] = _Loaded(loaded.version, marks)
                return True
        return False

    def _keep(self, version: str, data: bytes) -> None:
        if self._store is None:
            return
        path = self._store / version
        try:
            os.utime(path)  # young again: what is in use is not swept
        except OSError:
            with suppress(OSError):  # a run that finds its version gone later says so
                self._store.mkdir(parents=True, exist_ok=True)
                _place(path, data)

    def _kept(self, version: str, file: str) -> bytes:
        path = (self._store or Path()) / version
        with suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == version:
                return data
        raise CodeGone(
            f"{file} has changed since this run began, and the version that it began with is not kept here; "
            "resume the run to go on with the new code"
        )

    def _follow(self, folders: Sequence[str]) -> None:
        """Have modules below these folders imported through here."""
        if tuple(folders) == self._folders:
            return
        self._folders = tuple(folders)
        if not self._hooked:
            self._hooked = True
            sys.path_hooks.insert(0, self._finder)
        for path, finder in list(sys.path_importer_cache.items()):
            if self._ours(path) and not isinstance(finder, _Finder):
                del sys.path_importer_cache[path]

    def _finder(self, path: str) -> Any:
        if not self._ours(path) or not Path(path).is_dir():
            raise ImportError(f"{path} is no folder of the user's")
        return _Finder(
            path,
            (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
            (partial(Loader, code=self), importlib.machinery.SOURCE_SUFFIXES),  # type: ignore[arg-type]  # any callable
        )

    def _ours(self, path: str) -> bool:
        folder = f"{path.rstrip('/')}/"
        return (
            "site-packages" not in path
            and not folder.startswith(_OWN)
            and folder.startswith(tuple(f"{one.rstrip('/')}/" for one in self._folders))
        )


class _Finder(importlib.machinery.FileFinder):
    """A finder of files that are read through `UserCode`."""


class Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module from the bytes that `UserCode` gives; no bytecode is written or trusted."""

    def __init__(self, name: str, path: str, code: UserCode) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        data = self._code.read(path)
        # Tracebacks show what is run, not what the file has become.
        linecache.cache[path] = (len(data), None, data.decode("utf-8", "replace").splitlines(keepends=True), path)
        return self.source_to_code(data, path)


def manifest_of(values: Path) -> Path:
    """Return where the manifest of the run lies whose values are in this folder."""
    return values / MANIFEST


def _read(manifest: Path | None) -> Mapping[str, str]:
    if manifest is None:
        return {}
    try:
        found: Mapping[str, str] = orjson.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _marks(file: str) -> Marks | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _place(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
