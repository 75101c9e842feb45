"""A stage of the flow control: what it answers when an event comes, or when somebody looks. Plain frozen values.

Events that wait at a stage stand in a queue, first in, first out, that the machines never see: a `Round` has only the
numbers. Of a gate (throttle, active) `taken` is how many ever joined the queue and `since` how many of them have gone
on; of a throttle `counted` is how full its bucket was at `as_of`. Of a batch or debounce `taken` is how many events it
got since it opened, `counted` how many bytes they have, `as_of` when the last came.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from triggers.round import Phase, Round, forget


class Place(StrEnum):
    """The stages that keep state; the key of a round begins with its stage's name and a slash."""

    THROTTLE = "throttle"
    ACTIVE = "active"
    BATCH = "batch"
    DEBOUNCE = "debounce"


class Fate(StrEnum):
    """What becomes of the event that comes."""

    GOES = "goes"  # on to the next stage, at once
    WAITS = "waits"  # in the queue
    STOPPED = "stopped"  # for good


class Then(StrEnum):
    """What becomes of events that leave the queue."""

    GO = "go"  # each on to the next stage
    FIRE = "fire"  # together into one run
    YIELD = "yield"  # to a newer one: they do not count


@dataclass(frozen=True, slots=True)
class Out:
    """The first `n` of the queue leave it. `opening` is the uid under which they were gathered."""

    then: Then
    n: int
    reason: str = ""
    opening: str = ""
    since: int = 0
    due: int = 0


@dataclass(frozen=True, slots=True)
class Move:
    """The round after a step. What leaves the queue `before` the event that comes joins it, and `after`."""

    round: Round
    before: tuple[Out, ...] = ()
    fate: Fate = Fate.WAITS
    after: tuple[Out, ...] = ()
    reason: str = ""  # why the event waits or is stopped


def waiting(state: Round) -> int:
    """Return how many events stand before a gate."""
    return state.taken - state.since if state.phase is Phase.OPEN else 0


def closed(state: Round, due: int) -> Round:
    """Return a gate before which nothing stands, remembered until `due`."""
    return replace(forget(state), phase=Phase.FIRED, meaning=state.meaning, version=state.version, due=due)
