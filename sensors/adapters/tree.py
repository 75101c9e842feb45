"""A tree of files under watch: the blocking half of a sensor on files. One thread at a time calls it, off the loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sensors.adapters.directory import Found, Page, Root, Walk
from sensors.adapters.quarantine import Quarantine


class RootChanged(OSError):
    """Another directory stands where the root was: what is missing in it proves nothing."""


@dataclass(slots=True)
class Checked:
    """What single paths turned out to be. `gone` are those where no regular file is any more, or never was."""

    files: list[Found] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: Page = field(default_factory=Page)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is looked at: names to skip, folders to enter, and whether below the root's own files at all."""

    skips: Callable[[str], bool]
    enters: Callable[[str], bool]
    recursive: bool


class Tree:
    """The tree below one root. `create`: make the root when it is missing as it is opened."""

    def __init__(self, path: str, rules: Rules, create: bool = False) -> None:
        self.path = path
        self._rules = rules
        self._create = create
        self._root: Root | None = None
        self._walk: Walk | None = None

    def another(self, count: Callable[[str], None]) -> "Tree":
        """Return a tree of its own at the same place, which makes nothing; `count` is told why something is left out.

        The reasons are `ignore` (a name) and `pattern` (a folder in which nothing could match).
        """
        rules = self._rules

        def skips(name: str) -> bool:
            left_out = rules.skips(name)
            if left_out:
                count("ignore")
            return left_out

        def enters(folder: str) -> bool:
            entered = rules.enters(folder)
            if not entered:
                count("pattern")
            return entered

        return Tree(self.path, Rules(skips, enters, rules.recursive))

    def open(self) -> str:
        """Open the root anew and return its identity. Raises OSError."""
        self.close()
        if self._create:
            Path(self.path).mkdir(parents=True, exist_ok=True)
        self._root = Root(self.path)
        return self._root.identity

    def begin(self, start: str, *, deep: bool) -> None:
        """Begin a walk at a folder below the root (`""` is the root)."""
        root = self._opened()
        self.end()
        deep = deep and self._rules.recursive
        self._walk = Walk(root, start, skips=self._rules.skips, enters=self._rules.enters, deep=deep)

    def page(self, limit: int) -> Page:
        """Return the next page of the walk."""
        if self._walk is None:
            return Page(done=True)
        return self._walk.page(limit)

    def end(self) -> None:
        """End the walk, if there is one."""
        if self._walk is not None:
            self._walk.close()
            self._walk = None

    def check(self, paths: Sequence[str]) -> Checked:
        """Look at single paths. Raises RootChanged when the root is another directory than the one opened."""
        checked = Checked()
        root = Root(self.path)
        try:
            if self._root is not None and root.identity != self._root.identity:
                raise RootChanged(f"{self.path} is another directory than before")
            for path in paths:
                try:
                    what = root.stat(path)
                except OSError as error:
                    checked.failed.fail(path, error)
                    continue
                if isinstance(what, Found):
                    checked.files.append(what)
                elif what == "folder":
                    checked.folders.append(path)
                    checked.gone.append(path)
                else:
                    checked.gone.append(path)
        finally:
            root.close()
        return checked

    def read(self, found: Found, start: int, length: int) -> bytes:
        """Read a part of a file. Raises FileChanged when it is not the version that was found, or OSError."""
        return self._opened().read(found, start, length)

    def take_to(self, quarantine: Quarantine, found: Found) -> str | None:
        """Move a file out of the tree if it is still the version that was found. Raises OSError."""
        return quarantine.take(self._opened(), found)

    def _opened(self) -> Root:
        if self._root is None:
            self.open()
        assert self._root is not None  # noqa: S101 - just opened
        return self._root

    def close(self) -> None:
        """Let go of everything."""
        self.end()
        if self._root is not None:
            self._root.close()
            self._root = None
