"""What a replay looks at next: one page of its causes, read without a lock.

In flow a replay and a snapshot of the store; out flow uids with their places, in order: events as they were named, or
as they arrived; trigger events as they fired. A page is bounded in number and in bytes. The step that is made of it
asks again, with the row locked, whether the replay still stands where the page begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sensors.uid import TRIGGER_EVENT, make_uid
from tidegate.replays.position import read_position
from tidegate.store.reader import Reader
from tidegate.store.replay_records import Replay, ReplaySpec

PAGE = 100
MOST_BYTES = 8 * 1024 * 1024  # of events whose contents are in memory at once
_LOOK = 2_000  # trigger events looked at for a page: others' stand between those of one trigger
_LOWEST = bytes(10)


@dataclass(frozen=True, slots=True)
class Cause:
    """Something to replay: the uid of an event, or of a trigger event, and its place in the order."""

    uid: str
    place: Any
    letter: str = ""  # the dead letter that named it


@dataclass(frozen=True, slots=True)
class Page:
    """The next causes. `reached` is the place up to which was looked, `done` that nothing follows."""

    causes: Sequence[Cause]
    reached: Any
    done: bool


def whole_firings(spec: ReplaySpec) -> bool:
    """Say whether causes are trigger events, and not events."""
    return spec.as_was and not spec.events


def select(reader: Reader, replay: Replay, sensors: Sequence[str], limit: int = PAGE) -> Page:
    """Return the next page. `sensors` are those that the trigger listens to."""
    spec, after = replay.spec, read_position(replay.position).after
    if spec.events:
        return _named(spec, after, limit)
    since = spec.since or 0
    until = replay.created_at if spec.until is None else spec.until
    if spec.as_was:
        return _fired(reader, spec, after, since, until, limit)
    place = (since, "") if after is None else (after[0], after[1])
    rows = reader.received_between(sensors, place, until, limit)
    return _bounded([(Cause(uid, [at, uid]), size) for at, uid, size in rows], done=len(rows) < limit, after=after)


def _named(spec: ReplaySpec, after: Any, limit: int) -> Page:
    start = 0 if after is None else after + 1
    letters = spec.letters or ("",) * len(spec.events)
    causes = [
        Cause(uid, start + n, letter)
        for n, (uid, letter) in enumerate(
            zip(spec.events[start : start + limit], letters[start : start + limit], strict=True)
        )
    ]
    return Page(causes, causes[-1].place if causes else after, start + limit >= len(spec.events))


def _fired(reader: Reader, spec: ReplaySpec, after: Any, since: int, until: int, limit: int) -> Page:
    """Page through trigger events by their uids, which begin with the millisecond at which they fired.

    Those of the first and the last millisecond that fired outside of the time asked for are left to the step.
    """
    low = make_uid(TRIGGER_EVENT, since, _LOWEST) if after is None else after
    high = make_uid(TRIGGER_EVENT, until + 1_000, _LOWEST)
    found, reached = reader.fired_between(spec.trigger or "", low, high, _LOOK)
    if len(found) > limit:
        found, reached = found[:limit], found[limit - 1]
    causes = [Cause(uid, uid) for uid in found]
    return Page(causes, reached or (found[-1] if found else after), done=not reached)


def _bounded(rows: Sequence[tuple[Cause, int]], *, done: bool, after: Any) -> Page:
    """Cut a page off where its contents become too large to be held."""
    room = MOST_BYTES
    causes: list[Cause] = []
    for cause, size in rows:
        if causes and size > room:
            return Page(causes, causes[-1].place, done=False)
        room -= size
        causes.append(cause)
    return Page(causes, causes[-1].place if causes else after, done)
