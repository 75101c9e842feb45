"""Webhooks: others post, we verify, and each delivery is an event. Free of any web framework.

In flows a raw request, out flows a batch with one event (or one dead letter); a batch of CloudEvents and a delivery of
Event Grid bring several, all or none. The checks come in this order: method, path, size, signature over the raw bytes,
content coding, media type, form of the content. The sender's faults are 4xx and nothing is stored; an expression of
ours that fails is not the sender's fault: the delivery is accepted and goes to the dead letters.

The event's id is the first that there is: the provider's delivery id (`github`, `stripe`, …), a CloudEvent's `source`
and `id`, the `id:` expression, the body's hash when `dedup: {body: …}` asks for it; otherwise each delivery is an event
of its own. Ids are remembered for seven days or longer, longer than senders retry; a body hash as long as asked.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from sensors.adapters.codings import undone
from sensors.adapters.grid_door import grid_handshake, read_grid
from sensors.adapters.permission import permission
from sensors.adapters.webhook_event import (
    EXPRESSION_FAILED,
    MAX_ID,
    add_query,
    captured,
    delivery_of,
    evaluated_id,
    evaluated_text,
    id_of,
    provided_id,
    scope_of,
    source_of,
    trace_of,
    unjudged,
)
from sensors.adapters.webhook_options import REMEMBER, AnswerOptions, WebhookOptions
from sensors.batch import Batch, Cursor, DeadLetter, Reply
from sensors.cloudevents import Envelope, decode_batch, decode_binary, decode_structured
from sensors.content import Media, MediaTypes, parse_json
from sensors.errors import Refused
from sensors.event import Event
from sensors.headers import HeaderPolicy
from sensors.kind import Emits, SensorContext, SensorKind
from sensors.ports import Lookup
from sensors.retrying import NotRetryable
from sensors.sensor import PushSensor, Request
from sensors.uid import EVENT, new_uid
from sensors.verifiers.model import Live
from sensors.verify import verifier_of

__all__ = ["KIND", "MAX_ID", "REMEMBER", "Webhook", "WebhookOptions", "build"]

RECEIVED = "webhook.received"
SCOPE = ("body", "headers", "query", "match")
_DECODED = 4  # times the largest body, unless `max_decoded` says otherwise
_BODY = 1024 * 1024  # the service's cap, where the options name none

Compiled = Callable[[Mapping[str, Any]], Any]


class Webhook:
    """The push sensor. It keeps nothing between requests but what it learned about names."""

    def __init__(self, options: WebhookOptions, context: SensorContext, live: Live | None = None) -> None:
        verifier = verifier_of(options.verify)
        self._sensor = context.name
        self._options = options
        self._verify = verifier.bind(options.verify, live)
        self._trusted = verifier.proves
        self._delivery = verifier.delivery
        self._named = verifier.named
        self._unwrap = verifier.unwrap
        self._handshake = grid_handshake if options.format == "event-grid" else verifier.handshake
        self._grid = options.format == "event-grid"
        self._origins = options.asked_by
        self._methods = frozenset(options.methods)
        self._secrets = tuple(secret.encode() for secret in options.path_secrets)
        self._params = bool(options.parameters)
        self._max_body = options.max_body
        self._max_decoded = options.max_decoded or (options.max_body or _BODY) * _DECODED
        self._headers = HeaderPolicy(options.keep_headers, verifier.secret_headers(options.verify))
        self._media = MediaTypes(options.content_types, batch=options.cloudevents.batch or self._grid)
        self._id = _compiled(options.id, "id", context)
        self._type = _compiled(options.type, "type", context)
        self._subject = _compiled(options.subject, "subject", context)
        self._scoped = bool(options.id or options.type or options.subject)
        self._remember = options.dedup.ids
        self._body_window = options.dedup.body
        self._answer = _Answer(options.answer, context) if options.answer is not None else None

    async def receive(self, request: Request) -> Batch:
        """Verify and read one request. Raises Refused with 400, 401, 403, 404, 405, 413 or 415."""
        if request.method not in self._methods:
            return self._other_method(request)
        if request.path != self._options.path:
            raise Refused(404, "unknown_path", "no webhook listens on this path")
        match = captured(request, self._secrets) if self._params else request.params
        if self._max_body is not None and len(request.body) > self._max_body:
            raise Refused(413, "too_large", f"{len(request.body)} bytes are more than {self._max_body}")
        self._verify(request)
        headers = request.headers
        if (coding := headers.get("content-encoding")) is not None:
            request = replace(request, body=undone(request.body, coding, self._options.encodings, self._max_decoded))
        return self._read(request, match)

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Read a delivery once more on which an expression failed; see `sensors.retrying.Retryable`. Raises Refused."""
        if letter.reason != EXPRESSION_FAILED:
            raise NotRetryable("the letter holds no delivery as it came; let the sender deliver it again")
        return self._read(*delivery_of(letter, at))

    def _read(self, request: Request, match: Mapping[str, str]) -> Batch:
        """Read a request that was verified. Raises Refused."""
        headers = request.headers
        content_type = values[0] if (values := headers.get("content-type")) else None
        media = self._media.of(content_type)
        body = request.body
        if not media.allowed and (body or content_type is not None):
            raise Refused(415, "media_type", f"media type {content_type!r} is not accepted")
        document = parse_json(body) if body and (media.json or self._unwrap is not None) else None
        envelopes: Sequence[Envelope | None] = (None,)
        try:
            if self._handshake is not None and (reply := self._handshake(document)) is not None:
                return Batch(reply=reply)
            if media.batch:
                envelopes = decode_batch(document)
            elif media.structured:
                envelopes = (decode_structured(document),)
            elif self._unwrap is not None:
                envelopes = (self._unwrap(document),)
            elif "ce-specversion" in headers:
                envelopes = (decode_binary(headers, body, media.text),)
            elif self._grid:
                envelopes = read_grid(document)
        except ValueError as error:
            raise Refused(400, "bad_cloudevent", str(error), public="the event is not valid") from error
        return self._batch(request, media, envelopes, document, match)

    def answer(self, receipts: Sequence[tuple[str, bool]]) -> bytes | None:
        """Return None: the standard answer fits."""
        return None

    def _other_method(self, request: Request) -> Batch:
        if request.method == "OPTIONS" and self._origins and request.path == self._options.path:
            captured(request, self._secrets)
            granted = permission(request, self._origins, self._options.cloudevents.rate, self._options.methods)
            return Batch(reply=granted)
        allow = ", ".join(self._options.methods)
        raise Refused(405, "method", f"{request.method} is not among {allow}", headers={"allow": allow})

    def _batch(
        self,
        request: Request,
        media: Media,
        envelopes: Sequence[Envelope | None],
        document: Any,
        match: Mapping[str, str],
    ) -> Batch:
        provider: tuple[str | None, str | None] = (None, None)
        if self._named is not None:
            provider = self._named(request, document)
        elif self._delivery is not None and (values := request.headers.get(self._delivery)):
            provider = (values[0] or None, None)
        attributes = self._headers.attributes(request.headers)
        if request.query:
            add_query(request.query, attributes)
        window = self._remember
        events: list[Event] = []
        for number, envelope in enumerate(envelopes):
            try:
                event, by_body = self._event(request, media, envelope, provider, attributes, match)
            except Exception as error:
                if isinstance(error, Refused):
                    raise
                return unjudged(
                    request, media.text, error, attributes, match
                )  # whatever our expression raises, the delivery is kept
            if number and provider[0] is not None:
                event = replace(event, id=id_of(f"{event.id} {number}"))
            events.append(event)
            if by_body and self._body_window is not None:
                window = self._body_window
        reply = self._answer.of(request, media, match) if self._answer is not None else None
        return Batch(events=tuple(events), dedup_for=window, reply=reply)

    def _event(
        self,
        request: Request,
        media: Media,
        envelope: Envelope | None,
        provider: tuple[str | None, str | None],
        attributes: dict[str, str],
        match: Mapping[str, str],
    ) -> tuple[Event, bool]:
        """Return one event, and whether its id is the body's hash. Raises what an expression raises."""
        body: bytes | None = request.body or None
        content_type, subject, time = media.text, None, None
        id_, type_ = provider[0], provider[1] or RECEIVED
        if id_ is not None:
            id_ = provided_id(id_)
        if envelope is None:
            source = request.path if not match else source_of(request.path, match)
        else:
            attributes = {**attributes, **envelope.extensions}
            body, content_type, type_ = envelope.data, envelope.content_type, envelope.type
            subject, time, source = envelope.subject, envelope.time, envelope.source
            if id_ is None:
                id_ = id_of(envelope.identity)
        if self._scoped:
            scope = scope_of(request, body, content_type, match)
            if id_ is None and self._id is not None:
                id_ = evaluated_id(self._id(scope))
            type_ = type_ if self._type is None else evaluated_text(self._type(scope), "type")
            subject = subject if self._subject is None else evaluated_text(self._subject(scope), "subject")
        by_body = id_ is None and self._body_window is not None
        if by_body:
            id_ = "sha256:" + hashlib.sha256(request.body).hexdigest()
        uid = new_uid(EVENT, request.received_at)
        traceparent, tracestate = trace_of(request, envelope)
        event = Event(
            sensor=self._sensor,
            id=uid if id_ is None else id_,
            uid=uid,
            source=source,
            type=type_,
            received_at=request.received_at,
            subject=subject,
            time=time,
            data=body,
            content_type=content_type,
            attributes=attributes,
            match=match,
            traceparent=traceparent,
            tracestate=tracestate,
            trusted=self._trusted,
        )
        return event, by_body


