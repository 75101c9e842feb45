"""A firing becomes intents: the runs of a pattern rendered over its key, its parts and their events. Pure.

In flow a firing and the stored events that it names; out flow intents, and `error` decisions for what could not be
rendered. Expressions see `key`, `parts` (an event per part; a list of them with `take: all`), `events` (all that
count, by their moment), `missing` and `since`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sensors import uid as uids
from sensors.event import Event
from triggers.activation import Activation, moment
from triggers.decision import Clause, Decision, Outcome
from triggers.errors import EvaluationError
from triggers.gather import Firing
from triggers.pattern import Count, Take, parts_of
from triggers.plan import Intent
from triggers.ports import RunKeyName
from triggers.rule import constants_of
from triggers.trigger import Repeat
from triggers.view import EventView
from triggers.wish import CompiledRun, Objection, Wish, render

CONTENTS = frozenset({"events", "parts"})  # the names that need the events themselves
MAX_BYTES = 64 * 1024 * 1024  # content of all events that expressions may see at once


def reads_events(firing: Firing) -> bool:
    """Say whether rendering needs the events themselves, and not only their uids."""
    runs = _runs(firing)
    names: frozenset[str] = frozenset().union(*(run.params.names for run in runs))
    fields = [one for run in runs for one in (run.key, run.partition, run.lane) if one is not None]
    return bool(CONTENTS & names.union(*(one.names for one in fields)))


def intents_of(
    firing: Firing, events: Mapping[str, Event], now: int, uid: Callable[[str], str]
) -> tuple[list[Intent], list[Decision]]:
    """Render the runs of a firing; `events` are those it names, as far as they are kept."""
    activation = _activation(firing, events, now)
    intents: list[Intent] = []
    errors: list[Decision] = []
    for run in _runs(firing):
        try:
            answer = render(run, activation, None)
        except EvaluationError as error:  # Unreadable: content that came to an end since
            answer = Objection(Clause(run.path, "", "a value", str(error)), f"{run.path} failed: {error}", error=True)
        if isinstance(answer, Wish):
            intents.append(_intent(firing, answer, uid))
        else:
            errors.append(_error(firing, answer, now, uid))
    return intents, errors


def _runs(firing: Firing) -> Sequence[CompiledRun]:
    pattern = firing.rule.pattern
    return pattern.overdue if firing.overdue and pattern is not None else firing.rule.runs


def _activation(firing: Firing, events: Mapping[str, Event], now: int) -> Activation:
    verdict = firing.verdict
    values = {
        "key": firing.name.key,
        "missing": list(verdict.missing),
        **constants_of(firing.rule.trigger),
    }
    moments = {"since": moment(verdict.since), "now": moment(now)}
    seen: dict[str, dict[str, Any]] = {}

    def value(uid: str) -> dict[str, Any]:
        if uid not in seen:
            if uid not in events:
                raise EvaluationError(f"event {uid} of key {firing.name.key!r} is not kept any more")
            seen[uid] = EventView(events[uid], now).value()
        return seen[uid]

    def load(name: str) -> Any:
        if name not in CONTENTS:
            return moments[name]
        size = sum(len(event.data or b"") for event in events.values())
        if size > MAX_BYTES:
            raise EvaluationError(f"the events hold {size} bytes; expressions over several take {MAX_BYTES}")
        if name == "events":
            return [value(uid) for uid in dict.fromkeys(one.event for one in verdict.held)]
        return _parts(firing, value)

    return Activation(values, load)


def _parts(firing: Firing, value: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    pattern = firing.rule.pattern
    parts: dict[str, Any] = {}
    for part in parts_of(pattern.pattern) if pattern is not None else ():
        found = [value(one.event) for one in firing.verdict.held if one.part == part.name]
        several = part.take is Take.ALL or (pattern is not None and isinstance(pattern.pattern, Count))
        if several:
            parts[part.name] = found
        elif found:
            parts[part.name] = found[-1]
    return parts


def _intent(firing: Firing, wish: Wish, uid: Callable[[str], str]) -> Intent:
    trigger, rule = firing.rule.trigger, wish.run.rule
    fired = uid(uids.TRIGGER_EVENT)
    scope = f"pipeline/{rule.pipeline}" if rule.key_scope == "pipeline" else f"trigger/{trigger.name}"
    return Intent(
        trigger=trigger.name,
        version=trigger.version,
        trigger_event=fired,
        events=firing.verdict.events,
        pipeline=rule.pipeline,
        key=RunKeyName(scope, rule.pipeline, fired if wish.key is None else wish.key),
        keyed=wish.key is not None,
        depth=firing.verdict.depth,
        rule=wish.run.position + (len(firing.rule.runs) if firing.overdue else 0),
        params=wish.params,
        partition=wish.partition,
        lane=wish.lane,
        repeat=Repeat.ALWAYS if firing.verdict.again else trigger.repeat,
        when_busy=trigger.when_busy,
        priority=rule.priority,
        why=firing.verdict.reason,
    )


def _error(firing: Firing, objection: Objection, now: int, uid: Callable[[str], str]) -> Decision:
    return Decision(
        uid=uid(uids.DECISION),
        trigger=firing.name.trigger,
        version=firing.rule.trigger.version,
        events=firing.verdict.events,
        outcome=Outcome.ERROR,
        at=now,
        reason=f"{firing.verdict.reason}, yet {objection.reason}",
        clause=objection.clause,
        details={"key": firing.name.key},
    )
