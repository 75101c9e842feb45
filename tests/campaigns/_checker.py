"""The checker: a history against a ledger, by pure functions. What is wrong comes out as `Violation`s, named by kind.

Kinds: `lost` (acknowledged or dropped in full, and not there), `doubled` (there more than once), `torn` (half of what
one transaction should have written), `unrequested` (work that never reached the sink), `repeated` (a request that had
no right to be repeated), `started-twice`, `recorded-twice`, `failed`, `stuck`, `orphan`, `exit`, `corrupt`, `unsynced`,
`unproven` (a point at which no process ever died).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.campaigns._history import Ack, History, Hit, Life
from tests.campaigns._ledger import FINAL, EventRow, Ledger

TERMINAL = frozenset({"fired", "filtered", "error", "duplicate", "coalesced", "skipped_busy"})
_VERSION = re.compile(r"(?P<name>.*)@(?P<size>\d+)\+\d+#\d+")
_CALLS = {"call": "call", "file": "call", "after": "call", "first": "first", "second": "second"}
_SKEW = 0.5  # seconds between a request's arrival and the moment that the campaign's loop noted it


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One broken promise."""

    kind: str
    what: str


def check(history: History, ledger: Ledger) -> list[Violation]:
    """Return everything that is wrong, sorted by kind. The service must be at rest."""
    parts: Sequence[Iterable[Violation]] = (
        acknowledged(history.acks, ledger),
        dropped(history, ledger),
        torn(ledger),
        counted(ledger),
        keyed(history, ledger),
        requested(history, ledger),
        started(history),
        recorded(ledger),
        at_rest(history, ledger),
        processes(history.lives.values()),
        synced(history),
    )
    found = sorted({violation for part in parts for violation in part})
    if ledger.integrity != "ok":
        found.append(Violation("corrupt", f"the store's integrity check says: {ledger.integrity}"))
    return found


def acknowledged(acks: Iterable[Ack], ledger: Ledger) -> Iterator[Violation]:
    """Every 202 names an event that is there, under the sender's id, once."""
    rows = {event.uid: event for event in ledger.events}
    for ack in acks:
        event = rows.get(ack.uid)
        said = (
            f"event {ack.id} was acknowledged as {ack.uid}{' (a repeat)' if ack.duplicate else ''} by life {ack.life}"
        )
        if event is None:
            yield Violation("lost", f"{said} and is not in the store")
        elif event.id != ack.id:
            yield Violation("lost", f"{said}, but that is {event.id}")
    for (sensor, id_), n in Counter((event.sensor, event.id) for event in ledger.events).items():
        if n > 1:
            yield Violation("doubled", f"event {sensor}/{id_} has {n} rows")


def dropped(history: History, ledger: Ledger) -> Iterator[Violation]:
    """Every version of every file that was complete has exactly one event."""
    versions = Counter(
        (found["name"], int(found["size"]))
        for event in ledger.events
        if event.sensor == "drops" and (found := _VERSION.fullmatch(event.id)) is not None
    )
    for drop in history.drops:
        n = versions.pop((drop.name, drop.size), 0)
        if n == 0:
            yield Violation("lost", f"file {drop.name} of {drop.size} bytes was dropped in full and has no event")
        elif n > 1:
            yield Violation("doubled", f"file {drop.name} of {drop.size} bytes has {n} events")
    for name, size in versions:
        yield Violation("doubled", f"file {name} of {size} bytes was never dropped and has an event")


