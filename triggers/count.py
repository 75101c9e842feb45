"""The count: so many events of one key within a sliding window. Pure functions of (count, round, offer or moment).

In flow offers one at a time; out flow rounds and verdicts. Events that the window has passed leave as
`out_of_window`. When the count is reached its events are used up and the key begins anew.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from triggers.decision import Outcome
from triggers.pattern import MAX_EVENTS, Count
from triggers.round import Occurrence, Offer, Phase, Round, Step, Verdict, forget, ordered, whole


@dataclass(frozen=True, slots=True)
class Counter:
    """A count with the names under which its state is kept."""

    count: Count
    meaning: str
    version: str


def take(counter: Counter, state: Round, offer: Offer, uid: Callable[[], str]) -> Step:
    """Let an event come."""
    count = counter.count
    before: tuple[Verdict, ...] = ()
    if state.phase is Phase.OPEN and offer.received > state.due:
        ended = expire(counter, state, state.due)
        state, before = ended.round, ended.verdicts
    if state.phase is not Phase.OPEN:
        state = replace(forget(state), phase=Phase.OPEN, uid=uid(), meaning=counter.meaning, version=counter.version)
    newest = max([offer.at, *(one.at for one in state.held)])
    floor = newest - _reach_back(count)
    if offer.at < floor:
        late = _gone(state, (offer.event,), count)
        return Step(state, (*before, late))
    gone = tuple(one for one in state.held if one.at < floor)
    new = Occurrence(part=offer.part, event=offer.event, at=offer.at, depth=offer.depth)
    held = ordered([*(one for one in state.held if one.at >= floor), new])
    if len(held) > MAX_EVENTS:
        gone, held = (*gone, held[0]), held[1:]
    if gone:
        before = (*before, _gone(state, tuple(one.event for one in gone), count))
    state = replace(
        state,
        held=held,
        taken=state.taken + 1,
        since=held[0].at,
        due=max(state.due, offer.received + _reach_back(count)),
        as_of=offer.received,
    )
    window = _reached(count, held)
    if window is None:
        waits = Verdict(outcome=Outcome.WAITING, events=(offer.event,), reason="", round=state.uid)
        return Step(state, (*before, waits))
    left = tuple(one.event for one in held if one not in window)
    if left:
        before = (*before, _gone(state, left, count))
    reason = f"{count.reach} events of key {state.name.key!r} came within `within`"
    fired = whole(replace(state, held=window, since=window[0].at), Outcome.FIRED, reason, fires=True)
    return Step(forget(state), (*before, fired))


def expire(counter: Counter, state: Round, now: int) -> Step:
    """Look at a round that may have fallen silent: then nothing it holds can count any more."""
    if state.phase is not Phase.OPEN or now < state.due:
        return Step(state)
    reason = f"{len(state.held)} of {counter.count.reach} events of key {state.name.key!r} came within `within`"
    return Step(forget(state), (whole(state, Outcome.OUT_OF_WINDOW, reason),))


def waiting_words(counter: Counter, state: Round) -> str:
    """Say what a round waits for."""
    return f"{len(state.held)} of {counter.count.reach} events of key {state.name.key!r} within `within`"


def _reach_back(count: Count) -> int:
    return count.within + (count.lateness or 0)


def _reached(count: Count, held: tuple[Occurrence, ...]) -> tuple[Occurrence, ...] | None:
    """Return the first `reach` events that lie within the window, None while there are none."""
    for start in range(len(held) - count.reach + 1):
        window = held[start : start + count.reach]
        if window[-1].at - window[0].at <= count.within:
            return window
    return None


def _gone(state: Round, events: tuple[str, ...], count: Count) -> Verdict:
    reason = f"the window has passed before {count.reach} events of key {state.name.key!r} came"
    return Verdict(outcome=Outcome.OUT_OF_WINDOW, events=events, reason=reason, round=state.uid)
