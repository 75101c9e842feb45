"""What SQS gives and what SNS wraps, translated."""

import json
from typing import Any

import pytest

from sensors.adapters.notice_reading import Message
from sensors.adapters.queue_message import QueueMessage
from sensors.adapters.raw_queue import Claim, RawMessage
from sensors.adapters.sqs_message import sqs_message
from sensors.headers import HeaderPolicy

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def translated(body: str = "{}", unwrap: Any = None, **item: Any) -> QueueMessage:
    whole = {"MessageId": "m-1", "ReceiptHandle": "r", "Body": body, **item}
    raw = RawMessage(Message("jobs/m-1", body), Claim("m-1", "r"), whole)
    return sqs_message(raw, HeaderPolicy(None), unwrap)


def test_attributes_and_facts() -> None:
    """Message attributes keep their names, SQS's facts have names of ours, the group is the subject."""
    found = translated(
        Attributes={
            "SentTimestamp": "1769839200123",
            "ApproximateReceiveCount": "3",
            "MessageGroupId": "customer-7",
            "MessageDeduplicationId": "d",
        },
        MessageAttributes={
            "team": {"DataType": "String", "StringValue": "ingest"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\xff"},
            "n": {"DataType": "Number", "StringValue": "7"},
            "group_id": {"DataType": "String", "StringValue": "pretended"},
            "traceparent": {"DataType": "String", "StringValue": TRACE},
            "Content-Type": {"DataType": "String", "StringValue": "application/json"},
        },
    )
    assert (found.id, found.subject, found.time) == ("m-1", "customer-7", 1_769_839_200_123_000)
    assert (found.traceparent, found.content_type) == (TRACE, "application/json")
    assert found.attributes == {
        "message_id": "m-1",
        "sent_timestamp": "1769839200123",
        "receive_count": "3",
        "group_id": "customer-7",
        "deduplication_id": "d",
        "team": "ingest",
        "raw": "ÿ",
        "n": "7",
        "header.group_id": "pretended",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1", "01"),
        ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0", "00"),
        ("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8", "00"),
        ("Root=1-5759e988-bd862e3fe1be46a994272793", None),
        ("Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8;Sampled=1", None),
        ("nonsense", None),
    ],
)
def test_the_trace_of_x_ray(header: str, expected: str | None) -> None:
    """X-Ray's header is a W3C context in other words."""
    found = translated(Attributes={"AWSTraceHeader": header}).traceparent
    whole = f"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-{expected}"
    assert found == (None if expected is None else whole)


def test_binary_cloud_events() -> None:
    """Attributes with the prefixes of CloudEvents are its envelope."""
    given = {"ce-specversion": "1.0", "ce_id": "1", "cloudEvents:source": "/s", "cloudEvents_type": "t"}
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in given.items()}
    assert translated(MessageAttributes=attributes).envelope == {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
    }
    assert translated(MessageAttributes={"ce-id": attributes["ce_id"]}).envelope == {}


def wrapped(**fields: Any) -> str:
    base = {
        "Type": "Notification",
        "MessageId": "sns-1",
        "TopicArn": "arn:aws:sns:eu-north-1:123456789012:orders",
        "Message": '{"n": 1}',
        "Timestamp": "2026-01-31T06:00:00.123Z",
    }
    return json.dumps({**base, **fields})


def test_sns_is_unwrapped() -> None:
    """The event is what was published, with SNS's identity, time, subject and attributes."""
    attributes = {"team": {"Type": "String", "Value": "ingest"}, "traceparent": {"Type": "String", "Value": TRACE}}
    found = translated(wrapped(Subject="new order", MessageAttributes=attributes), "sns")
    assert (found.id, found.body, found.subject) == ("sns-1", b'{"n": 1}', "new order")
    assert (found.time, found.traceparent, found.poison) == (1_769_839_200_123_000, TRACE, None)
    assert found.attributes["topic"].endswith(":orders")
    assert found.attributes["message_id"] == "m-1"
    assert found.attributes["team"] == "ingest"
    assert found.raw is not None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("no JSON", "raw delivery"),
        ('{"n": 1}', "raw delivery"),
        ("[]", "raw delivery"),
        (wrapped(Message=7), "raw delivery"),
        (wrapped(Type="SubscriptionConfirmation"), "SubscribeURL"),
    ],
)
def test_what_sns_did_not_wrap_is_poison(body: str, word: str) -> None:
    """Another envelope than promised is told, with what it might be."""
    found = translated(body, "sns")
    assert found.poison is not None
    assert (found.poison.reason, found.body) == ("foreign_envelope", body.encode())
    assert word in found.poison.sentence
