"""One storm, one message: what the people on call get, and where the rest is."""

import pytest

from pipelines.run import RunState
from sensors.batch import DeadLetter
from tests.support.alerting import HOUR, Bench, make_alert, make_route, open_bench


async def test_a_thousand_failed_runs_are_one_message_at_once_and_one_more(url: str) -> None:
    """The first failure is told at once, the others together after the wait; each alert ends as sent."""
    async with open_bench(url) as bench:
        await bench.fail_runs(1)
        first = list(bench.receiver().titles)
        await bench.fail_runs(999)
        before = list(bench.receiver().titles)
        await bench.leap(30)
        await bench.leap(HOUR)

        assert first == ["[svc] ERROR run failed: pipeline p, since 2027-01-15 08:00:00 UTC"]
        assert before == first
        told = bench.receiver().bodies
        assert [body["count"] for body in told] == [1, 999]
        assert told[1]["total"] == 1_000
        assert told[1]["title"] == "[svc] ERROR 999 more runs failed: pipeline p, since 2027-01-15 08:00:00 UTC"
        assert told[1]["text"].splitlines()[0] == "task work failed: no such table"
        assert "… and 994 more" in told[1]["text"]
        assert len(told[1]["alerts"]) == 5
        assert await bench.states() == {"sent": 1_000}


async def test_the_first_message_says_what_why_and_where_to_look(url: str) -> None:
    """The message of one failed run names pipeline and cause and leads to the run."""
    async with open_bench(url, config={"url": "https://gate.test/"}) as bench:
        await bench.fail_runs(1)
        (run,) = await bench.works.all_runs()

        (body,) = bench.receiver().bodies
        assert body["link"] == f"https://gate.test/console/runs/{run['uid']}"
        assert body["text"].splitlines()[:2] == ["task work failed: no such table", body["link"]]
        assert (body["what"], body["kind"], body["subject"], body["over"]) == ("alert", "run_failed", "p", False)
        assert body["alerts"][0]["refs"] == {"run": run["uid"]}
        assert body["alerts"][0]["labels"] == {"pipeline": "p", "tags": []}


async def test_what_goes_on_is_told_again_after_the_quiet_time(url: str) -> None:
    """After the second message it is quiet for `repeat_every`; what came meanwhile is one message then."""
    async with open_bench(url, make_route(repeat_every=2 * HOUR)) as bench:
        for _ in range(8):
            await bench.fail_runs(1)
            await bench.leap(1_800)

        assert [body["count"] for body in bench.receiver().bodies] == [1, 1, 4]
        await bench.leap(HOUR)
        assert sum(body["count"] for body in bench.receiver().bodies) == 8
        assert await bench.states() == {"sent": 8}


async def test_resolved_is_told_when_a_later_run_succeeds(url: str) -> None:
    """A run that began after the failure and succeeds closes the group once that has held; the next failure is new."""
    async with open_bench(url) as bench:
        await bench.fail_runs(2)
        run = await bench.succeed()
        before = len(bench.receiver().bodies)
        await bench.leap(31)
        await bench.succeed()
        await bench.leap(31)

        assert before == 1
        told = bench.receiver().bodies
        assert [body["what"] for body in told] == ["alert", "resolved"]
        assert told[1]["title"].startswith("[svc] RESOLVED runs succeed again: pipeline p, after 31.0s (since ")
        assert f"run {run.uid} succeeded" in told[1]["text"]
        assert "2 in all since it began" in told[1]["text"]
        assert told[1]["link"].endswith(f"/console/runs/{run.uid}")
        assert await bench.states() == {"sent": 3}

        await bench.leap(5 * HOUR)
        await bench.fail_runs(1)
        assert bench.receiver().bodies[-1]["total"] == 1


async def test_an_older_run_that_succeeds_resolves_nothing(url: str) -> None:
    """A run that was under way when another one failed proves nothing by its success."""
    async with open_bench(url) as bench:
        await bench.works.start("p")
        await bench.works.start("p")
        one, other = await bench.works.claim()
        await bench.clock.advance(10)
        assert await bench.works.end(one, RunState.FAILED, error="broken")
        assert await bench.works.end(other, RunState.SUCCEEDED)
        await bench.calm()
        await bench.leap(HOUR)

        assert [body["what"] for body in bench.receiver().bodies] == ["alert"]
        assert await bench.states() == {"sent": 1}


async def test_an_end_that_does_not_hold_is_not_told(url: str) -> None:
    """A success between two failures is taken back: recorded as suppressed, with the reason."""
    async with open_bench(url) as bench:
        await bench.fail_runs(1)
        await bench.leap(1)
        await bench.succeed()
        await bench.fail_runs(1)
        await bench.leap(60)

        assert [body["what"] for body in bench.receiver().bodies] == ["alert", "alert"]
        (row,) = await bench.alerts(state="suppressed")
        assert (row["ends"], row["reason"]) == (True, "it happened again before the end had held")
        rendered = bench.metrics.render()
        assert 'tidegate_alerts_total{alert_route="oncall",alert_kind="run_failed",outcome="suppressed"} 1' in rendered
        assert 'tidegate_alerts_total{alert_route="oncall",alert_kind="run_failed",outcome="sent"} 2' in rendered


async def test_a_route_without_resolved_hears_of_no_end(url: str) -> None:
    """The end closes the group in silence, so that the next failure is told at once."""
    async with open_bench(url, make_route(events=frozenset({"run_failed"}))) as bench:
        await bench.fail_runs(1)
        await bench.succeed()
        await bench.leap(5 * HOUR)
        await bench.fail_runs(1)

        assert [body["what"] for body in bench.receiver().bodies] == ["alert", "alert"]
        assert [row["reason"] for row in await bench.alerts(state="suppressed")] == [
            "the route does not ask for `resolved`"
        ]


