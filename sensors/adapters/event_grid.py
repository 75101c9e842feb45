"""Reads Azure Event Grid's storage events: the text of one queue message in, hints for one container out. Pure.

Known are both schemas (Event Grid's, alone or in a list, and CloudEvents 1.0), plain or in base64. Nothing is ever
raised. A blob counts as written only when the call that is told of completes it: with a hierarchical namespace the
event of `CreateFile` comes first and tells of an empty file.

Of a folder that was renamed or deleted there is one event and none of what is in it, so it becomes a `subtree`: its
listing tells what is there now and what is not there any more. A deleted one has no `old_key`.

A name may stand percent-encoded in the event's URLs and plain in its subject. Where the two leave room for doubt, both
readings become hints: looking at a name that is not there costs one request and changes nothing.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

import orjson

from sensors.adapters.notice_reading import (
    FOREIGN,
    NAME,
    UNREADABLE,
    VERSION,
    Fault,
    Message,
    Told,
    bad_name,
    moment,
    sequencer,
    shown,
    tell,
    text_at,
)
from sensors.adapters.objects import Hint

COMPLETE: Final = frozenset({"PutBlob", "PutBlockList", "FlushWithClose", "CopyBlob", "SftpCommit"})
_PREFIX = "Microsoft.Storage."
_HANDSHAKE = "Microsoft.EventGrid.SubscriptionValidationEvent"
_SUBJECT = re.compile(r"/blobServices/[^/]+/containers/([^/]+)/blobs/(.+)", re.DOTALL)
_TOPIC = re.compile(r"/storageAccounts/([^/]+)", re.IGNORECASE)
_URL = re.compile(r"https?://([^/?#]+)/(.+)", re.DOTALL | re.IGNORECASE)
_MAX_KEY = 1024  # characters, Azure's own limit
_LOST = "\ufffd"  # what Event Grid writes into a subject for characters beyond the basic plane


@dataclass(frozen=True, slots=True)
class Container:
    """Which container (file system) is watched; without an account that of the events is not compared."""

    account: str
    name: str


@dataclass(frozen=True, slots=True)
class _Event:
    """One event of either schema."""

    kind: str
    subject: str
    account: str
    time: int | None
    data: Mapping[str, Any]
    part: str


@dataclass(frozen=True, slots=True)
class _Place:
    """A URL or a subject, taken apart; empty where it gives nothing. `path` as it stands there."""

    account: str = ""
    container: str = ""
    path: str = ""

    @property
    def decoded(self) -> str:
        """Return the path without percent-encoding; empty when that gives no text."""
        try:
            return unquote(re.split(r"[?#]", self.path, maxsplit=1)[0], errors="strict")
        except UnicodeDecodeError:
            return ""


def read_event_grid(message: Message, container: Container) -> Told:
    """Return what a message tells of a container."""
    return tell(message, _findings(message.body, container))


def _findings(body: str, container: Container) -> Iterator[Hint | Fault]:
    try:
        document = orjson.loads(_plain_text(body))
    except ValueError as error:  # of JSON, of base64, of UTF-8
        yield Fault(UNREADABLE, f"the message is no JSON, neither plain nor in base64: {error}")
        return
    if isinstance(document, list):
        if not document:
            yield Fault(UNREADABLE, "the message is an empty list")
        for number, item in enumerate(document):
            yield from _event(item, container, f"[{number}]")
    else:
        yield from _event(document, container, "")


def _plain_text(body: str) -> str | bytes:
    text = body.strip().removeprefix("\ufeff")
    if text.startswith(("{", "[")):
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).removeprefix(b"\xef\xbb\xbf")
    except binascii.Error:
        return text  # no JSON either, which the decoder says better


def _event(item: Any, container: Container, part: str) -> Iterator[Hint | Fault]:
    event = _either_schema(item, part)
    if isinstance(event, Fault):
        yield event
    elif event.kind == "BlobCreated":
        yield from _created(event, container)
    elif event.kind in ("BlobDeleted", "DirectoryDeleted"):
        yield from _looks(event, container, "removed", text_at(event.data, "url"))
    elif event.kind in ("BlobRenamed", "DirectoryRenamed"):
        yield from _renamed(event, container)
    # All else (tiers, inventories, an empty folder) changes neither content nor presence of a blob.


def _either_schema(item: Any, part: str) -> _Event | Fault:
    if not isinstance(item, dict):
        return Fault(UNREADABLE, f"an event is no JSON object but {type(item).__name__}", part)
    cloud = "specversion" in item
    if cloud and item["specversion"] != "1.0":
        return Fault(VERSION, f"specversion is {shown(item['specversion'])}, and 1.0 is known", part)
    kind = text_at(item, "type" if cloud else "eventType")
    if not kind:
        return Fault(UNREADABLE, "this is neither an Event Grid event nor a CloudEvent: it has no type", part)
    if kind == _HANDSHAKE:
        return _Event("", "", "", None, {}, part)
    if not kind.startswith(_PREFIX):
        return Fault(FOREIGN, f"the type {shown(kind)} is not storage's", part)
    data = item.get("data")
    if not isinstance(data, dict):
        return Fault(UNREADABLE, "the event has no `data`", part)
    topic = _TOPIC.search(text_at(item, "source" if cloud else "topic"))
    return _Event(
        kind.removeprefix(_PREFIX),
        text_at(item, "subject"),
        topic[1] if topic else "",
        moment(item.get("time" if cloud else "eventTime")),
        data,
        part,
    )


# -- what the types mean -----------------------------------------------------------------------------------------------
def _created(event: _Event, container: Container) -> Iterator[Hint | Fault]:
    api = text_at(event.data, "api")
    if not api:
        yield Fault(UNREADABLE, "the event has no `data.api`, which says whether the blob is complete", event.part)
    elif api in COMPLETE:
        yield from _looks(event, container, "written", text_at(event.data, "url"))


def _looks(
    event: _Event, container: Container, what: Literal["written", "removed"], url: str
) -> Iterator[Hint | Fault]:
    """Look at what the event is about, by each reading of its name."""
    place, subject = _of_url(url), _of_subject(event.subject)
    fault = _strange(event, container, place.account, subject.container or place.container)
    if fault is not None:
        yield fault
        return
    for name in _names(place, subject):
        yield _hint(event, name, what)


def _renamed(event: _Event, container: Container) -> Iterator[Hint | Fault]:
    """Tell of both ends of a renaming, as far as they lie in this container."""
    new, old = _of_url(text_at(event.data, "destinationUrl")), _of_url(text_at(event.data, "sourceUrl"))
    subject = _of_subject(event.subject)
    theirs = subject.container or new.container
    left = old.container == container.name
    fault = _strange(event, container, new.account, container.name if left else theirs)
    if fault is not None:
        yield fault
    elif theirs != container.name:
        yield _hint(event, old.decoded, "removed")
    else:
        for name in _names(new, subject):
            before = old.path if name == new.path != new.decoded else old.decoded
            yield _hint(event, name, "renamed", before if left else "")


def _strange(event: _Event, container: Container, account: str, name: str) -> Fault | None:
    account = event.account or account
    if not name:
        return Fault(UNREADABLE, "neither the event's subject nor its URL names a container", event.part)
    if name != container.name:
        return Fault(FOREIGN, f"it tells of the container {shown(name)}", event.part)
    if account and container.account and account.lower() != container.account.lower():
        return Fault(FOREIGN, f"it tells of the account {shown(account)}", event.part)
    return None


def _names(url: _Place, subject: _Place) -> list[str]:
    """Return the readings of a name: by the URL, and by the subject where that says something else."""
    found = [subject.path] if subject.path else []
    if url.decoded and subject.container in ("", url.container):
        found = [name for name in found if _LOST not in name and name != url.decoded]
        found.insert(0, url.decoded)
    return found or [""]


def _hint(event: _Event, name: str, what: Literal["written", "removed", "renamed"], old: str = "") -> Hint | Fault:
    for text in (name, old) if old else (name,):
        trouble = bad_name(text)
        if trouble is None and len(text) > _MAX_KEY:
            trouble = f"the name {shown(text)} is longer than {_MAX_KEY} characters"
        if trouble is not None:
            return Fault(NAME, trouble, event.part)
    order = sequencer(event.data.get("sequencer"))
    if event.kind.startswith("Directory"):
        name, old = name.rstrip("/") + "/", old.rstrip("/") + "/" if old else ""
        return Hint(name, "subtree", old, order, event.time)
    if what == "renamed" and not old:  # from outside
        return Hint(name, "written", "", order, event.time)
    return Hint(name, what, old, order, event.time)


# -- names -------------------------------------------------------------------------------------------------------------
def _of_subject(subject: str) -> _Place:
    found = _SUBJECT.fullmatch(subject)
    return _Place("", found[1], found[2]) if found else _Place()


def _of_url(url: str) -> _Place:
    """Take apart `https://ACCOUNT.blob.…/CONTAINER/PATH` (or `.dfs.`), or `http://ADDRESS/ACCOUNT/CONTAINER/PATH`."""
    found = _URL.fullmatch(url)
    if found is None:
        return _Place()
    host, rest = found[1].rpartition("@")[2].partition(":")[0], found[2]
    labels = host.lower().split(".")
    account = ""
    if host == "localhost" or host.replace(".", "").isdecimal():
        account, _, rest = rest.partition("/")
    elif {"blob", "dfs"}.intersection(labels[1:3]):
        account = labels[0]
    container, _, path = rest.partition("/")
    return _Place(account, container, path)
