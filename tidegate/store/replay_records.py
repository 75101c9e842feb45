"""What the store keeps of replays: what was asked for, how far it has come, and which run replays what.

Plain frozen data. Moments are UTC microseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ReplayState(StrEnum):
    """States of a replay; the last three are final."""

    QUEUED = "queued"  # durable, nobody has worked at it yet
    RUNNING = "running"
    SUCCEEDED = "succeeded"  # all that was selected was looked at; what it came to is in the counts
    FAILED = "failed"  # it cannot go on; the reason says why
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Say whether the state never changes again."""
        return self in _FINAL


_FINAL = frozenset({ReplayState.SUCCEEDED, ReplayState.FAILED, ReplayState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySpec:
    """What is replayed and how: `events` by uid, or what came for `trigger` from `since` up to `until`.

    `letters` names, position by position, the dead letters through which `events` were named. `until` None ends with
    the moment of the request. `partition` keeps to runs of one partition, `pipeline` starts another one, `as_was`
    repeats what was decided then instead of judging by today's rules. `rate` is runs per second, None as fast as runs
    are taken. A `dry_run` starts nothing.
    """

    events: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()
    trigger: str | None = None
    since: int | None = None
    until: int | None = None
    partition: str | None = None
    pipeline: str | None = None
    as_was: bool = False
    rate: float | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay. `position` is JSON text of its own, empty at the beginning; it moves with the runs it stands for.

    `counts` are exact, `samples` a bounded few of each kind. Nobody but `holder` works at it until `lease_until`, and
    nobody before `next_at`. `reason` says why it failed, was cancelled, or waits.
    """

    uid: str
    request_id: str
    spec: ReplaySpec
    created_at: int
    state: ReplayState = ReplayState.QUEUED
    position: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    next_at: int = 0
    holder: str = ""
    lease_until: int = 0
    finished_at: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReplayedRun:
    """A run that a replay started, named by what it stands for: at most one for each (replay, cause, trigger, rule,
    item).

    `cause` is the uid of the event, or of the trigger event that was repeated as a whole; `item` is -1 without `each`.
    `origin` is the run that it replays, None when there was none, or it is not known any more.
    """

    replay: str
    cause: str
    trigger: str
    rule: int
    item: int
    run: str
    origin: str | None = None
