"""Messages of queues become events, or dead letters that say why not. Nothing here waits; the uid alone is not pure.

The event's id is the first that there is: what the `id:` expression gives, a CloudEvent's source and id, the message's
own id, the body's hash when `dedup: {body: …}` asks for it; otherwise each delivery is an event of its own. Whatever is
wrong with a message is told with its bytes as they came, and never stops the messages behind it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sensors.adapters.queue_message import FAILED, FOREIGN, TOO_LARGE, UNDECODABLE, UNSTORABLE, Poison, QueueMessage
from sensors.adapters.queue_options import QueueOptions
from sensors.batch import DeadLetter
from sensors.cloudevents import Envelope, decode_attributes, decode_structured
from sensors.content import parse_json
from sensors.errors import Refused
from sensors.event import Event, parse_data, storable_text
from sensors.headers import safe_text
from sensors.kind import SensorContext
from sensors.retrying import NotRetryable
from sensors.uid import EVENT, new_uid
from sensors.w3c import parse_traceparent

MAX_ID = 1024  # bytes; an index of PostgreSQL takes 2,700
MOST_KEPT = 16 << 20  # bytes of a message that stand in its dead letter
SCOPE = ("body", "headers")
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"

Compiled = Callable[[Mapping[str, Any]], Any]


class _Unreadable(Exception):
    """A message cannot become an event."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.poison = Poison(reason, sentence)


