"""Changing commands: start, cancel, resume, pause; destructive and bulk verbs ask first."""

import asyncio
import json
import threading
from collections.abc import Callable

import pytest
from typer.testing import Result

from pipelines.run import RunState
from tests.support.served import Served

Ask = Callable[..., Result]


def test_start_with_parameters(ask: Ask) -> None:
    """k=v is text, k:=JSON is a value; the run that was started is shown."""
    result = ask(
        "runs",
        "start",
        "anything",
        "-p",
        "name=5",
        "-p",
        "n:=5",
        "-p",
        'deep:={"a": [1, null]}',
        "-p",
        "eq=a=b",
        "--json",
    )

    run = json.loads(result.output)
    shown = json.loads(ask("runs", "show", run["uid"], "--json").output)
    assert shown["params"] == {"name": "5", "n": 5, "deep": {"a": [1, None]}, "eq": "a=b"}
    assert shown["state"] == "queued"


@pytest.mark.parametrize("parameter", ["novalue", "=x", ":=1", "a:={", "a:="])
def test_a_parameter_that_is_none_is_a_usage_error(parameter: str, ask: Ask) -> None:
    """What is no parameter is refused before anything is asked of the service."""
    assert ask("runs", "start", "anything", "-p", parameter).exit_code == 2


def test_the_same_parameter_twice(ask: Ask) -> None:
    """A parameter given twice is a mistake, not a choice."""
    assert ask("runs", "start", "anything", "-p", "a=1", "-p", "a:=2").exit_code == 2


def test_what_the_service_refuses_is_said(ask: Ask) -> None:
    """The service's sentence is printed, exit code 1."""
    result = ask("runs", "start", "orders")

    assert (result.exit_code, "'path'" in result.stderr) == (1, True)
    assert "there is no pipeline" in ask("runs", "start", "nothing").stderr


def test_cancel_asks(ask: Ask) -> None:
    """Cancelling asks; with nobody to ask it does nothing."""
    uid = json.loads(ask("runs", "start", "anything", "--json").output)["uid"]

    assert ask("runs", "cancel", uid).exit_code == 2
    done = ask("runs", "cancel", uid, "--yes", "--reason", "not today")
    assert (done.exit_code, "cancelled" in done.output) == (0, True)
    assert "not today" in ask("runs", "show", uid).output


def test_resume_one(ask: Ask) -> None:
    """A failed run goes on as a new run."""
    failed = json.loads(ask("runs", "--status", "failed", "--json").output)["items"][0]["uid"]

    run = json.loads(ask("runs", "resume", failed, "--json").output)

    assert run["resumed_from"] == failed
    assert ask("runs", "resume", failed).exit_code == 1


def test_resume_many(ask: Ask) -> None:
    """In bulk: a dry run only tells, the real one asks, and both need a beginning in time."""
    assert ask("runs", "resume").exit_code == 2
    assert ask("runs", "resume", "--status", "failed").exit_code == 2
    assert ask("runs", "resume", "--status", "succeeded", "--since", "1d").exit_code == 2
    assert ask("runs", "resume", "--status", "failed", "--since", "never").exit_code == 2
    dry = ask("runs", "resume", "--status", "failed", "--since", "1d", "--dry-run")
    unasked = ask("runs", "resume", "--status", "failed", "--since", "1d")
    real = json.loads(ask("runs", "resume", "--status", "failed", "--since", "1d", "--yes", "--json").output)

    assert "would resume 1 of 1" in dry.output
    assert unasked.exit_code == 2
    assert len(real["resumed"]) == 1


def test_pausing(ask: Ask, served: Served) -> None:
    """Sensors and triggers are paused and go on; --drop lets go what arrives meanwhile."""
    assert ask("sensors", "pause", "landing").exit_code == 0
    assert served.house.paused == {"landing": "hold"}
    assert ask("sensors", "resume", "landing").exit_code == 0
    assert ask("sensors", "poll", "landing").exit_code == 0
    assert (served.house.paused, served.house.polled) == ({}, ["landing"])
    assert "paused (drop)" in ask("triggers", "pause", "everything", "--drop").output
    assert json.loads(ask("triggers", "resume", "everything", "--json").output)["paused"] is None
    assert ask("sensors", "pause", "nobody").exit_code == 1


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED])
def test_start_with_logs_prints_them_and_ends_with_the_run(state: RunState, served: Served, ask: Ask) -> None:
    """The log comes as it is written; the exit code is the run's."""

    async def work_when_started() -> None:
        while not await served.house.work(state):
            await asyncio.sleep(0.01)

    served.do(served.house.work())
    worker = threading.Thread(target=lambda: served.do(work_when_started()))
    worker.start()
    result = ask("runs", "start", "anything", "--logs")
    worker.join()

    assert "reading a.csv" in result.output
    assert result.output.rstrip().splitlines()[-1].count(str(state)) >= 1
    assert result.exit_code == (0 if state is RunState.SUCCEEDED else 1)
