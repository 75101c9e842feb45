"""Events, and why they fired triggers or did not."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from sensors.event import Event
from tidegate.api.asking import EventUid, HouseDep, MomentQuery, PageDep, TextQuery, at, read_page
from tidegate.api.house import House
from tidegate.api.models import EventDetail, EventPage, Explanation, Verdict
from tidegate.api.openapi import problems
from tidegate.api.problems import ApiError, not_found
from tidegate.api.views import (
    event_detail,
    event_row,
    event_without_row,
    judged_verdict,
    stored_verdict,
)
from tidegate.rules import Rules
from tidegate.store.reader import Reader, Row
from triggers.explain import explain
from triggers.tell import ClauseResult
from triggers.trigger import Trigger

router = APIRouter(prefix="/api/v1/events", tags=["events"])
_RELATED = 100
_STORED = 500


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
        _envelope(reader, event),
        list(reader.decisions(limit=_RELATED, event=uid)[0]),
        list(reader.runs(limit=_RELATED, event=uid)[0]),
    )


def _envelope(reader: Reader, event: Event) -> Row | None:
    rows = reader.events(limit=1, sensor=event.sensor, id=event.id)[0]
    return next((row for row in rows if row["uid"] == event.uid), None)


@router.get("/{uid}/explain", responses=problems(404, 409, 422), summary="Tell why an event fired triggers, or did not")
async def explain_event(house: HouseDep, uid: EventUid, trigger: TextQuery = None) -> Explanation:
    """Tell what each trigger concluded: the stored decisions, and what today's rules say where nothing is stored."""
    found = await house.store.read(lambda reader: _decided(reader, uid))
    if found is None:
        raise not_found(f"event {uid}; it may be past its retention")
    event, row, decisions = found
    if (
        trigger is not None
        and trigger not in house.config.triggers
        and trigger not in {d["trigger"] for d in decisions}
    ):
        raise not_found(f"trigger {trigger}")
    rules = house.rules.current
    verdicts = [
        stored_verdict(decision, _clauses(rules, event, decision))
        for decision in decisions
        if trigger in (None, decision["trigger"])
    ]
    verdicts.extend(_judged(house, event, {verdict.trigger for verdict in verdicts}, trigger))
    shown = event_without_row(event) if row is None else event_row(row)
    return Explanation(event=shown, verdicts=verdicts)


def _decided(reader: Reader, uid: str) -> tuple[Event, Row | None, list[Row]] | None:
    event = reader.event(uid)
    if event is None:
        return None
    rows = reader.decisions(limit=_STORED, event=uid)[0]
    return event, _envelope(reader, event), sorted(rows, key=lambda row: (row["at"], row["uid"]))


def _clauses(rules: Rules, event: Event, decision: Row) -> Sequence[ClauseResult]:
    """Return all clauses on the way to a stored decision, if the rule still is the one that made it."""
    rule = rules.rules.rules.get(decision["trigger"])
    if rule is None or rule.trigger.version != decision["version"] or decision["item"] is not None:
        return ()
    return explain(rules.rules, decision["trigger"], event, now=event.received_at).clauses


def _judged(house: House, event: Event, decided: set[str], wanted: str | None) -> list[Verdict]:
    """Ask today's rules where nothing was stored. Triggers that do not listen to such events only when asked for."""
    rules = house.rules.current
    triggers: Mapping[str, Trigger] = house.config.triggers
    verdicts = []
    for name in triggers if wanted is None else [wanted]:
        if name in decided or name not in rules.rules.rules:
            continue
        explanation = explain(rules.rules, name, event, now=event.received_at, paused=rules.paused.get(name))
        if wanted is not None or explanation.outcome is not None:
            verdicts.append(judged_verdict(explanation))
    if wanted is not None and not verdicts and wanted not in decided:
        raise ApiError(409, f"trigger {wanted} is disabled, and nothing is stored about this event")
    return verdicts
