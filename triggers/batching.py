"""The batch: events of one key gather until there are enough, or enough bytes, or until the first waited long enough.

Pure functions of (batch, round, event's size, moment). A batch that ought to have gone before an event came goes first,
so what happens does not depend on how promptly a timer rings. It never holds more bytes than allowed, unless one event
alone has more.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from triggers.calendar import told
from triggers.control import Batch
from triggers.round import Phase, Round, forget
from triggers.stage import Move, Out, Then


@dataclass(frozen=True, slots=True)
class Batcher:
    """A batch with the names under which its state is kept."""

    batch: Batch
    meaning: str
    version: str


def take(batcher: Batcher, state: Round, size: int, now: int, uid: Callable[[], str]) -> Move:
    """Let an event of so many bytes come."""
    batch = batcher.batch
    before: tuple[Out, ...] = ()
    if state.phase is Phase.OPEN and now >= state.due:
        before = (_fire(state, "the first of them waited for `within`"),)
    elif state.phase is Phase.OPEN and state.counted + size > batch.bytes:
        before = (_fire(state, f"{size:,} bytes more are too many"),)
    if before:
        state = forget(state)
    if state.phase is not Phase.OPEN:
        state = replace(
            forget(state),
            phase=Phase.OPEN,
            uid=uid(),
            meaning=batcher.meaning,
            version=batcher.version,
            since=now,
            due=now + batch.within,
        )
    state = replace(state, taken=state.taken + 1, counted=state.counted + size, as_of=max(state.as_of, now))
    if state.taken >= batch.count:
        return Move(forget(state), before, after=(_fire(state, "it is full"),))
    if state.counted >= batch.bytes:
        return Move(forget(state), before, after=(_fire(state, f"it has {state.counted:,} bytes"),))
    return Move(state, before)


def look(state: Round, now: int) -> Move:
    """Let the batch go if its time has come."""
    if state.phase is not Phase.OPEN or now < state.due:
        return Move(state)
    return Move(forget(state), (_fire(state, "the first of them waited for `within`"),))


def waiting_words(batcher: Batcher, state: Round) -> str:
    """Say what an open batch holds, and until when."""
    batch = batcher.batch
    until = told(state.due, "UTC")
    return (
        f"{state.taken} of {batch.count} events of key {state.name.key.partition('/')[2]!r}, {state.counted:,} of"
        f" {batch.bytes:,} bytes, gather until {until}"
    )


def _fire(state: Round, why: str) -> Out:
    events = f"{state.taken} event{'' if state.taken == 1 else 's'}"
    reason = f"a batch of {events} of key {state.name.key.partition('/')[2]!r}: {why}"
    return Out(Then.FIRE, state.taken, reason, state.uid, state.since, state.due)
