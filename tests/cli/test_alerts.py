"""`tidegate alerts`: the list for people and scripts, and the test of a route."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from typer.testing import Result

from config.model import AlertRoute
from pipelines.run import RunState
from tests.support.served import Served
from tidegate.alerts.routing import compile_alerts
from tidegate.alerts.sender import Tried

Ask = Callable[..., Result]
ROUTE = AlertRoute(name="oncall", to=("https://hooks.test/s3cr3t",), events=frozenset({"run_failed", "dead_letter"}))


@pytest.fixture
def told(served: Served) -> Served:
    """A house with a route, in which a run failed."""
    house = served.house
    house.config = replace(house.config, alerts={"oncall": ROUTE})
    house.rules.swap(replace(house.rules.current, alerts=compile_alerts(house.config)))

    async def live() -> None:
        await house.receive("late.csv")
        await house.work(RunState.FAILED)
        await house.bury()

    served.do(live())
    return served


def test_a_bare_noun_lists(told: Served, ask: Ask) -> None:
    """Route, kind, subject, state and cause in a line each; scripts get what the API answers."""
    shown, data = ask("alerts"), json.loads(ask("alerts", "--json").output)
    letters = json.loads(ask("alerts", "--kind", "dead_letter", "--route", "oncall", "--json").output)
    sent = ask("alerts", "--state", "sent")

    assert {item["kind"] for item in data["items"]} == {"dead_letter", "run_failed"}
    assert "run failed" in shown.output
    assert "orders" in shown.output
    assert "pending" in shown.output
    assert "no such column" in shown.output
    assert "\x1b" not in shown.output
    assert [item["kind"] for item in letters["items"]] == ["dead_letter"]
    assert sent.output.strip() == "no alert"
    assert ask("alerts", "--state", "lost").exit_code == 1


def test_a_route_is_tested(told: Served, ask: Ask) -> None:
    """Each target with what it did; exit code 0 only when all took the message."""
    told.house.tests["oncall"] = [Tried("https://hooks.test", True, ""), Tried("mailto://mail.test", False, "550 no")]
    bad = ask("alerts", "test", "oncall")
    data = json.loads(ask("alerts", "test", "oncall", "--json").output)
    told.house.tests["oncall"] = [Tried("https://hooks.test", True, "")]
    good = ask("alerts", "test", "oncall")
    unknown = ask("alerts", "test", "nobody")

    assert bad.exit_code == 1
    assert "✔ sent https://hooks.test" in bad.output
    assert "✖ failed mailto://mail.test 550 no" in bad.output
    assert data["ok"] is False
    assert good.exit_code == 0
    assert unknown.exit_code == 1
