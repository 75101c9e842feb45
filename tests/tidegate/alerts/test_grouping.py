"""Grouping as such: whatever happens in whatever order, no alert vanishes, and nobody is told too often."""

import dataclasses
from collections import Counter
from typing import Any

import orjson
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.alerting import make_alert, make_route
from tests.support.works import make_config
from tidegate.alerts.alert import KINDS
from tidegate.alerts.grouping import Fact as FactOf
from tidegate.alerts.grouping import Group, Timing, close, ended, happened, tell, tellable
from tidegate.alerts.planning import OUTSTANDING, PlanAlerts
from tidegate.alerts.raising import raise_alerts
from tidegate.rules import RulesInForce, compile_rules
from tidegate.store.alert_records import MessageEnd
from tidegate.store.memory_state import State
from tidegate.store.memory_tx import MemoryTx

SECOND = 1_000_000
TIMING = Timing(wait=30 * SECOND, repeat=3_600 * SECOND)
T0 = 1_800_000_000_000_000


def fact(n: int, kind: str = "run_failed", at: int = T0) -> FactOf:
    return FactOf(f"alr_{n}", kind, "p", at)


def test_a_group_survives_being_written_down() -> None:
    """What is stored reads back the same; what an older version did not write has its default."""
    group, _ = happened(None, fact(1), T0, TIMING)
    group = dataclasses.replace(group, ended="alr_2", closing=T0 + 5, sent=T0)
    older = {name: value for name, value in orjson.loads(group.to_json()).items() if name not in ("flaps", "ended")}

    assert Group.from_json(group.to_json()) == group
    assert Group.from_json(orjson.dumps(older).decode()) == dataclasses.replace(group, ended=None)


def test_an_end_waits_until_it_has_held() -> None:
    """For the wait nothing is told; what happens meanwhile takes the end back."""
    group, _ = happened(None, fact(1), T0, TIMING)
    group, told = tell(group, T0, TIMING)
    assert told.what == "alert"
    closing, reason = ended(group, "alr_2", T0 + SECOND, TIMING)
    assert closing is not None
    assert reason == ""
    assert not tellable(closing, T0 + 30 * SECOND, TIMING)
    assert tellable(closing, T0 + 31 * SECOND, TIMING)

    back, _ = happened(closing, fact(3), T0 + 2 * SECOND, TIMING)
    assert (back.open, back.closing, back.ended) == (True, None, None)


def test_what_was_not_told_is_not_resolved() -> None:
    """Who did not hear of the beginning gets one message that says that it is over."""
    group, _ = happened(None, fact(1), T0, TIMING)
    closing, _ = ended(group, "alr_2", T0, TIMING)
    assert closing is not None
    closed, reason = close(closing, T0 + 31 * SECOND, TIMING)
    after, told = tell(closed, T0 + 31 * SECOND, TIMING)

    assert (closed.open, reason) == (False, "")
    assert (told.what, told.count, told.ended) == ("alert", 1, "alr_2")
    assert not after.open


class Storms(RuleBasedStateMachine):
    """Alerts of a few subjects and kinds, ends, failing and slow targets, time: over the real plan and its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.now = T0
        self.n = 0
        self.raised: Counter[str] = Counter()
        self.made: list[int] = []
        route = make_route("r", "memory://one", "memory://two", limit=3, limit_per=600.0)
        self.limit = (route.limit, int(route.limit_per * 1e6))
        rules = compile_rules(make_config(alerts={"r": route}), {})
        self.in_force = RulesInForce(rules)
        self.plan = PlanAlerts(self.in_force)

    def tx(self) -> MemoryTx:
        return MemoryTx(self.state, self.now)

    @rule(
        subject=strategies.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]),
        kind=strategies.sampled_from(["run_failed", "sensor_unhealthy", "dead_letter"]),
        ends=strategies.booleans(),
        times=strategies.integers(1, 12),
    )
    def something_happens(self, subject: str, kind: str, ends: bool, times: int) -> None:
        alerts = []
        for _ in range(times):
            self.n += 1
            over = ends and KINDS[kind].over is not None
            fields: dict[str, Any] = {"kind": kind, "key": f"{kind}/{subject}", "ends": over, "at": self.now}
            alerts.append(make_alert(subject, self.n, count=1 + self.n % 3 if not over else 1, **fields))
        raise_alerts(self.tx(), self.in_force.current.alerts, alerts)

    @rule(seconds=strategies.sampled_from([0.001, 1.0, 20.0, 45.0, 700.0, 4_000.0, 30_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    @rule(times=strategies.integers(1, 3))
    def somebody_looks(self, times: int) -> None:
        for _ in range(times):
            before = set(self.state.alert_messages)
            self.plan(self.tx(), [None])
            new = {name for name, _ in set(self.state.alert_messages) - before}
            self.made += [self.now] * len(new)

    @rule(ok=strategies.booleans(), limit=strategies.integers(1, 6))
    def somebody_sends(self, ok: bool, limit: int) -> None:
        for one in self.tx().claim_messages(limit, 60 * SECOND):
            state = "sent" if ok else "pending"
            end = MessageEnd(one.message, one.target, one.attempts, state, self.now + 5 * SECOND, "" if ok else "down")
            assert self.tx().end_attempt(end)

    @invariant()
    def the_limit_is_kept(self) -> None:
        """Within any time of the limit no more messages are made than it says."""
        limit, per = self.limit
        for index, moment in enumerate(self.made):
            within = [other for other in self.made[index:] if other < moment + per]
            assert len(within) <= limit

    @invariant()
    def targets_that_take_nothing_are_not_buried(self) -> None:
        """At most so many messages wait for the target that is the furthest."""
        waiting = self.tx().messages_waiting("r")
        assert min(waiting.get(0, 0), waiting.get(1, 0)) <= OUTSTANDING

    @invariant()
    def what_waits_is_in_its_group(self) -> None:
        """The number that a group says it waits with is what its gathered alerts add up to, and it will be told."""
        waiting: Counter[str] = Counter()
        for row in self.state.alerts.values():
            if row.state == "gathered" and not row.ends:
                waiting[row.group] += row.count
        groups = {
            key: (Group.from_json(row.state), row.next_at) for (_, key), row in self.state.alert_groups.items() if key
        }
        assert {key: group.waiting for key, (group, _) in groups.items() if group.waiting} == dict(waiting)
        for key in waiting:
            assert groups[key][1] is not None
        ending = {group.ended for group, _ in groups.values() if group.ended is not None}
        assert ending == {uid for uid, row in self.state.alerts.items() if row.state == "gathered" and row.ends}

    @invariant()
    def messages_count_what_they_tell(self) -> None:
        """The numbers in the messages are those of their alerts."""
        told: Counter[str] = Counter()
        for row in self.state.alerts.values():
            if row.message is not None and not row.ends:
                told[row.message] += row.count
        for (name, _), message in self.state.alert_messages.items():
            body = orjson.loads(message.body)
            assert body["count"] == told[name]

    def teardown(self) -> None:
        """In the end, with time and targets that take everything, each alert is sent or suppressed with a reason."""
        for _ in range(80):
            self.somebody_looks(1)
            self.somebody_sends(ok=True, limit=100)
            if all(row.state in ("sent", "suppressed") for row in self.state.alerts.values()):
                break
            following = self.tx().alerts_next()
            assert following is not None
            self.now = max(self.now + 1, following)
        for row in self.state.alerts.values():
            assert row.state in ("sent", "suppressed")
            assert row.state == "sent" or row.reason


Storms.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None, report_multiple_bugs=False)
TestStorms = Storms.TestCase
