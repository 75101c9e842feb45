"""Files that count when something else says so: a marker of their own, their folder's marker, or a manifest.

In flow changes of files and of what opens the gate; out flow the files whose gate is open, each an event of its own.
What waits is not remembered as seen, so a scan shows it again; up to 10,000 files are kept in mind besides, so that
they pass as soon as a notification tells of their marker.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sensors.adapters.complete_sets import renewed
from sensors.adapters.heads import heads
from sensors.adapters.marks import Marks
from sensors.adapters.object_steps import Judged, ObjectChange
from sensors.adapters.objects import Listed, ObjectSource
from sensors.batch import Cursor, SeenObject
from sensors.clock import Clock

MAX_WAITING: Final = 10_000

Opens = Callable[[Listed], bool]


class Opener(Protocol):
    """Says which gates are open."""

    async def open(self, marks: Collection[str], arrived: Mapping[str, Listed]) -> Mapping[str, Opens]:
        """Return, for those of these markers or manifests that are there, which files they open.

        `arrived` are some of them as they were seen just now.
        """
        ...


class MarkerOpener:
    """A marker opens the files that are not newer than itself: one written again waits for a marker as new."""

    def __init__(self, source: ObjectSource) -> None:
        self._source = source

    async def open(self, marks: Collection[str], arrived: Mapping[str, Listed]) -> Mapping[str, Opens]:
        """Look at the markers that have not just been seen."""
        looked = await heads(self._source, [key for key in marks if key not in arrived])
        return {key: _not_newer(listed) for key, listed in {**looked, **arrived}.items() if listed is not None}


@dataclass(frozen=True, slots=True)
class _Held:
    """A file that waits for any of `marks`; `asked` is when they were looked for (monotonic)."""

    change: ObjectChange
    marks: Sequence[str]
    asked: float


class FileGate:
    """A `Completeness` for single files. `marks` says what opens a file, `every` is the interval of scans (seconds)."""

    def __init__(self, marks: Marks, opener: Opener, source: ObjectSource, clock: Clock, every: float) -> None:
        self._marks = marks
        self._opener = opener
        self._source = source
        self._clock = clock
        self._every = every
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Forget what waits; a scan shows it again."""
        self._held.clear()

    def marks(self, key: str) -> bool:
        """Say whether a key is that of a marker."""
        return self._marks.match(key) is not None

    async def judge(self, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Return the files whose marker is there; remember markers."""
        seen: list[SeenObject] = []
        files: list[ObjectChange] = []
        arrived: dict[str, Listed] = {}
        for change in changes:
            if not self.marks(change.seen.key):
                files.append(change)
                continue
            seen.append(change.seen)
            if change.entry is not None:
                arrived[change.seen.key] = change.entry.detail
        return Judged(ready=await self.passing(files, arrived, now), seen=seen)

    def next_due(self) -> float | None:
        """Return None: scans and notifications show what has come."""
        return None

    async def due(self, now: int) -> Judged:
        """Do nothing."""
        return Judged()

    def trouble(self) -> str | None:
        """Return None: waiting is no trouble."""
        return None

    async def passing(
        self, files: Sequence[ObjectChange], arrived: Mapping[str, Listed], now: int
    ) -> Sequence[ObjectChange]:
        """Return which of these files, and of those that wait for what has just arrived, may pass; the others wait."""
        at = self._clock.monotonic()
        shown = {change.seen.key for change in files}
        waiting = [
            key for key, held in self._held.items() if key not in shown and any(mark in arrived for mark in held.marks)
        ]
        looked = await heads(self._source, waiting)
        again = [renewed(self._held[key].change, listed, now) for key, listed in looked.items() if listed is not None]
        asked: list[tuple[ObjectChange, Sequence[str]]] = []
        for change in (*again, *files):
            marks = self._marks.of_file(change.seen.key)
            if change.entry is not None and not self._asked_lately(change, marks, arrived, at):
                asked.append((change, marks))
        wanted = dict.fromkeys(mark for _, marks in asked for mark in marks)
        gates = await self._opener.open(wanted, {key: one for key, one in arrived.items() if key in wanted})
        # -- nothing is asked any more, so that what follows happens as a whole
        ready = [change for change in files if change.entry is None]
        for key in (*(key for key, listed in looked.items() if listed is None), *(one.seen.key for one in ready)):
            self._held.pop(key, None)
        for change, marks in asked:
            listed = change.entry.detail if change.entry is not None else None
            self._held.pop(change.seen.key, None)
            if listed is not None and any(mark in gates and gates[mark](listed) for mark in marks):
                ready.append(change)
            elif len(self._held) < MAX_WAITING:
                self._held[change.seen.key] = _Held(change, marks, at)
        return ready

    def _asked_lately(
        self, change: ObjectChange, marks: Sequence[str], arrived: Mapping[str, Listed], at: float
    ) -> bool:
        """Say whether the markers of this version were looked for since the last scan, and none has come."""
        held = self._held.get(change.seen.key)
        if held is None or held.change.seen.token != change.seen.token or any(mark in arrived for mark in marks):
            return False
        return at - held.asked < self._every / 2


def _not_newer(marker: Listed) -> Opens:
    return lambda file: file.modified <= marker.modified