async def test_a_sensor_that_stays_ill_is_reminded_of(url: str) -> None:
    """A state that lasts is told again after the quiet time, once each, and the same report is no news."""
    ill = {"kind": "sensor_unhealthy", "key": "sensor_unhealthy/s", "sensor": "s", "pipeline": ""}
    async with open_bench(url) as bench:
        await bench.tell(make_alert("s", 1, **ill))
        await bench.tell(make_alert("s", 2, **ill))
        await bench.leap(4 * HOUR + 1)
        await bench.leap(HOUR)

        assert bench.receiver().titles == [
            "[svc] ERROR sensor is unhealthy: sensor s, since 2027-01-15 08:00:00 UTC",
            "[svc] STILL sensor is unhealthy: sensor s, since 2027-01-15 08:00:00 UTC",
        ]
        assert [row["reason"] for row in await bench.alerts()] == ["", "it goes on, as was told"]


async def test_one_that_goes_on_and_off_is_told_ever_more_slowly(url: str) -> None:
    """A flapping sensor does not ring every minute: the distance between messages doubles."""
    async with open_bench(url) as bench:
        for n in range(60):
            ill = {"kind": "sensor_unhealthy", "key": "sensor_unhealthy/s", "sensor": "s", "pipeline": ""}
            now = bench.clock.now()
            await bench.tell(make_alert("s", 2 * n, at=now, **ill))
            await bench.leap(30)
            await bench.tell(make_alert("s", 2 * n + 1, at=bench.clock.now(), ends=True, **ill))
            await bench.leap(31)
        await bench.leap(5 * HOUR)

        assert 4 <= len(bench.receiver().bodies) <= 16
        assert sum(body["count"] for body in bench.receiver().bodies) == 60
        assert await bench.alerts(state="pending") == []


async def test_more_groups_than_the_limit_are_one_digest(url: str) -> None:
    """When a hundred pipelines fail, the route gets what its limit allows, and one message for all the others."""
    names = [f"p{n:03}" for n in range(100)]
    async with open_bench(url, make_route(limit=4, limit_per=600.0), pipelines=names) as bench:
        await bench.tell(*(make_alert(name) for name in names))
        told = list(bench.receiver().bodies)
        await bench.tell(make_alert("late"))
        quiet = list(bench.receiver().bodies)
        await bench.leap(601)

        assert [body["what"] for body in told] == ["alert", "alert", "alert", "digest"]
        assert told[3]["title"] == "[svc] 97 alerts in 97 groups, more than oncall takes one by one"
        assert "… and 77 more groups" in told[3]["text"]
        assert quiet == told
        assert bench.receiver().bodies[4]["subject"] == "late"
        assert await bench.states() == {"sent": 101}


async def test_dead_letters_of_a_batch_are_counted(url: str) -> None:
    """Five hundred broken payloads of one read are one message with their number; a refused file is another kind."""
    letters = [DeadLetter("bad_payload", "it is no JSON", f"p{n}") for n in range(500)]
    refused = DeadLetter("refused", "column amount is missing", "in/a.csv")
    async with open_bench(url) as bench:
        await bench.works.put(dead_letters=[*letters, refused])
        await bench.calm()

        by_kind = {body["kind"]: body for body in bench.receiver().bodies}
        assert set(by_kind) == {"dead_letter", "event_refused"}
        assert by_kind["dead_letter"]["count"] == 500
        assert by_kind["dead_letter"]["text"].splitlines()[0] == "p0: it is no JSON"
        assert "p4: it is no JSON (496 of these)" in by_kind["dead_letter"]["text"]
        assert by_kind["event_refused"]["text"].splitlines()[0] == "in/a.csv: column amount is missing"
        assert "/api/v1/dead-letters/ddl_" in by_kind["event_refused"]["link"]


async def test_without_routes_nothing_is_written(url: str) -> None:
    """Nobody to be told: no row, no message, and the sender sleeps."""
    async with open_bench(url) as bench:
        await _take_routes_away(bench)
        await bench.fail_runs(3)
        await bench.leap(HOUR)

        assert await bench.alerts() == []


async def test_what_waits_on_a_route_that_is_taken_away_is_suppressed(url: str) -> None:
    """A route that is no more leaves nothing open behind, and says so."""
    async with open_bench(url) as bench:
        await bench.fail_runs(1)
        await bench.fail_runs(2)
        await _take_routes_away(bench)
        await bench.calm()
        await bench.leap(31)

        assert await bench.states() == {"sent": 1, "suppressed": 2}
        assert {row["reason"] for row in await bench.alerts(state="suppressed")} == {
            "the route is not configured any more"
        }


async def _take_routes_away(bench: Bench) -> None:
    from dataclasses import replace

    current = bench.works.rules.current
    bench.works.rules.swap(replace(current, alerts=replace(current.alerts, routes={})))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.postgres
@pytest.mark.integration
async def test_a_storm_on_postgresql_is_the_same(url: str) -> None:
    """The database of production counts no differently."""
    async with open_bench(url, make_route(group_wait=0.2)) as bench:
        await bench.fail_runs(1)
        await bench.fail_runs(99)
        for _ in range(200):
            if len(bench.receiver().bodies) == 2:
                break
            await bench.leap(5.0)

        assert [body["count"] for body in bench.receiver().bodies] == [1, 99]
        assert await bench.states() == {"sent": 100}
