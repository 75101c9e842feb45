"""The test kit for people who write triggers: decide what triggers do with events, with no service and no store.

from triggers.testing import decide, event

def test_only_parquet_files_fire() -> None:
    verdicts = decide(triggers, [event("orders", subject="a.csv"), event("orders", subject="b.parquet")])
    assert [verdict.outcome for verdict in verdicts] == ["filtered", "fired"]
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import orjson

from sensors import uid as uids
from sensors.event import Event
from triggers.decision import Decision, Outcome
from triggers.evaluator import RuleSet
from triggers.explain import explain
from triggers.flow import Admitted, admit
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.trigger import Trigger

api = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one trigger did about one event (and element, with `each`).

    `run` is the uid of the run that was started, merged into, or stood in the way; `params`, `key`, `partition` and
    `lane` are those of a run that was started.
    """

    trigger: str
    event: Event
    outcome: Outcome
    reason: str
    item: int | None = None
    pipeline: str | None = None
    run: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    partition: str | None = None
    lane: str | None = None


def event(
    sensor: str,
    *,
    type: str = "test",
    subject: str | None = None,
    data: Any = None,
    id: str | None = None,
    attributes: Mapping[str, str] | None = None,
    match: Mapping[str, str] | None = None,
    at: datetime = _START,
    **fields: Any,
) -> Event:
    """Build an event. `data` is a JSON value or raw bytes; `id` defaults to a hash of the rest, `at` is its arrival."""
    raw = data if isinstance(data, bytes) or data is None else orjson.dumps(data)
    content_type = None if raw is None or isinstance(data, bytes) else "application/json"
    whole = repr((sensor, type, subject, raw, dict(attributes or {}), dict(match or {}), at)).encode()
    name = hashlib.sha256(whole).hexdigest() if id is None else id
    entropy = hashlib.sha256(f"{sensor}\0{name}".encode("utf-8", "surrogatepass")).digest()[:10]
    received_at = _micros(at)
    values: dict[str, Any] = {
        "sensor": sensor,
        "id": name,
        "uid": uids.make_uid(uids.EVENT, received_at, entropy),
        "source": f"/test/{sensor}",
        "type": type,
        "subject": subject,
        "data": raw,
        "content_type": content_type,
        "attributes": attributes or {},
        "match": match or {},
        "received_at": received_at,
    }
    return Event(**{**values, **fields})


def decide(
    triggers: Iterable[Trigger] | Mapping[str, Trigger],
    events: Iterable[Event],
    *,
    at: datetime | None = None,
    concurrency: Mapping[str, int] | None = None,
) -> list[Verdict]:
    """Judge events one after another, remembering run keys and lanes in between; runs that start stay under way.

    One verdict per event and trigger that listens to it (per element and run, where there are several), in order.
    `at` is `now` in expressions (default: when each event came). Raises triggers.errors.RuleError for triggers that
    cannot be used.
    """
    named = dict(triggers) if isinstance(triggers, Mapping) else {trigger.name: trigger for trigger in triggers}
    bench = _Bench(RuleSet(named, config_hash="test", concurrency=concurrency or {}))
    return [verdict for one in events for verdict in bench.judge(one, one.received_at if at is None else _micros(at))]


class _Bench:
    """A rule set with keys and lanes in memory."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._keys: dict[RunKeyName, RunKeyState] = {}
        self._lanes: dict[LaneName, list[str]] = {}
        self._numbers = count(1)

    def judge(self, one: Event, now: int) -> list[Verdict]:
        paused = {
            name: rule.trigger.paused for name, rule in self._rules.rules.items() if rule.trigger.paused is not None
        }
        uid = self._uid(now)
        plan = self._rules.plan([one], now, paused, uid)
        lanes = {name: LaneState(name, queued=tuple(self._lanes.get(name, ()))) for name in plan.lanes()}
        admitted = admit(
            plan, self._keys, lanes, now=now, uid=uid, mint_span=lambda _: f"00-{'0' * 31}1-{'0' * 15}1-01"
        )
        self._remember(admitted)
        decided: dict[str, list[Verdict]] = {}
        for decision, pipeline in [
            *((decision, None) for decision in plan.decisions),
            *((decision, intent.pipeline) for decision, intent in zip(admitted.decisions, plan.intents, strict=True)),
        ]:
            decided.setdefault(decision.trigger, []).append(_verdict(one, decision, pipeline, admitted))
        verdicts: list[Verdict] = []
        for name in self._rules.rules:
            verdicts += decided.get(name) or self._unmentioned(name, one, now)
        return verdicts

    def _unmentioned(self, name: str, one: Event, now: int) -> Sequence[Verdict]:
        """Tell why a trigger is silent: its decision was filtered or alike, and no sample of it was kept."""
        paused = self._rules.rules[name].trigger.paused
        explanation = explain(self._rules, name, one, now=now, paused=paused)
        if explanation.outcome is None:
            return ()
        return (Verdict(trigger=name, event=one, outcome=explanation.outcome, reason=explanation.reason),)

    def _remember(self, admitted: Admitted) -> None:
        self._keys.update({state.name: state for state in admitted.keys})
        for start in admitted.starts:
            for lane in {start.trigger_event.lane or "", ""}:
                self._lanes.setdefault(LaneName(start.pipeline, lane), []).append(start.run_uid)
        for run, _ in admitted.cancels:
            for runs in self._lanes.values():
                if run in runs:
                    runs.remove(run)

    def _uid(self, now: int) -> Callable[[str], str]:
        return lambda prefix: uids.make_uid(prefix, now, next(self._numbers).to_bytes(10, "big"))


def _verdict(one: Event, decision: Decision, pipeline: str | None, admitted: Admitted) -> Verdict:
    started = next((fired for fired in admitted.trigger_events if fired.uid == decision.trigger_event), None)
    return Verdict(
        trigger=decision.trigger,
        event=one,
        outcome=decision.outcome,
        reason=decision.reason,
        item=decision.item,
        pipeline=pipeline,
        run=decision.run,
        params=started.params if started else {},
        key=started.key if started else None,
        partition=started.partition if started else None,
        lane=started.lane if started else None,
    )


def _micros(moment: datetime) -> int:
    whole = moment - _EPOCH
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds
