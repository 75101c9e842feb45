"""Chains as people write them: every own event starts what listens to it, together with the change it tells of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipelines.run import CheckResult, DatasetWrite, RunState
from sensors.event import MAX_DEPTH
from tests.support.join_works import Bells
from tests.support.running import load, running
from tests.support.works import T0, Works, make_event
from tests.tidegate.conftest import OpenWorks
from tidegate.own_events import sensor_event
from tidegate.store.reader import Row
from triggers.trigger import Trigger

TEXT = """
service: {name: svc}
sensors:
  s: {kind: webhook, path: /hooks/in, verify: none}
  other: {kind: webhook, path: /hooks/other, verify: none}
triggers:
  begin: {on: {sensor: s, type: test}, run: {pipeline: load}}
  pair:
    join: {of: {a: {sensor: s, type: a, by: event.subject}, b: {sensor: s, type: b, by: event.subject}}, within: 1h}
    run: {pipeline: load}
  on-started: {on: {sensor: tidegate, type: tidegate.run.started}, run: {pipeline: told}}
  on-succeeded: {on: {sensor: tidegate, type: tidegate.run.succeeded}, run: {pipeline: told}}
  on-failed: {on: {sensor: tidegate, type: tidegate.run.failed}, run: {pipeline: told}}
  on-cancelled: {on: {sensor: tidegate, type: tidegate.run.cancelled}, run: {pipeline: told}}
  on-updated:
    on: {sensor: tidegate, filter: {exact: {type: tidegate.dataset.updated, subject: daily}}}
    run: {pipeline: told, params: {rows: "${{ event.data.rows }}"}}
  on-check: {on: {sensor: tidegate, type: tidegate.check.failed}, run: {pipeline: told}}
  on-overdue: {on: {sensor: tidegate, type: tidegate.join.overdue}, run: {pipeline: told}}
  on-sick: {on: {sensor: tidegate, type: tidegate.sensor.unhealthy}, run: {pipeline: told}}
  on-well: {on: {sensor: tidegate, type: tidegate.sensor.recovered}, run: {pipeline: told}}
pipelines:
  load: {engine: command, argv: ["true"]}
  told: {engine: command, argv: ["true"], params: {rows: {type: int}}}
"""
LISTS = """
service: {name: svc}
sensors:
  s: {kind: webhook, path: /hooks/in, verify: none}
  other: {kind: webhook, path: /hooks/other, verify: none}
triggers:
  any:
    on:
      - {sensor: s, filter: {prefix: {subject: a}}}
      - {sensor: s, filter: {suffix: {subject: z}}}
      - {sensor: other}
      - {cron: "0 6 * * 1-5", timezone: Europe/Oslo}
    when: event.type != "never"
    run: {pipeline: p}
pipelines:
  p: {engine: command, argv: ["true"]}
"""
LOOP = """
service: {name: svc, dispatch: {poll: 50ms}}
sensors: {s: {kind: webhook, path: /hooks/in, verify: none}}
triggers:
  begin: {on: {sensor: s}, run: {pipeline: a}}
  a-then-b: {on: {sensor: tidegate, filter: {exact: {type: tidegate.run.succeeded, subject: a}}}, run: {pipeline: b}}
  b-then-a: {on: {sensor: tidegate, filter: {exact: {type: tidegate.run.succeeded, subject: b}}}, run: {pipeline: a}}
pipelines:
  a: {engine: command, argv: ["true"]}
  b: {engine: command, argv: ["true"]}
