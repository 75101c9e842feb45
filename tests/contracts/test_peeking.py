"""Peeking at every kind of sensor that the registry holds: it shows what comes next, and moves nothing."""

import asyncio
from pathlib import Path

import pytest

from sensors.errors import BackOff, NotConnected
from sensors.hosts import Hosts, Outgoing
from sensors.kind import SensorContext, SensorKind
from sensors.netguard import NetGuard
from sensors.peeking import peek
from sensors.registry import builtin_kinds
from sensors.sensor import Sensor
from sensors.testing import LOOPBACK, EverythingWanted, FakeInbox, check_event
from tests.contracts.sensor_cases import CASES
from tests.support.clocks import HurriedClock
from triggers.template import compile_function, compile_values

_PULL = [pytest.param(kind, id=kind.name) for kind in builtin_kinds() if not kind.push]
_AWAY = [
    pytest.param(kind, id=kind.name) for kind in builtin_kinds() if not kind.push and not CASES[kind.name].sourceless
]


def _build(kind: SensorKind, folder: Path) -> Sensor:
    clock = HurriedClock()
    near = Outgoing(NetGuard(LOOPBACK), Hosts(clock))  # a test's server is on this machine
    context = SensorContext(
        kind.name, "svc", clock, folder, compile=compile_function, template=compile_values, outgoing=near
    )
    return kind.build(kind.options.model_validate(CASES[kind.name].options(folder)), context)  # type: ignore[return-value]


async def _read_all(kind: SensorKind, folder: Path, inbox: FakeInbox, within: float = 10.0) -> None:
    sensor = _build(kind, folder)
    await sensor.connect(await inbox.cursors(kind.name), inbox.lookup(kind.name), EverythingWanted())
    try:
        async with asyncio.timeout(within):
            while not inbox.events:
                batch = await sensor.read()
                if not batch.empty:
                    await inbox.put(kind.name, batch)
                await batch.ack()
    finally:
        await sensor.close()


@pytest.mark.parametrize("kind", _PULL)
async def test_a_peek_shows_what_comes_and_moves_nothing(
    kind: SensorKind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Twice the same, whatever was seen before; afterwards the sensor brings all of it, as if nobody had looked."""
    case = CASES[kind.name]
    if case.place is not None:
        request.getfixturevalue(case.place)
    assert case.stimulate is not None
    await case.stimulate(tmp_path)
    inbox = FakeInbox()
    cursors, lookup = await inbox.cursors(kind.name), inbox.lookup(kind.name)
    shown = [await peek(_build(kind, tmp_path), cursors, lookup, 5, HurriedClock()) for _ in range(2)]
    found = [[event.id for event in batch.events] for batch in shown]

    assert 1 <= len(found[0]) <= 5
    for event in shown[0].events:
        check_event(kind, kind.name, event)
    assert inbox.batches == []
    assert await inbox.cursors(kind.name) == {}
    await _read_all(kind, tmp_path, inbox)
    brought = [event.id for event in inbox.events]
    assert found[0] == found[1] or case.sourceless  # time went on
    assert brought[0] in found[0]


@pytest.mark.parametrize("kind", _AWAY)
async def test_a_peek_at_what_was_told_already_shows_nothing(
    kind: SensorKind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It goes by the durable positions and memory: what became durable does not come again."""
    case = CASES[kind.name]
    if case.place is not None:
        request.getfixturevalue(case.place)
    assert case.stimulate is not None
    await case.stimulate(tmp_path)
    inbox = FakeInbox()
    await _read_all(kind, tmp_path, inbox)
    told, batches = {event.id for event in inbox.events}, len(inbox.batches)
    cursors = await inbox.cursors(kind.name)
    batch = await peek(_build(kind, tmp_path), cursors, inbox.lookup(kind.name), 5, HurriedClock())

    assert told.isdisjoint(event.id for event in batch.events)
    assert await inbox.cursors(kind.name) == cursors
    assert len(inbox.batches) == batches


@pytest.mark.parametrize("kind", _AWAY)
async def test_a_peek_at_a_source_that_is_away_says_so(kind: SensorKind, tmp_path: Path) -> None:
    """The same sentence that its health would have; nothing is made in the place where it is not."""
    with pytest.raises((NotConnected, BackOff), match=r"\w+ \w+"):
        await peek(_build(kind, tmp_path / "nowhere"), {}, FakeInbox().lookup("x"), 5, HurriedClock())
    assert not (tmp_path / "nowhere").exists()
