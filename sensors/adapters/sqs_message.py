"""What SQS gives, translated: message attributes, SQS's own facts, and what SNS wraps around a message. Pure.

In flow an item of ReceiveMessage as the SDK parsed it, out flows a `QueueMessage`. The identity is the MessageId, which
is the same at each delivery and for a producer's repeats that SQS itself recognises; with `unwrap: sns` it is the one
that SNS gave, which is the same in every queue and for every delivery of the topic. The MessageDeduplicationId is only
unique within five minutes, so it is an attribute and no identity.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import orjson

from sensors.adapters.notice_reading import moment
from sensors.adapters.queue_message import FOREIGN, QueueMessage, attributes_of, text_of, trace_of
from sensors.adapters.queue_reading import with_poison
from sensors.adapters.raw_queue import RawMessage
from sensors.headers import HeaderPolicy
from sensors.w3c import parse_traceparent

_FACTS = {
    "receive_count": "ApproximateReceiveCount",
    "sent_timestamp": "SentTimestamp",
    "group_id": "MessageGroupId",
    "sequence_number": "SequenceNumber",
    "deduplication_id": "MessageDeduplicationId",
    "sender_id": "SenderId",
    "dead_letter_source": "DeadLetterQueueSourceArn",
}
_CONTENT_TYPE = frozenset({"content-type", "contenttype", "content_type"})
_CLOUD_EVENT = re.compile(r"(?:ce[-_]|cloudEvents[:_-])([a-z0-9]{1,64})")
_XRAY = re.compile(r"Root=1-([0-9a-f]{8})-([0-9a-f]{24})(?:;|.*;)Parent=([0-9a-f]{16})(?:;.*Sampled=([01]))?.*")


def sqs_message(raw: RawMessage, policy: HeaderPolicy, unwrap: Literal["sns"] | None = None) -> QueueMessage:
    """Return one message of a queue."""
    item: Mapping[str, Any] = raw.whole
    told: Mapping[str, str] = item.get("Attributes") or {}
    headers = {name: _value(value) for name, value in (item.get("MessageAttributes") or {}).items()}
    facts = {"message_id": str(item["MessageId"])}
    facts.update({name: str(told.get(key, "")) for name, key in _FACTS.items()})
    body = str(item.get("Body") or "").encode("utf-8", "surrogatepass")
    sent = told.get("SentTimestamp", "")
    message = _message(
        raw.message.position, facts["message_id"], body, headers, facts, policy, told.get("MessageGroupId")
    )
    message = replace(message, time=int(sent) * 1000 if sent.isdigit() else None)
    if message.traceparent is None:
        message = replace(message, traceparent=_xray(told.get("AWSTraceHeader", "")))
    return message if unwrap is None else _unwrapped(message, facts, policy)


def _message(
    position: str,
    id_: str,
    body: bytes,
    headers: Mapping[str, str],
    facts: Mapping[str, str],
    policy: HeaderPolicy,
    subject: str | None,
) -> QueueMessage:
    traceparent, tracestate = trace_of(headers)
    envelope = {found[1]: value for name, value in headers.items() if (found := _CLOUD_EVENT.fullmatch(name))}
    return QueueMessage(
        body=body,
        position=position,
        id=id_,
        attributes=attributes_of(headers.items(), facts, policy),
        envelope=envelope if "specversion" in envelope else {},
        content_type=next((value for name, value in headers.items() if name.lower() in _CONTENT_TYPE), None),
        subject=subject,
        traceparent=traceparent,
        tracestate=tracestate,
    )


def _unwrapped(outer: QueueMessage, facts: Mapping[str, str], policy: HeaderPolicy) -> QueueMessage:
    """Return the message inside the envelope of SNS."""
    try:
        found = orjson.loads(outer.body)
    except orjson.JSONDecodeError as error:
        return with_poison(outer, FOREIGN, f"the message is no envelope of SNS: {error}; is raw delivery on?")
    if not isinstance(found, dict) or not isinstance(found.get("Message"), str) or not found.get("MessageId"):
        return with_poison(outer, FOREIGN, "the message is no envelope of SNS; is raw delivery on?")
    if found.get("Type") != "Notification":
        kind = ascii(found.get("Type"))[:60]
        return with_poison(
            outer, FOREIGN, f"SNS sends {kind}, which only a person may answer; visit its SubscribeURL if it is meant"
        )
    given = found.get("MessageAttributes")
    headers = {
        str(name): text_of(value.get("Value"))
        for name, value in (given.items() if isinstance(given, dict) else ())
        if isinstance(value, dict)
    }
    subject = found.get("Subject")
    inner = _message(
        outer.position,
        str(found["MessageId"]),
        found["Message"].encode("utf-8", "surrogatepass"),
        headers,
        {**facts, "sns_message_id": str(found["MessageId"]), "topic": text_of(found.get("TopicArn") or "")},
        policy,
        subject if isinstance(subject, str) and subject else outer.subject,
    )
    inner = replace(inner, time=moment(found.get("Timestamp")) or outer.time, raw=outer.body)
    return inner if inner.traceparent else replace(inner, traceparent=outer.traceparent, tracestate=outer.tracestate)


def _value(value: Mapping[str, Any]) -> str:
    found = value.get("StringValue")
    return text_of(value.get("BinaryValue") if found is None else found)


def _xray(header: str) -> str | None:
    """Return the W3C form of X-Ray's trace header, which SQS carries beside the message."""
    found = _XRAY.fullmatch(header)
    if found is None:
        return None
    text = f"00-{found[1]}{found[2]}-{found[3]}-{'01' if found[4] == '1' else '00'}"
    return text if parse_traceparent(text) is not None else None
