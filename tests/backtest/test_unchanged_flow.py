"""Flow control that did not change: a back-test finds no difference between the ledger and the same rules."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.flow_cases import Case, cases
from tests.support.join_works import Bells
from tests.support.past import asking, over
from tests.support.works import T0, make_config, make_event, make_trigger, open_works
from tidegate.backtest.values import Report

STEP = 1_000_000
AFTER = 40 * STEP
MOMENTS = st.lists(st.tuples(st.sampled_from("km"), st.integers(0, 6), st.integers(0, 5)), max_size=10)


@settings(max_examples=15, deadline=None)
@given(cases(8), MOMENTS)
def test_what_was_recorded_is_what_the_same_flow_control_would_do(case: Case, moments: list[Any]) -> None:
    """Batches, debounces, throttles and windows: judged anew, the past gives the firings that the ledger holds."""
    trigger = make_trigger(control=case.control)
    events, now = [], T0
    for number, (key, gap, size) in enumerate(moments):
        now += gap * STEP + 1_370 * (number + 1)  # no event at the very moment of another's deadline
        events.append(make_event(f"{number:02}", subject=key, received_at=now, data=b"x" * size))
    until = now + AFTER

    async def whole() -> Report:
        async with open_works("memory:", make_config([trigger])) as house:
            bells, at = Bells(house), T0
            house.clock.at = at
            await bells.arm()
            for event in events:
                while at + STEP // 20 < event.received_at:
                    at += STEP // 20
                    await bells.ring(at)
                house.clock.at = at = event.received_at - 3
                await house.put(event)
            while at < until - STEP:
                at += STEP // 20
                await bells.ring(at)
            return await over(house, asking([trigger], [trigger], T0, until, baseline="recorded"))

    report = asyncio.run(whole())
    assert not report.differs, report
    assert report.triggers[0].same == report.triggers[0].after.get("fired", 0)
