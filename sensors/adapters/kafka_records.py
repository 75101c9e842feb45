"""From records to events: one pass over what a fetch brought, in the order of each partition.

In flow records of one partition, out flow events for those that some filter lets through, dead letters for those that
cannot be read, and exact numbers of the others. This is the hot path: for a record that no filter lets through there is
no event, no header is decoded and nothing is awaited.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from sensors.adapters.kafka_formats import BadRecord, Cloud, Decoder, cloud_event
from sensors.batch import DeadLetter
from sensors.event import EMPTY, Event, storable_text
from sensors.headers import CUT, HeaderPolicy
from sensors.ports import Sieve
from sensors.uid import EVENT, UidSeries
from sensors.w3c import MAX_TRACESTATE, parse_traceparent

TYPE = "kafka.record"
TOMBSTONE = "tombstone"
_SUBJECT = 1024  # characters of a key that may be a subject
_NUL = b"\\u0000"
_KEY_KEPT = 4096
INCARNATION = "incarnation"
# Attributes that a producer's headers and extensions cannot set: they say what the record is.
OURS = frozenset({"topic", "partition", "offset", "key", "key_encoding", "ceid", TOMBSTONE})


class Raw(Protocol):
    """A record as the client library gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(slots=True)
class Harvest:
    """What one batch is made of; `counts` by outcome, `bytes` of what events and dead letters keep."""

    events: list[Event] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    bytes: int = 0

    def count(self, outcome: str, n: int = 1) -> None:
        """Count what became no event."""
        self.counts[outcome] = self.counts.get(outcome, 0) + n


class _Asked:
    """The attributes of the record under judgement, for filters, which ask for one by name.

    A header that is not there, which most filters ask for in vain, is told without decoding those that are.
    """

    __slots__ = ("_shown",)

    def __init__(self, shown: "_Shown") -> None:
        self._shown = shown

    def get(self, name: str) -> str | None:
        """Return one attribute as the event would have it."""
        if (
            name not in OURS
            and name != CUT
            and not any(header.lower() == name for header, _ in self._shown.raw.headers)
        ):
            return self._shown.extension(name)
        return self._shown.kept().get(name)


class _Shown:
    """The record under judgement, as filters may ask for it; one object for all records of a sensor."""

    __slots__ = ("_asked", "_reader", "content", "incarnation", "raw")

    type = TYPE
    match = EMPTY

    def __init__(self, reader: "RecordReader") -> None:
        self._reader = reader
        self._asked = _Asked(self)
        self.raw: Any = None
        self.content: Any = None
        self.incarnation = 0

    def data(self) -> Any:
        """Return the content."""
        return self.content

    @property
    def trace(self) -> Sequence[tuple[str, bytes | None]] | None:
        """Where the producer's trace context stands, if not in the headers."""
        return None

    @property
    def id(self) -> str:
        """The event's id."""
        return record_id(self.raw, self.incarnation)

    @property
    def sensor(self) -> str:
        """The sensor's name."""
        return self._reader.sensor

    @property
    def source(self) -> str:
        """The topic."""
        return self._reader.source(self.raw.topic)

    @property
    def subject(self) -> str | None:
        """The key, when it is text."""
        return subject_of(self.raw.key)

    @property
    def time(self) -> int | None:
        """The record's time, UTC microseconds."""
        return time_of(self.raw)

    @property
    def attributes(self) -> Mapping[str, str]:
        """Headers, and where the record stands, one by one."""
        return cast("Mapping[str, str]", self._asked)

    def kept(self) -> Mapping[str, str]:
        """Return all attributes of the event."""
        return self._reader.attributes(self.raw)

    def extension(self, name: str) -> str | None:
        """Return an attribute that is no header."""
        return None


