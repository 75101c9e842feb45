"""What becomes an alert, for whom, in which words; and that it stands or falls with what it tells of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from pipelines.run import CheckResult, RunState
from sensors.batch import DeadLetter, Notice
from sensors.event import storable_text
from tests.support.alerting import make_alert, make_route, open_bench
from tests.support.house import config as house_config
from tests.support.works import Broken, make_trigger
from tidegate.alerts.alert import MAX_TEXT, readable, stored_name
from tidegate.alerts.routing import compile_alerts, takes
from tidegate.alerts.sources import health_alert, run_alerts
from tidegate.store.tx import ItemRefused


def check(name: str, passed: bool, severity: str = "fail", at: int = 1) -> CheckResult:
    """Return a result of a check on `daily`."""
    message = "ok" if passed else f"{name} is off"
    return CheckResult(
        check=name, task="work", dataset="daily", passed=passed, severity=severity, message=message, at=at
    )


@pytest.mark.parametrize(
    ("match", "taken"),
    [
        ({}, True),
        ({"pipeline": ("p",)}, True),
        ({"pipeline": ("q", "p*")}, True),
        ({"pipeline": ("P",)}, False),
        ({"tag": ("fin*",)}, True),
        ({"tag": ("marketing",)}, False),
        ({"tag": ("finance",), "pipeline": ("q",)}, False),
        ({"sensor": ("*",)}, False),
    ],
)
def test_a_route_takes_what_matches(match: dict[str, tuple[str, ...]], taken: bool) -> None:
    """All labels must fit, one pattern each; what an alert is not about fits no pattern, not even `*`."""
    alert = make_alert("p", tags=frozenset({"finance", "daily"}))

    assert takes(make_route(match=match), alert) is taken


@pytest.mark.parametrize(
    ("severity", "wanted", "taken"),
    [("error", "error", True), ("warning", "error", False), ("error", "warning", True), ("info", "info", True)],
)
def test_severity_is_at_least(severity: str, wanted: str, taken: bool) -> None:
    """A route that asks for warnings gets errors too; an end is told to all who may have heard of the beginning."""
    route = make_route(severity=wanted)

    assert takes(route, make_alert(severity=severity)) is taken
    assert takes(route, make_alert(severity="warning", ends=True))


def test_tags_are_those_of_all_it_is_about(tmp_path: Path) -> None:
    """A run has the tags of its pipeline and of the sensors that its trigger listens to."""
    rules = compile_alerts(house_config(tmp_path, alerts={"r": make_route()}))

    assert rules.tags(trigger="orders-arrived") == {"in"}
    assert rules.tags(sensor="landing") == {"in"}
    assert rules.tags(trigger=None, pipeline="orders", dataset="none") == frozenset()
    assert health_alert(rules, "landing", False, "gone", 5).tags == {"in"}


@given(text=strategies.text(max_size=2_000) | strategies.text("a\x00\x1b[31m\u202e\ud800\r\n é😀", max_size=2_000))
def test_hostile_text_becomes_one_harmless_line(text: str) -> None:
    """Whatever comes from outside: printable, bounded, storable, and without anything that could fake a second line."""
    shown = readable(text)

    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT
    assert storable_text(shown)
    assert storable_text(stored_name(text))
    assert len(stored_name(text)) <= 333


@given(strategies.lists(strategies.text(max_size=400), min_size=2, max_size=2, unique=True))
def test_stored_names_stay_apart(names: list[str]) -> None:
    """Two names are never one in the store, however long or odd they are."""
    assert stored_name(names[0]) != stored_name(names[1])


async def test_an_alert_is_rolled_back_with_its_event(url: str) -> None:
    """When the transaction fails, neither the dead letter nor the alert is there; when it succeeds, both are."""
    async with open_bench(url, start=False) as bench:
        letter = DeadLetter("bad_payload", "it is no JSON", "p")
        bench.works.fail.arm("store.before_commit", 1)
        with pytest.raises(ItemRefused) as raised:
            await bench.works.inbox._submit("s", _letters(letter), None)
        before = await bench.alerts()
        await bench.works.put(dead_letters=[letter])

        assert isinstance(raised.value.__cause__, Broken)
        assert before == []
        assert len(await bench.alerts()) == len(await bench.works.dead_letters()) == 1


def _letters(*letters: DeadLetter) -> Any:
    from sensors.batch import Batch

    return Batch(dead_letters=letters)


async def test_a_step_that_comes_again_is_told_once(url: str) -> None:
    """A commit whose answer was lost is repeated: the same failure of the same run is one alert."""
    async with open_bench(url) as bench:
        run, _ = await bench.works.start("p")
        (claimed,) = await bench.works.claim()
        kept = dict(bench.works.runs._held)
        await bench.works.end(claimed, RunState.FAILED, error="broken")
        bench.works.runs._held.update(kept)
        await bench.works.end(claimed, RunState.FAILED, error="broken")
        await bench.calm()
        await bench.leap(60)

        assert [body["count"] for body in bench.receiver().bodies] == [1]
        assert [row["labels"]["refs"] for row in await bench.alerts()] == [{"run": run.uid}]


async def test_failed_checks_are_one_alert_and_passing_ones_resolve_it(url: str) -> None:
    """All checks of a task on a dataset belong together; one that only warns is a warning."""
    async with open_bench(url, make_route(events=frozenset({"check_failed", "resolved"}))) as bench:
        await bench.works.start("p")
        (claimed,) = await bench.works.claim()
        results = [check("row_count", False), check("between", False, "warn"), check("unique", True)]
        await bench.works.end(claimed, RunState.FAILED, checks=results)
        await bench.calm()
        await bench.leap(60)
        await bench.succeed(checks=[check("row_count", True, at=2), check("between", True, at=2)])
        await bench.leap(31)

        first, second = bench.receiver().bodies
        assert (first["kind"], first["subject"], first["count"], first["severity"]) == (
            "check_failed",
            "daily",
            2,
            "error",
        )
        assert first["text"].splitlines()[0] == "row_count: row_count is off; between: between is off (2 of these)"
        assert second["title"].startswith("[svc] RESOLVED checks pass again: dataset daily, after ")


def test_only_warnings_are_a_warning(tmp_path: Path) -> None:
    """The severity of an alert is that of its severest check."""
    from pipelines.run import Run, RunStep

    rules = compile_alerts(house_config(tmp_path))
    run = Run(uid="run_1", pipeline="p", definition="d", state=RunState.RUNNING, key="k", created_at=1)
    step = RunStep(run="run_1", fence=1, at=1, checks=[check("between", False, "warn")])

    assert [alert.severity for alert in run_alerts(rules, run, "", step, 5)] == ["warning"]
    assert [alert.severity for alert in run_alerts(rules, run, "failed", step, 5)] == ["warning", "error"]


async def test_a_rule_that_fails_a_thousand_times_is_counted(url: str) -> None:
    """The number is exact, although only a few of the decisions are kept."""
    from tests.support.works import make_event

    trigger = make_trigger(when="event.data.n > 1")
    async with open_bench(url, triggers=[trigger]) as bench:
        events = [make_event(data=b'{"n": "x"}', content_type="application/json") for _ in range(1_000)]
        await bench.works.put(*events)
        await bench.calm()

        (body,) = bench.receiver().bodies
        assert (body["kind"], body["subject"], body["count"]) == ("trigger_error", "t", 1_000)
        assert "cannot apply >" in body["text"]
        assert "(1000 of these)" in body["text"]


async def test_an_event_that_no_rule_can_judge_is_a_dead_letter(url: str) -> None:
    """Poison that was stored is told as a dead letter of its sensor, with the way to it."""
    from tests.support.works import make_event

    async with open_bench(url, triggers=[make_trigger(when="event.data.n > 1")]) as bench:
        await bench.works.put(make_event(data=b'{"n": "a\\u0000b"}', content_type="application/json"))
        await bench.calm()

        assert [(body["kind"], body["subject"]) for body in bench.receiver().bodies] == [("dead_letter", "s")]
        assert "event" in bench.receiver().bodies[0]["alerts"][0]["refs"]


async def test_overdue_sets_are_told_once_each_and_resolved_together(url: str) -> None:
    """The same notice again, as after a restart, is no news; the sensor says when none is overdue any more."""
    late = [Notice("set_overdue", f"d/{n}.json", f"d/{n}.json is not complete", 5) for n in range(3)]
    async with open_bench(url) as bench:
        await bench.works.put(notices=late[:1])
        await bench.calm()
        await bench.works.put(notices=late)
        await bench.calm()
        await bench.leap(31)
        await bench.works.put(notices=[Notice("sets_in_time", "", "no set is overdue", bench.clock.now())])
        await bench.calm()
        await bench.leap(31)
        await bench.works.put(notices=[Notice("sets_in_time", "", "no set is overdue", bench.clock.now())])
        await bench.calm()

        told = bench.receiver().bodies
        assert [(body["what"], body["count"]) for body in told] == [("alert", 1), ("alert", 2), ("resolved", 0)]
        assert {row["kind"] for row in await bench.alerts()} == {"set_overdue"}
        assert await bench.states() == {"sent": 4}


async def test_a_success_without_a_failure_leaves_nothing(url: str) -> None:
    """The daily success of pipelines that never failed costs no row."""
    async with open_bench(url) as bench:
        for _ in range(3):
            await bench.succeed()

        assert await bench.alerts() == []


async def test_the_hot_path_asks_nothing_without_routes(url: str) -> None:
    """With nobody to tell, no alert is even thought of."""
    async with open_bench(url, start=False) as bench:
        current = bench.works.rules.current
        bench.works.rules.swap(replace(current, alerts=replace(current.alerts, routes={})))
        asked: list[str] = []
        backend: Any = bench.works.store._backend
        begin = backend.begin

        def watched() -> Any:
            tx = begin()
            for name in ("insert_alerts", "failing"):
                real = getattr(tx, name)

                def noted(argument: Any, real: Any = real, name: str = name) -> Any:
                    asked.append(name)
                    return real(argument)

                setattr(tx, name, noted)
            return tx

        backend.begin = watched
        await bench.fail_runs(2)
        await bench.succeed()
        backend.begin = begin

        assert asked == []


async def test_old_alerts_are_forgotten(url: str) -> None:
    """`service.retention.alerts` counts from when an alert was raised; what waits stays."""
    from config.model import Retention
    from tests.support.stores import do
    from tidegate.retention import prune

    async with open_bench(url) as bench:
        await bench.tell(make_alert("a"))
        await bench.leap(10 * 86_400)
        gone = await do(bench.works.store, lambda tx: prune(tx, Retention(alerts=11 * 86_400.0)))
        later = await do(bench.works.store, lambda tx: prune(tx, Retention(alerts=9 * 86_400.0)))

        assert (gone, later) == (0, 2)
        assert await bench.alerts() == []
