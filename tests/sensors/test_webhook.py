"""The webhook kind: identity, what is kept, and that every refusal is the sender's own fault."""

import base64
import hmac
from pathlib import Path
from typing import Any

import orjson
import pytest

from sensors.clock import SystemClock
from sensors.errors import Refused
from sensors.kind import SensorContext
from sensors.kinds.webhook import MAX_ID, REMEMBER, WebhookOptions, build
from sensors.sensor import Request
from sensors.testing import make_request
from tests.support.webhooks import make_webhook, one_event

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_CE = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/orders", "ce-type": "order.paid"}


async def _refused(request: Request, **options: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        await make_webhook(**options).receive(request)
    return refused.value


def _github(body: bytes, **headers: str) -> Request:
    signature = "sha256=" + hmac.digest(b"s", body, "sha256").hex()
    return make_request(
        body, {"x-hub-signature-256": signature, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


_GITHUB: dict[str, Any] = {"verify": {"scheme": "github", "secret": "s"}}


async def test_a_delivery_is_one_event() -> None:
    """Body, content type, headers and times arrive as sent; without an id of the sender each delivery is its own."""
    webhook = make_webhook()
    request = make_request(
        b'{"a": 1}', {"X-Tenant": "acme", "traceparent": _TRACE, "tracestate": "k=v"}, query="page=2"
    )
    event, again = await one_event(webhook, request), await one_event(webhook, request)

    assert (event.sensor, event.type, event.source, event.subject) == ("hook", "webhook.received", "/hooks/test", None)
    assert (event.data, event.content_type, event.received_at) == (b'{"a": 1}', "application/json", request.received_at)
    assert event.attributes == {"content-type": "application/json", "x-tenant": "acme", "query.page": "2"}
    assert (event.traceparent, event.tracestate, event.trusted) == (_TRACE, "k=v", False)
    assert event.id == event.uid
    assert event.id != again.id


async def test_github_deliveries_carry_their_id_and_type() -> None:
    """The delivery id is the event's id, the event name its type, and the sender is trusted."""
    webhook = make_webhook(**_GITHUB)
    event = await one_event(webhook, _github(b"{}", x_github_delivery="72d3-1", x_github_event="pull_request"))

    assert (event.id, event.type, event.trusted) == ("72d3-1", "github.pull_request", True)
    assert "x-hub-signature-256" not in event.attributes
    assert event.attributes["x-github-event"] == "pull_request"
    odd = await one_event(webhook, _github(b"{}", x_github_event="../../x"))
    assert odd.type == "webhook.received"


async def test_standard_webhooks_carry_their_id() -> None:
    """`webhook-id` is the event's id, so that retries are one event."""
    signed = hmac.digest(b"k" * 24, b"msg_1.1800000000." + b"{}", "sha256")
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    webhook = make_webhook(verify={"scheme": "standard-webhooks", "secret": secret})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": "1800000000",
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }
    event = await one_event(webhook, make_request(b"{}", headers))

    assert event.id == "msg_1"
    assert "webhook-signature" not in event.attributes


async def test_a_binary_cloudevent_keeps_its_own_envelope() -> None:
    """Id, source, type, subject, time and extensions are the event's; source and id together are its identity."""
    headers = {**_CE, "ce-subject": "a%20b", "ce-time": "2026-01-31T06:00:00.5Z", "ce-partitionkey": "p1"}
    event = await one_event(make_webhook(), make_request(b'{"x":1}', headers))

    assert (event.id, event.source, event.type) == ("/orders 7", "/orders", "order.paid")
    assert (event.subject, event.time) == ("a b", 1_769_839_200_500_000)
    assert event.attributes["partitionkey"] == "p1"
    assert event.data == b'{"x":1}'


async def test_a_structured_cloudevent_is_unwrapped() -> None:
    """The data of a structured event is the event's data, with its own content type."""
    document = {"specversion": "1.0", "id": "7", "source": "/orders", "type": "order.paid", "data": {"x": 1}, "n": 3}
    request = make_request(
        orjson.dumps(document), {"content-type": "application/cloudevents+json", **_CE, "ce-id": "9"}
    )
    event = await one_event(make_webhook(), request)

    assert event.id == "/orders 7"
    assert (event.data, event.content_type) == (b'{"x":1}', "application/json")
    assert event.attributes["n"] == "3"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({**_CE, "ce-id": ""}, b"{}"),
        ({**_CE, "ce-specversion": "0.3"}, b"{}"),
        ({**_CE, "ce-source": "%C0%A0"}, b"{}"),
        ({**_CE, "ce-time": "yesterday"}, b"{}"),
        ({**_CE, "ce-datacontenttype": "text/plain"}, b"{}"),
        ({"content-type": "application/cloudevents+json"}, b"[]"),
        ({"content-type": "application/cloudevents+json"}, b'{"id": "1"}'),
        ({"content-type": "application/cloudevents+json"}, b""),
    ],
)
async def test_a_broken_cloudevent_is_refused(headers: dict[str, str], body: bytes) -> None:
    """Nothing is invented for an envelope that is not whole."""
    refused = await _refused(make_request(body, headers))
    assert (refused.status, refused.code) == (400, "bad_cloudevent")