class _ShownCloud(_Shown):
    """A CloudEvent in a record: its own attributes go first."""

    __slots__ = ("cloud",)

    def __init__(self, reader: "RecordReader") -> None:
        super().__init__(reader)
        self.cloud: Any = None

    @property
    def trace(self) -> Sequence[tuple[str, bytes | None]] | None:
        """The extensions of distributed tracing name the context in which the event was made."""
        found = self.cloud.envelope.extensions
        return [(name, text.encode()) for name, text in found.items()] if "traceparent" in found else None

    @property
    def type(self) -> str:  # type: ignore[override]
        """The CloudEvent's type."""
        return cast("str", self.cloud.envelope.type)

    @property
    def source(self) -> str:
        """The CloudEvent's source."""
        return cast("str", self.cloud.envelope.source)

    @property
    def subject(self) -> str | None:
        """The CloudEvent's subject."""
        return cast("str | None", self.cloud.envelope.subject)

    @property
    def time(self) -> int | None:
        """The CloudEvent's time, else the record's."""
        at = self.cloud.envelope.time
        return time_of(self.raw) if at is None else cast("int", at)

    def kept(self) -> Mapping[str, str]:
        """Return headers, extensions, the CloudEvent's own id, and where the record stands."""
        return self._reader.attributes(self.raw, self.cloud)

    def extension(self, name: str) -> str | None:
        """Return an extension of the CloudEvent."""
        return cast("str | None", self.cloud.envelope.extensions.get(name))


class RecordReader:
    """Reads records of one sensor. `decoder` None reads CloudEvents."""

    def __init__(
        self, sensor: str, namespace: str, decoder: Decoder | None, *, max_record: int, headers: Sequence[str] | None
    ) -> None:
        self.sensor = sensor
        self._namespace = namespace
        self._decoder = decoder
        self._max = max_record
        self._policy = HeaderPolicy(headers)
        self._shown = _Shown(self)
        self._shown_cloud = _ShownCloud(self)
        self._incarnation = 0  # of the log that is being read

    def source(self, topic: str) -> str:
        """Return the event source of a topic: its OpenLineage namespace and name."""
        return f"{self._namespace}/{topic}"

    def read(self, records: Iterable[Raw], incarnation: int, sieve: Sieve, now: int, into: Harvest) -> None:
        """Read the records of one partition, in order. `now` is UTC microseconds."""
        self._incarnation = incarnation
        if self._decoder is None:
            self._read_clouds(records, incarnation, sieve, now, into)
            return
        uid = UidSeries(EVENT, now)
        decoder, wants, quick, shown, most = self._decoder, sieve.wants, sieve.quick(TYPE), self._shown, self._max
        content_of, judged = decoder.content, decoder.hostile is not None
        mark, hostile = decoder.hostile or (b"", b"")
        shown.incarnation = incarnation
        unmatched = 0
        for raw in records:
            value = raw.value
            try:
                if value is None:
                    content = None
                elif len(value) > most:
                    raise _too_large(len(value), most)
                else:
                    content = content_of(value)
            except (BadRecord, ValueError) as error:
                self._bury(raw, decoder.bad(error), into)
                continue
            # What may hold a NUL is judged as an event, whatever filters say: then it is an error that people see.
            # The first mark is one byte, for which most values are searched much faster than for the second.
            if (
                quick is not None
                and not quick(content)
                and not (judged and value and mark in value and hostile in value)
            ):
                unmatched += 1
                continue
            shown.raw, shown.content = raw, content
            if not wants(shown) and not (judged and value and mark in value and hostile in value):
                unmatched += 1
                continue
            try:
                kept = None if value is None else decoder.kept(value, content)
            except BadRecord as bad:
                self._bury(raw, bad, into)
                continue
            into.events.append(self._event(raw, shown, kept, decoder.content_type, uid(), now))
            into.bytes += 0 if kept is None else len(kept)
        if unmatched:
            sieve.refuse(TYPE, unmatched)
            into.count("unmatched", unmatched)

    def _read_clouds(self, records: Iterable[Raw], incarnation: int, sieve: Sieve, now: int, into: Harvest) -> None:
        shown, uid = self._shown_cloud, UidSeries(EVENT, now)
        shown.incarnation = incarnation
        for raw in records:
            try:
                if raw.value is not None and len(raw.value) > self._max:
                    raise _too_large(len(raw.value), self._max)
                cloud = cloud_event(raw.value, raw.headers)
            except BadRecord as bad:
                self._bury(raw, bad, into)
                continue
            shown.raw, shown.cloud, shown.content = raw, cloud, cloud.content
            if not sieve.wants(shown) and not (raw.value and (_NUL in raw.value or b"\0" in raw.value)):
                sieve.refuse(shown.type)
                into.count("unmatched")
                continue
            data = cloud.envelope.data
            into.events.append(self._event(raw, shown, data, cloud.envelope.content_type, uid(), now))
            into.bytes += 0 if data is None else len(data)

    def _event(
        self, raw: Raw, shown: _Shown, data: bytes | None, content_type: str | None, uid: str, now: int
    ) -> Event:
        parent, state = trace_of(raw.headers if shown.trace is None else shown.trace)
        return Event(
            sensor=self.sensor,
            id=record_id(raw, shown.incarnation),
            uid=uid,
            source=shown.source,
            type=shown.type,
            received_at=now,
            subject=shown.subject,
            time=shown.time,
            data=data,
            content_type=None if data is None else content_type,
            attributes=shown.kept(),
            match=EMPTY,
            traceparent=parent,
            tracestate=state,
        )

    def attributes(self, raw: Raw, cloud: Cloud | None = None) -> Mapping[str, str]:
        """Return what an event says of its record: headers, extensions, key and place."""
        kept: dict[str, str] = {}
        if raw.headers:
            named: dict[str, list[str]] = {}
            for name, value in raw.headers:
                lower = name.lower()
                if lower not in OURS and (cloud is None or not lower.startswith("ce_")):
                    named.setdefault(lower, []).append(_readable(value or b""))
            kept = self._policy.attributes(named)
        if cloud is not None:
            kept.update({name: text for name, text in cloud.envelope.extensions.items() if name not in OURS})
            kept["ceid"] = cloud.envelope.id
        if raw.key is not None:
            text = _text(raw.key)
            kept["key"] = base64.b64encode(raw.key[:_KEY_KEPT]).decode() if text is None else text[:_KEY_KEPT]
            if text is None:
                kept["key_encoding"] = "base64"
        if raw.value is None:
            kept[TOMBSTONE] = "true"
        kept["topic"] = raw.topic
        kept["partition"] = str(raw.partition)
        kept["offset"] = str(raw.offset)
        return kept

    def _bury(self, raw: Raw, bad: BadRecord, into: Harvest) -> None:
        into.count("dead")
        into.bytes += min(len(raw.value or b""), self._max)
        into.letters.append(
            DeadLetter(
                bad.reason,
                str(bad),
                place_of(raw),
                (raw.value or b"")[: self._max],
                self._decoder.content_type if self._decoder is not None else None,
                attributes=self._told_of(raw),
            )
        )

    def _told_of(self, raw: Raw) -> Mapping[str, str]:
        """Return what a letter says of its record: with the incarnation of a log that was made anew."""
        incarnation = self._incarnation
        kept = self.attributes(raw)
        return {**kept, INCARNATION: str(incarnation)} if incarnation else kept


