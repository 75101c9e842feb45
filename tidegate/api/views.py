"""From rows and values of the store to what the API answers: events, decisions, dead letters. Pure."""

import base64
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sensors.batch import Batch
from sensors.event import Event
from sensors.w3c import parse_traceparent
from tidegate.api.models import ClauseView, DeadLetterDetail, DeadLetterRow, DecisionRow, EventDetail, EventRow
from tidegate.api.models_peek import PeekedEvent, PeekedLetter, SensorPeek
from tidegate.event_view import event_view, rfc3339
from tidegate.store.reader import Row
from triggers.decision import Outcome


def moment(at: int) -> str:
    """Write UTC microseconds as RFC 3339 text; a moment beyond the calendar becomes its nearest end."""
    text = rfc3339(min(max(at, _FIRST), _LAST))
    return text or ""


def maybe(at: int | None) -> str | None:
    """Write UTC microseconds as RFC 3339 text, None as None."""
    return None if at is None else moment(at)


_FIRST = -62_135_596_800_000_000  # 0001-01-01
_LAST = 253_402_300_799_999_999  # 9999-12-31


def trace_id(*spans: str | None) -> str | None:
    """Return the trace id of the first valid traceparent."""
    for span in spans:
        context = parse_traceparent(span)
        if context is not None:
            return context.trace_id
    return None


def event_row(row: Row) -> EventRow:
    """Show a row of the events."""
    return EventRow(**_envelope(row))


def event_without_row(event: Event) -> EventRow:
    """Show an event's envelope where its row was not asked for."""
    return EventRow(
        **_envelope(
            {
                "uid": event.uid,
                "sensor": event.sensor,
                "id": event.id,
                "source": event.source,
                "type": event.type,
                "subject": event.subject,
                "time": event.time,
                "received_at": event.received_at,
                "size": len(event.data or b""),
                "content_type": event.content_type,
                "state": "stored",
                "span": event.traceparent if event.trusted else None,
            }
        )
    )


def _envelope(row: Row) -> dict[str, Any]:
    return {
        "uid": row["uid"],
        "sensor": row["sensor"],
        "id": row["id"],
        "source": row["source"],
        "type": row["type"],
        "subject": row["subject"],
        "time": maybe(row["time"]),
        "received_at": moment(row["received_at"]),
        "size": row["size"],
        "content_type": row["content_type"],
        "state": row["state"],
        "trace_id": trace_id(row["span"]),
    }


def event_detail(event: Event, row: Row | None, decisions: Iterable[Row], runs: Iterable[Row]) -> EventDetail:
    """Show an event with its content. `row` is its envelope as listed."""
    envelope = event_without_row(event).model_dump() if row is None else _envelope(row)
    return EventDetail(
        **envelope,
        attributes=dict(event.attributes),
        match=dict(event.match),
        data=event_view(event)["data"],
        traceparent=event.traceparent,
        trusted=event.trusted,
        depth=event.depth,
        cause_run=event.cause_run,
        decisions=[decision_row(decision) for decision in decisions],
        runs=[run["uid"] for run in runs],
    )


def peek_view(sensor: str, batch: Batch, stored: Collection[str]) -> SensorPeek:
    """Show what a sensor would emit; `stored` are the ids that are there already."""
    events = [
        PeekedEvent(
            id=event.id,
            type=event.type,
            source=event.source,
            subject=event.subject,
            time=maybe(event.time),
            content_type=event.content_type,
            attributes=dict(event.attributes),
            match=dict(event.match),
            data=event_view(event)["data"],
            stored=event.id in stored,
        )
        for event in batch.events
    ]
    dead = [PeekedLetter(reason=one.reason, detail=one.detail, position=one.position) for one in batch.dead_letters]
    return SensorPeek(sensor=sensor, events=events, dead_letters=dead)


def clause_view(clause: Mapping[str, Any] | None) -> ClauseView | None:
    """Show a stored clause."""
    if not clause:
        return None
    return ClauseView(
        path=clause["path"], text=clause["text"], expected=clause["expected"], actual=clause["actual"], passed=None
    )


def decision_row(row: Row) -> DecisionRow:
    """Show a stored decision."""
    return DecisionRow(
        uid=row["uid"],
        trigger=row["trigger"],
        version=row["version"],
        events=list(row["events"]),
        outcome=Outcome(row["outcome"]),
        at=moment(row["at"]),
        reason=row["reason"],
        clause=clause_view(row["clause"]),
        trigger_event=row["trigger_event"],
        run=row["run"],
        item=row["item"],
        sampled=bool(row["sampled"]),
        details=dict(row["details"] or {}),
    )


def dead_letter_row(row: Row) -> DeadLetterRow:
    """Show a row of the dead letters."""
    return DeadLetterRow(**_letter(row))


def dead_letter_detail(row: Row) -> DeadLetterDetail:
    """Show a dead letter with its payload."""
    payload: bytes = row["payload"] or b""
    try:
        text: str | None = payload.decode()
    except UnicodeDecodeError:
        text = None
    return DeadLetterDetail(
        **_letter(row),
        attributes=dict(row["attributes"] or {}),
        payload=text,
        payload_base64=base64.b64encode(payload).decode(),
        size=len(payload),
    )


def _letter(row: Row) -> dict[str, Any]:
    return {
        "uid": row["uid"],
        "sensor": row["sensor"],
        "at": moment(row["at"]),
        "reason": row["reason"],
        "detail": row["detail"],
        "position": row["position"],
        "content_type": row["content_type"],
        "event": row["event_uid"],
        "retried_at": maybe(row["retried_at"]),
        "became": row["became"] or None,
    }
