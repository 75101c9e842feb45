"""Change notices of the operating system for a set of folders: hints, and only hints.

In flow folders, out flow paths where something may have changed, on the loop. Notices get lost (overflow, network
mounts, names that are not text, too many folders), so whoever listens must also look by itself from time to time.

Folders are watched one by one, not recursively: a recursive watch follows symbolic links, out of the root and round
loops. A new set is armed before the old one is given up, so that nothing falls between them.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from watchfiles import watch


class Listener(Protocol):
    """Who is told, on the loop."""

    def changed(self, paths: Sequence[str]) -> None:
        """Something may have changed at these absolute paths."""
        ...

    def armed(self, folders: Sequence[str]) -> None:
        """Notices come for exactly these folders from now on."""
        ...

    def broken(self, error: Exception) -> None:
        """No notices come any more, until `start` is called again."""
        ...


class Watcher(Protocol):
    """Where notices come from."""

    def start(self, folders: Sequence[str]) -> None:
        """Watch these folders, instead of those before; `armed` says when."""
        ...

    def stop(self) -> None:
        """Watch nothing; returns at once, and nothing is told any more."""
        ...


MakeWatcher = Callable[[str, Listener, asyncio.AbstractEventLoop], Watcher]


@dataclass(slots=True, eq=False)
class _Watch:
    folders: tuple[str, ...]
    stop: threading.Event = field(default_factory=threading.Event)
    armed: bool = False


class Notices:
    """Watches one set of folders at a time, on a thread of its own. Used from one loop."""

    def __init__(self, name: str, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._listener = listener
        self._loop = loop
        self._watches: list[_Watch] = []  # the newest is last

    def start(self, folders: Sequence[str]) -> None:
        """Watch these folders, instead of those before."""
        made = _Watch(tuple(folders))
        self._watches.append(made)
        threading.Thread(target=self._run, args=(made,), name=f"{self._name}-notices", daemon=True).start()

    def stop(self) -> None:
        """Watch nothing; returns at once, and nothing is told any more."""
        for made in self._watches:
            made.stop.set()
        self._watches = []

    def _run(self, made: _Watch) -> None:
        try:
            changes = watch(
                *made.folders,
                watch_filter=None,
                debounce=200,
                step=50,
                rust_timeout=100,
                yield_on_timeout=True,
                stop_event=made.stop,
                raise_interrupt=False,
                recursive=False,
                ignore_permission_denied=True,
            )
            told = False
            for change in changes:
                if change or not told:
                    told = True
                    self._tell(self._told, made, [path for _, path in change])
        except Exception as error:  # noqa: BLE001 - whatever stops the notices, the listener must look by itself
            self._tell(self._broke, made, error)

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed
            for made in args[:1]:
                if isinstance(made, _Watch):
                    made.stop.set()

    def _told(self, made: _Watch, paths: list[str]) -> None:
        if made not in self._watches:
            return
        if not made.armed:
            made.armed = True
            older = self._watches[: self._watches.index(made)]
            self._watches = self._watches[len(older) :]
            for old in older:
                old.stop.set()
            self._listener.armed(made.folders)
        if paths:
            self._listener.changed(paths)

    def _broke(self, made: _Watch, error: Exception) -> None:
        if made in self._watches:
            self._watches.remove(made)
            if not self._watches:
                self._listener.broken(error)
