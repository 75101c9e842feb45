"""A whole service: start, readiness, soft stop, restart, health as events, pauses, and two of them on one database."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.model import ServiceConfig
from sensors.testing import VirtualClock
from tests.support.running import Running, load, running, until
from tidegate.compose import compose
from tidegate.failpoints import pass_by
from tidegate.pauses import Pauses
from tidegate.start import StartAsk, UnknownPipeline, UnknownRun

TEXT = """
service: {name: svc, store: "sqlite:///store.db", dispatch: {poll: 100ms, lease: 2s, grace: 0s}}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none, id: body.id}
triggers:
  all: {on: {sensor: hook}, run: {pipeline: p, key: event.id, params: {n: "${{ event.id }}"}}}
  chain: {on: {sensor: tidegate, filter: {exact: {type: tidegate.run.succeeded, subject: p}}}, run: {pipeline: q}}
pipelines:
  p: {engine: command, argv: ["true"]}
  q: {engine: command, argv: ["true"]}
  slow: {engine: command, argv: [sh, -c, "touch begun; sleep 0.5; touch ended"], cwd: "."}
  long: {engine: command, argv: [sleep, "30"]}
"""


def _body(n: int | str) -> bytes:
    return b'{"id": "%s"}' % str(n).encode()


async def test_a_webhook_becomes_a_finished_run_and_its_chain(tmp_path: Path) -> None:
    """Event in, run out, and the pipeline that waits for its success: all by itself."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await asyncio.gather(*(gate.post(body=_body(n)) for n in range(5)))
        runs = await gate.finished(10)

    assert Counter((run["pipeline"], run["state"]) for run in runs) == {("p", "succeeded"): 5, ("q", "succeeded"): 5}


async def test_a_soft_stop_lets_the_attempt_end(tmp_path: Path) -> None:
    """What is under way when the service stops ends, and its end is recorded before the store closes."""
    config = await load(tmp_path, TEXT)
    async with running(config) as gate:
        run, _ = await gate.service.start_run(StartAsk(pipeline="slow"))
        await until((tmp_path / "begun").exists)
        before = gate.service.ready()
    async with running(config) as gate:
        (row,) = await gate.runs(pipeline="slow")

    assert before == (True, "")
    assert (tmp_path / "ended").exists()
    assert (row["uid"], row["state"]) == (run.uid, "succeeded")


async def test_a_hard_stop_leaves_nothing_stuck(tmp_path: Path) -> None:
    """What does not end in time is stopped; the next start takes the run over and it can be cancelled there."""
    config = await load(tmp_path, TEXT)
    async with running(config, patience=0.1) as gate:
        run, _ = await gate.service.start_run(StartAsk(pipeline="long"))
        await gate.until_runs(lambda rows: rows[0]["state"] == "running")
    async with running(config, patience=0.1) as gate:
        state = await gate.service.cancel_run(run.uid, "enough")
        (row,) = await gate.finished(1)

    assert state in ("cancelling", "cancelled")
    assert row["state"] == "cancelled"


async def test_readiness_does_not_lie(tmp_path: Path) -> None:
    """Ready after the start, not while draining, and never again after."""
    config = await load(tmp_path, TEXT, store="memory:")
    service, _ = await compose(config, "1", pass_by)
    started = service.ready()
    stopping = asyncio.ensure_future(service.stop(1.0))
    await asyncio.sleep(0)
    draining = service.ready()
    await stopping

    assert started == (True, "")
    assert draining == (False, "the service is draining")
    assert service.draining
    assert service.ready()[0] is False


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a sensor cannot be built, everything that was started is stopped: no task, and the store can be opened."""
    config = await load(tmp_path, TEXT)
    tasks = asyncio.all_tasks()

    def broken(*_: Any) -> Any:
        raise RuntimeError("cannot be built")

    with monkeypatch.context() as patch:
        patch.setattr("tidegate.fleet.Fleet._build", broken)
        with pytest.raises(RuntimeError, match="cannot be built"):
            await compose(config, "1", pass_by)
    await until(lambda: asyncio.all_tasks() == tasks)
    async with running(config) as gate:
        assert (await gate.post(body=_body(1))).status == 202


async def test_health_becomes_an_own_event_that_starts_a_pipeline(tmp_path: Path) -> None:
    """A folder that cannot be watched makes its sensor unhealthy: an event that starts a run; so does its recovery."""
    text = (
        TEXT.replace(
            "triggers:",
            """  gone: {kind: files, path: ./gone, start: beginning}
