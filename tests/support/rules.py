"""Short ways to write triggers, rule sets and uids in tests."""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from sensors import uid as uids
from sensors.event import Event
from triggers.evaluator import RuleSet
from triggers.plan import Plan
from triggers.trigger import Paused, RunRule, Source, Trigger

NOW = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def counting_uid(at: int = NOW) -> Callable[[str], str]:
    """Return a maker of distinct, reproducible uids."""
    numbers = count(1)
    return lambda prefix: uids.make_uid(prefix, at, next(numbers).to_bytes(10, "big"))


def trigger(
    name: str = "t",
    *,
    sensor: str = "s",
    filter: Mapping[str, Any] | None = None,
    types: tuple[str, ...] = (),
    pipeline: str = "p",
    run: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Trigger:
    """Return a trigger with one source and one run."""
    values: dict[str, Any] = {
        "on": [Source(sensor=sensor, types=types, filter=filter)],
        "runs": [RunRule(pipeline=pipeline, **(run or {}))],
        **fields,
    }
    return Trigger(name=name, version="v1", **values)


def rule_set(*triggers: Trigger, concurrency: Mapping[str, int] | None = None) -> RuleSet:
    """Return the compiled rules of a configuration named `c1`."""
    return RuleSet({one.name: one for one in triggers}, config_hash="c1", concurrency=concurrency or {})


def plan(rules: RuleSet, *events: Event, paused: Mapping[str, Paused] | None = None) -> Plan:
    """Plan some events at NOW."""
    return rules.plan(events, NOW, paused or {}, counting_uid())
