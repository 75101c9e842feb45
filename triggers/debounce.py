"""The debounce: a key that keeps on moving is waited for until it is quiet, though never for ever.

Pure functions of (debounce, round, event's size, moment). A key that ought to have gone before an event came goes
first. With `keep: latest` the newest event takes the place of the one before it; else all gather, and a key that holds
as much as one run may get goes at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from triggers.calendar import told
from triggers.control import MAX_BATCH, MAX_BYTES, Debounce, Keep
from triggers.round import Phase, Round, forget
from triggers.stage import Move, Out, Then


@dataclass(frozen=True, slots=True)
class Damper:
    """A debounce with the names under which its state is kept."""

    debounce: Debounce
    meaning: str
    version: str


def take(damper: Damper, state: Round, size: int, now: int, uid: Callable[[], str]) -> Move:
    """Let an event of so many bytes come."""
    debounce = damper.debounce
    latest = debounce.keep is Keep.LATEST
    before: tuple[Out, ...] = ()
    if state.phase is Phase.OPEN:
        if now >= state.due:
            before = (_fire(damper, state, _why(damper, state)),)
        elif not latest and state.counted + size > MAX_BYTES:
            before = (_fire(damper, state, f"{size:,} bytes more are too many"),)
        elif latest:
            before = (Out(Then.YIELD, 1, f"a newer event of key {_key(state)!r} came before it was quiet"),)
    if before and before[0].then is Then.FIRE:
        state = forget(state)
    if state.phase is not Phase.OPEN:
        state = replace(
            forget(state),
            phase=Phase.OPEN,
            uid=uid(),
            meaning=damper.meaning,
            version=damper.version,
            since=now,
            as_of=now,
        )
    last = max(state.as_of, now)
    state = replace(
        state,
        taken=state.taken + 1,
        counted=size if latest else state.counted + size,
        as_of=last,
        due=min(last + debounce.quiet, state.since + debounce.max_wait),
    )
    if not latest and (state.taken >= MAX_BATCH or state.counted >= MAX_BYTES):
        return Move(forget(state), before, after=(_fire(damper, state, "it holds as much as a run may get"),))
    return Move(state, before)


def look(damper: Damper, state: Round, now: int) -> Move:
    """Let the key go if its time has come."""
    if state.phase is not Phase.OPEN or now < state.due:
        return Move(state)
    return Move(forget(state), (_fire(damper, state, _why(damper, state)),))


def waiting_words(damper: Damper, state: Round) -> str:
    """Say what an open key holds, and until when."""
    events = f"{state.taken} event{'' if state.taken == 1 else 's'} came"
    kept = ", of which the latest counts" if damper.debounce.keep is Keep.LATEST else ""
    latest = told(state.since + damper.debounce.max_wait, "UTC")
    return (
        f"{events} for key {_key(state)!r}{kept}; it goes at {told(state.due, 'UTC')} if it is quiet until then,"
        f" at the latest at {latest}"
    )


def _why(damper: Damper, state: Round) -> str:
    if state.due < state.as_of + damper.debounce.quiet:
        return "it moved for `max_wait`"
    return "it was quiet"


def _fire(damper: Damper, state: Round, why: str) -> Out:
    n = 1 if damper.debounce.keep is Keep.LATEST else state.taken
    events = f"{state.taken} event{'' if state.taken == 1 else 's'}"
    return Out(
        Then.FIRE, n, f"{events} of key {_key(state)!r}, {why}", opening=state.uid, since=state.since, due=state.due
    )


def _key(state: Round) -> str:
    return state.name.key.partition("/")[2]
