"""Reading commands: compact for people, exact for scripts, harmless for terminals."""

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from tests.support.house import EVIL
from tests.support.served import Served
from tidegate.reloaded import KeepReport, Reloaded, TriggerChange

Ask = Callable[..., Result]


def _uid(ask: Ask, *words: str) -> str:
    found: str = json.loads(ask(*words, "--json").output)["items"][0]["uid"]
    return found


def _run(ask: Ask, status: str) -> str:
    return _uid(ask, "runs", "--status", status)


@pytest.mark.parametrize("noun", ["sensors", "triggers", "events", "runs", "datasets", "dead-letters"])
def test_a_bare_noun_lists(noun: str, ask: Ask) -> None:
    """A bare noun lists for people, and with --json for scripts what the API answers."""
    shown, data = ask(noun), ask(noun, "--json")

    items = json.loads(data.output)["items"]
    assert (shown.exit_code, data.exit_code) == (0, 0)
    assert items
    assert str(items[0].get("uid") or items[0]["name"]) in shown.output


def test_nothing_from_outside_reaches_the_terminal_raw(ask: Ask) -> None:
    """Escape sequences in subjects, errors, logs and reasons are made harmless; markup is shown as it is."""
    failed = _run(ask, "failed")
    for words in (
        ["events"],
        ["dead-letters"],
        ["runs", "show", failed],
        ["runs", "logs", failed],
        ["lineage", "--run", failed],
    ):
        result = ask(*words)

        assert result.exit_code == 0
        assert "\x1b" not in result.output
    assert "[bold]" in ask("runs", "logs", failed).output


def test_runs_show_tells_the_whole_story(ask: Ask) -> None:
    """A run shows its state, causing event, trace, tasks and lineage down to the dataset."""
    result = ask("runs", "show", _run(ask, "succeeded"))

    for said in (
        "✔ succeeded",
        "a.csv",
        "caused by",
        "trace",
        "path = a.csv",
        "extract",
        "1.52s",
        "64.0 MiB",
        "daily",
        "42 rows",
    ):
        assert said in result.output
    event, decision, run, dataset = (result.output.rindex(word) for word in ("event ", "decision ", "run ", "dataset "))
    assert event < decision < run < dataset


def test_a_failed_run_shows_its_error(ask: Ask) -> None:
    """The task that failed stands with its error."""
    output = ask("runs", "show", _run(ask, "failed")).output

    assert "✖ failed" in output
    assert "ValueError: no such column" in output
    assert "task load failed" in output


def test_explain_names_the_clause_that_decided(ask: Ask) -> None:
    """Why it did not fire: the clause, what it wanted, what it found."""
    uid = json.loads(ask("events", "--id", "small.csv@1", "--sensor", "landing", "--json").output)["items"][0]["uid"]

    output = ask("explain", uid).output

    assert "filtered" in output
    assert "orders-arrived" in output
    assert "✔" in output
    assert "✖" in output
    assert "event.data.size > 10" in output
    assert "false" in output
    assert "does not listen" in ask("explain", uid, "--trigger", "everything").output


def test_explain_says_what_would_do(ask: Ask) -> None:
    """Below the clause that failed stands the change that would turn it; with --all, why the others do not listen."""
    uid = json.loads(ask("events", "--id", "small.csv@1", "--sensor", "landing", "--json").output)["items"][0]["uid"]
    output = ask("explain", uid).output

    assert "would do: make data.size 11" in output
    assert "2 other triggers do not listen to it (--all tells why)" in output
    every = ask("explain", uid, "--all").output
    assert "sleeping" in every
    assert "the trigger is disabled (enabled: false)" in every