def torn(ledger: Ledger) -> Iterator[Violation]:
    """What one transaction writes is all there: event and dedup row, decision, run and task runs, memory and event."""
    rows = {event.uid: event for event in ledger.events}
    for (sensor, id_), uid in ledger.ids.items():
        if uid not in rows:
            yield Violation("torn", f"{sensor}/{id_} is remembered as seen, but its event {uid} is not there")
    for event in ledger.events:
        if event.sensor != "tidegate" and ledger.ids.get((event.sensor, event.id)) != event.uid:
            yield Violation(
                "torn", f"event {event.uid} ({event.sensor}/{event.id}) is there, but not remembered as seen"
            )
    runs = {run.uid for run in ledger.runs}
    for decision in ledger.decisions:
        if decision.outcome == "fired" and (
            decision.run not in runs or decision.trigger_event not in ledger.trigger_events
        ):
            yield Violation(
                "torn", f"decision {decision.uid} of {decision.trigger} fired, but run {decision.run} is not there"
            )
    with_tasks = {task.run for task in ledger.tasks}
    for run in ledger.runs:
        if run.uid not in with_tasks:
            yield Violation("torn", f"run {run.uid} has no task runs")
        if run.trigger_event not in ledger.trigger_events:
            yield Violation("torn", f"run {run.uid} of {run.pipeline} has no trigger event")
    remembered = {(event.sensor, *_object(event)) for event in ledger.events if event.sensor == "drops"}
    for (sensor, key), token in ledger.seen.items():
        if (sensor, key, token) not in remembered:
            yield Violation("torn", f"object {sensor}/{key} is remembered at version {token}, which has no event")


def counted(ledger: Ledger) -> Iterator[Violation]:
    """Exact counters agree with the rows that were written beside them."""
    stored = Counter(event.sensor for event in ledger.events)
    for sensor, n in stored.items():
        told = ledger.counters.get(("sensor", sensor, "stored"), 0)
        if told != n:
            yield Violation("torn", f"sensor {sensor} has {n} events, its counter says {told}")
    fired = Counter(decision.trigger for decision in ledger.decisions if decision.outcome == "fired")
    for trigger, n in fired.items():
        told = ledger.counters.get(("trigger", trigger, "fired"), 0)
        if told != n:
            yield Violation("torn", f"trigger {trigger} has {n} fired decisions, its counter says {told}")


def keyed(history: History, ledger: Ledger) -> Iterator[Violation]:
    """One run per key; one own event per end of a run, and one run for it where a trigger asks for that."""
    for (pipeline, key), n in Counter((run.pipeline, run.key) for run in ledger.runs).items():
        if n > 1:
            yield Violation("doubled", f"pipeline {pipeline} has {n} runs of key {key}")
    asked = {(kind if kind != "first" else "chain", key) for kind, key in history.wanted if kind in ("call", "first")}
    there = {(run.pipeline, run.key) for run in ledger.runs}
    acked = {ack.id for ack in history.acks}
    for pipeline, key in sorted(asked - there):
        ids = history.wanted["call" if pipeline == "call" else "first", key]
        if acked.intersection(ids):
            yield Violation("lost", f"acknowledged events {ids} should have started {pipeline} with key {key}: no run")
    ends = Counter(event.cause_run for event in ledger.events if event.type == "tidegate.run.succeeded")
    for run in ledger.runs:
        if run.state == "succeeded" and ends[run.uid] != 1:
            yield Violation(
                "doubled" if ends[run.uid] else "lost",
                f"run {run.uid} succeeded once and told so {ends[run.uid]} times",
            )


def requested(history: History, ledger: Ledger) -> Iterator[Violation]:
    """One request per key; a repeat only under the same Idempotency-Key, after a kill and before the record."""
    hits: dict[tuple[str, str], list[Hit]] = defaultdict(list)
    for hit in history.hits:
        hits[hit.kind, hit.key].append(hit)
    for kind, key in history.wanted:
        if (kind, key) not in hits:
            yield Violation("unrequested", f"{kind} {key} was asked for by {history.wanted[kind, key]} and never sent")
    tasks = {task.engine_key: task for task in ledger.tasks if task.engine_key}
    for (kind, key), of_key in hits.items():
        if (kind, key) not in history.wanted:
            yield Violation("doubled", f"{kind} {key} was requested and nobody asked for it")
        task = tasks.get(of_key[-1].idempotency)
        if task is None or task.task != _CALLS.get(kind):
            yield Violation("lost", f"{kind} {key} was requested under {of_key[-1].idempotency}, which no task run has")
        elif task.finished_at is not None and len(of_key) > 1 and task.finished_at / 1e6 < of_key[-1].at - _SKEW:
            yield Violation("repeated", f"{kind} {key} was requested again after its result was recorded")
        for before, after in pairwise(of_key):
            if before.idempotency != after.idempotency:
                keys = f"{before.idempotency} and {after.idempotency}"
                yield Violation("repeated", f"{kind} {key} was requested under two keys: {keys}")
            elif not excused(before, after, history):
                lives = f"life {before.life} and then by life {after.life}"
                yield Violation("repeated", f"{kind} {key} was requested by {lives}, and the first one was not killed")


