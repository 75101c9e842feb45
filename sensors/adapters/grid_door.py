"""Azure Event Grid by webhook: its handshake, and events of its own schema, made envelopes. Pure.

In flows a parsed body, out flow envelopes, or the answer that Event Grid wants to hear when a subscription is made. Its
CloudEvents schema needs nothing of this but the OPTIONS handshake (`cloudevents.origins`).
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sensors.batch import Reply
from sensors.cloudevents import MAX_BATCH, Envelope, parse_time
from sensors.event import storable_text
from sensors.verifiers.model import text_of

VALIDATION: Final = "Microsoft.EventGrid.SubscriptionValidationEvent"
ORIGIN: Final = "eventgrid.azure.net"
_MAX_CODE: Final = 1024


def grid_handshake(document: Any) -> Reply | None:
    """Return the answer to a validation event, None for anything else. 202 would not be taken for a yes."""
    if not isinstance(document, list) or len(document) != 1 or not isinstance(document[0], dict):
        return None
    event = document[0]
    if event.get("eventType") != VALIDATION:
        return None
    data = event.get("data")
    code = text_of(data.get("validationCode") if isinstance(data, dict) else None, _MAX_CODE)
    if code is None:
        raise ValueError("a validation event without a validationCode")
    return Reply(200, orjson.dumps({"validationResponse": code}), "application/json")


def read_grid(document: Any) -> list[Envelope]:
    """Read events of Event Grid's schema, one or a list. Raises ValueError: all of a delivery are taken, or none."""
    events = document if isinstance(document, list) else [document]
    if len(events) > MAX_BATCH:
        raise ValueError(f"the delivery holds {len(events)} events, and at most {MAX_BATCH} are taken")
    return [_envelope(event, number) for number, event in enumerate(events)]


def _envelope(event: Any, number: int) -> Envelope:
    if not isinstance(event, dict):
        raise ValueError(f"event {number} is no JSON object")  # noqa: TRY004 - callers expect ValueError
    texts = {name: _text(event, name, number) for name in ("id", "topic", "subject", "eventType", "eventTime")}
    for name in ("id", "eventType"):
        if not texts[name]:
            raise ValueError(f"event {number} has no {name}")
    extensions = {
        name.lower(): value
        for name in ("dataVersion", "metadataVersion")
        if isinstance(value := event.get(name), str) and storable_text(value)
    }
    data = event.get("data")
    return Envelope(
        id=texts["id"],
        source=texts["topic"] or "/",
        type=texts["eventType"],
        subject=texts["subject"] or None,
        time=parse_time(texts["eventTime"]) if texts["eventTime"] else None,
        data=None if data is None else _encoded(data),
        content_type=None if data is None else "application/json",
        extensions=extensions,
    )


def _text(event: Mapping[str, Any], name: str, number: int) -> str:
    value = event.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not storable_text(value):
        raise ValueError(f"{name} of event {number} is no text that can be stored")
    return value


def _encoded(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"the data cannot be written as JSON: {error}") from error
