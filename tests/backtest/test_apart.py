"""A back-test in a process of its own: the same answer, an end when nobody waits, and sentences when it cannot be."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.backtest.cases import STEP, events_of
from tests.support.past import asking, live_through, told
from tests.support.works import T0, make_config, make_trigger, open_works
from tidegate.backtest import apart
from tidegate.backtest.apart import BacktestFailed, run_apart
from tidegate.backtest.desk import Backtests, Busy
from tidegate.backtest.history import rows_of
from tidegate.store.tx import StoreError

ALL = make_trigger(when="event.data.n >= 0")
SOME = make_trigger(when="event.data.n > 3")
EVENTS = events_of([("a", "k", 1, n, True) for n in range(9)], T0)
END = T0 + 60 * STEP


async def test_it_reads_the_store_of_a_service_that_runs(tmp_path: Path) -> None:
    """The file is open for writing here; there it is read, and the answer is that of a back-test in this process."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    async with open_works(url, make_config([ALL])) as house:
        await live_through(house, EVENTS, END)
        report = await run_apart(asking([ALL], [SOME], T0, END), url)
        recorded = await Backtests().run(asking([ALL], [SOME], T0, END, baseline="recorded"), house.store, url)

    assert told(report) == told(recorded) == {"t": (5, 0, 4, 0)}
    assert report.triggers[0].lost_samples[0].why.clause == {
        "path": "when",
        "text": "event.data.n > 3",
        "expected": "true",
        "actual": 'false, with event.data = {"n":0,"items":[],"x":2}',
    }


async def test_a_source_s_history_goes_with_the_question() -> None:
    """Events that were read elsewhere are judged there; no store is asked."""
    report = await run_apart(asking([ALL], [SOME], T0, END, events=rows_of(EVENTS)), "sqlite:////nowhere/at/all.db")

    assert told(report) == {"t": (5, 0, 4, 0)}


async def test_a_store_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """The sentence comes from there to here."""
    with pytest.raises(StoreError, match="cannot be read"):
        await run_apart(asking([ALL], [SOME], T0, END), f"sqlite:///{tmp_path / 'nothing.db'}")


async def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is an answer: the last thing that it said."""
    monkeypatch.setattr(apart, "MODULE", "tidegate.backtest.nothing")
    with pytest.raises(BacktestFailed, match=r"ended without an answer: .*nothing"):
        await run_apart(asking([ALL], [SOME], T0, END), "memory:")


async def test_who_goes_away_takes_the_process_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled, the work ends at once, and its place is free for the next."""
    started: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def remembered(*arguments: object, **named: object) -> asyncio.subprocess.Process:
        process = await create(*arguments, **named)  # type: ignore[arg-type]
        started.append(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", remembered)
    monkeypatch.setattr(apart, "pack", lambda *_: (2**40).to_bytes(8, "big"))  # it waits for a question without end
    desk = Backtests(at_once=1)
    async with open_works(f"sqlite:///{tmp_path / 'store.db'}", make_config([ALL])) as house:
        ask = asking([ALL], [SOME], T0, END)
        first = asyncio.ensure_future(desk.run(ask, house.store, "sqlite:///x"))
        while not started:
            await asyncio.sleep(0.01)
        with pytest.raises(Busy, match="1 back-tests are under way"):
            await desk.run(ask, house.store, "sqlite:///x")
        first.cancel()
        await asyncio.wait({first})

    assert first.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
    assert desk._under_way == 0


async def test_a_store_in_memory_is_gone_over_here() -> None:
    """It belongs to this process; a thread goes over it while the loop goes on, and gives up when nobody waits."""
    desk = Backtests()
    async with open_works("memory:", make_config([ALL])) as house:
        await live_through(house, EVENTS, END)
        report = await desk.run(asking([ALL], [SOME], T0, END), house.store, "memory:")
        gone = asyncio.ensure_future(desk.run(asking([ALL], [SOME], T0, END), house.store, "memory:"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})

    assert told(report) == {"t": (5, 0, 4, 0)}
    assert gone.cancelled()