@dataclass(frozen=True, slots=True)
class Read:
    """What became of a message. `window` is how long its id is remembered, in seconds; None means for ever."""

    result: Event | DeadLetter
    window: float | None


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of a message: its envelope if it is a CloudEvent, else data and media type."""

    envelope: Envelope | None
    data: bytes | None
    content_type: str | None


class MessageReader:
    """Reads the messages of one sensor. `source` and `type_` are those of its events.

    `hashes` is for how many seconds equal bodies are one event, where messages have no identity; None: each is one.
    `remember` is how long all other ids are remembered, in seconds; None means for ever.
    """

    def __init__(
        self, options: QueueOptions, source: str, type_: str, context: SensorContext, *, hashes: float | None = None
    ) -> None:
        """Raise ValueError for text that is no expression."""
        self.sensor = context.name
        self._source = source
        self._event_type = type_
        self._format = options.format
        self._largest = options.max_message
        self._id = _compiled(options.id, "id", context)
        self._type = _compiled(options.type, "type", context)
        self._subject = _compiled(options.subject, "subject", context)
        self._hashes = hashes
        self.remember: float | None = options.remember

    def read(self, message: QueueMessage, at: int) -> Read:
        """Return the event of a message received at `at` (UTC micros), or its dead letter."""
        try:
            if message.poison is not None:
                raise _Unreadable(message.poison.reason, message.poison.sentence)
            if len(message.body) > self._largest:
                raise _Unreadable(TOO_LARGE, f"the message has {len(message.body)} bytes, more than {self._largest}")
            return self._event(message, _content(self._format, message), at)
        except _Unreadable as error:
            return Read(_letter(message, error.poison), self.remember)

    def again(self, uid: str, letter: DeadLetter, at: int) -> Read:
        """Read the message of the letter `uid` once more. Raises NotRetryable for what was not kept whole.

        Its id is the one that the queue gave it where the letter has it, else it is named by the letter.
        """
        if len(letter.payload) >= MOST_KEPT:
            raise NotRetryable(f"of the message only the first {MOST_KEPT} bytes were kept; send it again")
        if letter.reason == FOREIGN:
            raise NotRetryable("the message came in an envelope that cannot be taken off; send it again")
        message = QueueMessage(
            body=letter.payload,
            position=letter.position,
            id=letter.attributes.get("message_id") or uid,
            attributes=letter.attributes,
            content_type=letter.content_type,
            subject=letter.attributes.get("routing_key"),
        )
        return self.read(message, at)

    def _event(self, message: QueueMessage, content: _Content, at: int) -> Read:
        envelope = content.envelope
        attributes = message.attributes
        type_, source, subject, time = self._event_type, self._source, message.subject, message.time
        traceparent, tracestate = message.traceparent, message.tracestate
        if envelope is not None:
            attributes = {**envelope.extensions, **attributes}
            type_, source = envelope.type, envelope.source
            subject = envelope.subject if envelope.subject is not None else subject
            time = envelope.time if envelope.time is not None else time
            inner = envelope.extensions.get("traceparent")
            if traceparent is None and parse_traceparent(inner) is not None and inner is not None:
                traceparent = inner.strip()
        uid = new_uid(EVENT, at)
        id_, window = self._identity(message, content, uid)
        if self._type is not None or self._subject is not None or self._id is not None:
            scope = self._scope(content, attributes)
            id_, window = (
                (id_, window) if self._id is None else (_as_id(self._run(self._id, "id", scope)), self.remember)
            )
            type_ = type_ if self._type is None else _as_text(self._run(self._type, "type", scope), "type")
            if self._subject is not None:
                subject = _as_text(self._run(self._subject, "subject", scope), "subject")
        event = Event(
            sensor=self.sensor,
            id=id_,
            uid=uid,
            source=source,
            type=type_,
            received_at=at,
            subject=None if subject is None else safe_text(subject),
            time=time,
            data=content.data,
            content_type=None if content.content_type is None else safe_text(content.content_type[:256]),
            attributes=attributes,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        return Read(event, window)

    def _identity(self, message: QueueMessage, content: _Content, uid: str) -> tuple[str, float | None]:
        if content.envelope is not None:
            return _fitting(content.envelope.identity), self.remember
        if message.id:
            if not storable_text(message.id):
                raise _Unreadable(UNSTORABLE, "the message's id holds a NUL or half of a surrogate pair")
            return _fitting(message.id), self.remember
        if self._hashes is not None:
            return "sha256:" + hashlib.sha256(message.body).hexdigest(), self._hashes
        return uid, self.remember

    @staticmethod
    def _scope(content: _Content, attributes: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            body = parse_data(content.data, content.content_type)
        except ValueError as error:
            raise _Unreadable(FAILED, f"the body cannot be looked into by an expression: {error}") from error
        return {"body": body, "headers": attributes}

    @staticmethod
    def _run(expression: Compiled, name: str, scope: Mapping[str, Any]) -> Any:
        try:
            return expression(scope)
        except Exception as error:
            raise _Unreadable(FAILED, f"`{name}` cannot be evaluated: {type(error).__name__}: {error}") from error


def _content(format_: str, message: QueueMessage) -> _Content:
    """Read the content as `format` says, or as the message itself does. Raises _Unreadable."""
    told = message.content_type.strip() if message.content_type else None
    media = (told or "").partition(";")[0].strip().lower()
    structured = media in ("application/cloudevents+json", "application/cloudevents")
    if format_ == "cloudevents" or (format_ == "auto" and (structured or message.envelope)):
        return _cloud_event(message, told, structured=structured)
    body = message.body
    is_json = media in (_JSON, "text/json") or media.endswith("+json")
    if format_ == "json" or (format_ == "auto" and is_json):
        _parsed(body)
        return _Content(None, body, told if is_json else _JSON)
    is_text = media.startswith("text/")
    if format_ == "text" or (format_ == "auto" and is_text):
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise _Unreadable(UNDECODABLE, f"the message is no UTF-8 text: {error}") from error
        return _Content(None, body or None, told if is_text else _TEXT)
    if format_ == "bytes":
        return _Content(None, body or None, told if told and not is_json and not is_text else _BYTES)
    return _Content(None, body or None, told)


def _cloud_event(message: QueueMessage, told: str | None, *, structured: bool) -> _Content:
    try:
        if structured or not message.envelope:
            envelope = decode_structured(_parsed(message.body))
        else:
            envelope = decode_attributes(message.envelope, message.body or None, told)
    except ValueError as error:
        raise _Unreadable(UNDECODABLE, f"the message is no CloudEvent: {error}") from error
    if not storable_text(envelope.identity):
        raise _Unreadable(UNSTORABLE, "the CloudEvent's id holds a NUL or half of a surrogate pair")
    return _Content(envelope, envelope.data, envelope.content_type)


def _parsed(body: bytes) -> Any:
    try:
        return parse_json(body)
    except Refused as error:
        raise _Unreadable(UNDECODABLE, f"the message is no JSON that can be read: {error}") from error


def _letter(message: QueueMessage, poison: Poison) -> DeadLetter:
    payload = message.body if message.raw is None else message.raw
    sentence = poison.sentence
    if len(payload) > MOST_KEPT:
        sentence += f"; of its {len(payload)} bytes the first {MOST_KEPT} are kept here"
        payload = payload[:MOST_KEPT]
    return DeadLetter(
        reason=poison.reason,
        detail=safe_text(sentence)[:2000],
        position=safe_text(message.position)[:1000],
        payload=payload,
        content_type=None if message.content_type is None else safe_text(message.content_type[:256]),
        attributes=message.attributes,
    )


def _as_id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _fitting(_as_text(value, "id"))


def _as_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise _Unreadable(FAILED, f"`{what}` gave {type(value).__name__ if value != '' else 'nothing'} instead of text")
    if not storable_text(value):
        raise _Unreadable(FAILED, f"`{what}` gave text with NUL or a lone surrogate")
    return value


def _fitting(text: str) -> str:
    """Return an id as it is, or its hash where it is longer than an index takes."""
    raw = text.encode()
    return text if len(raw) <= MAX_ID else "sha256:" + hashlib.sha256(raw).hexdigest()


def _compiled(text: str | None, what: str, context: SensorContext) -> Compiled | None:
    if text is None:
        return None
    if context.compile is None:
        raise ValueError(f"`{what}` is an expression, and none can be compiled here; leave it out")
    return context.compile(text, SCOPE)


def with_poison(message: QueueMessage, reason: str, sentence: str) -> QueueMessage:
    """Return a message that its kind could not read."""
    return replace(message, poison=Poison(reason, sentence))
