"""`tidegate replays`: start, show, list, cancel; what it would do is shown first, and bulk asks."""

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from typer.testing import Result

from tests.support.served import Served

Ask = Callable[..., Result]


@pytest.fixture
def worked(served: Served) -> Iterator[None]:
    """Somebody works at replays, as the service does."""
    worker = served.house.replay_worker
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        served.house.replays._wake = worker.wake
        tasks.append(asyncio.get_running_loop().create_task(worker.run()))

    async def stop() -> None:
        worker.stop()
        await tasks[0]

    served.do(start())
    yield
    served.do(stop())


def _event(ask: Ask) -> str:
    items = json.loads(ask("events", "--sensor", "landing", "--json").output)["items"]
    return str(next(item["uid"] for item in items if item["subject"] == "a.csv"))


@pytest.mark.usefixtures("worked")
def test_an_event_runs_again(ask: Ask) -> None:
    """A replay of an event is started, and shown with its run and the one that it replays."""
    uid = _event(ask)
    result = ask("replays", "start", "--event", uid, "--wait")
    replay = json.loads(ask("replays", "--json").output)["items"][0]
    shown = ask("replays", "show", replay["uid"]).output
    listed = ask("replays").output

    assert result.exit_code == 0
    assert replay["counts"] == {"looked": 1, "started": 1}
    assert (replay["uid"] in shown, "1 looked  1 started" in shown, "again after run_" in shown) == (True, True, True)
    assert (uid in listed, "succeeded" in listed) == (True, True)
    run = json.loads(ask("replays", "show", replay["uid"], "--json").output)
    assert run["asked"]["events"] == [uid]


@pytest.mark.usefixtures("worked")
def test_a_dry_run_shows_what_would_start(ask: Ask) -> None:
    """A dry run waits, starts nothing, and says what would start and why others would not."""
    before = ask("runs", "--json").output
    result = ask("replays", "start", "--trigger", "orders-arrived", "--since", "1d", "--dry-run")

    assert result.exit_code == 0
    assert "would start pipeline orders" in result.output
    assert "when does not hold" in result.output
    assert ask("runs", "--json").output == before


@pytest.mark.usefixtures("worked")
def test_the_run_says_what_it_replays(ask: Ask) -> None:
    """A replayed run names its replay and the run before it, and lineage shows both."""
    uid = _event(ask)
    replay = json.loads(ask("replays", "start", "--event", uid, "--wait", "--json").output)
    run = json.loads(ask("runs", "--json").output)["items"][0]["uid"]

    assert f"{replay['uid']} of run_" in ask("runs", "show", run).output
    edges = json.loads(ask("lineage", "--event", uid, "--json").output)["edges"]
    assert [edge["to"] for edge in edges if edge["kind"] == "replayed"] == [run]


def test_a_time_range_asks(ask: Ask) -> None:
    """Running again all that came is bulk: it asks, and with nobody to ask it does nothing; --yes answers."""
    words = ("replays", "start", "--trigger", "orders-arrived", "--since", "1d")
    asked = ask(*words)
    before = json.loads(ask("replays", "--json").output)["items"]
    done = ask(*words, "--yes", "--rate", "5/s", "--as-was", "--partition", "x")
    item = json.loads(ask("replays", "--json").output)["items"][0]

    assert (asked.exit_code, "--dry-run says" in asked.stderr, before) == (2, True, [])
    assert done.exit_code == 0
    assert (item["state"], item["asked"]["rate"], item["asked"]["as_was"]) == ("queued", 5.0, True)
    assert "by orders-arrived partition x as it was 5/s" in ask("replays").output


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="nothing"),
        pytest.param(("--trigger", "orders-arrived"), id="no since"),
        pytest.param(("--since", "1d"), id="no trigger"),
        pytest.param(("--event", "evt_x", "--trigger", "t", "--since", "1d"), id="both"),
        pytest.param(("--trigger", "t", "--since", "yesterday"), id="no moment"),
    ],
)
def test_what_is_no_replay_is_a_usage_error(words: tuple[str, ...], bare: Ask) -> None:
    """What names nothing to replay, or too much, is refused before the service is asked."""
    assert bare("replays", "start", *words).exit_code == 2


def test_cancelling(ask: Ask) -> None:
    """A replay that is cancelled says so; a second time there is nothing to cancel."""
    replay = json.loads(ask("replays", "start", "--event", _event(ask), "--json").output)
    asked = ask("replays", "cancel", replay["uid"])
    first = ask("replays", "cancel", replay["uid"], "--yes", "--reason", "not now")
    second = ask("replays", "cancel", replay["uid"], "--yes")

    assert (asked.exit_code, first.exit_code, second.exit_code) == (2, 0, 1)
    assert "cancelled" in first.output
    assert "has cancelled already" in second.stderr
    assert "not now" in ask("replays").output


def test_the_same_request_is_the_same_replay(ask: Ask) -> None:
    """With a request id, asking again starts nothing more; something else under it is refused."""
    uid = _event(ask)
    first, again = (
        json.loads(ask("replays", "start", "--event", uid, "--request-id", "r", "--json").output) for _ in range(2)
    )
    other = ask("replays", "start", "--event", uid, "--request-id", "r", "--as-was")

    assert first["uid"] == again["uid"]
    assert (other.exit_code, "asked for something else" in other.stderr) == (1, True)
