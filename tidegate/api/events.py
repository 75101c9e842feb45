"""Events, and what came of them."""

from typing import Annotated

from fastapi import APIRouter, Query

from sensors.event import Event
from tidegate.api.asking import EventUid, HouseDep, MomentQuery, PageDep, TextQuery, at, read_page
from tidegate.api.models import EventDetail, EventPage
from tidegate.api.openapi import problems
from tidegate.api.problems import not_found
from tidegate.api.views import event_detail, event_row
from tidegate.store.reader import Reader, Row

router = APIRouter(prefix="/api/v1/events", tags=["events"])
_RELATED = 100


@router.get("", responses=problems(422), summary="List events, newest first")
async def list_events(
    house: HouseDep,
    page: PageDep,
    sensor: TextQuery = None,
    id: Annotated[TextQuery, Query(description="The source's id; with `sensor` it names one event.")] = None,
    type: TextQuery = None,
    since: MomentQuery = None,
    until: MomentQuery = None,
) -> EventPage:
    """List events without content. Filters are exact; `since` is inclusive, `until` exclusive."""
    rows, following = await read_page(
        house,
        page,
        "events",
        lambda reader, cursor: reader.events(
            limit=page.limit, cursor=cursor, sensor=sensor, id=id, type=type, since=at(since), until=at(until)
        ),
    )
    return EventPage(items=[event_row(row) for row in rows], cursor=following)


@router.get("/{uid}", responses=problems(404, 422), summary="Show an event with what came of it")
async def show_event(house: HouseDep, uid: EventUid) -> EventDetail:
    """Show an event with its content, the decisions about it and the runs it caused."""
    found = await house.store.read(lambda reader: _event(reader, uid))
    if found is None:
        raise not_found(f"event {uid}; it may be past its retention")
    event, row, decisions, runs = found
    return event_detail(event, row, decisions, runs)


def _event(reader: Reader, uid: str) -> tuple[Event, Row | None, list[Row], list[Row]] | None:
    event = reader.event(uid)
    if event is None:
        return None
    return (
        event,
        envelope_of(reader, event),
        list(reader.decisions(limit=_RELATED, event=uid)[0]),
        list(reader.runs(limit=_RELATED, event=uid)[0]),
    )


def envelope_of(reader: Reader, event: Event) -> Row | None:
    """Return an event's row as lists show it."""
    rows = reader.events(limit=1, sensor=event.sensor, id=event.id)[0]
    return next((row for row in rows if row["uid"] == event.uid), None)