def excused(before: Hit, after: Hit, history: History) -> bool:
    """Say whether a repeat may be: its first sender was killed, or paused past its lease, between the two."""
    life = history.lives.get(before.life)
    if life is None:
        return False
    if any(start - _SKEW <= after.at and before.at <= until for start, until in life.pauses):
        return True
    if before.life == after.life:
        return False
    return life.killed and life.ended is not None and life.ended <= after.at + _SKEW


def allowed_repeats(history: History) -> int:
    """Count requests that came again."""
    return len(history.hits) - len({(hit.kind, hit.key) for hit in history.hits})


def started(history: History) -> Iterator[Violation]:
    """Work that dies with the service starts at most once per attempt."""
    for mark, n in Counter(history.marks).items():
        if n > 1:
            yield Violation("started-twice", f"attempt {mark} was started {n} times")


def recorded(ledger: Ledger) -> Iterator[Violation]:
    """No run and no task run is given a final state twice, or loses one."""
    ends: Counter[tuple[str, str]] = Counter()
    for change in ledger.changes:
        if change.new in FINAL:
            ends[change.kind, change.uid] += 1
        elif change.old in FINAL:
            yield Violation("recorded-twice", f"{change.kind} {change.uid} went from {change.old} to {change.new}")
    for (kind, uid), n in ends.items():
        if n > 1:
            yield Violation("recorded-twice", f"{kind} {uid} was given a final state {n} times")


def at_rest(history: History, ledger: Ledger) -> Iterator[Violation]:
    """Nothing is stuck, and nothing failed: no task of the campaign fails by itself."""
    if history.calm is None:
        yield Violation("stuck", "the service did not come to rest within its time")
    for id_ in history.unanswered:
        yield Violation("stuck", f"event {id_} was sent until the end and never acknowledged")
    for run in ledger.runs:
        if run.state not in FINAL:
            yield Violation("stuck", f"run {run.uid} of {run.pipeline} is still {run.state}")
        elif run.state != "succeeded":
            errors = [f"{task.task}: {task.error}" for task in ledger.tasks if task.run == run.uid and task.error]
            yield Violation("failed", f"run {run.uid} of {run.pipeline} {run.state}: {'; '.join(errors)}")
    for task in ledger.tasks:
        if task.state not in FINAL:
            yield Violation("stuck", f"task run {task.uid} ({task.task}) is still {task.state}")
    for event in ledger.events:
        if event.state != "stored":
            yield Violation("failed", f"event {event.uid} ({event.sensor}/{event.id}) is {event.state}")
    for decision in ledger.decisions:
        if decision.outcome not in TERMINAL:
            yield Violation("stuck", f"decision {decision.uid} of {decision.trigger} is still {decision.outcome}")
        elif decision.outcome == "error":
            yield Violation("failed", f"decision {decision.uid} of {decision.trigger} is an error")
    if ledger.dead_letters:
        yield Violation("failed", f"{ledger.dead_letters} dead letters")


def processes(lives: Iterable[Life]) -> Iterator[Violation]:
    """No child outlives its service; a soft stop ends with 0, everything else by our own kill."""
    for life in lives:
        if life.orphans:
            yield Violation("orphan", f"processes {list(life.orphans)} outlived life {life.number} ({life.how})")
        expected = 0 if life.how == "term" else -9
        if life.exit != expected:
            yield Violation("exit", f"life {life.number} ({life.how}) ended with {life.exit} instead of {expected}")


def synced(history: History) -> Iterator[Violation]:
    """Sequential webhooks cost at least one sync of the log each: (acknowledged, syncs)."""
    if history.syncs is not None and history.syncs[1] < history.syncs[0]:
        sent, syncs = history.syncs
        yield Violation("unsynced", f"{sent} webhooks were acknowledged one after the other with {syncs} syncs")


def _object(event: EventRow) -> tuple[str | None, str]:
    return event.subject, event.id.rpartition("@")[2].rpartition("#")[0]
