"""What a broker delivers, translated: properties, headers, and how it came. Pure.

In flow a delivery as the client parsed it, out flows a `QueueMessage`. Headers become attributes by their names, and
what AMQP itself says by names of ours (`routing_key`, `exchange`, `correlation_id`, …), which no header can pretend.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sensors.adapters.queue_message import UNDECODABLE, QueueMessage, attributes_of, text_of, trace_of
from sensors.adapters.queue_reading import with_poison
from sensors.adapters.rabbit_frames import ORIGINAL, UNREADABLE
from sensors.headers import HeaderPolicy

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage

_CLOUD_EVENT = re.compile(r"cloudEvents[:_-]([a-z0-9]{1,64})")
_PROPERTIES = {
    "message_id": "message_id",
    "correlation_id": "correlation_id",
    "reply_to": "reply_to",
    "app_id": "app_id",
    "user_id": "user_id",
    "type": "message_type",
    "priority": "priority",
    "expiration": "expiration",
    "content_encoding": "content_encoding",
    "delivery_mode": "delivery_mode",
}


def rabbit_message(delivery: "DeliveredMessage", queue: str, policy: HeaderPolicy) -> QueueMessage:
    """Return one delivery."""
    properties = delivery.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    named = {str(name): text_of(value) for name, value in headers.items()}
    facts = _facts(delivery, properties, headers)
    envelope = {
        found[1]: _moment(headers[name]) or named[name] for name in named if (found := _CLOUD_EVENT.fullmatch(name))
    }
    traceparent, tracestate = trace_of(named)
    told = properties.message_id
    made = QueueMessage(
        body=delivery.body,
        position=f"{queue}/{told}" if told else f"{queue}#{delivery.delivery_tag}",
        id=told or None,
        attributes=attributes_of(named.items(), facts, policy),
        envelope=envelope if "specversion" in envelope else {},
        content_type=properties.content_type or None,
        subject=delivery.routing_key or None,
        time=_micros(properties.timestamp),
        traceparent=traceparent,
        tracestate=tracestate,
    )
    if UNREADABLE in named:
        original = headers.get(ORIGINAL)
        raw = original if isinstance(original, bytes) else str(original).encode("utf-8", "surrogatepass")
        return with_poison(
            QueueMessage(
                body=made.body,
                position=made.position,
                attributes={**attributes_of((), facts, policy), "properties_hex": raw[:4096].hex()},
                subject=made.subject,
            ),
            UNDECODABLE,
            f"the message's properties cannot be read: {named[UNREADABLE]}",
        )
    return made


def _facts(delivery: "DeliveredMessage", properties: Any, headers: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "exchange": delivery.exchange or "",
        "routing_key": delivery.routing_key or "",
        "redelivered": "true" if delivery.redelivered else "",
    }
    for name, key in _PROPERTIES.items():
        value = getattr(properties, key, None)
        facts[name] = "" if value is None else text_of(value)
    facts["delivery_count"] = text_of(headers.get("x-delivery-count", ""))
    return facts


def _micros(moment: Any) -> int | None:
    return round(moment.timestamp() * 1_000_000) if isinstance(moment, datetime) else None


def _moment(value: Any) -> str | None:
    """Return a timestamp as CloudEvents write it."""
    return value.isoformat() if isinstance(value, datetime) else None