"""
DAILY = DatasetWrite(namespace="duckdb://w", name="daily", task="t", at=T0, rows=7, version="1")
BROKEN = CheckResult(
    check="row_count", task="t", dataset="daily", passed=False, severity="warn", message="0 rows", at=T0
)


async def _started(house: Works) -> None:
    await house.put(make_event())
    await house.claim()


async def _ended(house: Works, state: RunState, **step: Any) -> None:
    await house.put(make_event())
    (claimed,) = await house.claim()
    await house.end(claimed, state, **step)


async def _cancelled(house: Works) -> None:
    await house.put(make_event())
    (run,) = await house.all_runs()
    await house.runs.request_cancel(run["uid"], "no need")


async def _overdue(house: Works) -> None:
    await house.put(make_event(type="a", subject="k"))
    await Bells(house).ring(T0 + 7_200_000_000)


async def _health(house: Works, change: str) -> None:
    await house.put(sensor_event("landing", change, "why", "svc", T0))


DEEDS = {
    "on-started": (_started, "load"),
    "on-succeeded": (lambda house: _ended(house, RunState.SUCCEEDED), "load"),
    "on-failed": (lambda house: _ended(house, RunState.FAILED, error="it broke"), "load"),
    "on-cancelled": (_cancelled, "load"),
    "on-updated": (lambda house: _ended(house, RunState.SUCCEEDED, datasets=[DAILY]), "daily"),
    "on-check": (lambda house: _ended(house, RunState.SUCCEEDED, checks=[BROKEN]), "daily"),
    "on-overdue": (_overdue, "pair"),
    "on-sick": (lambda house: _health(house, "unhealthy"), "landing"),
    "on-well": (lambda house: _health(house, "recovered"), "landing"),
}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", DEEDS)
async def test_every_change_starts_what_listens_to_it(works: OpenWorks, tmp_path: Path, name: str) -> None:
    """As soon as the change is durable, so are the event that tells of it, its decision and the run that it starts."""
    deed, subject = DEEDS[name]
    config = await load(tmp_path, TEXT)
    rules = {one: rule for one, rule in config.triggers.items() if one in ("begin", "pair", name)}
    house: Works = await works(replace(config, triggers=rules))
    await deed(house)
    told = await house.all_runs(pipeline="told")
    (decision,) = await house.decisions(trigger=name)
    event = await house.store.read(lambda reader: reader.event(decision["events"][0]))
    run = await house.store.read(lambda reader: reader.run(told[0]["uid"]))

    assert [(row["state"], row["trigger"]) for row in told] == [("queued", name)]
    assert event is not None
    assert (event.sensor, event.subject, decision["outcome"]) == ("tidegate", subject, "fired")
    assert run is not None
    assert list(run.events) == [event.uid]
    if name == "on-updated":
        assert run.params == {"rows": 7}
        assert orjson.loads(event.data or b"")["dataset"] == "daily"


async def test_any_entry_of_a_list_starts_the_trigger_once(works: OpenWorks, tmp_path: Path) -> None:
    """An event that several entries let through is decided once; a time in the list is an entry like any other."""
    house: Works = await works(await load(tmp_path, LISTS))
    await house.put(
        make_event("both", subject="a-z"), make_event("first", subject="a"), make_event("last", subject="z")
    )
    await house.put(make_event("none", subject="m"))
    await house.put(make_event("elsewhere", sensor="other"))
    await house.put(make_event("tick", sensor="cron:any", type="schedule.tick"))
    outcomes = await house.outcomes(trigger="any")

    assert outcomes.count("fired") == 5
    assert len(await house.all_runs()) == 5
    assert [row for row in outcomes if row not in ("fired", "filtered")] == []


async def test_the_time_in_a_list_has_a_sensor(tmp_path: Path) -> None:
    """`cron` inside a list of `on` makes the schedule that it needs."""
    config = await load(tmp_path, LISTS)
    rule: Trigger = config.triggers["any"]

    assert "cron:any" in {source.sensor for source in rule.on} | set(config.sensors)
    assert any(source.sensor.startswith("cron:any") for source in rule.on)


async def test_a_loop_ends_and_says_so(tmp_path: Path) -> None:
    """A starts B, B starts A: after ten runs the chain ends with an error that names the loop, for everybody to see."""
    from tidegate.api.explaining import explained

    async with running(await load(tmp_path, LOOP, store="memory:")) as gate:
        await gate.post()
        runs = await gate.finished(MAX_DEPTH, 30)
        errors = await _errors(gate)
        last = await explained(gate.service, errors[0]["events"][0], errors[0]["trigger"])

    assert [run["pipeline"] for run in runs] == ["a", "b"] * (MAX_DEPTH // 2)
    assert [run["depth"] for run in runs] == list(range(MAX_DEPTH))
    assert [error["trigger"] for error in errors] == ["b-then-a"]
    (verdict,) = last.verdicts
    assert "a loop?" in verdict.reason
    assert [clause.path for clause in verdict.clauses if clause.passed is False] == ["on"]


async def _errors(gate: Any) -> Sequence[Row]:
    import asyncio

    async with asyncio.timeout(10):
        while not (found := await gate.decisions(outcome="error")):
            await asyncio.sleep(0.01)
    rows: Sequence[Row] = found
    return rows
