"""Objects that count when they have stopped changing: unchanged for a time, or in so many more scans.

In flow changes; out flow those whose version has stayed the same, looked at once more at the end. What waits is only in
memory, at most 10,000 objects: a scan shows it again after a restart, and so it does with what did not fit.

A version that was modified long before the wait (and the 15 minutes by which the storage's clock may differ from ours)
has proven already that it rests, so that a first scan does not wait for a million old objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sensors.adapters.complete_sets import renewed
from sensors.adapters.completeness_options import Polls
from sensors.adapters.heads import heads
from sensors.adapters.object_steps import Judged, ObjectChange
from sensors.adapters.objects import ObjectSource
from sensors.batch import Cursor
from sensors.clock import SECOND, Clock

MAX_WAITING: Final = 10_000
SKEW: Final = 900.0
AT_ONCE: Final = 500  # looks in one call


@dataclass(slots=True)
class _Held:
    """A change that waits since `at`; `shown` counts the scans that showed it again, the last at `counted`."""

    change: ObjectChange
    at: float
    counted: float
    shown: int = 0


class Settled:
    """A `Completeness` by rest. `every` is the interval of scans, in seconds."""

    def __init__(self, settle: "float | Polls", every: float, source: ObjectSource, clock: Clock) -> None:
        self._polls = settle.polls if isinstance(settle, Polls) else 0
        self._every = every
        # By polls, the wait ends in `judge`; a look is due only when scans have ceased to show the object.
        self._wait = settle if isinstance(settle, float | int) else 2.0 * every
        self._rest = self._polls * every if self._polls else self._wait
        self._source = source
        self._clock = clock
        self._held: dict[str, _Held] = {}  # longest waiting first

    def __len__(self) -> int:
        return len(self._held)

    def take_up(self, cursors: Mapping[str, Cursor]) -> None:
        """Forget what waits; a scan shows it again."""
        self._held.clear()

    def marks(self, key: str) -> bool:
        """Say no: there are no markers."""
        return False

    async def judge(self, changes: Sequence[ObjectChange], now: int) -> Judged:
        """Return the changes that have come to rest."""
        at = self._clock.monotonic()
        ready = [change for change in changes if change.entry is None or self._rests(change, now)]
        ended = [change for change in changes if self._has_been_shown_enough(change, at)]
        looked = await heads(self._source, [change.seen.key for change in ended])
        for change in ready:
            self._held.pop(change.seen.key, None)
        passed = {change.seen.key for change in ready}
        for change in changes:
            key = change.seen.key
            if key in passed:
                continue
            listed = looked.get(key)
            if key not in looked:
                self._hold(change, at)
            elif listed is None:
                self._held.pop(key, None)
            elif listed.token == change.seen.token:
                self._held.pop(key, None)
                ready.append(change)
            else:
                self._hold(renewed(change, listed, now), at)
        order = {change.seen.key: n for n, change in enumerate(changes)}
        return Judged(ready=sorted(ready, key=lambda change: order[change.seen.key]))

    def next_due(self) -> float | None:
        """Return when the longest waiting object is to be looked at."""
        for held in self._held.values():
            return held.at + self._wait
        return None

    async def due(self, now: int) -> Judged:
        """Look at what has waited long enough."""
        at = self._clock.monotonic()
        keys: list[str] = []
        for key, held in self._held.items():
            if held.at + self._wait > at or len(keys) >= AT_ONCE:
                break
            keys.append(key)
        ready: list[ObjectChange] = []
        for key, listed in (await heads(self._source, keys)).items():
            held = self._held.pop(key)
            if listed is None:
                continue
            if listed.token != held.change.seen.token:
                self._held[key] = _Held(renewed(held.change, listed, now), at, at)
            elif self._polls:
                self._held[key] = _Held(held.change, at, held.counted, held.shown)
            else:
                ready.append(held.change)
        return Judged(ready=ready)

    def trouble(self) -> str | None:
        """Return None: waiting is no trouble."""
        return None

    def _rests(self, change: ObjectChange, now: int) -> bool:
        """Say whether a version is so old that it must have been the same all the time."""
        if change.entry is None or change.entry.modified is None:
            return False
        return change.entry.modified < now - round((self._rest + SKEW) * SECOND)

    def _has_been_shown_enough(self, change: ObjectChange, at: float) -> bool:
        held = self._held.get(change.seen.key)
        if not self._polls or held is None or held.change.seen.token != change.seen.token:
            return False
        return self._counts(held, at) and held.shown + 1 >= self._polls

    def _counts(self, held: _Held, at: float) -> bool:
        """Say whether this may be another scan than the one before: notifications repeat themselves at once."""
        return at - held.counted >= self._every / 2

    def _hold(self, change: ObjectChange, at: float) -> None:
        """Let a change wait, or wait on; what does not fit is left to the next scan."""
        key = change.seen.key
        held = self._held.get(key)
        if held is not None and held.change.seen.token == change.seen.token:
            held.change = change
            if self._polls and self._counts(held, at):
                del self._held[key]
                self._held[key] = _Held(change, at, at, held.shown + 1)
            return
        if held is not None:
            del self._held[key]
        elif len(self._held) >= MAX_WAITING:
            return
        self._held[key] = _Held(change, at, at)