class _Answer:
    """What the sender is answered instead of the standard answer."""

    def __init__(self, options: AnswerOptions, context: SensorContext) -> None:
        self._options = options
        self._value = _compiled(options.value, "answer.value", context)

    def of(self, request: Request, media: Media, match: Mapping[str, str]) -> Reply | None:
        """Return the answer; None (the standard one) when the expression fails: the delivery is good all the same."""
        options = self._options
        if self._value is None:
            return Reply(options.status, options.body.encode(), options.content_type if options.body else None)
        try:
            value = self._value(scope_of(request, request.body or None, media.text, match))
            body = value.encode() if isinstance(value, str) else orjson.dumps(value)
        except Exception:  # noqa: BLE001 - whatever our expression raises, the delivery is durable, and that is said
            return None
        return Reply(options.status, body, options.content_type)


class LiveWebhook:
    """A webhook whose verifier fetches its keys: it may wait for them, before and after the check."""

    def __init__(self, webhook: Webhook, live: Live) -> None:
        self._webhook = webhook
        self._live = live

    async def receive(self, request: Request) -> Batch:
        """Have the keys at hand, verify and read, and do what was asked for. Raises Refused, and Unavailable."""
        await self._live.prepare(request)
        batch = await self._webhook.receive(request)
        await self._live.confirm(request)
        return batch

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Read a delivery once more; see `Webhook.retry`."""
        return await self._webhook.retry(uid, letter, cursors, lookup, at)

    def answer(self, receipts: Sequence[tuple[str, bool]]) -> bytes | None:
        """Return None: the standard answer fits."""
        return None


def _compiled(text: str | None, what: str, context: SensorContext) -> Compiled | None:
    if text is None:
        return None
    if context.compile is None:
        raise ValueError(f"`{what}` is an expression, and none can be compiled here; leave it out")
    return context.compile(text, SCOPE)


def build(options: WebhookOptions, context: SensorContext) -> PushSensor:
    """Make the sensor. Raises ValueError for an expression or a secret of the wrong form."""
    verifier = verifier_of(options.verify)
    if verifier.live is None:
        return Webhook(options, context)
    live = verifier.live(options.verify, context.fetch, context.clock)
    return LiveWebhook(Webhook(options, context, live), live)


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
            "gitlab.*": "a delivery from GitLab: gitlab.push, gitlab.merge_request, …",
            "stripe.*": "an event of Stripe: stripe.invoice.paid, …",
            "slack.*": "an event of Slack: slack.app_mention, …",
            "shopify.*": "a delivery from Shopify, by its topic: shopify.orders/create, …",
            "sns.*": "a message of Amazon SNS: sns.notification, sns.subscribed, sns.unsubscribed",
            "*": "a CloudEvent's own type, and Event Grid's",
        },
        subject="none, a CloudEvent's own, or what `subject` says",
        time="a CloudEvent's own, Event Grid's or SNS'; otherwise none",
        data="the body as it came (a CloudEvent's data, the message of SNS); parsed by its content type",
        attributes="kept headers by lower-case name, query parameters as query.<name>, CloudEvents extensions; what "
        "{name} in the path captured is in `match`",
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
