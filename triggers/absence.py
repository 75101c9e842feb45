"""Absence: a key that ought to be heard of is silent. Pure functions of (absence, round, offer or a look).

In flow offers one at a time, and looks: how long the sensor was healthy and caught up since the last look. Only such
time counts, so a sensor that is dead, behind or restarted makes nothing look silent. A key fires once per silence;
the next event ends it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from triggers.calendar import told
from triggers.decision import Outcome
from triggers.pattern import MAX_EVENTS, REMEMBER, SECOND, Absence
from triggers.round import Occurrence, Offer, Phase, Round, Step, Verdict, forget, ordered, whole

NEVER = 2**62  # when the one key without `by` is forgotten: forgotten, it would be missed again at the next start
LOOK = 5 * SECOND  # at least so long until a clock that stands still is looked at again, unless `for` is shorter


@dataclass(frozen=True, slots=True)
class Silence:
    """An absence with the names under which its state is kept."""

    absence: Absence
    meaning: str
    version: str


def take(silence: Silence, state: Round, offer: Offer, uid: Callable[[], str]) -> Step:
    """Let an event come: one that ends the silence, or one that begins to be waited after."""
    absence = silence.absence
    if absence.after is not None and offer.part == absence.after.name:
        return _begun(silence, state, offer, uid)
    if absence.after is not None:
        return _followed(silence, state, offer)
    return Step(armed(silence, state, max(state.since, offer.received), uid))


def armed(silence: Silence, state: Round, at: int, uid: Callable[[], str]) -> Round:
    """Return a key whose silence begins at a moment."""
    return replace(
        forget(state),
        phase=Phase.OPEN,
        uid=state.uid if state.phase is Phase.OPEN else uid(),
        meaning=silence.meaning,
        version=silence.version,
        since=at,
        as_of=at,
        due=at + silence.absence.silence,
    )


def look(silence: Silence, state: Round, now: int, watched: int) -> Step:
    """Look at a key: `watched` is how much of the time since `as_of` the sensor was healthy and caught up."""
    if state.phase is not Phase.OPEN:
        return Step(state)
    absence = silence.absence
    counted = state.counted + max(0, min(watched, now - state.as_of))
    left = absence.silence - counted
    if left > 0:
        later = now + (left if watched > 0 else max(left, min(LOOK, absence.silence)))
        return Step(replace(state, counted=counted, as_of=max(state.as_of, now), due=later))
    part = absence.part.name
    since = told(state.since, "UTC")
    if absence.after is None:
        reason = f"nothing came of {part} since {since}" + (f" for key {state.name.key!r}" if absence.part.by else "")
    else:
        reason = f"{part} did not follow {absence.after.name} of {since} for key {state.name.key!r}"
    fired = whole(state, Outcome.FIRED, reason, fires=True, missing=(part,))
    kept = NEVER if absence.after is None and absence.part.by is None else now + REMEMBER
    return Step(replace(state, phase=Phase.FIRED, counted=counted, due=kept, held=()), (fired,))


def waiting_words(silence: Silence, state: Round) -> str:
    """Say what a round waits for."""
    absence = silence.absence
    return (
        f"{absence.part.name} has to follow for key {state.name.key!r}; looked at {told(state.due, 'UTC')},"
        " the clock runs only while the sensor is healthy and caught up"
    )


def _begun(silence: Silence, state: Round, offer: Offer, uid: Callable[[], str]) -> Step:
    if state.phase is not Phase.OPEN:
        state = armed(silence, state, offer.received, uid)
    if len(state.held) >= MAX_EVENTS:
        reason = f"key {offer.name.key!r} holds {MAX_EVENTS} events, the most allowed"
        return Step(state, (Verdict(outcome=Outcome.ERROR, events=(offer.event,), reason=reason, round=state.uid),))
    new = Occurrence(part=offer.part, event=offer.event, at=offer.at, depth=offer.depth)
    waits = Verdict(outcome=Outcome.WAITING, events=(offer.event,), reason="", round=state.uid)
    return Step(replace(state, held=ordered([*state.held, new]), taken=state.taken + 1), (waits,))


def _followed(silence: Silence, state: Round, offer: Offer) -> Step:
    part = silence.absence.part.name
    if state.phase is Phase.OPEN:
        reason = f"{part} followed in time ({offer.event})"
        return Step(forget(state), (whole(state, Outcome.FILTERED, reason),))
    if state.phase is Phase.FIRED:
        reason = f"{part} came for key {offer.name.key!r} after it had been missed"
        return Step(
            forget(state),
            (Verdict(outcome=Outcome.LATE, events=(offer.event,), reason=reason, round=state.uid),),
        )
    return Step(state)
