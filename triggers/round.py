"""Rounds: the state of one key of a pattern, what may happen to it, and what is told of that. Plain frozen values.

A round is one opening of a key: from the first part (or the calendar) until it fires, is overdue or falls silent. The
pure machines (`triggers.join`, `triggers.count`, `triggers.absence`) take a round and an offer, or a moment, and give
a `Step`: the round after it and the verdicts on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from triggers.decision import Outcome


@dataclass(frozen=True, slots=True, order=True)
class RoundName:
    """Names what one trigger waits for under one key."""

    trigger: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An event that belongs to a part, under a key. `at` is its moment by the pattern's time, `received` when it came.

    `quiet` says that nothing is decided about the event itself: it only ends a silence.
    """

    name: RoundName
    part: str
    event: str
    at: int
    received: int
    depth: int = 0
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """An event that a key holds, as the part it is."""

    part: str
    event: str
    at: int
    depth: int = 0


class Phase(StrEnum):
    """How a key stands. NEW means that nothing is kept of it."""

    NEW = "new"
    OPEN = "open"
    FIRED = "fired"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The state of one key. `uid` names this opening of it: its `waiting` decision and its timer.

    `due`: while open, when it is looked at (overdue, unless a later event moved it); when closed, when it is
    forgotten. `since` is where its window began. `held` is ordered by `at`; `taken` counts all that ever joined.
    `counted` is how long a silence has been watched up to `as_of`.
    """

    name: RoundName
    phase: Phase = Phase.NEW
    uid: str = ""
    meaning: str = ""
    version: str = ""
    since: int = 0
    due: int = 0
    taken: int = 0
    counted: int = 0
    as_of: int = 0
    held: Sequence[Occurrence] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a step concluded about events (uids). `whole`: about the round, all of whose held events are named.

    A whole verdict ends the round's open decision. `fires` says that runs start: for FIRED those of the trigger, for
    OVERDUE those for that case. `again` marks a firing after the first of the same round.
    """

    outcome: Outcome
    events: tuple[str, ...]
    reason: str
    round: str
    whole: bool = False
    fires: bool = False
    again: bool = False
    alert: bool = False  # an own event tells of it
    missing: tuple[str, ...] = ()
    held: tuple[Occurrence, ...] = ()  # of a whole verdict
    since: int = 0
    due: int = 0
    depth: int = 0  # of the deepest event concerned


@dataclass(frozen=True, slots=True)
class Step:
    """The round after a step, and what was concluded, in order."""

    round: Round
    verdicts: tuple[Verdict, ...] = ()


def forget(state: Round) -> Round:
    """Return a key of which nothing is kept."""
    return Round(name=state.name)


def ordered(held: Sequence[Occurrence]) -> tuple[Occurrence, ...]:
    """Return occurrences by their moment; of the same moment by uid, which is the order of arrival."""
    return tuple(sorted(held, key=lambda one: (one.at, one.event, one.part)))


def whole(state: Round, outcome: Outcome, reason: str, **fields: object) -> Verdict:
    """Make a verdict about everything that a round holds."""
    held = tuple(state.held)
    events = tuple(dict.fromkeys(one.event for one in held))
    made = Verdict(
        outcome=outcome,
        events=events,
        reason=reason,
        round=state.uid,
        whole=True,
        held=held,
        since=state.since,
        due=state.due,
        depth=max((one.depth for one in held), default=0),
    )
    return replace(made, **fields)  # type: ignore[arg-type]
