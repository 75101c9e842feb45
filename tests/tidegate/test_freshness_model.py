"""Whatever happens, in whatever order: the state of a dataset is what the rule says, and each change was told once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.freshness import Rule, judge
from tests.support.watch_works import MINUTE, ROUTE, SECOND, Watch, dataset, on_own, wrote
from tests.support.works import T0, make_config, make_pipeline, open_works
from tidegate.freshness import STATE, Answer, standing_of

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "pass", "pass", "restart", "arm", "fail", "answer", "answer"]), st.integers(0, 90)
    ),
    max_size=14,
)
RULES = st.sampled_from(
    [
        {"max_age": 3_600.0},
        {"max_age": 1_800.0, "grace": 600.0},
        {"due": "*/30 * * * *", "grace": 60.0},
        {"due": "0 * * * *", "max_age": 5_400.0, "timezone": "Asia/Kolkata"},
    ]
)


@pytest.mark.parametrize("probed", [False, True])
@settings(max_examples=15, deadline=None)
@given(STEPS, RULES)
async def test_each_change_of_state_is_told_once(probed: bool, steps: Any, rule: dict[str, Any]) -> None:
    """After every step the stored state is the rule's, and events and alerts alternate: stale, fresh, stale, …"""
    more: dict[str, Any] = {"probe": "select 1", "every": 60.0} if probed else {}
    made = make_config(
        [on_own("tidegate.dataset.stale", "mend"), on_own("tidegate.dataset.fresh", "mended", "f")],
        [make_pipeline("daily")],
        datasets={"daily": dataset(**rule, **more)},
        alerts={"oncall": ROUTE},
    )
    async with open_works("memory:", made) as house:
        watch = Watch(house)
        await watch.at(T0)
        await watch.arm()
        now, updated, answered, states, failing = T0, None, False, [True], False
        for what, minutes in steps:
            now += minutes * MINUTE + SECOND
            await watch.at(now)
            if what == "write" and not probed:
                updated = now - (minutes % 7) * MINUTE
                await house.start("daily")
                await watch.work(wrote(at=updated))
            elif what == "restart":
                await house.restart()
                await watch.arm()
            elif what == "arm":
                await watch.arm()
            elif what == "fail" and probed:
                await watch.answer(Answer("daily", error="it is away"))
                failing = True
            elif what == "answer" and probed:
                updated = max(updated or 0, now - minutes * MINUTE)
                await watch.answer(Answer("daily", updated))
                answered, failing = True, False
            await watch.ring()
            if probed and what != "answer":
                continue
            fresh = judge(Rule(**rule), updated, house.clock.now(), since=T0 + 3).fresh
            if fresh != states[-1]:
                states.append(fresh)
            standing = standing_of(
                (await house.store.read(lambda reader: dict(reader.settings(STATE))))[STATE + "daily"]
            )
            assert (standing.state == "fresh") == fresh, (what, minutes)
            assert (standing.error is not None) == failing
        told = [kind.removeprefix("dataset.") for kind, _ in await watch.told()]
        alerts = [ends for kind, _, ends in await watch.alerts() if kind == "dataset_stale"]

    assert answered or not probed or told == []
    assert told == ["fresh" if fresh else "stale" for fresh in states[1:]]
    assert alerts == states[1:]
