"""The Decision: what one trigger concluded about one event, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """Every way a decision can stand. The first group is final."""

    FIRED = "fired"
    FILTERED = "filtered"
    ERROR = "error"
    DUPLICATE = "duplicate"
    THROTTLED = "throttled"
    COALESCED = "coalesced"
    SKIPPED_BUSY = "skipped_busy"
    SAMPLED_OUT = "sampled_out"
    OUT_OF_WINDOW = "out_of_window"
    OVERDUE = "overdue"
    LATE = "late"
    WAITING = "waiting"
    BUFFERED = "buffered"
    HELD = "held"
    PAUSED = "paused"

    @property
    def open(self) -> bool:
        """Say whether the decision may still change."""
        return self in _OPEN


_OPEN = frozenset({Outcome.WAITING, Outcome.BUFFERED, Outcome.HELD, Outcome.PAUSED})


@dataclass(frozen=True, slots=True)
class Clause:
    """The clause that decided: where it stands in the rule, its text, and expected against actual in words."""

    path: str  # e.g. `on[0].filter.suffix.subject`, `when`
    text: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One verdict. `events` are the uids of the events judged (one, or several for joins and batches).

    `trigger_event` names what it fired; `run` the run that was started, or, for `duplicate`, `coalesced` and
    `skipped_busy`, the run that stood in the way. `at` is UTC microseconds. `span` is the traceparent of its
    `evaluate` span, None when no span was made.
    """

    uid: str
    trigger: str
    version: str
    events: Sequence[str]
    outcome: Outcome
    at: int
    reason: str
    clause: Clause | None = None
    trigger_event: str | None = None
    run: str | None = None
    item: int | None = None  # position in `each`, None without
    sampled: bool = False  # a filtered one kept as a sample
    span: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
