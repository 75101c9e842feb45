"""An event as people, expressions and the API see it: one shape, as plain data."""

from datetime import UTC, datetime
from typing import Any

from sensors.event import Event, parse_data


def rfc3339(at: int | None) -> str | None:
    """Write UTC microseconds as RFC 3339 text, None as None."""
    if at is None:
        return None
    seconds, micros = divmod(at, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros).isoformat().replace("+00:00", "Z")


def event_view(event: Event) -> dict[str, Any]:
    """Return an event as plain data; content that is not what its type says comes as text with replacement marks."""
    try:
        data = parse_data(event.data, event.content_type)
    except ValueError:
        data = event.data
    if isinstance(data, bytes):
        data = data.decode("utf-8", "replace")
    return {
        "uid": event.uid,
        "id": event.id,
        "sensor": event.sensor,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": rfc3339(event.time),
        "received_at": rfc3339(event.received_at),
        "content_type": event.content_type,
        "attributes": dict(event.attributes),
        "match": dict(event.match),
        "data": data,
    }
