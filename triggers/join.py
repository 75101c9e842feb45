"""The join: parts of one key come together, or the key is overdue. Pure functions of (join, round, offer or moment).

In flow offers one at a time and moments at which a round may be due; out flow rounds and verdicts. A round that ought
to have ended before an offer came is ended first, so what happens does not depend on how promptly a timer rings.
Whether a part counts is decided when it comes: by its moment it must lie within the window, and in a sequence behind
the parts before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from triggers.calendar import next_tick, next_time, told
from triggers.decision import Outcome
from triggers.errors import EvaluationError
from triggers.pattern import MAX_EVENTS, Join, Take
from triggers.pattern import Late as LatePolicy
from triggers.round import Occurrence, Offer, Phase, Round, Step, Verdict, forget, ordered, whole

Uid = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Gate:
    """A join with what it requires: `enough` says whether the parts (name -> how many came) suffice.

    `enough` raises EvaluationError; `words` say what is required.
    """

    join: Join
    enough: Callable[[Mapping[str, int]], bool]
    words: str
    meaning: str
    version: str


def take(gate: Gate, state: Round, offer: Offer, uid: Uid) -> Step:
    """Let a part come."""
    before: tuple[Verdict, ...] = ()
    if state.phase is Phase.OPEN and offer.received > state.due:
        ended = expire(gate, state, state.due)
        state, before = ended.round, ended.verdicts
    if state.phase not in (Phase.NEW, Phase.OPEN) and offer.received > state.due:
        state = forget(state)
    fresh = state.phase is Phase.NEW
    if fresh:
        state = _opened(gate, state, uid(), offer.at, _due(gate.join, offer), offer.received)
    step = _join(gate, state, offer) if state.phase is Phase.OPEN else _late(gate, state, offer)
    after = step.round
    if fresh and after.phase is Phase.OPEN and not after.held:  # opened for a part that does not count
        after = forget(after)
    return Step(after, (*before, *step.verdicts))


def expire(gate: Gate, state: Round, now: int) -> Step:
    """Look at a round whose time may have come."""
    if state.phase is not Phase.OPEN or now < state.due:
        return Step(state)
    missing = missing_parts(gate, state)
    until = told(state.due, gate.join.timezone)
    reason = f"key {state.name.key!r} is overdue since {until}: {_there(gate, state)}; missing: {_listed(missing)}"
    verdict = whole(state, Outcome.OVERDUE, reason, fires=True, alert=True, missing=missing)
    return Step(_closed(gate, state, Phase.OVERDUE, state.due), (verdict,))


def open_by_calendar(gate: Gate, state: Round, tick: int, uid: Uid) -> Step:
    """Open a key at a tick, whether or not parts came before; one that is done with stays so until it is forgotten."""
    due = _deadline(gate.join, tick)
    if state.phase is Phase.OPEN:
        return Step(replace(state, due=due))
    if state.phase is not Phase.NEW and tick <= state.due:
        return Step(state)
    return Step(_opened(gate, forget(state), uid(), tick, due, tick))


def missing_parts(gate: Gate, state: Round) -> tuple[str, ...]:
    """Return the names of the parts that have not come, in the order of the trigger."""
    present = {one.part for one in state.held}
    return tuple(part.name for part in gate.join.parts if part.name not in present)


def waiting_words(gate: Gate, state: Round) -> str:
    """Say what a round waits for: what is there, what is missing, until when."""
    until = told(state.due, gate.join.timezone)
    return (
        f"key {state.name.key!r} waits until {until}: {_there(gate, state)};"
        f" missing: {_listed(missing_parts(gate, state))}{gate.words and f' ({gate.words})'}"
    )


# -- parts that come in time -------------------------------------------------------------------------------------------
def _join(gate: Gate, state: Round, offer: Offer) -> Step:
    refusal = _refusal(gate, state, offer)
    if refusal is not None:
        return Step(state, (refusal,))
    state, verdicts = _held(gate, state, offer)
    if not any(one.event == offer.event and one.part == offer.part for one in state.held):
        return Step(state, verdicts)
    try:
        enough = gate.enough(_numbers(gate, state))
    except EvaluationError as error:
        return Step(state, (*verdicts, _about(state, offer, Outcome.ERROR, f"require failed: {error}")))
    if enough:
        fired = whole(state, Outcome.FIRED, _complete(gate, state), fires=True, missing=missing_parts(gate, state))
        return Step(_closed(gate, state, Phase.FIRED, offer.received), (*verdicts, fired))
    return Step(state, (*verdicts, _about(state, offer, Outcome.WAITING, "")))


def _refusal(gate: Gate, state: Round, offer: Offer) -> Verdict | None:
    """Say why a part cannot count for an open round, None when it can."""
    join = gate.join
    if len(state.held) >= MAX_EVENTS:
        return _about(
            state, offer, Outcome.ERROR, f"key {offer.name.key!r} holds {MAX_EVENTS} events, the most allowed"
        )
    if join.within is not None and join.opens is None and state.held:
        first = min(state.held[0].at, offer.at)
        last = max(state.held[-1].at, offer.at)
        if last - first > join.within:
            return _about(
                state, offer, Outcome.OUT_OF_WINDOW, f"{offer.part} lies further from the other parts than `within`"
            )
    if join.in_order:
        return _out_of_turn(join, state, offer)
    return None


def _out_of_turn(join: Join, state: Round, offer: Offer) -> Verdict | None:
    """In a sequence a part comes after those before it; on received time one that is not there yet comes too late."""
    at = {one.part: one.at for one in state.held}
    for part in join.parts:
        if part.name == offer.part:
            return None
        if part.name in at:
            if at[part.name] > offer.at:
                return _about(state, offer, Outcome.FILTERED, f"{offer.part} came before {part.name}")
        elif join.lateness is None:
            return _about(state, offer, Outcome.FILTERED, f"{offer.part} came before {part.name}")
    return None


def _held(gate: Gate, state: Round, offer: Offer) -> tuple[Round, tuple[Verdict, ...]]:
    """Return the round with the part in it, and what becomes of events whose place it took (or that keep it out)."""
    join = gate.join
    policy = next(part.take for part in join.parts if part.name == offer.part)
    new = Occurrence(part=offer.part, event=offer.event, at=offer.at, depth=offer.depth)
    held = list(state.held)
    verdicts: list[Verdict] = []
    if policy is not Take.ALL:
        old = next((one for one in held if one.part == offer.part), None)
        if old is not None:
            better = new.at < old.at if policy is Take.FIRST else new.at >= old.at
            gone, stays = (old, new) if better else (new, old)
            reason = (
                f"part {offer.part} of key {offer.name.key!r} came twice; {stays.event} counts (take: {policy.value})"
            )
            verdicts.append(Verdict(outcome=Outcome.DUPLICATE, events=(gone.event,), reason=reason, round=state.uid))
            if not better:
                return state, tuple(verdicts)
            held.remove(old)
    held.append(new)
    if join.in_order:
        behind = [part.name for part in join.parts]
        behind = behind[behind.index(offer.part) + 1 :]
        for one in [one for one in held if one.part in behind and one.at < new.at]:
            held.remove(one)
            reason = f"{one.part} came before {offer.part}"
            verdicts.append(Verdict(outcome=Outcome.FILTERED, events=(one.event,), reason=reason, round=state.uid))
    since, due = state.since, state.due
    if join.opens is None and new.at < since:
        since = new.at
        if join.within is not None:
            due = max(since + join.within, state.as_of) + (join.lateness or 0)
    return replace(state, held=ordered(held), taken=state.taken + 1, since=since, due=due), tuple(verdicts)


# -- parts that come late ----------------------------------------------------------------------------------------------
def _late(gate: Gate, state: Round, offer: Offer) -> Step:
    done = "fired" if state.phase is Phase.FIRED else "was overdue"
    reason = f"part {offer.part} came after key {offer.name.key!r} {done}"
    policy = gate.join.late
    if policy is not LatePolicy.REFIRE:
        alert = policy is LatePolicy.ALERT
        verdict = _about(state, offer, Outcome.LATE, f"{reason} (late: {policy.value})")
        return Step(state, (replace(verdict, alert=alert, since=state.since, due=state.due),))
    if len(state.held) >= MAX_EVENTS:
        return Step(state, (_about(state, offer, Outcome.ERROR, f"{reason}, which holds {MAX_EVENTS} events already"),))
    joined, verdicts = _held(gate, state, offer)
    if joined.held == state.held:
        return Step(state, verdicts)
    joined = replace(joined, due=state.due)
    try:
        enough = gate.enough(_numbers(gate, joined))
    except EvaluationError as error:
        return Step(joined, (*verdicts, _about(state, offer, Outcome.ERROR, f"require failed: {error}")))
    missing = missing_parts(gate, joined)
    if not enough:
        late = _about(state, offer, Outcome.LATE, f"{reason} (late: refire); still missing: {_listed(missing)}")
        return Step(joined, (*verdicts, late))
    words = f"{reason} (late: refire): {_complete(gate, joined)}"
    fired = whole(joined, Outcome.FIRED, words, fires=True, again=True, missing=missing)
    return Step(replace(joined, phase=Phase.FIRED), (*verdicts, fired))


# -- rounds ------------------------------------------------------------------------------------------------------------
def _opened(gate: Gate, state: Round, uid: str, since: int, due: int, received: int) -> Round:
    return replace(
        state,
        phase=Phase.OPEN,
        uid=uid,
        meaning=gate.meaning,
        version=gate.version,
        since=since,
        due=due,
        as_of=received,
        held=(),
    )


def _closed(gate: Gate, state: Round, phase: Phase, at: int) -> Round:
    if not gate.join.remember:
        return forget(state)
    held = state.held if gate.join.late is LatePolicy.REFIRE else ()
    return replace(state, phase=phase, held=held, due=at + gate.join.remember)


def _due(join: Join, offer: Offer) -> int:
    """Return the deadline of a round that a part opens."""
    if join.opens is not None:
        return _deadline(join, next_tick(join.opens.cron, join.timezone, offer.received))
    if join.within is not None:
        return max(offer.at + join.within, offer.received) + (join.lateness or 0)
    return _deadline(join, offer.received)


def _deadline(join: Join, start: int) -> int:
    late = join.lateness or 0
    if join.until is not None:
        return next_time(join.until, join.timezone, start) + late
    return start + (join.within or 0) + late


# -- words -------------------------------------------------------------------------------------------------------------
def _about(state: Round, offer: Offer, outcome: Outcome, reason: str) -> Verdict:
    return Verdict(outcome=outcome, events=(offer.event,), reason=reason, round=state.uid, depth=offer.depth)


def _numbers(gate: Gate, state: Round) -> dict[str, int]:
    numbers = dict.fromkeys((part.name for part in gate.join.parts), 0)
    for one in state.held:
        numbers[one.part] += 1
    return numbers


def _there(gate: Gate, state: Round) -> str:
    numbers = _numbers(gate, state)
    there = [f"{name} ×{n}" if n > 1 else name for name, n in numbers.items() if n]
    present = sum(1 for n in numbers.values() if n)
    return f"{present} of {len(numbers)} parts are there" + (f" ({_listed(there)})" if there else "")


def _complete(gate: Gate, state: Round) -> str:
    return f"key {state.name.key!r} is complete: {_there(gate, state)}"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown or "nothing"
