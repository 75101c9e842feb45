"""Sensors: how they are, pausing them, and whether they saw everything."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query

from config.model import SensorEntry
from sensors.audit import AuditBusy, AuditReport, Findings, NotAuditable
from sensors.errors import SensorError
from sensors.event import Event
from sensors.peeking import NotPeekable
from tidegate.api.asking import HouseDep, Name
from tidegate.api.house import House
from tidegate.api.models import (
    FindingList,
    FindingRow,
    Pause,
    RefusalRow,
    SensorAudit,
    SensorDetail,
    SensorList,
    SensorRow,
)
from tidegate.api.models_peek import SensorPeek
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, not_found, printable
from tidegate.api.views import moment, peek_view
from tidegate.api.views_runs import sensor_row
from tidegate.store.reader import Reader

router = APIRouter(prefix="/api/v1/sensors", tags=["sensors"])
Limit = Annotated[int, Query(ge=1, le=100, description="Events and dead letters at most.")]
Heal = Annotated[bool, Query(description="Have what differs looked at again.")]


def known(house: House, name: str) -> SensorEntry:
    """Return a configured sensor. Raises 404."""
    entry = house.config.sensors.get(name)
    if entry is None:
        raise not_found(f"sensor {name}")
    return entry


def by_name(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Group counters by their name."""
    found: dict[str, dict[str, int]] = {}
    for (name, outcome), n in sorted(counts.items()):
        found.setdefault(name, {})[outcome] = n
    return found


async def sensor_rows(house: House) -> list[SensorRow]:
    """Return all configured sensors with health and counts."""
    counts = by_name(await house.store.read(lambda reader: reader.counts("sensor")))
    health = house.sensor_health()
    return [sensor_row(entry, health.get(name), counts.get(name, {})) for name, entry in house.config.sensors.items()]


@router.get("", responses=problems(), summary="List sensors")
async def list_sensors(house: HouseDep) -> SensorList:
    """List all sensors with their health and exact counts."""
    return SensorList(items=await sensor_rows(house))


@router.get("/{name}", responses=problems(404, 422), summary="Show a sensor")
async def show_sensor(house: HouseDep, name: Name) -> SensorDetail:
    """Show a sensor with what its door refused lately."""
    return await _detail(house, known(house, name))


async def _detail(house: House, entry: SensorEntry) -> SensorDetail:
    counts = by_name(await house.store.read(lambda reader: reader.counts("sensor")))
    row = sensor_row(entry, house.sensor_health().get(entry.name), counts.get(entry.name, {}))
    refusals = [
        RefusalRow(
            at=moment(item.at),
            status=item.status,
            code=item.code,
            reason=item.reason[:1000],
            client=item.client,
            method=item.seen.method,
            headers={printable(name): printable(value) for name, value in item.seen.headers.items()},
            query=[printable(name) for name in item.seen.query],
            size=item.seen.size,
            body=printable(item.seen.body),
        )
        for item in house.refusals.last(entry.name)
    ]
    return SensorDetail(**row.model_dump(), refusals=refusals)


def _running(house: House, name: str) -> SensorEntry:
    """Return a configured and enabled sensor. Raises 404 and 409."""
    entry = known(house, name)
    if not entry.options.enabled:
        raise ApiError(409, f"sensor {entry.name} is disabled in the configuration")
    return entry


@contextmanager
def _reloading(name: str) -> Iterator[None]:
    """Say that a sensor does not run (a reload is at work) instead of failing."""
    try:
        yield
    except KeyError as error:
        raise ApiError(409, f"sensor {name} does not run now; try again in a moment") from error


@router.post("/{name}/pause", responses=problems(404, 409, 413, 422), summary="Pause a sensor")
async def pause_sensor(house: HouseDep, name: Name, how: Pause | None = None) -> SensorDetail:
    """Pause a sensor until it is resumed; a restart does not end it."""
    entry = _running(house, name)
    with _reloading(name):
        await house.pause_sensor(name, (how or Pause()).how)
    return await _detail(house, entry)


@router.post("/{name}/resume", responses=problems(404, 409, 422), summary="Let a paused sensor go on")
async def resume_sensor(house: HouseDep, name: Name) -> SensorDetail:
    """Let a paused sensor go on; nothing happens to one that is not paused."""
    entry = _running(house, name)
    with _reloading(name):
        await house.pause_sensor(name, None)
    return await _detail(house, entry)


@router.post("/{name}/poll", responses=problems(404, 409, 422), status_code=202, summary="Make a sensor look now")
async def poll_sensor(house: HouseDep, name: Name) -> SensorDetail:
    """Make a pull sensor look now instead of at its next turn."""
    entry = _running(house, name)
    if entry.kind.push:
        raise ApiError(409, f"sensor {entry.name} is sent its events; there is nothing to poll")
    with _reloading(name):
        await house.poll_sensor(name)
    return await _detail(house, entry)


@router.post("/{name}/audit", responses=problems(404, 409, 422), summary="Compare a source with what is remembered")
async def audit_sensor(house: HouseDep, name: Name, heal: Heal = False) -> SensorAudit:
    """List everything at the source once more and compare it with what is remembered; answers when that is done.

    This may take minutes for millions of objects; the sensor goes on meanwhile. Nothing is written: with `heal`, the
    sensor looks at what differs soon afterwards, and then it becomes events.
    """
    entry = _running(house, name)
    try:
        with _reloading(name):
            report = await house.audit_sensor(name, heal)
    except (NotAuditable, AuditBusy) as error:
        raise ApiError(409, printable(str(error))) from error
    except SensorError as error:
        raise ApiError(409, printable(f"the source of sensor {entry.name} cannot be asked now: {error}")) from error
    return audit_view(entry.name, report)


@router.post("/{name}/peek", responses=problems(404, 409, 422), summary="Show what a sensor would emit next")
async def peek_sensor(house: HouseDep, name: Name, limit: Limit = 5) -> SensorPeek:
    """Show events and dead letters that the sensor would bring next, also of one that is paused or disabled.

    The source is read by an instance of its own: no position, group or message moves, and nothing is stored.
    """
    entry = known(house, name)
    try:
        with _reloading(name):
            batch = await house.peek_sensor(name, limit)
    except NotPeekable as error:
        raise ApiError(409, printable(str(error))) from error
    except SensorError as error:
        raise ApiError(409, printable(f"the source of sensor {entry.name} cannot be asked now: {error}")) from error
    stored = await house.store.read(lambda reader: _stored(reader, entry.name, batch.events))
    return peek_view(entry.name, batch, stored)


def _stored(reader: Reader, sensor: str, events: Sequence[Event]) -> frozenset[str]:
    """Return the ids that are stored already."""
    return frozenset(event.id for event in events if reader.events(limit=1, sensor=sensor, id=event.id)[0])


def audit_view(name: str, report: AuditReport) -> SensorAudit:
    """Show what an audit found."""
    return SensorAudit(
        sensor=name,
        listed=report.listed,
        remembered=report.remembered,
        missing=_findings(report.missing),
        extra=_findings(report.extra),
        changed=_findings(report.changed),
        waiting=dict(sorted(report.waiting.items())),
        ignored=dict(sorted(report.ignored.items())),
        healed=report.healed,
        problem=report.problem or None,
    )


def _findings(found: Findings) -> FindingList:
    return FindingList(count=found.count, first=[FindingRow(key=one.key, reason=one.reason) for one in found.first])
