"""Change notices turned into an agenda: which paths and folders of a tree are to be looked at.

In flow notices for absolute paths, out flow hints relative to the root. A folder that was not watched until now is
walked again once it is, since something may have changed in between; when notices stop, everything is scanned instead.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sensors.adapters.agenda import MAX_FOLDERS, Agenda, Chore
from sensors.adapters.notices import MakeWatcher, Watcher
from sensors.clock import Clock
from sensors.polling import Alarm, Interval

_MANY = 100  # newly watched folders that are walked one by one; for more a scan is cheaper
_log = logging.getLogger("sensors.files")


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told: the agenda, the interval of scans, and whoever waits."""

    agenda: Agenda
    interval: Interval
    alarm: Alarm


class Hints:
    """Keeps the folders of one tree watched. Used from one loop."""

    def __init__(self, sensor: str, root: str, skips: Callable[[str], bool], clock: Clock, make: MakeWatcher) -> None:
        self._sensor = sensor
        self._root = root
        self._skips = skips
        self._clock = clock
        self._make = make
        self._told: Told | None = None
        self._watcher: Watcher | None = None
        self._first: asyncio.Future[None] | None = None
        self._folders: set[str] = set()
        self.watched: frozenset[str] = frozenset()  # absolute paths
        self.broken_times = 0
        self._broken_at = 0.0

    async def start(self, told: Told, patience: float = 2.0) -> None:
        """Watch the root; return when it is watched, or after `patience` seconds."""
        loop = asyncio.get_running_loop()
        self._told = told
        self._folders = {""}
        self._first = loop.create_future()
        self._watcher = self._make(f"files-{self._sensor}", self, loop)
        self._watch()
        await asyncio.wait({self._first}, timeout=patience)

    def stop(self) -> None:
        """Watch nothing."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None
        self.watched = frozenset()

    def known(self, folder: str) -> bool:
        """Say whether a folder (relative) was there at the last look."""
        return folder in self._folders

    def learn(self, folders: AbstractSet[str], *, all_of_them: bool) -> None:
        """Take note of folders that a walk has found, and have them watched as far as there are not too many."""
        self._folders = {"", *folders} if all_of_them else {*self._folders, *folders}
        if len(self._folders) <= MAX_FOLDERS:
            self._watch()

    def calm(self, seconds: float) -> None:
        """Forget how often notices broke if they have not for so long."""
        if self.watched and self._clock.monotonic() - self._broken_at > seconds:
            self.broken_times = 0

    def _watch(self) -> None:
        folders = [f"{self._root}/{folder}" if folder else self._root for folder in sorted(self._folders)]
        if self._watcher is not None and frozenset(folders) != self.watched:
            self._watcher.start(folders)

    # -- what the notices tell ----------------------------------------------------------------------------------------
    def changed(self, paths: Sequence[str]) -> None:
        """Note hints; those for what is not looked at are left out."""
        if self._told is None:
            return
        start = len(self._root) + 1
        for path in paths:
            below = path[start:] if path.startswith(self._root + "/") else ""
            if below and not any(self._skips(name) for name in below.split("/")):
                self._told.agenda.hint(below)
        self._told.alarm.ring()

    def armed(self, folders: Sequence[str]) -> None:
        """Look again into folders that were not watched until now."""
        if self._told is None:
            return
        new = frozenset(folders) - self.watched - {self._root}
        self.watched = frozenset(folders)
        if len(new) > _MANY or self.broken_times:  # whatever happened while nobody watched
            self._told.agenda.overflowed = True
        else:
            for folder in new:
                self._told.agenda.add(Chore("walk", folder[len(self._root) + 1 :], deep=False))
        self._wake(self._told)

    def broken(self, error: Exception) -> None:
        """Have a scan made instead; ever more rarely if it keeps happening, and at least at the interval."""
        if self._told is None:
            return
        self.watched = frozenset()
        self.broken_times += 1
        self._broken_at = self._clock.monotonic()
        interval = self._told.interval
        interval.restart(min(interval.remaining(), 0.5 * 2 ** min(self.broken_times, 20)))
        text = "change notices of sensor %s stopped, it scans instead: %s"
        _log.warning(text, self._sensor, error, extra={"action": "notices_stopped"})
        self._wake(self._told)

    def _wake(self, told: Told) -> None:
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        told.alarm.ring()
