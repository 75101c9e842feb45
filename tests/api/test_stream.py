"""The stream of runs: what changes is told, who is slow is cut, nobody listening costs nothing."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from sensors.ports import Unavailable
from tests.support.house import FakeHouse
from tests.support.manual_clock import ManualClock
from tests.support.served import Served, serve_house
from tidegate.api import stream as module
from tidegate.api.problems import ApiError
from tidegate.api.stream import Listener, RunWatcher


async def _until(clock: ManualClock, listener: Listener) -> list[dict[str, Any]]:
    """Let the watcher look until something is there; return what it told."""
    for _ in range(200):
        await clock.advance(1.0)
        await asyncio.sleep(0.005)  # the store reads on a thread of its own
        if not listener.empty():
            break
    found = []
    while not listener.empty():
        message = listener.get_nowait()
        assert message is not None
        name, data, *_ = message.decode().split("\n")
        assert name == "event: run"
        found.append(json.loads(data.removeprefix("data: ")))
    return found


async def _looked(watcher: RunWatcher, clock: ManualClock) -> None:
    """Let the watcher look for the first time."""
    for _ in range(200):
        await clock.advance(0)
        await asyncio.sleep(0.002)
        if clock._sleepers:
            return
    raise AssertionError("the watcher never looked")


async def test_new_and_changed_runs_are_told_once(house: FakeHouse) -> None:
    """A run is told when it appears and when its state changes; what was there before is not told."""
    await house.receive("old.csv")
    clock = ManualClock()
    watcher = RunWatcher(house, clock)
    listener = watcher.listen()
    await _looked(watcher, clock)

    await house.receive("new.csv")
    appeared = await _until(clock, listener)
    await house.work()
    ended = await _until(clock, listener)

    assert [run["state"] for run in appeared] == ["queued"]
    assert [run["state"] for run in ended] == ["succeeded", "succeeded"]
    watcher.leave(listener)


async def test_the_watcher_survives_a_store_that_is_away(house: FakeHouse) -> None:
    """While the store is away nothing is told; afterwards all that changed is."""
    clock = ManualClock()
    watcher = RunWatcher(house, clock)
    listener = watcher.listen()
    await _looked(watcher, clock)
    house.down = True
    await house.receive("new.csv")
    await clock.advance(3)
    assert listener.empty()

    house.down = False

    assert [run["state"] for run in await _until(clock, listener)] == ["queued"]
    watcher.leave(listener)


async def test_who_does_not_keep_up_is_cut_off(house: FakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener with a full queue gets the end and no more; the others go on."""
    monkeypatch.setattr(module, "_QUEUE", 2)
    clock = ManualClock()
    watcher = RunWatcher(house, clock)
    slow, quick = watcher.listen(), watcher.listen()
    await _looked(watcher, clock)
    for name in ("a.csv", "b.csv", "c.csv"):
        await house.receive(name)
        assert len(await _until(clock, quick)) == 1

    assert slow.get_nowait() is None
    assert slow.empty()
    watcher.leave(quick)


async def test_listeners_are_bounded_and_the_last_one_ends_the_looking(house: FakeHouse) -> None:
    """There is room for so many; the next one is told to come later. With nobody left, nothing looks."""
    watcher = RunWatcher(house, ManualClock())
    listeners = [watcher.listen() for _ in range(module.MAX_LISTENERS)]

    with pytest.raises(ApiError) as refused:
        watcher.listen()
    for listener in listeners:
        watcher.leave(listener)

    assert refused.value.status == 429
    assert watcher._task is None


async def test_after_the_close_nobody_listens_any_more(house: FakeHouse) -> None:
    """Closing ends every stream, so that connections can be closed, and takes no new one."""
    watcher = RunWatcher(house, ManualClock())
    listener = watcher.listen()

    watcher.close()

    assert listener.get_nowait() is None
    with pytest.raises(Unavailable):
        watcher.listen()


def test_a_browser_can_follow(tmp_path: Path) -> None:
    """Over a real connection the stream is server-sent events, one with the run that just started."""
    with serve_house(tmp_path) as served, urllib.request.urlopen(f"{served.url}/api/v1/stream", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.readline() == b": tidegate\n"
        served.do(_looked_once(served))
        served.do(served.house.receive("a.csv"))

        lines = iter(answer.readline, b"")
        data = next(line for line in lines if line.startswith(b"data: "))

        assert json.loads(data.removeprefix(b"data: "))["pipeline"] == "orders"
        served.do(_closed(served))


async def _looked_once(served: Served) -> None:
    """Wait for a whole look: what a look before the event saw is not told."""
    reads = served.house.reads
    while served.house.reads < reads + 2:
        await asyncio.sleep(0.01)


async def _closed(served: Served) -> None:
    served.watcher.close()
