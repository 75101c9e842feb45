"""Reading S3's notifications: every documented shape, key decoding, and hostile text that is told and never raised."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensors.adapters.notice_reading import Message, Told
from sensors.adapters.objects import Hint
from sensors.adapters.s3_notices import read_s3

BUCKET = "landing"
MOMENT = "2026-01-31T06:00:00.250Z"
MICROS = 1_769_839_200_250_000
Wrap = Callable[[dict[str, Any]], str]


def record(key: str = "orders/a.csv", name: str = "ObjectCreated:Put", **more: Any) -> dict[str, Any]:
    """Return one of S3's own records; `key` as it stands on the wire."""
    return {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": MOMENT,
        "eventName": name,
        "userIdentity": {"principalId": "AWS:AIDA"},
        "requestParameters": {"sourceIPAddress": "192.0.2.7"},
        "responseElements": {"x-amz-request-id": "C3D1", "x-amz-id-2": "F00="},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "tidegate",
            "bucket": {"name": BUCKET, "ownerIdentity": {"principalId": "A3"}, "arn": f"arn:aws:s3:::{BUCKET}"},
            "object": {"key": key, "size": 1024, "eTag": "d41d8", "versionId": "v1", "sequencer": "0055AED6DCD90281E5"},
        },
        **more,
    }


def records(*some: Any) -> dict[str, Any]:
    return {"Records": list(some)}


def bridged(key: str = "orders/a.csv", kind: str = "Object Created", **more: Any) -> dict[str, Any]:
    """Return EventBridge's event; its keys are not encoded."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": "aws.s3",
        "account": "111122223333",
        "time": MOMENT,
        "region": "eu-central-1",
        "resources": [f"arn:aws:s3:::{BUCKET}"],
        "detail": {
            "version": "0",
            "event-version": "1.0",
            "bucket": {"name": BUCKET},
            "object": {"key": key, "size": 5, "etag": "b1946", "version-id": "v1", "sequencer": "617f08299329d189"},
            "request-id": "N4N7",
            "requester": "123456789012",
            "source-ip-address": "192.0.2.7",
            "reason": "PutObject",
        },
        **more,
    }


def plain(document: dict[str, Any]) -> str:
    return json.dumps(document)


def by_sns(document: dict[str, Any]) -> str:
    """Return what a topic without raw delivery puts into a queue."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "da41e39f-ea4d-435a-b922-c6aae3915ebe",
            "TopicArn": "arn:aws:sns:eu-central-1:111122223333:landing",
            "Subject": "Amazon S3 Notification",
            "Message": json.dumps(document),
            "Timestamp": MOMENT,
            "SignatureVersion": "1",
            "Signature": "EXAMPLE=",
            "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/cert.pem",
            "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
        }
    )


def read(body: str) -> Told:
    return read_s3(Message("landing-queue/m-1", body, {"receive_count": "3"}), BUCKET)


def hints(body: str) -> list[Hint]:
    """Return the hints of a message that has nothing wrong with it."""
    told = read(body)
    assert told.dead is None, told.dead
    return list(told.hints)


@pytest.mark.parametrize("wrap", [plain, by_sns])
def test_s3s_own_record_is_a_hint(wrap: Wrap) -> None:
    """A record of S3 tells key, sequencer and time, straight and inside SNS' envelope."""
    assert hints(wrap(records(record()))) == [
        Hint("orders/a.csv", "written", sequencer="0055AED6DCD90281E5", time=MICROS)
    ]


