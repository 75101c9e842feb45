"""What a sensor on a tree has yet to look at: walks, sweeps for deletions, and paths that were hinted at. All bounded.

What does not fit is not kept: `overflowed` then says that only a whole scan can tell.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

MAX_CHORES = 200
MAX_HINTS = 10_000
MAX_FOLDERS = 4_096


@dataclass(slots=True)
class Chore:
    """Something to do in pages. `at` is the folder to walk, or the key prefix to sweep; `full` ones make up a scan."""

    kind: Literal["walk", "sweep", "forget"]
    at: str = ""
    full: bool = False
    deep: bool = True
    begun: bool = False
    after: str = ""
    files: int = 0
    ignored: int = 0
    errors: int = 0
    messages: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)


class Agenda:
    """Chores in order, and hints without one."""

    def __init__(self) -> None:
        self.chores: deque[Chore] = deque()
        self._hints: dict[str, None] = {}
        self.overflowed = False

    def __bool__(self) -> bool:
        return bool(self.chores or self._hints)

    @property
    def scanning(self) -> bool:
        """Say whether a whole scan is under way."""
        return any(chore.full for chore in self.chores)

    def scan(self) -> None:
        """Make a whole scan the next thing; smaller chores are part of it."""
        self.chores = deque(chore for chore in self.chores if chore.kind == "forget" or chore.begun)
        self.chores.append(Chore("walk", full=True))
        self.overflowed = False

    def add(self, chore: Chore) -> None:
        """Add a chore, unless an equal one waits already."""
        for waiting in self.chores:
            if waiting.kind == chore.kind and waiting.at == chore.at and not waiting.begun:
                waiting.deep |= chore.deep
                return
        if len(self.chores) >= MAX_CHORES:
            self.overflowed = True
        else:
            self.chores.append(chore)

    def hint(self, path: str) -> None:
        """Note that something may have changed at a path relative to the root."""
        if len(self._hints) >= MAX_HINTS:
            self.overflowed = True
        else:
            self._hints[path] = None

    def take_hints(self, limit: int) -> Sequence[str]:
        """Take up to `limit` hinted paths, oldest first."""
        taken = list(self._hints)[:limit] if len(self._hints) > limit else list(self._hints)
        for path in taken:
            del self._hints[path]
        return taken
