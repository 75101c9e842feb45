"""Webhooks: others post, we verify, and each delivery is an event. Free of any web framework.

In flows a raw request, out flows a batch with one event (or one dead letter). The checks come in this order: method,
size, signature over the raw bytes, content coding, media type, form of the content. The sender's faults are 4xx and
nothing is stored; an expression of ours that fails is not the sender's fault: the delivery is accepted and goes to the
dead letters.

The event's id is the first that there is: the provider's delivery id (`github`, `standard-webhooks`), a CloudEvent's
`source` and `id`, the `id:` expression, the body's hash when `dedup: {body: …}` asks for it; otherwise each delivery is
an event of its own. Ids are remembered for seven days, longer than senders retry; a body hash as long as asked.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sensors.batch import Batch, DeadLetter
from sensors.cloudevents import Envelope, decode_binary, decode_structured
from sensors.content import DEFAULT_TYPES, Media, MediaRange, MediaTypes, parse_json
from sensors.errors import Refused
from sensors.event import Event, parse_data, storable_text
from sensors.headers import HeaderPolicy, is_secret, safe_text
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.sensor import PushSensor, Request
from sensors.uid import EVENT, new_uid
from sensors.units import Duration, Size
from sensors.verify import Verify, verifier_of
from sensors.w3c import MAX_TRACESTATE, parse_traceparent

REMEMBER = 7 * 86_400.0
MAX_ID = 1024  # bytes; an index of PostgreSQL takes 2,700
RECEIVED = "webhook.received"
SCOPE = ("body", "headers")

_GITHUB_EVENT = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


class DedupOptions(BaseModel):
    """What else makes two deliveries the same event."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body: Duration = Field(gt=0, description="deliveries with an equal body within this time are one event")


class WebhookOptions(SensorOptions):
    """Options of `kind: webhook`."""

    kind: Literal["webhook"] = "webhook"
    path: str = Field(description="where senders post, such as /hooks/github")
    methods: tuple[Literal["POST", "PUT", "PATCH", "GET", "DELETE"], ...] = ("POST",)
    verify: Verify = Field(description="who may post; `none` must be written out")
    id: str | None = Field(None, description="CEL over body and headers: the event's id, where the sender sends none")
    type: str | None = Field(None, description="CEL over body and headers: the event's type")
    subject: str | None = Field(None, description="CEL over body and headers: the event's subject")
    dedup: DedupOptions | None = Field(None, description="body: 10m makes equal bodies within 10 minutes one event")
    max_body: Size | None = Field(None, gt=0, description="a larger body is refused with 413; by default the service's")
    content_types: tuple[MediaRange, ...] = Field(DEFAULT_TYPES, description="others are refused with 415")
    keep_headers: tuple[str, ...] | None = Field(
        None, description="headers that become attributes, x-my-* included; by default all but secrets"
    )

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not value.startswith("/") or value == "/" or any(c in value for c in "?#{} ") or not value.isprintable():
            raise ValueError("must start with / and be a plain path, such as /hooks/github")
        return value

    @field_validator("methods")
    @classmethod
    def _methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("must name at least one method, such as POST")
        return value


class _OursFailed(Exception):
    """An expression of the configuration could not be evaluated on this delivery."""


Compiled = Callable[[Mapping[str, Any]], Any]