async def test_the_id_expression_makes_repeats_one_event() -> None:
    """With `id:` the same business id is the same event; whole numbers will do."""
    webhook = make_webhook(id='body["order"]', type='"order." + body["state"]', subject='headers["x-tenant"]')
    event = await one_event(webhook, make_request(b'{"order": 12, "state": "paid"}', {"x-tenant": "acme"}))

    assert (event.id, event.type, event.subject) == ("12", "order.paid", "acme")


async def test_identity_takes_the_first_that_there_is() -> None:
    """Delivery id before CloudEvent before expression before body hash."""
    options: dict[str, Any] = {"id": '"mine"', "dedup": {"body": "10m"}}
    github = make_webhook(**_GITHUB, **options)
    assert (await one_event(github, _github(b"{}", x_github_delivery="d", **_CE))).id == "d"
    assert (await one_event(github, _github(b"{}", **_CE))).id == "/orders 7"
    assert (await one_event(github, _github(b"{}"))).id == "mine"
    assert (await one_event(make_webhook(dedup={"body": "10m"}), make_request())).id.startswith("sha256:")


async def test_equal_bodies_are_one_event_within_the_window_asked_for() -> None:
    """A body hash is remembered as long as `dedup` says, all other ids for seven days."""
    webhook = make_webhook(dedup={"body": "10m"})
    first, second, other = [await webhook.receive(make_request(body)) for body in (b"[1]", b"[1]", b"[2]")]

    assert first.events[0].id == second.events[0].id != other.events[0].id
    assert first.dedup_for == 600.0
    assert (await make_webhook().receive(make_request())).dedup_for == REMEMBER == 7 * 86_400


@pytest.mark.parametrize(
    ("id_", "sentence"),
    [
        ('body["nope"]', "KeyError"),
        ("1 / 0", "ZeroDivisionError"),
        ("True", "instead of text"),
        ("None", "instead of text"),
        ("''", "instead of text"),
        (r"'a\0b'", "NUL"),
        (r"'\ud800'", "surrogate"),
    ],
)
async def test_a_failing_expression_of_ours_loses_nothing(id_: str, sentence: str) -> None:
    """The delivery is accepted and kept as a dead letter with its body and the reason."""
    batch = await make_webhook(id=id_).receive(make_request(b'{"a":1}'))
    (letter,) = batch.dead_letters

    assert batch.events == ()
    assert (letter.reason, letter.payload, letter.content_type) == ("expression_failed", b'{"a":1}', "application/json")
    assert sentence in letter.detail


async def test_an_expression_that_no_one_can_compile_is_a_configuration_error() -> None:
    """Without an expression compiler `id:` is refused when the sensor is built."""
    options = WebhookOptions.model_validate({"path": "/x", "verify": "none", "id": "body.a"})
    with pytest.raises(ValueError, match="`id` is an expression"):
        build(options, SensorContext("h", "s", SystemClock(), Path()))


async def test_long_ids_are_hashed() -> None:
    """An id longer than an index can hold becomes its hash, the same every time."""
    webhook = make_webhook(**_GITHUB)
    long = "x" * (MAX_ID + 1)
    first = await one_event(webhook, _github(b"{}", x_github_delivery=long))

    assert first.id.startswith("sha256:")
    assert len(first.id) == 71
    assert first.id == (await one_event(webhook, _github(b"{}", x_github_delivery=long))).id