triggers:
  sick:
    on: {sensor: tidegate, types: [tidegate.sensor.unhealthy]}
    run: {pipeline: q, params: {of: "${{ event.subject }}"}}
  well: {on: {sensor: tidegate, types: [tidegate.sensor.recovered]}, run: {pipeline: q}}""",
        )
    )  # fmt: skip
    async with running(await load(tmp_path, text, store="memory:")) as gate:
        (sick,) = await gate.finished(1)
        unhealthy = gate.service.sensor_health()["gone"]["state"]
        (tmp_path / "gone").mkdir()
        await gate.service.poll_sensor("gone")
        _, well = await gate.finished(2)

    assert (sick["trigger"], sick["params"]) == ("sick", {"of": "gone"})
    assert unhealthy == "unhealthy"
    assert well["trigger"] == "well"


async def test_what_operators_ask_by_name(tmp_path: Path) -> None:
    """Unknown names are KeyErrors or named refusals; nothing is written for them."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        service = gate.service
        for asked in (
            service.pause_sensor("none", "hold"), service.poll_sensor("none"), service.pause_trigger("none", "hold"),
        ):  # fmt: skip
            with pytest.raises(KeyError):
                await asked
        with pytest.raises(UnknownPipeline, match="no pipeline none"):
            await service.start_run(StartAsk(pipeline="none"))
        with pytest.raises(UnknownRun, match="there is no run"):
            await service.resume_run("run_none")
        cancelled = await service.cancel_run("run_none", "x")
        settings = await service.store.read(lambda reader: reader.settings("paused/"))

    assert cancelled is None
    assert dict(settings) == {}


async def test_a_paused_sensor_stays_paused_over_a_restart(tmp_path: Path) -> None:
    """What an operator said is remembered, and taken back."""
    config = await load(tmp_path, TEXT)
    async with running(config) as gate:
        await gate.service.pause_sensor("hook", "hold")
        first = (await gate.post()).status
    async with running(config) as gate:
        second = (await gate.post()).status
        await gate.service.pause_sensor("hook", None)
        third = (await gate.post(body=_body(1))).status
    async with running(config) as gate:
        assert (first, second, third, (await gate.post(body=_body(2))).status) == (503, 503, 202, 202)


async def test_a_held_trigger_goes_on_over_a_restart(tmp_path: Path) -> None:
    """Events held by a pause are judged when it ends, each exactly once, whether it ends before or after a restart."""
    config = await load(tmp_path, TEXT)
    async with running(config) as gate:
        await gate.service.pause_trigger("all", "hold")
        for n in range(4):
            await gate.post(body=_body(n))
        held = [row["outcome"] for row in await gate.decisions(trigger="all")]
    async with running(config) as gate:
        await gate.post(body=_body(4))
        quiet = await gate.runs(pipeline="p")
        await gate.service.pause_trigger("all", None)
        await gate.post(body=_body(5))
        await gate.finished(12)
        runs = await gate.runs(pipeline="p")
        outcomes = [row["outcome"] for row in await gate.decisions(trigger="all")]

    assert held == ["paused"] * 4
    assert quiet == []
    assert [run["key"] for run in runs] == [str(n) for n in range(6)]
    assert outcomes == ["fired"] * 6


async def test_a_reload_that_lifts_a_hold_releases(tmp_path: Path) -> None:
    """Taking `paused: hold` out of the configuration judges what was held by the rules of the new one."""
    held = TEXT.replace("all: {on", "all: {paused: hold, on")
    async with running(await load(tmp_path, held, store="memory:")) as gate:
        for n in range(3):
            await gate.post(body=_body(n))
        quiet = await gate.runs()
        await gate.service.reload(await load(tmp_path, TEXT, store="memory:"))
        await gate.post(body=_body(3))
        await gate.finished(8)
        keys = [run["key"] for run in await gate.runs(pipeline="p")]

    assert quiet == []
    assert keys == ["0", "1", "2", "3"]