@pytest.mark.parametrize("wrap", [plain, by_sns])
def test_eventbridges_event_is_a_hint(wrap: Wrap) -> None:
    """An event of EventBridge tells the same, straight and through a topic."""
    assert hints(wrap(bridged())) == [Hint("orders/a.csv", "written", sequencer="617f08299329d189", time=MICROS)]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("ObjectCreated:Put", "written"),
        ("ObjectCreated:Post", "written"),
        ("ObjectCreated:Copy", "written"),
        ("ObjectCreated:CompleteMultipartUpload", "written"),
        ("s3:ObjectCreated:Put", "written"),
        ("ObjectRemoved:Delete", "removed"),
        ("ObjectRemoved:DeleteMarkerCreated", "removed"),
        ("LifecycleExpiration:Delete", "removed"),
        ("LifecycleExpiration:DeleteMarkerCreated", "removed"),
        ("ObjectRestore:Delete", "removed"),
        ("ReducedRedundancyLostObject", "removed"),
        ("ObjectRestore:Post", None),
        ("ObjectRestore:Completed", None),
        ("ObjectTagging:Put", None),
        ("ObjectTagging:Delete", None),
        ("ObjectAcl:Put", None),
        ("LifecycleTransition", None),
        ("IntelligentTiering", None),
        ("Replication:OperationFailedReplication", None),
        ("ObjectCreated:SomethingNew", "written"),
        ("ObjectFolded:InHalf", "written"),
    ],
)
def test_what_s3s_names_mean(name: str, what: str | None) -> None:
    """Writes and removals are looked at, changes of tags and rights are not, and an unknown name is looked at."""
    assert [hint.what for hint in hints(plain(records(record(name=name))))] == ([what] if what else [])


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("Object Created", "written"),
        ("Object Deleted", "removed"),
        ("Object Restore Expired", "removed"),
        ("Object Restore Initiated", None),
        ("Object Restore Completed", None),
        ("Object Storage Class Changed", None),
        ("Object Access Tier Changed", None),
        ("Object ACL Updated", None),
        ("Object Tags Added", None),
        ("Object Tags Deleted", None),
        ("Object Folded", "written"),
    ],
)
def test_what_eventbridges_types_mean(kind: str, what: str | None) -> None:
    """The same, by the names that EventBridge gives."""
    assert [hint.what for hint in hints(plain(bridged(kind=kind)))] == ([what] if what else [])


@pytest.mark.parametrize(
    ("wire", "key"),
    [
        ("red+flower.jpg", "red flower.jpg"),
        ("red%20flower.jpg", "red flower.jpg"),
        ("a+b/%C3%BC%2B%25.csv", "a b/ü+%.csv"),
        ("a%2Fb%2Fc", "a/b/c"),
        ("100%25+sure%3F", "100% sure?"),
        ("%F0%9F%90%8B.csv", "🐋.csv"),
        ("broken%zz.csv", "broken%zz.csv"),
    ],
)
def test_keys_of_records_are_form_decoded(wire: str, key: str) -> None:
    """A key in S3's own record is form-url-encoded, with or without its slashes."""
    assert [hint.key for hint in hints(plain(records(record(wire))))] == [key]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_every_key_survives_all_routes(key: str) -> None:
    """A key reads the same by S3's record with slashes encoded or not, and by EventBridge, which encodes nothing."""
    for body in (
        plain(records(record(quote_plus(key)))),
        plain(records(record(quote_plus(key, safe="/")))),
        plain(records(record(quote(key)))),
        by_sns(records(record(quote_plus(key)))),
        plain(bridged(key)),
    ):
        assert [hint.key for hint in hints(body)] == [key]


def test_eventbridges_keys_are_taken_as_they_are() -> None:
    """A plus sign or a percent sign in an EventBridge event is a character of the key."""
    assert [hint.key for hint in hints(plain(bridged("a+b%20c.csv")))] == ["a+b%20c.csv"]


@pytest.mark.parametrize("wrap", [plain, by_sns])
def test_a_test_event_tells_nothing(wrap: Wrap) -> None:
    """What S3 sends when notifications are set up is read and has no hints."""
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": MOMENT, "Bucket": BUCKET, "RequestId": "5582"}
    assert hints(wrap(test)) == []


def test_several_records_keep_their_order_and_the_broken_ones_are_named() -> None:
    """One message gives the hints of its sound records and one dead letter that names every broken one."""
    body = plain(records(record("a"), {"eventVersion": "2.1"}, record("b"), "x", record("c", eventVersion="3.0")))
    told = read(body)
    assert [hint.key for hint in told.hints] == ["a", "b"]
    assert told.dead is not None
    assert told.dead.position == "landing-queue/m-1#Records[1]"
    assert [part.partition(":")[0] for part in told.dead.detail.split("; ")] == [
        "Records[1]",
        "Records[3]",
        "Records[4]",
    ]
    assert told.dead.payload == body.encode()
    assert told.dead.attributes == {"receive_count": "3"}


def test_a_message_of_many_broken_records_is_told_of_in_short() -> None:
    """The dead letter of a thousand broken records names a few and counts the rest."""
    told = read(plain(records(*[{}] * 1000)))
    assert told.dead is not None
    assert told.dead.detail.endswith("; and 995 more")