def record_id(raw: Raw, incarnation: int) -> str:
    """Return the event id of a record."""
    return f"{raw.topic}#{incarnation}/{raw.partition}/{raw.offset}"


def place_of(raw: Raw) -> str:
    """Return where a record stands, for people."""
    return f"{raw.topic}/{raw.partition}/{raw.offset}"


def time_of(raw: Raw) -> int | None:
    """Return the record's time in UTC microseconds; None when it has none."""
    return raw.timestamp * 1000 if raw.timestamp >= 0 else None


def subject_of(key: bytes | None) -> str | None:
    """Return a key as a subject: text of a sensible length, else None."""
    text = None if not key else _text(key)
    return text if text is not None and len(text) <= _SUBJECT else None


def trace_of(headers: Sequence[tuple[str, bytes | None]]) -> tuple[str | None, str | None]:
    """Return the producer's valid traceparent and its tracestate."""
    parent = state = None
    for name, value in headers:
        if name == "traceparent" and parent is None:
            parent = (value or b"").decode("latin-1")
        elif name == "tracestate":
            state = (value or b"").decode("latin-1")
    if parse_traceparent(parent) is None or parent is None:
        return None, None
    if state is not None and (len(state) > MAX_TRACESTATE or not state.isprintable()):
        state = None
    return parent.strip(" \t"), state


def _too_large(size: int, most: int) -> BadRecord:
    return BadRecord("too_large", f"the value has {size} bytes; `max_record` allows {most}")


def _readable(value: bytes) -> str:
    """Return a header's value: UTF-8 where it is that, else byte by byte."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _text(key: bytes) -> str | None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    return text if storable_text(text) else None
