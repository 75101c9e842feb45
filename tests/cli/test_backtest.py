"""`tidegate triggers backtest`: by the service, and offline over the store of a configuration."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from config.load import load_config
from tests.support.past import live_through
from tests.support.works import make_event, open_works
from tidegate.cli import out

Ask = Callable[..., Result]
SERVED = """
triggers:
  orders-arrived:
    on: {sensor: landing, filter: {suffix: {subject: .csv}}}
    when: event.data.size > 0
    run: {pipeline: orders, params: {path: "${{ event.subject }}"}, key: event.subject}
"""
OFFLINE = """
service: {name: demo, store: "sqlite:///demo.db"}
sensors:
  hook: {kind: webhook, path: /hooks/x, verify: {scheme: bearer, secret: "env:NOT_SET_ANYWHERE"}}
triggers:
  big: {on: {sensor: hook}, when: event.data.n > 10, run: {pipeline: call, key: event.subject}}
pipelines:
  call: {engine: command, argv: [echo]}
"""


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    path = tmp_path / "new.yaml"
    path.write_text(SERVED)
    return path


def test_the_service_says_what_changed_rules_would_have_done(ask: Ask, changed: Path) -> None:
    """People see the numbers, samples and reasons; scripts get what the API answers."""
    shown = ask("triggers", "backtest", "orders-arrived", "--config", str(changed))
    data = json.loads(ask("triggers", "backtest", "orders-arrived", "--config", str(changed), "--json").output)

    assert shown.exit_code == 0, shown.output
    assert "+1 would fire" in shown.output
    assert "small.csv" in shown.output
    assert "event.data.size > 10" in shown.output
    assert data["triggers"][0]["gained"] == 1


def test_the_record_agrees_with_the_rules(ask: Ask) -> None:
    """Without changed rules; --exit-code is 0 while nothing differs, 1 when something does."""
    same = ask("triggers", "backtest", "orders-arrived", "--exit-code")

    assert (same.exit_code, "against what was recorded" in same.output) == (0, True)


def test_what_differs_can_be_an_exit_code(ask: Ask, changed: Path) -> None:
    """For pipelines of continuous integration."""
    assert ask("triggers", "backtest", "--all", "--config", str(changed), "--exit-code").exit_code == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "name one trigger, or say --all"),
        (["t", "--all"], 2, "name one trigger, or say --all"),
        (["t", "--store", "sqlite:///x"], 2, "--store goes with --offline"),
        (["t", "--from-source", "--offline", "x.yaml"], 2, "leave out --offline"),
        (["t", "--config", "/nothing/here"], 2, "cannot read /nothing/here"),
        (["t", "--since", "never"], 2, "--since never is no moment"),
        (["nobody"], 1, "there is no trigger nobody"),
    ],
)
def test_what_cannot_be_asked(words: list[str], code: int, sentence: str, ask: Ask) -> None:
    """Usage is told before anybody is asked."""
    result = ask("triggers", "backtest", *words)

    assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr


def test_offline_over_the_store_of_a_configuration(tmp_path: Path, bare: Ask) -> None:
    """No service runs: the rules in force and the store are those of a configuration; nothing is written."""
    in_force, new = tmp_path / "tidegate.yaml", tmp_path / "new.yaml"
    in_force.write_text(OFFLINE)
    new.write_text(OFFLINE.replace("> 10", "> 5"))
    store = f"sqlite:///{tmp_path / 'demo.db'}"
    now = out.now()

    async def live() -> None:
        config = load_config([in_force], environ={}, resolve_secrets=False)
        async with open_works(store, config) as house:
            events = [
                make_event(
                    sensor="hook",
                    subject=f"s{n}",
                    data=b'{"n": %d}' % n,
                    content_type="application/json",
                    received_at=now - 60_000_000 + n,
                )
                for n in range(13)
            ]
            house.clock.at = now - 60_000_000
            await live_through(house, events, now)

    asyncio.run(live())
    before = (tmp_path / "demo.db").read_bytes()
    words = ("triggers", "backtest", "big", "--config", str(new), "--offline", str(in_force), "--store", store)
    shown, data = bare(*words), json.loads(bare(*words, "--json").output)
    record = json.loads(bare("triggers", "backtest", "--all", *words[5:], "--json").output)

    assert "+5 would fire" in shown.output
    assert [one["gained"] for one in data["triggers"]] == [5]
    assert (record["baseline"], record["differs"], record["triggers"][0]["same"]) == ("recorded", False, 2)
    assert (tmp_path / "demo.db").read_bytes() == before
    missing = bare(*words[:-1], f"sqlite:///{tmp_path}/none.db")
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (1, True)


def test_offline_configurations_are_checked(tmp_path: Path, bare: Ask) -> None:
    """Problems of either are told with their places."""
    path = tmp_path / "tidegate.yaml"
    path.write_text(OFFLINE.replace("event.data.n > 10", "event.data.n >"))
    result = bare("triggers", "backtest", "big", "--offline", str(path), "--store", "sqlite:///x.db")

    assert (result.exit_code, "triggers.big.when" in result.stderr) == (1, True)
