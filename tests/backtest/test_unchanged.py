"""Rules that did not change: whatever they are and whatever came, a back-test finds no difference."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.backtest.cases import MOMENTS, STEP, events_of, rules
from tests.support.past import asking, live_through, over, told
from tests.support.works import T0, make_config, open_works
from tidegate.backtest.values import Report
from triggers.trigger import Trigger

AFTER = 40 * STEP


def gone_over(url: str, triggers: list[Trigger], moments: list[Any], base: int, **fields: Any) -> Report:
    """Let a house live through the moments, and try the same rules on them."""

    async def whole() -> Report:
        events = events_of(moments, base)
        until = (events[-1].received_at if events else base) + AFTER
        async with open_works(url, make_config(triggers)) as house:
            house.clock.at = base
            await live_through(house, events, until)
            return await over(house, asking(triggers, triggers, base, until, **fields))

    return asyncio.run(whole())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules(timers=True), MOMENTS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_what_was_recorded_is_what_the_same_rules_would_do(
    tmp_path_factory: pytest.TempPathFactory, kind: str, triggers: list[Trigger], moments: list[Any]
) -> None:
    """Judged anew, the past gives exactly the firings that the ledger holds: of joins, counts and silences too."""
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path_factory.mktemp('past') / 'store.db'}"
    report = gone_over(url, triggers, moments, T0, baseline="recorded")

    assert not report.differs, report
    assert [one.same for one in report.triggers] == [one.before.get("fired", 0) for one in report.triggers]
    assert [one.same for one in report.triggers] == [one.after.get("fired", 0) for one in report.triggers]


@settings(max_examples=15, deadline=None)
@given(rules(timers=True), MOMENTS)
def test_rules_in_force_do_not_differ_from_themselves(triggers: list[Trigger], moments: list[Any]) -> None:
    """Both sides fire alike, and their counts by outcome are the same."""
    report = gone_over("memory:", triggers, moments, T0)

    assert not report.differs, report
    assert [one.before for one in report.triggers] == [one.after for one in report.triggers]


def test_the_comparison_can_fail() -> None:
    """Rules that ask for less are told apart: nothing here is compared with itself."""

    async def whole() -> Report:
        from tests.support.works import make_trigger

        old = make_trigger(when="event.data.n > 3")
        new = make_trigger(when="event.data.n > 4")
        events = events_of([("a", "k", 1, n, True) for n in range(8)], T0)
        async with open_works("memory:", make_config([old])) as house:
            await live_through(house, events, T0 + AFTER)
            return await over(house, asking([old], [new], T0, T0 + AFTER))

    assert told(asyncio.run(whole())) == {"t": (3, 0, 1, 0)}