async def test_an_operators_pause_outlives_a_reload_of_the_same_trigger(tmp_path: Path) -> None:
    """A trigger paused by an operator and by the configuration stays paused when only the configuration lets it go."""
    held = TEXT.replace("all: {on", "all: {paused: hold, on")
    async with running(await load(tmp_path, held, store="memory:")) as gate:
        await gate.service.pause_trigger("all", "hold")
        await gate.service.reload(await load(tmp_path, TEXT, store="memory:"))
        await gate.post(body=_body(1))
        assert [row["outcome"] for row in await gate.decisions()] == ["paused"]
        await gate.service.pause_trigger("all", None)
        await gate.finished(2)


@pytest.mark.postgres
@pytest.mark.integration
async def test_two_services_share_the_work(tmp_path: Path, database: str) -> None:
    """Two services on one PostgreSQL: each event is one event, each run is run exactly once, and both do some."""
    text = TEXT.replace('argv: ["true"]}\n  q', 'argv: [sh, -c, "echo $0 >> ran", "${{ params.n }}"], cwd: "."}\n  q')
    text = text.replace("grace: 0s", "grace: 0s, runs: 2")  # neither can take all of them at once
    config: ServiceConfig = await load(tmp_path, text, store=database)
    async with running(config) as one, running(config) as two:
        both: tuple[Running, Running] = (one, two)
        answers = await asyncio.gather(*(both[n % 2].post(body=_body(n // 2)) for n in range(60)))
        runs = await one.finished(60, 30.0)
        holders = {run["holder"] for run in runs}

    ran = Counter((tmp_path / "ran").read_text().split())
    assert Counter(answer.json["events"][0]["duplicate"] for answer in answers) == {False: 30, True: 30}
    assert ran == Counter({str(n): 1 for n in range(30)})
    assert len(holders) == 2


@pytest.mark.postgres
@pytest.mark.integration
async def test_what_an_operator_pauses_is_paused_in_every_replica(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause said to one replica is in force in the other one soon, and so is its end; what was held is released."""
    monkeypatch.setattr("tidegate.pauses.EVERY", 0.02)
    config: ServiceConfig = await load(tmp_path, TEXT, store=database)
    async with running(config) as one, running(config) as two:
        await one.service.pause_sensor("hook", "hold")
        await until(lambda: two.service.sensor_health()["hook"]["state"] == "paused")
        await two.service.pause_sensor("hook", None)
        await until(lambda: one.service.sensor_health()["hook"]["state"] != "paused")

        await one.service.pause_trigger("all", "hold")
        await until(lambda: "all" in two.service.rules.current.paused)
        await two.post(body=_body(1))
        assert [row["outcome"] for row in await two.decisions()] == ["paused"]
        await one.service.pause_trigger("all", None)
        await until(lambda: "all" not in two.service.rules.current.paused)
        await one.finished(2)


async def test_what_was_said_here_is_not_undone_by_what_was_read_before(tmp_path: Path) -> None:
    """A read of the pauses that began before an operator's word is thrown away."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        applied: list[tuple[str, str | None]] = []
        pauses = Pauses(gate.service.store, VirtualClock(), {}, lambda name, how: applied.append((name, how)))
        real = gate.service.store.read

        async def slow(fn: Any) -> Any:
            found = await real(fn)
            if not applied:
                await pauses.say("paused/sensor/hook", "hold")
            return found

        pauses._store = SimpleNamespace(read=slow, submit=gate.service.store.submit)
        clock = pauses._clock
        assert isinstance(clock, VirtualClock)
        following = asyncio.ensure_future(pauses.follow())
        for _ in range(3):
            await clock.advance(5)
            await until(lambda: bool(applied))
        following.cancel()

    assert applied == [("paused/sensor/hook", "hold")]
