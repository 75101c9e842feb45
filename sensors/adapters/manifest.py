"""Sets that a manifest lists: one event when all of its files are there.

In flow changes of files and manifests; out flow the memory of files (no event of their own), and one set for each
version of a manifest. A manifest that waits for files is not remembered as seen: it stands in the cursor of the shard
`sets`, since when, and a scan finds it again in any case. It is looked at again when the last of its missing files was
seen, and at the interval; one that is overdue is told of. One that cannot be used is remembered and named as trouble
until it changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sensors.adapters.complete_sets import make_set, shared
from sensors.adapters.heads import heads
from sensors.adapters.manifest_look import Budget, ManifestLook, Verdict, Waiting
from sensors.adapters.manifest_text import Unreadable
from sensors.adapters.marks import Marks
from sensors.adapters.object_steps import CompleteSet, Judged, ObjectChange
from sensors.adapters.objects import ObjectSource
from sensors.adapters.overdue import Overdue
from sensors.adapters.sets_state import Broken, Kept, from_cursors, to_cursor
from sensors.batch import Cursor, SeenObject
from sensors.clock import SECOND, Clock
from sensors.patterns import Pattern
from sensors.units import format_duration

MAX_WAITING: Final = 500
MAX_NAMES: Final = 200_000  # of missing files, kept in memory for all manifests together
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Manifests:
    """A `Completeness` by manifests. `every` and `within` in seconds, `min_size` in bytes."""

    def __init__(
        self,
        marks: Marks,
        look: ManifestLook,
        source: ObjectSource,
        clock: Clock,
        *,
        pattern: Pattern | None,
        every: float,
        within: float,
        min_size: int = 0,
    ) -> None:
        self._marks = marks
        self._look = look
        self._source = source
        self._clock = clock
        self._pattern = pattern
        self._every = every
        self._within = within
        self._min_size = min_size
        self._waiting: dict[str, Waiting] = {}  # longest known first
        self._broken = Broken()
        self._overdue_ones = Overdue(within)
        self._kept: Mapping[str, Kept] = {}  # as it was stored last
        self._crowded = False
        self._review = 0.0

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Go on with the manifests that waited; all of them are looked at soon."""
        kept, self._broken = from_cursors(cursors)
        at = self._clock.monotonic()
        self._waiting = {key: Waiting(one.seen, one.what, one.since, at) for key, one in kept.items()}
        self._kept = kept
        self._overdue_ones.take_up(self._waits(), self._clock.now())
        self._crowded = False
        self._review = at

    def marks(self, key: str) -> bool:
        """Say whether a key is that of a manifest."""
        return self._marks.match(key) is not None

    def waits(self, key: str) -> bool:
        """Say whether a manifest is known to wait for files."""
        return key in self._waiting

    async def judge(self, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Remember files; make a set of each manifest whose files are all there."""
        at = self._clock.monotonic()
        ready: list[ObjectChange] = []
        seen: list[SeenObject] = []
        gone: list[str] = []
        fresh: dict[str, Waiting] = {}
        for change in changes:
            key = change.seen.key
            if not self.marks(key):
                if change.entry is None:
                    ready.append(change)
                else:
                    self._came(change)
                    seen.append(change.seen)
            elif change.entry is None:
                gone.append(key)
                seen.append(change.seen)
            elif (wait := self._waiting.get(key)) is None or wait.seen.token != change.seen.token:
                fresh[key] = Waiting(change.seen, change.what, now, at)
            elif wait.seen.incarnation != change.seen.incarnation:
                wait.seen, wait.what = change.seen, change.what
        came = [wait for key, wait in self._waiting.items() if key not in fresh and wait.missing == set()]
        verdicts = await self._judged([*came, *fresh.values()], now)
        for key in gone:
            self._waiting.pop(key, None)
        judged = self._concluded(verdicts, fresh, gone)
        return Judged(ready, judged.sets, [*seen, *judged.seen], judged.cursors, judged.notices)

    def next_due(self) -> float | None:
        """Return when the next manifest is to be looked at."""
        dues = [wait.due for wait in self._waiting.values()]
        if self._broken.sentences:
            dues.append(self._review)
        overdue = self._overdue_ones.next(self._waits())
        if overdue is not None:
            dues.append(self._clock.monotonic() + max(0, overdue - self._clock.now()) / SECOND)
        return min(dues, default=None)

    async def due(self, now: int) -> Judged:
        """Look at the manifests whose time has come."""
        at = self._clock.monotonic()
        gone: list[str] = []
        review = bool(self._broken.sentences) and self._review <= at
        if review:
            looked = await heads(self._source, list(self._broken.sentences))
            gone = [key for key, listed in looked.items() if listed is None]
        due = sorted((wait for wait in self._waiting.values() if wait.due <= at), key=lambda wait: wait.due)
        verdicts = await self._judged(due, now)
        if review:
            self._review = at + self._every
        return self._concluded(verdicts, {}, gone)

    def trouble(self) -> str | None:
        """Name what is overdue, what cannot be used, and whether more wait than can be kept."""
        denied = [f"{wait.seen.key} cannot be judged: {wait.denied}" for wait in self._waiting.values() if wait.denied]
        sentences = [self._overdue(), self._broken.trouble(), *denied[:1], self._crowd()]
        return "; ".join(filter(None, sentences)) or None

    # -- how it is judged ---------------------------------------------------------------------------------------------
    def _came(self, change: ObjectChange) -> None:
        """A file was seen: those that miss it miss one less."""
        if change.entry is not None and change.entry.detail.size >= self._min_size:
            for wait in self._waiting.values():
                wait.came(change.seen.key)

    async def _judged(self, waits: Iterable[Waiting], now: int) -> list[tuple[Waiting, Verdict]]:
        """Look at manifests as far as one call goes. One look at a time may be under way, so that memory is bounded."""
        budget = Budget()
        under_way = [wait for wait in self._waiting.values() if wait.run is not None]
        verdicts: list[tuple[Waiting, Verdict]] = []
        for wait in sorted(waits, key=lambda wait: wait.run is None):
            if under_way and wait not in under_way:
                verdicts.append((wait, "more"))
                continue
            verdict = await self._look.look(wait, now, budget)
            under_way = [wait] if wait.run is not None else []
            verdicts.append((wait, verdict))
        return verdicts

    def _concluded(
        self, verdicts: Sequence[tuple[Waiting, Verdict]], fresh: Mapping[str, Waiting], gone: Iterable[str]
    ) -> Judged:
        """Take verdicts into the state, and return what they mean. Asks nothing, so that it happens as a whole."""
        sets: list[CompleteSet] = []
        seen: list[SeenObject] = []
        changed = False
        at = self._clock.monotonic()
        for key in gone:
            changed |= self._broken.drop(key)
        for wait, verdict in verdicts:
            key = wait.seen.key
            if key in fresh:
                self._waiting.pop(key, None)
            if isinstance(verdict, Unreadable):
                self._waiting.pop(key, None)
                changed |= self._broken.add(key, f"{key} cannot be used: {verdict}")
                seen.append(wait.seen)
                continue
            changed |= self._broken.drop(key)
            if verdict in ("waits", "more"):
                wait.due = at + (self._every if verdict == "waits" else 0.0)
                self._keep(wait)
                continue
            self._waiting.pop(key, None)
            if verdict == "complete":
                seen.append(wait.seen)
                sets.append(self._set(wait))
        kept = {key: wait.kept for key, wait in self._waiting.items()}
        cursors = (to_cursor(kept, self._broken),) if changed or kept != self._kept else ()
        self._kept = kept
        self._crowded &= len(self._waiting) >= MAX_WAITING
        notices = self._overdue_ones.notices(self._waits(), self._clock.now(), self._late)
        return Judged(sets=sets, seen=seen, cursors=cursors, notices=notices)

    def _keep(self, wait: Waiting) -> None:
        """Let a manifest wait on. One that does not fit is found again by the next scan, and then looked at."""
        key = wait.seen.key
        if key not in self._waiting:
            if len(self._waiting) >= MAX_WAITING:
                self._crowded = True
                return
            self._waiting[key] = wait
        if wait.run is None and wait.missing is not None:
            names = sum(len(one.missing) for one in self._waiting.values() if one.missing is not None)
            if names > MAX_NAMES:
                wait.forget_missing()

    def _set(self, wait: Waiting) -> CompleteSet:
        key = wait.seen.key
        match = {**shared(self._pattern, [one.key for one in wait.members]), **(self._marks.match(key) or {})}
        return make_set(key, wait.change, wait.members, match)

    def _waits(self) -> Iterable[tuple[str, int]]:
        return ((key, wait.since) for key, wait in self._waiting.items())

    # -- sentences ----------------------------------------------------------------------------------------------------
    def _overdue(self) -> str | None:
        limit = self._clock.now() - round(self._within * SECOND)
        overdue = [wait for wait in self._waiting.values() if wait.since <= limit]
        if not overdue:
            return None
        first = min(overdue, key=lambda wait: wait.since)
        more = f" (and {len(overdue) - 1} more manifests are overdue)" if len(overdue) > 1 else ""
        return f"{self._late(first.seen.key)}{more}"

    def _late(self, key: str) -> str:
        wait, within = self._waiting[key], format_duration(self._within)
        return f"{key} is not complete within {within}: since {_time(wait.since)} {_lack(wait)}"

    def _crowd(self) -> str | None:
        if not self._crowded:
            return None
        oldest = sorted(self._waiting.values(), key=lambda wait: wait.since)[:5]
        names = ", ".join(wait.seen.key for wait in oldest)
        return f"more than {MAX_WAITING} manifests wait for their files; the oldest are {names}"


def _lack(wait: Waiting) -> str:
    if wait.listed is not None and wait.listed.size == 0:
        return "it is empty"
    lacking, named = wait.lack
    if not lacking:
        return "not all of its files are there"
    more = f" and {lacking - len(named)} more" if lacking > len(named) else ""
    return f"{lacking} of {wait.total} files are missing: {', '.join(named)}{more}"


def _time(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%SZ")