class Webhook:
    """The push sensor. It keeps nothing between requests but what it learned about names."""

    def __init__(self, options: WebhookOptions, context: SensorContext) -> None:
        verifier = verifier_of(options.verify)
        self._sensor = context.name
        self._options = options
        self._verify = verifier.bind(options.verify)
        self._trusted = verifier.proves
        self._delivery = verifier.delivery
        self._github = verifier.scheme == "github"
        self._methods = frozenset(options.methods)
        self._max_body = options.max_body
        self._headers = HeaderPolicy(options.keep_headers, verifier.secret_headers(options.verify))
        self._media = MediaTypes(options.content_types)
        self._id = _compiled(options.id, "id", context)
        self._type = _compiled(options.type, "type", context)
        self._subject = _compiled(options.subject, "subject", context)
        self._scoped = bool(options.id or options.type or options.subject)
        self._body_window = options.dedup.body if options.dedup else None

    async def receive(self, request: Request) -> Batch:
        """Verify and read one request. Raises Refused with 400, 401, 404, 405, 413 or 415."""
        if request.method not in self._methods:
            allow = ", ".join(self._options.methods)
            raise Refused(405, "method", f"{request.method} is not among {allow}", headers={"allow": allow})
        if request.path != self._options.path:
            raise Refused(404, "unknown_path", "no webhook listens on this path")
        body = request.body
        if self._max_body is not None and len(body) > self._max_body:
            raise Refused(413, "too_large", f"{len(body)} bytes are more than {self._max_body}")
        self._verify(request)
        headers = request.headers
        if (coding := headers.get("content-encoding")) and coding[0].strip().lower() not in ("identity", ""):
            raise Refused(415, "content_encoding", "a compressed body is not accepted", headers={"accept-encoding": ""})
        content_type = values[0] if (values := headers.get("content-type")) else None
        media = self._media.of(content_type)
        if not media.allowed and (body or content_type is not None):
            raise Refused(415, "media_type", f"media type {content_type!r} is not accepted")
        document = parse_json(body) if media.json and body else None
        envelope = None
        if media.structured or "ce-specversion" in headers:
            envelope = _envelope(request, document, media)
        return self._batch(request, media, envelope)

    def answer(self, receipts: Sequence[tuple[str, bool]]) -> bytes | None:
        """Return None: the standard answer fits."""
        return None

    def _batch(self, request: Request, media: Media, envelope: Envelope | None) -> Batch:
        body: bytes | None = request.body or None
        at = request.received_at
        attributes = self._headers.attributes(request.headers)
        if request.query:
            _add_query(request.query, attributes)
        content_type, type_, subject, time, source = media.text, RECEIVED, None, None, request.path
        if self._github:
            type_ = _github_type(request)
        if envelope is not None:
            attributes |= envelope.extensions
            body, content_type, type_ = envelope.data, envelope.content_type, envelope.type
            subject, time, source = envelope.subject, envelope.time, envelope.source
        uid = new_uid(EVENT, at)
        id_, window = self._given_id(request, envelope), REMEMBER
        if self._scoped:
            try:
                scope = _scope(request, body, content_type)
                if id_ is None and self._id is not None:
                    id_ = _as_id(self._id(scope))
                type_ = type_ if self._type is None else _as_text(self._type(scope), "type")
                subject = subject if self._subject is None else _as_text(self._subject(scope), "subject")
            except Exception as error:  # noqa: BLE001 - whatever our expression raises, the delivery is kept
                return _unjudged(request, content_type, error)
        if id_ is None and self._body_window is not None:
            id_, window = "sha256:" + hashlib.sha256(request.body).hexdigest(), self._body_window
        traceparent, tracestate = _trace(request.headers, envelope)
        event = Event(
            sensor=self._sensor,
            id=uid if id_ is None else id_,
            uid=uid,
            source=source,
            type=type_,
            received_at=at,
            subject=subject,
            time=time,
            data=body,
            content_type=content_type,
            attributes=attributes,
            traceparent=traceparent,
            tracestate=tracestate,
            trusted=self._trusted,
        )
        return Batch(events=(event,), dedup_for=window)

    def _given_id(self, request: Request, envelope: Envelope | None) -> str | None:
        """Return the id that the sender gave, by provider header or CloudEvents attributes."""
        if self._delivery is not None and (values := request.headers.get(self._delivery)) and values[0]:
            id_ = values[0]
            if not id_.isascii() or not id_.isprintable():
                raise Refused(400, "bad_id", f"header {self._delivery} is no plain text", public="bad delivery id")
        elif envelope is not None:
            id_ = envelope.identity
        else:
            return None
        return id_ if len(id_.encode("utf-8", "replace")) <= MAX_ID else _shortened(id_)


