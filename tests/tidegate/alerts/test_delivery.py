"""Getting there: what cannot be delivered is tried again, visible meanwhile, and sent by exactly one replica."""

import logging
from pathlib import Path

import pytest
from hypothesis import given, strategies

from tests.support.alerting import HOUR, Bench, Receiver, make_alert, make_route, open_bench
from tests.support.works import make_config, make_pipeline, open_works
from tidegate.alerts.delivery import FIRST, MOST, delay
from tidegate.alerts.targets import Answer
from tidegate.store.alert_records import Undelivered

DOWN = Answer(ok=False, error="answered 500")


async def test_a_receiver_that_was_down_gets_the_message_when_it_is_back(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again after growing waits; meanwhile list, metrics and health say so; afterwards nothing is left."""
    caplog.set_level(logging.INFO, "tidegate.alerts")
    async with open_bench(url) as bench:
        receiver = bench.receiver()
        receiver.down = DOWN
        await bench.fail_runs(1)
        for _ in range(10):
            await bench.leap(60)
        (row,) = await bench.alerts()
        seen = bench.sender.undelivered
        tries, metrics = receiver.tries, bench.metrics.render()
        receiver.down = None
        await bench.leap(HOUR)

        assert 5 <= tries <= 8
        assert row["state"] == "pending"
        (delivery,) = row["deliveries"]
        assert (delivery["state"], delivery["attempts"], delivery["error"]) == ("pending", tries, "answered 500")
        assert delivery["next_at"] > bench.clock.now() - HOUR * 1e6
        assert [(one.route, one.messages, one.error) for one in seen] == [("oncall", 1, "answered 500")]
        assert 'tidegate_alert_undelivered{alert_route="oncall"} 1' in metrics
        assert len(receiver.bodies) == 1
        assert await bench.states() == {"sent": 1}
        assert bench.sender.undelivered == []
        actions = [record.action for record in caplog.records if hasattr(record, "action")]
        assert actions == ["alert_undelivered"] * tries + ["alert_delivered"]


async def test_a_target_is_given_up_after_the_routes_patience(url: str) -> None:
    """After `retry_for` the alert is `failed`, with the last reason, and stays so."""
    async with open_bench(url, make_route(retry_for=2 * HOUR)) as bench:
        bench.receiver().down = DOWN
        await bench.fail_runs(1)
        for _ in range(30):
            await bench.leap(600)
        tries = bench.receiver().tries
        bench.receiver().down = None
        await bench.leap(HOUR)

        assert bench.receiver().tries == tries
        (row,) = await bench.alerts()
        assert (row["state"], row["reason"]) == ("failed", "answered 500")
        assert 'outcome="failed"} 1' in bench.metrics.render()


async def test_a_target_says_when_it_wants_to_be_asked_again(url: str) -> None:
    """Retry-After is longer than the back-off: nothing is tried before."""
    async with open_bench(url) as bench:
        bench.receiver().down = Answer(ok=False, error="answered 429", wait=300.0)
        await bench.fail_runs(1)
        await bench.leap(299)
        before = bench.receiver().tries
        await bench.leap(2)

        assert (before, bench.receiver().tries) == (1, 2)


async def test_one_target_that_is_down_costs_the_other_nothing(url: str) -> None:
    """Each target of a route gets each message once, whatever the other one does."""
    async with open_bench(url, make_route("oncall", "memory://one", "memory://two")) as bench:
        one, two = (bench.receivers.setdefault(name, Receiver(name)) for name in ("memory://one", "memory://two"))
        two.down = DOWN
        await bench.fail_runs(1)
        await bench.leap(60)
        first = len(one.bodies)
        two.down = None
        await bench.leap(HOUR)

        assert first == 1
        assert [body["id"] for body in one.bodies] == [body["id"] for body in two.bodies]
        assert await bench.states() == {"sent": 1}


async def test_the_end_does_not_overtake_the_beginning(url: str) -> None:
    """While the first message cannot be delivered, the resolved one waits behind it."""
    async with open_bench(url) as bench:
        bench.receiver().down = DOWN
        await bench.fail_runs(1)
        await bench.leap(20)
        await bench.succeed()
        await bench.leap(60)
        bench.receiver().down = None
        for _ in range(20):
            await bench.leap(60)

        assert [body["what"] for body in bench.receiver().bodies] == ["alert", "resolved"]


async def test_what_cannot_be_delivered_is_an_alert_on_other_routes(url: str) -> None:
    """After some attempts the other routes are told, once, and again when it works; the ill route itself is not."""
    kinds = frozenset(("run_failed", "alert_undelivered", "resolved"))
    backup = make_route("backup", events=frozenset(("alert_undelivered", "resolved")))
    async with open_bench(url, make_route("oncall", events=kinds), backup) as bench:
        bench.receiver("oncall").down = DOWN
        await bench.fail_runs(1)
        for _ in range(20):
            await bench.leap(60)
        bench.receiver("oncall").down = None
        for _ in range(20):
            await bench.leap(60)

        assert [(body["what"], body["kind"]) for body in bench.receiver("backup").bodies] == [
            ("alert", "alert_undelivered"),
            ("resolved", "alert_undelivered"),
        ]
        assert "memory://***: answered 500" in bench.receiver("backup").bodies[0]["text"]
        assert [body["kind"] for body in bench.receiver("oncall").bodies] == ["run_failed"]


async def test_storms_while_a_target_is_down_do_not_pile_up(url: str) -> None:
    """Hours of failures in fifty pipelines are a dozen messages when the receiver comes back, and none is missing."""
    names = [f"p{n}" for n in range(50)]
    async with open_bench(url, pipelines=names) as bench:
        bench.receiver().down = DOWN
        for hour in range(6):
            await bench.tell(*(make_alert(name, hour, at=bench.clock.now()) for name in names))
            await bench.leap(HOUR)
        bench.receiver().down = None
        for _ in range(10):
            await bench.leap(HOUR)

        assert 5 <= len(bench.receiver().bodies) <= 12
        assert sum(body["count"] for body in bench.receiver().bodies) == 300
        assert await bench.states() == {"sent": 300}


async def test_what_was_raised_before_a_crash_is_sent_after_the_start(tmp_path: Path) -> None:
    """Raised and not sent, or claimed by one that died: the next process sends both, the latter after its lease."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    config = make_config((), [make_pipeline("p")], alerts={"oncall": make_route()})
    async with open_works(url, config) as works:
        from tidegate.alerts.delivery import ClaimAsk, ClaimMessages
        from tidegate.alerts.planning import PlanAlerts
        from tidegate.alerts.raising import RaiseAlerts

        await works.store.submit(RaiseAlerts(works.rules), (make_alert("claimed", 1),))
        await works.store.submit(PlanAlerts(works.rules), None)
        claimed = await works.store.submit(ClaimMessages(), ClaimAsk(10))
        await works.store.submit(RaiseAlerts(works.rules), (make_alert("raised", 2),))
    async with open_bench(url) as bench:
        await bench.calm()
        at_once = [body["subject"] for body in bench.receiver().bodies]
        await bench.leap(61)

        assert len(claimed) == 1
        assert at_once == ["raised"]
        assert [body["subject"] for body in bench.receiver().bodies] == ["raised", "claimed"]
        assert bench.receiver().bodies[1]["id"] == claimed[0].message
        assert await bench.states() == {"sent": 2}


async def test_a_late_report_changes_nothing(url: str) -> None:
    """Who lost its lease and reports afterwards neither ends nor delays what another one does."""
    from tidegate.alerts.delivery import Attempt, ClaimAsk, ClaimMessages, KeepAttempts
    from tidegate.alerts.planning import PlanAlerts

    async with open_bench(url, start=False) as bench:
        await bench.tell(make_alert())
        store = bench.works.store
        await store.submit(PlanAlerts(bench.works.rules), None)
        (first,) = await store.submit(ClaimMessages(), ClaimAsk(1))
        await bench.clock.advance(61)
        (second,) = await store.submit(ClaimMessages(), ClaimAsk(1))
        keep = KeepAttempts(bench.works.rules)
        late = await store.submit(keep, Attempt(first, "x", Answer(ok=False, error="late")))
        kept = await store.submit(keep, Attempt(second, "x", Answer(ok=True)))

        assert (late.state, kept.state) == ("", "sent")
        assert await bench.states() == {"sent": 1}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.postgres
@pytest.mark.integration
async def test_of_two_replicas_one_delivers(url: str) -> None:
    """Both plan and claim as fast as they can; each message reaches the receiver once, from either."""
    names = [f"p{n}" for n in range(20)]
    route = make_route(limit=1_000, group_wait=0.3)
    async with (
        open_bench(url, route, pipelines=names) as one,
        open_bench(url, route, pipelines=names, shard="two", start=False) as two,
    ):
        two.receivers = one.receivers
        two.sender.start()
        for n in range(1, 11):
            await one.tell(*(make_alert(name, n) for name in names))
            two.sender.wake()
        await _until_sent(one, two, 200)

        bodies = one.receiver().bodies
        assert len({body["id"] for body in bodies}) == len(bodies)
        assert sum(body["count"] for body in bodies) == 200
        assert len(bodies) <= 60


async def _until_sent(one: Bench, two: Bench, count: int) -> None:
    for _ in range(300):
        if (await one.states()).get("sent") == count:
            return
        await one.leap(5.0)
        await two.leap(5.0)
    raise AssertionError(await one.states())


@given(attempts=strategies.integers(1, 10_000), luck=strategies.floats(0, 1))
def test_waits_grow_to_a_bound(attempts: int, luck: float) -> None:
    """The wait doubles, is spread by a quarter to either side, and never exceeds its bound by more than that."""
    wait = delay(attempts, lambda: luck)
    full = min(MOST, FIRST * 2.0 ** min(attempts - 1, 30))

    assert 0.75 * full <= wait <= 1.25 * full


async def test_the_store_says_since_when(url: str) -> None:
    """What could not be delivered is told with its oldest message."""
    async with open_bench(url) as bench:
        bench.receiver().down = DOWN
        await bench.tell(make_alert("a"))
        began = bench.clock.now()
        await bench.leap(30)
        await bench.tell(make_alert("b"))

        assert bench.sender.undelivered == [Undelivered("oncall", 2, began, "answered 500")]