OTHER = {"bucket": {"name": "other"}, "object": {"key": "a"}}


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ("", "unreadable_notice", "not JSON"),
        ("hello", "unreadable_notice", "not JSON"),
        ("{" * 5000, "unreadable_notice", "not JSON"),
        ('{"a":"\ud800"}', "unreadable_notice", "not JSON"),
        ("[]", "unreadable_notice", "list"),
        ("7", "unreadable_notice", "int"),
        ("{}", "unreadable_notice", "neither"),
        ('{"Records": []}', "unreadable_notice", "empty"),
        ('{"Records": {}}', "unreadable_notice", "no list"),
        ('{"Records": [[]]}', "unreadable_notice", "eventName"),
        (plain(records(record(eventVersion="3.0"))), "unknown_version", "'3.0'"),
        (plain(records(record(eventVersion=2))), "unknown_version", "int"),
        (plain(records(record(eventSource="aws:sqs"))), "foreign_notice", "aws:sqs"),
        (plain(records(record(eventName=None))), "unreadable_notice", "eventName"),
        (plain(records(record(s3=None))), "unreadable_notice", "key"),
        (plain(records(record(s3={"bucket": {"name": BUCKET}}))), "unreadable_notice", "key"),
        (plain(records(record(s3=OTHER))), "foreign_notice", "'other'"),
        (plain(records(record(""))), "unreadable_name", "empty"),
        (plain(records(record("a%00b"))), "unreadable_name", "NUL"),
        (plain(records(record("%FF"))), "unreadable_name", "UTF-8"),
        (plain(records(record("%ED%A0%80"))), "unreadable_name", "UTF-8"),
        (plain(records(record("x" * 1025))), "unreadable_name", "1024"),
        (plain(bridged(version="1")), "unknown_version", "'1'"),
        (plain(bridged(detail={**bridged()["detail"], "event-version": "2.0"})), "unknown_version", "'2.0'"),
        (plain(bridged(source="my.app")), "foreign_notice", "my.app"),
        (plain(bridged(kind="AWS API Call via CloudTrail")), "foreign_notice", "CloudTrail"),
        (plain(bridged(detail=OTHER)), "foreign_notice", "'other'"),
        (plain(bridged(detail=None)), "unreadable_notice", "key"),
        (plain(bridged("")), "unreadable_name", "empty"),
        ('{"TopicArn": "t", "Type": "Notification"}', "unreadable_notice", "Message"),
        ('{"TopicArn": "t", "Type": "Notification", "Message": "hi"}', "unreadable_notice", "inner message"),
        ('{"TopicArn": "t", "Type": "Novel"}', "unreadable_notice", "Novel"),
        ('{"TopicArn": "t", "Type": "SubscriptionConfirmation"}', "unconfirmed_topic", "SubscribeURL"),
        (by_sns(json.loads(by_sns(records(record())))), "unreadable_notice", "neither"),
    ],
)
def test_what_cannot_be_read_is_a_dead_letter(body: str, reason: str, words: str) -> None:
    """A message that tells nothing we can read gives no hint and says why, where, and what it was."""
    told = read(body)
    assert told.hints == []
    assert told.dead is not None
    assert (told.dead.reason, told.dead.position.partition("#")[0]) == (reason, "landing-queue/m-1")
    assert words in told.dead.detail
    assert told.dead.payload == body.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.6", "2.99", "2"])
def test_any_minor_version_is_read(version: str) -> None:
    """Minor versions only add fields; a record that says none is read as well."""
    unsaid = record()
    del unsaid["eventVersion"]
    assert len(hints(plain(records(record(eventVersion=version), unsaid)))) == 2


@pytest.mark.parametrize("time", [None, 7, "", "yesterday", "2026-01-31", "2026-01-31T06:00:00", "9" * 400])
def test_a_hint_does_without_a_time(time: Any) -> None:
    """A time that cannot be read is left out; the key is looked at all the same."""
    assert [hint.time for hint in hints(plain(records(record(eventTime=time))))] == [None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside a document."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, item in inner for path in paths_of(item, (*at, name)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


@given(st.data(), st.sampled_from([records(record(), record("b")), bridged(), json.loads(by_sns(bridged()))]), JSON)
def test_no_document_gets_an_exception_out(data: st.DataObject, document: Any, junk: Any) -> None:
    """Whatever stands in the place of any field, there are hints with sound keys, a dead letter, or nothing."""
    path = data.draw(st.sampled_from(paths_of(document)))
    check(read(json.dumps(replaced(document, path, junk))))


@given(st.text() | st.text(st.characters()) | JSON.map(json.dumps))
@example("\ufeff{}")
@example("[" * 100_000)
@example("1" * 5000)
def test_no_text_gets_an_exception_out(body: str) -> None:
    """No text at all raises."""
    check(read(body))


def check(told: Told) -> None:
    for hint in told.hints:
        assert hint.key
        hint.key.encode()
        assert "\0" not in hint.key
    if told.dead is not None:
        assert told.dead.reason
        assert told.dead.detail
        assert len(told.dead.detail) <= 2000
        assert "\0" not in told.dead.detail + told.dead.position
        (told.dead.detail + told.dead.position).encode()
