"""Back-tests: changed rules, tried on stored events or on a source's history. Starts nothing, writes nothing."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, TypeVar, cast

import orjson
from fastapi import APIRouter, Depends, Request

from config.candidate import read_candidate
from config.problems import ConfigProblems
from sensors.errors import SensorError
from sensors.event import Event
from sensors.peeking import NotPeekable
from tidegate.api.asking import HouseDep, at
from tidegate.api.house import House
from tidegate.api.models_backtest import MOST_FROM_SOURCE, BacktestAsk, BacktestReport
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, Fault, printable, retry_after
from tidegate.backtest.apart import BacktestFailed
from tidegate.backtest.asking import BadAsk, Wish, make_ask
from tidegate.backtest.desk import Backtests, Busy
from tidegate.backtest.history import rows_of
from tidegate.backtest.values import Ask
from tidegate.backtest.view import report_view
from tidegate.backtest.warmth import sensors_of
from tidegate.store.tx import StoreError
from triggers.trigger import Trigger

router = APIRouter(prefix="/api/v1/backtests", tags=["backtests"])
T = TypeVar("T")
_LOOK = 0.5  # seconds between two looks whether the caller is still there


def desk_of(request: Request) -> Backtests:
    """Return what makes back-tests for this application."""
    return cast("Backtests", request.app.state.backtests)


@router.post("", responses=problems(409, 413, 422), summary="Try changed rules on the past")
async def backtest(
    house: HouseDep, desk: Annotated[Backtests, Depends(desk_of)], request: Request, ask: BacktestAsk
) -> BacktestReport:
    """Say what changed rules would have done: what would fire, what would not any more, what would differ, and why.

    Judged in a process of its own, as long as the caller waits. Triggers that are paused are judged as if they were
    not; sensors count as heard all the time; a run that was started has ended well by the next event.
    """
    question = await _question(house, ask, desk.clock.now())
    try:
        report = await _while_wanted(request, desk.run(question, house.store, house.config.store))
    except Busy as error:
        raise ApiError(429, str(error), headers=retry_after(5.0)) from error
    except StoreError as error:
        raise ApiError(503, "the store cannot be read now; try again later", headers=retry_after(5.0)) from error
    except BacktestFailed as error:
        raise ApiError(503, printable(str(error)), headers=retry_after(5.0)) from error
    return BacktestReport.model_validate(report_view(report))


async def _question(house: House, ask: BacktestAsk, now: int) -> Ask:
    """Make the question of what was asked. Raises 422 with every problem of the rules, and what the sources raise."""
    config = house.config
    wish = Wish(
        names=ask.triggers,
        since=at(ask.since),
        until=at(ask.until),
        baseline=ask.baseline,
        sensors=ask.sensors,
        limit=ask.limit,
        seconds=ask.seconds,
        samples=ask.samples,
    )
    if ask.from_source and (ask.config is None or ask.baseline == "recorded"):
        raise ApiError(422, "a source's history has no record to compare with; give changed rules as `config`")
    try:
        new = None if ask.config is None else await asyncio.to_thread(_candidate, ask, house)
        question = make_ask(config.triggers, new, wish, now)
    except BadAsk as error:
        raise ApiError(422, printable(str(error))) from error
    if not ask.from_source:
        return question
    return replace(question, events=rows_of(await _from_sources(house, question)), limit=MOST_FROM_SOURCE)


def _candidate(ask: BacktestAsk, house: House) -> Mapping[str, Trigger]:
    try:
        return read_candidate(_texts(ask), house.config)
    except ConfigProblems as found:
        faults = [
            Fault(
                pointer=printable(f"{one.file}:{one.line}:{one.column} {one.path}".rstrip()),
                detail=printable(f"{one.message}, {one.remedy}" if one.remedy else one.message),
            )
            for one in found.problems[:100]
        ]
        detail = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults[:3])
        raise ApiError(422, detail, errors=faults) from found


def _texts(ask: BacktestAsk) -> list[tuple[str, bytes]]:
    given = ask.config
    if isinstance(given, list):
        return [(file.name, file.text.encode("utf-8", "surrogatepass")) for file in given]
    if isinstance(given, str):
        return [("body.config", given.encode("utf-8", "surrogatepass"))]
    return [("body.config", orjson.dumps(given))]


async def _from_sources(house: House, question: Ask) -> Sequence[Event]:
    """Read the history of the sources in question, as if each event had been received at its own time."""
    chosen = [rules[name] for rules in (question.old, question.new) for name in question.names if name in rules]
    sensors = [name for name in sensors_of(*chosen) if not question.sensors or name in question.sensors]
    most = min(question.limit, MOST_FROM_SOURCE)
    found: list[Event] = []
    for name in sensors:
        if name not in house.config.sensors:
            raise ApiError(409, f"sensor {printable(name)} has no source that could be read; leave it out by `sensors`")
        try:
            events = await house.source_history(name, question.since, max(1, most - len(found)))
        except NotPeekable as error:
            raise ApiError(409, printable(str(error))) from error
        except SensorError as error:
            raise ApiError(409, printable(f"the source of sensor {name} cannot be asked now: {error}")) from error
        found += [event if event.time is None else replace(event, received_at=event.time) for event in events]
    return found[:most]


async def _while_wanted(request: Request, work: Awaitable[T]) -> T:
    """Wait for work as long as the caller does; when it has gone, so does the work."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_LOOK)
            if done:
                return task.result()
            if await request.is_disconnected():
                raise ApiError(409, "the caller has gone")  # nobody reads it
    finally:
        task.cancel()
        await asyncio.wait({task})
