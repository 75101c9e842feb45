"""Own events: pure."""

import orjson
import pytest

from pipelines.checks.spec import CheckSpec, labels
from pipelines.run import CheckResult, Run, RunState, RunStep
from sensors.event import OWN_SENSOR, storable_text
from tidegate.own_events import own_events, sensor_event

NOW = 1_800_000_000_000_000
RUN = Run(
    uid="run_1", pipeline="p", definition="d", state=RunState.RUNNING, key="k", created_at=NOW, generation=2,
    trigger="t", partition="2026-01-01", lane="l", params={"a": [1]}, depth=3,
)  # fmt: skip


@pytest.mark.parametrize("change", ["started", "succeeded", "failed", "cancelled"])
def test_a_change_of_a_run_is_one_event_about_it(change: str) -> None:
    """The event names the run, its pipeline and what started it, one deeper than the run, with the run as its cause."""
    step = RunStep(run="run_1", fence=1, at=NOW, error="it broke" if change == "failed" else None)
    (event,) = own_events(RUN, change, step, "svc", NOW)

    assert (event.sensor, event.type, event.subject) == (OWN_SENSOR, f"tidegate.run.{change}", "p")
    assert (event.id, event.depth, event.cause_run, event.source) == (f"run_1/{change}", 4, "run_1", "/tidegate/svc")
    assert orjson.loads(event.data or b"") == {
        "run": "run_1", "pipeline": "p", "trigger": "t", "key": "k", "generation": 2, "partition": "2026-01-01",
        "lane": "l", "params": {"a": [1]}, "error": "it broke" if change == "failed" else None,
    }  # fmt: skip


def test_a_change_has_the_same_id_whenever_it_is_told() -> None:
    """Ids are made of what is told, so the same change is the same event; uids are not."""
    first, again = (next(iter(own_events(RUN, "succeeded", None, "svc", at))) for at in (NOW, NOW + 1))

    assert first.id == again.id
    assert first.uid != again.uid


@pytest.mark.parametrize("text", ["a\0b", "caf\udce9.csv", "\ud83d"])
def test_hostile_text_is_made_readable(text: str) -> None:
    """An error or a reason that no column takes is told all the same, with marks in place of what cannot be told."""
    step = RunStep(run="run_1", fence=1, at=NOW, error=text)
    told = [*own_events(RUN, "failed", step, "svc", NOW), sensor_event("s", "unhealthy", text, "svc", NOW)]

    for event in told:
        data = orjson.loads(event.data or b"")
        assert storable_text(data.get("error", data.get("reason")))


def test_a_sensors_health_is_told_with_its_reason() -> None:
    """`tidegate.sensor.unhealthy` names the sensor as its subject and says why."""
    event = sensor_event("landing", "unhealthy", "gone", "svc", NOW)

    assert (event.type, event.subject, event.depth) == ("tidegate.sensor.unhealthy", "landing", 0)
    assert orjson.loads(event.data or b"") == {"sensor": "landing", "reason": "gone"}


def test_two_failed_checks_of_one_kind_are_two_events() -> None:
    """Checks of one task that fail at one moment have ids of their own: none hides behind the other."""
    results = [
        CheckResult(check=name, task="t", dataset="d", passed=False, severity="fail", message="m", at=1, expected="e")
        for name in labels([CheckSpec("between", {"column": "a"}), CheckSpec("between", {"column": "a"})])
    ]
    step = RunStep(run="run_1", fence=1, at=1, checks=results)
    events = list(own_events(RUN, "", step, "svc", 1))

    assert [event.type for event in events] == ["tidegate.check.failed"] * 2
    assert len({event.id for event in events}) == 2
    assert b'"expected":"e"' in (events[0].data or b"")
