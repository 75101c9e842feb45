"""Sample and throttle: which events go on, and how fast. Pure functions.

A sample follows from the identity of an event: whoever asks, whenever, gets the same answer. A throttle is a bucket
per key, refilled evenly: in any time t no more than `burst` and the rate times t go on. All in whole numbers: an event
costs `per` units, a microsecond brings `events` of them. Those in line go first; the clock never runs backwards.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from triggers.control import MAX_HELD, Over, Sample, Throttle
from triggers.round import Phase, Round, forget
from triggers.stage import Fate, Move, Out, Then, closed, waiting

RELEASE = 500  # events that leave a queue in one transaction
_WHOLE = 1 << 64


def goes_on(sample: Sample, sensor: str, id: str) -> bool:
    """Say whether an event is in the sample; the events of a smaller share are among those of a larger one."""
    digest = hashlib.sha256(f"{sensor}\0{id}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big")
    if sample.every is not None:
        return place * sample.every < _WHOLE
    return place < round((sample.rate or 0.0) * _WHOLE)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A throttle with the names under which its state is kept."""

    throttle: Throttle
    meaning: str
    version: str


def take(bucket: Bucket, state: Round, now: int, uid: Callable[[], str]) -> Move:
    """Let an event come: those in line go before it, as far as the bucket reaches."""
    state, before = _let_go(bucket, state, now)
    throttle = bucket.throttle
    if not waiting(state) and state.counted >= throttle.per:
        return Move(_settled(bucket, replace(state, counted=state.counted - throttle.per)), before, Fate.GOES)
    moment = state.as_of + _until(bucket, state, (waiting(state) + 1) * throttle.per)
    rate = f"{throttle.events} per {_spelled(throttle.per)}"
    reason = f"key {_key(state)!r} has used up its rate of {rate}; there is room again in {_spelled(moment - now)}"
    if throttle.over is Over.DROP or waiting(state) >= MAX_HELD:
        if throttle.over is Over.HOLD:
            reason = f"{MAX_HELD} events of key {_key(state)!r} wait in line, the most allowed"
        return Move(_settled(bucket, state), before, Fate.STOPPED, reason=reason)
    if state.phase is not Phase.OPEN:
        state = replace(state, phase=Phase.OPEN, uid=uid(), taken=0, since=0)
    return Move(_settled(bucket, replace(state, taken=state.taken + 1)), before, Fate.WAITS, reason=reason)


def look(bucket: Bucket, state: Round, now: int) -> Move:
    """Let those in line go on, as far as the bucket reaches."""
    state, before = _let_go(bucket, state, now)
    return Move(_settled(bucket, state), before)


def _let_go(bucket: Bucket, state: Round, now: int) -> tuple[Round, tuple[Out, ...]]:
    state = _refilled(bucket, state, now)
    n = min(waiting(state), state.counted // bucket.throttle.per, RELEASE)
    if not n:
        return state, ()
    state = replace(state, since=state.since + n, counted=state.counted - n * bucket.throttle.per)
    return state, (Out(Then.GO, n),)


def _refilled(bucket: Bucket, state: Round, now: int) -> Round:
    """Return the bucket as it is at a moment; a new one, and one whose rate has changed, is full."""
    full = bucket.throttle.burst * bucket.throttle.per
    if state.phase is Phase.NEW or state.meaning != bucket.meaning:
        return replace(state, meaning=bucket.meaning, version=bucket.version, counted=full, as_of=max(now, state.as_of))
    if now <= state.as_of:
        return state
    level = min(full, state.counted + (now - state.as_of) * bucket.throttle.events)
    return replace(state, counted=level, as_of=now)


def _settled(bucket: Bucket, state: Round) -> Round:
    """Return the round with its due time: when the next in line may go, or when the bucket is full and forgotten."""
    full = bucket.throttle.burst * bucket.throttle.per
    if state.phase is Phase.OPEN and waiting(state):
        return replace(state, due=state.as_of + _until(bucket, state, bucket.throttle.per))
    if state.counted >= full:
        return forget(state)
    done = closed(state, state.as_of + _until(bucket, state, full))
    return replace(done, counted=state.counted, as_of=state.as_of)


def _until(bucket: Bucket, state: Round, level: int) -> int:
    """Return how long it takes until the bucket has so much."""
    return max(0, -((state.counted - level) // bucket.throttle.events))


def _key(state: Round) -> str:
    return state.name.key.partition("/")[2]


def _spelled(micros: int) -> str:
    return f"{max(0, micros) / 1e6:g} s"