def _envelope(request: Request, document: Any, media: Media) -> Envelope:
    try:
        if media.structured:
            return decode_structured(document)
        return decode_binary(request.headers, request.body, media.text)
    except ValueError as error:
        raise Refused(400, "bad_cloudevent", str(error), public="the CloudEvent is not valid") from error


def _github_type(request: Request) -> str:
    name = request.header("x-github-event")
    return f"github.{name}" if name and _GITHUB_EVENT.fullmatch(name) else RECEIVED


def _trace(headers: Mapping[str, Sequence[str]], envelope: Envelope | None) -> tuple[str | None, str | None]:
    """Return the producer's context: the request's own, else the CloudEvent's."""
    given = headers.get("traceparent")
    if given is not None and len(given) == 1 and parse_traceparent(given[0]) is not None:
        state = headers.get("tracestate")
        text = ",".join(state) if state else None
        return given[0].strip(), text if text and text.isascii() and len(text) <= MAX_TRACESTATE else None
    if envelope is not None and parse_traceparent(envelope.extensions.get("traceparent")) is not None:
        return envelope.extensions["traceparent"].strip(), None
    return None, None


def _add_query(query: str, attributes: dict[str, str]) -> None:
    """Add query parameters as `query.<name>`; secrets are left out, repeated ones joined."""
    try:
        pairs = parse_qsl(query[:8192], keep_blank_values=True, max_num_fields=64)
    except ValueError:
        return
    for name, value in pairs:
        if not is_secret(name.lower()):
            key = safe_text(f"query.{name}")
            attributes[key] = f"{attributes[key]}, {safe_text(value)}" if key in attributes else safe_text(value)


def _scope(request: Request, body: bytes | None, content_type: str | None) -> dict[str, Any]:
    headers = {name: ", ".join(values) for name, values in request.headers.items() if not is_secret(name)}
    return {"body": parse_data(body, content_type), "headers": headers}


def _as_id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = _as_text(value, "id")
    return text if len(text.encode()) <= MAX_ID else _shortened(text)


def _as_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise _OursFailed(f"`{what}` gave {type(value).__name__} instead of text")
    if not storable_text(value):
        raise _OursFailed(f"`{what}` gave text with NUL or a lone surrogate")
    return value


def _shortened(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _unjudged(request: Request, content_type: str | None, error: Exception) -> Batch:
    letter = DeadLetter(
        "expression_failed",
        safe_text(f"{type(error).__name__}: {error}" if not isinstance(error, _OursFailed) else str(error))[:2000],
        request.path,
        request.body,
        content_type,
    )
    return Batch(dead_letters=(letter,))


def _compiled(text: str | None, what: str, context: SensorContext) -> Compiled | None:
    if text is None:
        return None
    if context.compile is None:
        raise ValueError(f"`{what}` is an expression, and none can be compiled here; leave it out")
    return context.compile(text, SCOPE)


def build(options: WebhookOptions, context: SensorContext) -> PushSensor:
    """Make the sensor. Raises ValueError for an expression or a secret of the wrong form."""
    return Webhook(options, context)


KIND = SensorKind(
    name="webhook",
    help="others post to a path; each verified delivery is an event",
    options=WebhookOptions,
    build=build,
    push=True,
    emits=Emits(
        types={
            RECEIVED: "a delivery, unless `type` says otherwise",
            "github.*": "a delivery from GitHub: github.push, github.pull_request, …",
            "*": "a CloudEvent's own type",
        },
        subject="none, a CloudEvent's own, or what `subject` says",
        time="a CloudEvent's own, otherwise none",
        data="the body as it came (a CloudEvent's data); parsed by its content type",
        attributes="kept headers by lower-case name, query parameters as query.<name>, CloudEvents extensions",
        sample={
            "id": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
            "source": "/hooks/github",
            "type": "github.push",
            "content_type": "application/json",
            "data": {"ref": "refs/heads/main", "repository": {"full_name": "acme/orders"}},
            "attributes": {"x-github-event": "push", "user-agent": "GitHub-Hookshot/044aadd"},
        },
    ),
)
