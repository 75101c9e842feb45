"""Reads notifications of S3: the text of one message in, hints for one bucket out. Pure; nothing is ever raised.

Known are S3's own records (straight, or inside SNS' envelope) and EventBridge's events (straight, or the same way).
Both call for a look at the key, so a name that came after us is looked at as well: a look too many costs one request,
a look too few costs an object until the next listing. No order is promised among messages.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote_plus

import orjson

from sensors.adapters.notice_reading import (
    FOREIGN,
    NAME,
    UNCONFIRMED,
    UNREADABLE,
    VERSION,
    Fault,
    Message,
    Told,
    bad_name,
    member,
    moment,
    sequencer,
    shown,
    tell,
    text_at,
)
from sensors.adapters.objects import Hint

_What = Literal["written", "removed"]
_MAX_KEY = 1024  # bytes of UTF-8, S3's own limit

# By family, or by the whole name; None: neither content nor presence of the object changed.
_RECORDS: Final[Mapping[str, _What | None]] = {
    "ObjectCreated": "written",
    "ObjectRemoved": "removed",
    "LifecycleExpiration": "removed",
    "ReducedRedundancyLostObject": "removed",
    "ObjectRestore:Delete": "removed",
    "ObjectRestore": None,
    "LifecycleTransition": None,
    "IntelligentTiering": None,
    "ObjectTagging": None,
    "ObjectAcl": None,
    "ObjectAccessed": None,
    "Replication": None,
    "TestEvent": None,
}
_BRIDGED: Final[Mapping[str, _What | None]] = {
    "Object Created": "written",
    "Object Deleted": "removed",
    "Object Restore Expired": "removed",
    "Object Restore Initiated": None,
    "Object Restore Completed": None,
    "Object Storage Class Changed": None,
    "Object Access Tier Changed": None,
    "Object ACL Updated": None,
    "Object Tags Added": None,
    "Object Tags Deleted": None,
}


def read_s3(message: Message, bucket: str) -> Told:
    """Return what a message tells of a bucket. Test events and changes of tags, rights or tiers tell nothing."""
    return tell(message, _findings(message.body, bucket))


def _findings(text: str, bucket: str, *, wrapped: bool = False) -> Iterator[Hint | Fault]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield Fault(UNREADABLE, f"the {'inner ' if wrapped else ''}message is not JSON: {error}")
        return
    if not isinstance(document, dict):
        yield Fault(UNREADABLE, f"the message is no JSON object but {type(document).__name__}")
    elif "Records" in document:
        yield from _records(document["Records"], bucket)
    elif document.get("Event") == "s3:TestEvent":
        return
    elif "detail-type" in document:
        yield from _bridged(document, bucket)
    elif "TopicArn" in document and not wrapped:
        yield from _enveloped(document, bucket)
    else:
        names = ", ".join(shown(name, 40) for name in list(document)[:5])
        yield Fault(UNREADABLE, f"this is neither S3's nor SNS' nor EventBridge's: an object with {names or 'nothing'}")


def _enveloped(document: Mapping[str, Any], bucket: str) -> Iterator[Hint | Fault]:
    kind = document.get("Type")
    if kind == "Notification":
        inner = document.get("Message")
        if isinstance(inner, str):
            yield from _findings(inner, bucket, wrapped=True)
        else:
            yield Fault(UNREADABLE, "SNS' envelope has no text in `Message`")
    elif kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        topic = shown(document["TopicArn"])
        yield Fault(UNCONFIRMED, f"the topic {topic} asks for {kind}: open `SubscribeURL` of this message to confirm")
    else:
        yield Fault(UNREADABLE, f"SNS' envelope is of the unknown type {shown(kind)}")


# -- S3's own records --------------------------------------------------------------------------------------------------
def _records(records: Any, bucket: str) -> Iterator[Hint | Fault]:
    if not isinstance(records, list) or not records:
        yield Fault(UNREADABLE, "`Records` is no list, or empty")
        return
    for number, record in enumerate(records):
        found = _record(record, bucket, f"Records[{number}]")
        if found is not None:
            yield found


def _record(record: Any, bucket: str, part: str) -> Hint | Fault | None:
    version = member(record, "eventVersion")
    if version is not None and not (isinstance(version, str) and version.partition(".")[0] == "2"):
        return Fault(VERSION, f"eventVersion is {shown(version)}, and 2.x is known", part)
    source = member(record, "eventSource")
    if source is not None and not (isinstance(source, str) and source.endswith(":s3")):
        return Fault(FOREIGN, f"eventSource is {shown(source)}, not S3", part)
    name = text_at(record, "eventName").removeprefix("s3:")
    if not name:
        return Fault(UNREADABLE, "there is no `eventName`", part)
    their, key = text_at(record, "s3", "bucket", "name"), member(record, "s3", "object", "key")
    if not their or not isinstance(key, str):
        return Fault(UNREADABLE, "there is no bucket's name, or no object's key", part)
    if their != bucket:
        return Fault(FOREIGN, f"it tells of the bucket {shown(their)}", part)
    what = _meaning(_RECORDS, name, name.partition(":")[0])
    if what is None:
        return None
    try:
        plain = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return Fault(NAME, f"the key {shown(key)} is not UTF-8", part)
    return _hint(plain, what, member(record, "s3", "object", "sequencer"), member(record, "eventTime"), part)


# -- EventBridge -------------------------------------------------------------------------------------------------------
def _bridged(document: Mapping[str, Any], bucket: str) -> Iterator[Hint | Fault]:
    if document.get("source") != "aws.s3":
        yield Fault(FOREIGN, f"the event's source is {shown(document.get('source'))}, not 'aws.s3'")
        return
    version, inner = document.get("version", "0"), member(document, "detail", "event-version")
    if version != "0" or not (inner is None or (isinstance(inner, str) and inner.partition(".")[0] == "1")):
        said = shown(inner) if version == "0" else shown(version)
        yield Fault(VERSION, f"the version is {said}, and 0 (event-version 1.x) is known")
        return
    kind = document["detail-type"]
    if not isinstance(kind, str) or not kind.startswith("Object "):
        yield Fault(FOREIGN, f"detail-type is {shown(kind)}, which tells of no object")
        return
    their, key = text_at(document, "detail", "bucket", "name"), member(document, "detail", "object", "key")
    if not their or not isinstance(key, str):
        yield Fault(UNREADABLE, "there is no bucket's name, or no object's key")
        return
    if their != bucket:
        yield Fault(FOREIGN, f"it tells of the bucket {shown(their)}")
        return
    what = _meaning(_BRIDGED, kind)
    if what is not None:
        yield _hint(key, what, member(document, "detail", "object", "sequencer"), document.get("time"), "")


def _meaning(table: Mapping[str, _What | None], *names: str) -> _What | None:
    for name in names:
        if name in table:
            return table[name]
    return "written"


def _hint(key: str, what: _What, order: Any, time: Any, part: str) -> Hint | Fault:
    trouble = bad_name(key)
    if trouble is None and len(key.encode()) > _MAX_KEY:
        trouble = f"the key {shown(key)} is longer than {_MAX_KEY} bytes"
    if trouble is not None:
        return Fault(NAME, trouble, part)
    return Hint(key, what, sequencer=sequencer(order), time=moment(time))
