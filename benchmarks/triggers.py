"""10,000 triggers on one sensor and type against one: what does an event cost the rules?

In-process, on the evaluator and the flow control that the ingest transaction calls. Every event matches exactly one
trigger. `ratio` is the rate with 10,000 ÷ the rate with one, structured filters (`exact` on one data field, distinct
values); `ratio_when_only` the same with `when` only, which must ask every rule, for comparison. `joins_…` and what
follows them: see `benchmarks.joins`; `flow_ratio` and what follows it: see `benchmarks.flows`.
"""

import statistics
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.flows import measure_flows
from benchmarks.joins import measure_joins
from sensors.event import Event
from sensors.uid import EVENT, new_uid
from sensors.w3c import child_of, new_root
from triggers.evaluator import RuleSet
from triggers.flow import admit
from triggers.trigger import Repeat, RunRule, Source, Trigger

EVENTS, GROUP = 4_000, 100


def measure(rounds: int = 5) -> Mapping[str, Any]:
    """Return the ratio and µs per event."""
    one, many = _rules(1, structured=True), _rules(10_000, structured=True)
    pairs = [(_us_per_event(one, EVENTS), _us_per_event(many, EVENTS)) for _ in range(rounds)]
    few_when, many_when = _rules(1, structured=False), _rules(1_000, structured=False)
    whens = [(_us_per_event(few_when, 200), _us_per_event(many_when, 200)) for _ in range(3)]
    return {
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
        "us_per_event_1": round(statistics.median(a for a, _ in pairs), 2),
        "us_per_event_10000": round(statistics.median(b for _, b in pairs), 2),
        "ratio_when_only": round(statistics.median(a / b for a, b in whens), 4),
        "us_per_event_when_1": round(statistics.median(a for a, _ in whens), 2),
        "us_per_event_when_1000": round(statistics.median(b for _, b in whens), 2),
        **measure_joins(),
        **measure_flows(),
    }


def _rules(n: int, *, structured: bool) -> RuleSet:
    triggers = {
        f"t{i}": Trigger(
            name=f"t{i}",
            on=(Source(sensor="hooks", filter={"exact": {"data.sku": f"sku-{i}"}} if structured else None),),
            when=None if structured else f'event.data.sku == "sku-{i}"',
            runs=(RunRule(pipeline="p", params={"sku": "${{ event.data.sku }}"}, key="event.data.id"),),
            repeat=Repeat.RETRY_FAILED,
            version="1",
        )
        for i in range(n)
    }
    return RuleSet(triggers, config_hash="bench", concurrency={"p": 16})


def _events(n: int) -> list[Event]:
    now = time.time_ns() // 1000
    return [
        Event(
            sensor="hooks",
            id=str(i),
            uid=new_uid(EVENT, now),
            source="/bench",
            type="webhook.received",
            received_at=now,
            data=b'{"id":"%d","sku":"sku-0","amount":12.5,"customer":"acme"}' % i,
            content_type="application/json",
        )
        for i in range(n)
    ]


def _us_per_event(rules: RuleSet, n: int) -> float:
    events = _events(n)
    spans = {event.uid: new_root() for event in events}
    started = time.perf_counter()
    fired = 0
    for at in range(0, n, GROUP):
        now = events[at].received_at
        uid = partial(_uid, now)
        plan = rules.plan(events[at : at + GROUP], now, {}, uid)
        admitted = admit(
            plan,
            {},
            {},
            now=now,
            uid=uid,
            mint_span=lambda parent: child_of(parent) if parent else new_root(),
            spans=spans,
        )
        fired += len(admitted.starts)
    took = time.perf_counter() - started
    if fired != n:
        raise RuntimeError(f"{fired} of {n} events fired; the benchmark would compare nothing")
    return took / n * 1e6


def _uid(now: int, prefix: str) -> str:
    return new_uid(prefix, now)
