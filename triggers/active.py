"""The gate of the active windows: outside of them events are stopped, or wait for the opening. Pure functions.

What waits goes first when a window opens, in order, a bounded number at a time: until the last of it has gone on, what
comes joins the line. A look that comes too late, when the window has closed again, lets nothing through.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from triggers.calendar import told
from triggers.control import MAX_HELD, Active, Over
from triggers.rate import RELEASE
from triggers.round import Phase, Round, forget
from triggers.stage import Fate, Move, Out, Then, waiting
from triggers.windows import is_open, next_open


@dataclass(frozen=True, slots=True)
class Door:
    """Active windows with the names under which their state is kept."""

    active: Active
    meaning: str
    version: str


def take(door: Door, state: Round, now: int, uid: Callable[[], str]) -> Move:
    """Let an event come."""
    moved = look(door, state, now)
    state, before = moved.round, moved.before
    if is_open(door.active, now):
        if not waiting(state):
            return Move(state, before, Fate.GOES)
        reason = f"{waiting(state)} events that waited for the window go on first"
        return Move(settled(door, replace(state, taken=state.taken + 1), now), before, reason=reason)
    reason = closed_words(door.active, now)
    if door.active.outside is Over.DROP or waiting(state) >= MAX_HELD:
        if door.active.outside is Over.HOLD:
            reason += f"; {MAX_HELD} events wait already, the most allowed"
        return Move(state, before, Fate.STOPPED, reason=reason)
    if state.phase is not Phase.OPEN:
        state = replace(state, phase=Phase.OPEN, uid=uid(), meaning=door.meaning, version=door.version)
    return Move(settled(door, replace(state, taken=state.taken + 1), now), before, reason=reason)


def look(door: Door, state: Round, now: int) -> Move:
    """Let what waits go on, if a window is open."""
    n = min(waiting(state), RELEASE) if is_open(door.active, now) else 0
    state = settled(door, replace(state, since=state.since + n), now)
    return Move(state, (Out(Then.GO, n),) if n else ())


def closed_words(active: Active, now: int) -> str:
    """Say why an event that came now does not go on."""
    until = told(next_open(active, now), active.timezone)
    return f"it came at {told(now, active.timezone)}, outside of the active windows; the next opens at {until}"


def settled(door: Door, state: Round, now: int) -> Round:
    """Return the round with the moment at which somebody has to look."""
    if not waiting(state):
        return forget(state)
    return replace(state, due=now if is_open(door.active, now) else next_open(door.active, now))