def test_decisions_are_listed_by_outcome_and_time(ask: Ask) -> None:
    """What a trigger decided is listed newest first, and only what was asked for."""
    every = json.loads(ask("triggers", "decisions", "orders-arrived", "--json").output)["items"]
    filtered = ask("triggers", "decisions", "orders-arrived", "--outcome", "filtered").output

    assert sorted(item["outcome"] for item in every) == ["filtered", "fired", "fired"]
    to_the_millisecond = [item["at"][:23] for item in every]
    assert to_the_millisecond == sorted(to_the_millisecond, reverse=True)
    assert "when does not hold" in filtered
    assert "fired" not in filtered
    assert "no decision is stored" in ask("triggers", "decisions", "orders-arrived", "--until", "-1d").output
    one = json.loads(ask("triggers", "decisions", "orders-arrived", "--since", "-1h", "--limit", "1", "--json").output)
    assert len(one["items"]) == 1
    assert one["cursor"] is not None


def test_reloads_say_what_became_of_the_keys(ask: Ask, served: Served) -> None:
    """Each reload stands with its triggers and keys, a refused one with its reason; without any, that is said."""
    assert "no reload yet" in ask("triggers", "reloads").output
    change = TriggerChange(trigger="six", change="changed", what=("join.within",), carried=2)
    for at, fields in ((1, {"triggers": (change,)}), (2, {"refused": "x is no duration"}), (3, {})):
        report = Reloaded(at=at, by="host/1", config="c" * 64, **fields)
        served.do(_keep(served, report))

    output = ask("triggers", "reloads").output
    assert "trigger six changed (join.within): 2 keys carried over" in output
    assert "x is no duration" in output
    assert "no trigger changed" in output
    assert len(json.loads(ask("triggers", "reloads", "--json").output)["items"]) == 3


async def _keep(served: Served, report: Reloaded) -> None:
    await served.house.real_store.submit(KeepReport(), report)


def test_events_show_prints_the_content(ask: Ask) -> None:
    """An event shows its content, decisions and runs."""
    uid = json.loads(ask("events", "--id", "a.csv@1", "--sensor", "landing", "--json").output)["items"][0]["uid"]

    output = ask("events", "show", uid).output

    assert '"size": 99' in output
    assert "✔ fired" in output
    assert "orders-arrived" in output
    assert json.loads(ask("events", "show", uid, "--json").output)["data"] == {"size": 99}


def test_limit_and_more(ask: Ask) -> None:
    """--limit bounds what is shown, and says on standard error that there is more."""
    result = ask("events", "--limit", "2")

    assert result.stdout.count("evt_") == 2
    assert "--limit 4" in result.stderr


def test_logs_follow_ends_with_the_run(ask: Ask) -> None:
    """Following the log of a run that has ended prints it and ends."""
    result = ask("runs", "logs", _run(ask, "failed"), "--follow", "--json")

    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [line["text"] for line in lines] == ["reading a.csv", f"careful {EVIL}"]


@pytest.mark.parametrize("way", ["--up", "--down"])
def test_lineage_one_way(way: str, ask: Ask) -> None:
    """--up shows only causes, --down only what came of it."""
    output = ask("lineage", "--run", _run(ask, "succeeded"), way).output

    assert ("a.csv" in output) is (way == "--up")
    assert ("daily" in output) is (way == "--down")


def test_lineage_of_a_dataset(ask: Ask) -> None:
    """A dataset leads back to the event."""
    assert "a.csv" in ask("lineage", "--dataset", "daily").output
    assert ask("lineage", "--dataset", "nothing").exit_code == 1
    assert ask("lineage").exit_code == 2


def test_dead_letters_show_and_drop(ask: Ask) -> None:
    """A dead letter shows why and what; dropping asks first, and --yes answers."""
    uid = _uid(ask, "dead-letters")

    assert "/wBicm9rZW4=" in ask("dead-letters", "show", uid).output
    unasked = ask("dead-letters", "drop", uid)
    assert (unasked.exit_code, "--yes" in unasked.output) == (2, True)
    assert ask("dead-letters", "drop", uid, "--yes").exit_code == 0
    assert ask("dead-letters", "show", uid).exit_code == 1


def test_health(ask: Ask, served: Served) -> None:
    """Health exits 0 when the process answers."""
    assert (ask("health").exit_code, ask("health").output) == (0, "ok\n")
