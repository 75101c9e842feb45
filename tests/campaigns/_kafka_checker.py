"""The checker of the kafka campaign: what is in the log against what is in the store, by pure functions.

The log itself, read by a plain consumer when all is over, says what there is to be found; what the producer was told
only says what must be in the log. Kinds: `unkept` (acknowledged and not in the log: the fault of brokers or bench),
`lost`, `doubled`, `invented` (an event of nothing that is in the log), `miscounted`, `behind` (a position before the
end of the log, at rest), `ahead` (an event beyond its position, or the brokers told of what was not durable),
`refused` (dead letters), `took-back` (a position that fell), `stuck`, `exit`, `unproven` (a trouble that never came).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.campaigns._checker import Violation

SENSOR, TOPIC, TRIGGER = "orders", "orders", "hot"
_ID = re.compile(r"(?P<topic>[^#]+)#(?P<incarnation>\d+)/(?P<partition>\d+)/(?P<offset>\d+)")
_TOLD = 5  # violations of one kind that are told one by one


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of the log: where it stands, the producer's name for it, and whether the trigger's filter matches."""

    partition: int
    offset: int
    id: str
    hot: bool


@dataclass(slots=True)
class History:
    """What was seen from outside. `acked` is the place that the producer was told, by name; `seen` what went wrong."""

    acked: dict[str, tuple[int, int]] = field(default_factory=dict)
    log: list[Logged] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    troubles: Counter[str] = field(default_factory=Counter)
    wanted: frozenset[str] = frozenset()
    answers_lost: int = 0
    samples: int = 0
    seen: list[Violation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What is in the store. `events` are (uid, id, the record's name), `runs` (key, generation), `caused` (event, run).

    `counters` are of this sensor and trigger, by kind and outcome; of candidates and matches by kind alone. Positions
    that fell at any time are in `fallen`: (shard, from, to).
    """

    events: Sequence[tuple[str, str, str]] = ()
    runs: Sequence[tuple[str, int]] = ()
    caused: Mapping[str, int] = field(default_factory=dict)
    cursors: Mapping[int, int] = field(default_factory=dict)
    counters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    dead_letters: int = 0
    fallen: Sequence[tuple[str, int, int]] = ()
    epochs: int = 0


def check(history: History, ledger: Ledger) -> list[Violation]:
    """Return everything that is wrong, sorted; of each kind the first few in words, the others as a number."""
    parts: Sequence[Iterable[Violation]] = (
        history.seen,
        kept(history),
        found(history, ledger),
        started(history, ledger),
        counted(history, ledger),
        placed(history, ledger),
        (Violation("unproven", f"no {name} came to pass") for name in history.wanted - set(history.troubles)),
    )
    told: list[Violation] = []
    for kind, of in sorted(_by_kind(v for part in parts for v in part).items()):
        told += of[:_TOLD]
        if len(of) > _TOLD:
            told.append(Violation(kind, f"… and {len(of) - _TOLD} more"))
    return told


def kept(history: History) -> Iterator[Violation]:
    """What was acknowledged is in the log, where it was said to be, once."""
    places = {(record.partition, record.offset): record.id for record in history.log}
    for id_, place in history.acked.items():
        if places.get(place) != id_:
            yield Violation("unkept", f"{id_} was acknowledged at {place}, where the log has {places.get(place)}")
    for id_, n in Counter(record.id for record in history.log).items():
        if n > 1:
            yield Violation("unkept", f"{id_} is in the log {n} times, although the producer is idempotent")


def found(history: History, ledger: Ledger) -> Iterator[Violation]:
    """Every matching record has exactly one event, which is its own; nothing else has one."""
    hot = {(record.partition, record.offset): record.id for record in history.log if record.hot}
    events: Counter[tuple[int, int]] = Counter()
    for uid, id_, name in ledger.events:
        place = place_of(id_)
        if place is None or place not in hot:
            yield Violation("invented", f"event {uid} ({id_}) is of no record that matches")
            continue
        events[place] += 1
        if hot[place] != name:
            yield Violation("invented", f"event {uid} ({id_}) has the content of {name}, the log has {hot[place]}")
    for place, id_ in hot.items():
        if not events[place]:
            yield Violation("lost", f"record {id_} at {place} has no event")
        elif events[place] > 1:
            yield Violation("doubled", f"record {id_} at {place} has {events[place]} events")
    if ledger.dead_letters:
        yield Violation("refused", f"{ledger.dead_letters} dead letters, although every record is sound")


def started(history: History, ledger: Ledger) -> Iterator[Violation]:
    """Every matching record has exactly one run, under its key; every event caused one."""
    runs = Counter(key for key, _ in ledger.runs)
    wanted = {record.id for record in history.log if record.hot}
    for id_ in sorted(wanted):
        if not runs[id_]:
            yield Violation("lost", f"record {id_} has no run")
        elif runs[id_] > 1:
            yield Violation("doubled", f"record {id_} has {runs[id_]} runs")
    for key, generation in ledger.runs:
        if key not in wanted:
            yield Violation("invented", f"a run has the key {key}, which no matching record has")
        if generation > 1:
            yield Violation("doubled", f"run key {key} is in its generation {generation}")
    for uid, id_, _ in ledger.events:
        caused = ledger.caused.get(uid, 0)
        if caused != 1:
            yield Violation("doubled" if caused else "lost", f"event {id_} caused {caused} runs")


def counted(history: History, ledger: Ledger) -> Iterator[Violation]:
    """The counters say exactly what the log says: they move in the transaction of the positions."""
    hot = sum(record.hot for record in history.log)
    wanted = {
        ("sensor", "stored"): hot,
        ("sensor", "unmatched"): len(history.log) - hot,
        ("sensor", "duplicate"): 0,
        ("candidates", ""): len(history.log),
        ("matched", ""): hot,
    }
    for (kind, outcome), n in wanted.items():
        has = ledger.counters.get((kind, outcome), 0)
        if has != n:
            yield Violation("miscounted", f"{kind} counter {outcome} is {has} instead of {n}")


def placed(history: History, ledger: Ledger) -> Iterator[Violation]:
    """At rest every position is the end of its log, no event lies beyond it, and the brokers know no more than we."""
    for partition, end in sorted(history.ends.items()):
        at = ledger.cursors.get(partition)
        if at != end:
            yield Violation("behind", f"partition {partition} stands at {at}, its log ends at {end}")
    for _, id_, _ in ledger.events:
        place = place_of(id_)
        if place is not None and place[1] >= ledger.cursors.get(place[0], 0):
            yield Violation("ahead", f"event {id_} lies beyond its position {ledger.cursors.get(place[0], 0)}")
    for shard, old, new in ledger.fallen:
        yield Violation("took-back", f"the position of {shard} fell from {old} to {new}")
    yield from told_ahead(history.committed, ledger.cursors)


def told_ahead(committed: Mapping[int, int], cursors: Mapping[int, int]) -> Iterator[Violation]:
    """The brokers are told of an offset only after it is durable: `committed` must have been read first."""
    for partition, offset in sorted(committed.items()):
        if offset > cursors.get(partition, 0):
            at = cursors.get(partition, 0)
            yield Violation("ahead", f"the brokers know {offset} of partition {partition}, durable is {at}")


def place_of(id_: str) -> tuple[int, int] | None:
    """Return partition and offset of an event's id; None when it is not of the topic's first incarnation."""
    read = _ID.fullmatch(id_)
    if read is None or read["topic"] != TOPIC or read["incarnation"] != "0":
        return None
    return int(read["partition"]), int(read["offset"])


def _by_kind(violations: Iterable[Violation]) -> dict[str, list[Violation]]:
    found: dict[str, list[Violation]] = {}
    for violation in violations:
        found.setdefault(violation.kind, []).append(violation)
    return found
