"""What else a webhook takes: Event Grid, content codings, paths that capture, batches, chosen answers, challenges."""

import gzip
import hashlib
import hmac
import json
import sys
import zlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from sensors.errors import Refused
from sensors.kinds.webhook import WebhookOptions
from sensors.sensor import Request
from sensors.testing import make_request
from tests.support.senders import NOW, slack
from tests.support.webhooks import make_webhook, one_event

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GRID = {
    "id": "g-1",
    "topic": "/subscriptions/s/providers/Microsoft.Storage/storageAccounts/lake",
    "subject": "/blobServices/default/containers/raw/blobs/a.csv",
    "eventType": "Microsoft.Storage.BlobCreated",
    "eventTime": "2026-01-31T06:00:00.1234567Z",
    "dataVersion": "1",
    "data": {"api": "PutBlob", "url": "https://lake.blob.core.windows.net/raw/a.csv"},
}
_ASKS = {
    **_GRID,
    "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
    "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "https://evil.example.com"},
}


def gz(data: bytes) -> bytes:
    """Pack data; the same bytes at any time, for they name tests."""
    return gzip.compress(data, mtime=0)


async def _refused(request: Request, **options: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        await make_webhook(**options).receive(request)
    return refused.value


def _json(value: Any) -> Request:
    return make_request(json.dumps(value).encode())


# -- Event Grid --------------------------------------------------------------------------------------------------------
async def test_event_grid_is_answered_with_its_code() -> None:
    """The handshake is answered 200 with the code, is no event, and no address in it is visited."""
    batch = await make_webhook(format="event-grid").receive(_json([_ASKS]))
    assert batch.reply is not None
    assert (batch.reply.status, batch.reply.content_type) == (200, "application/json")
    assert orjson.loads(batch.reply.body) == {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}
    assert batch.empty


async def test_a_handshake_must_be_verified_like_anything_else() -> None:
    """Nobody registers an endpoint who does not know its secret."""
    refused = await _refused(_json([_ASKS]), format="event-grid", verify={"scheme": "bearer", "secret": "s"})
    assert refused.status == 401
    known = make_request(json.dumps([_ASKS]).encode(), query="access_token=s")
    webhook = make_webhook(format="event-grid", verify={"scheme": "bearer", "secret": "s"})
    assert (await webhook.receive(known)).reply is not None


async def test_events_of_event_grids_schema() -> None:
    """A delivery of several is several events, each with its own envelope."""
    batch = await make_webhook(format="event-grid").receive(_json([_GRID, {**_GRID, "id": "g-2", "data": None}]))
    one, two = batch.events
    assert (one.id, two.id) == (f"{_GRID['topic']} g-1", f"{_GRID['topic']} g-2")
    assert (one.type, one.source, one.subject) == (_GRID["eventType"], _GRID["topic"], _GRID["subject"])
    assert one.time == 1_769_839_200_123_456
    assert orjson.loads(one.data or b"") == _GRID["data"]
    assert two.data is None
    assert one.attributes["dataversion"] == "1"


async def test_event_grids_other_schema_and_its_handshake() -> None:
    """CloudEvents are taken as they come, one or a batch, and OPTIONS is answered to Event Grid."""
    webhook = make_webhook(format="event-grid")
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    for content_type, body in (
        ("application/cloudevents+json; charset=utf-8", event),
        ("application/cloudevents-batch+json", [event]),
    ):
        request = make_request(json.dumps(body).encode(), {"content-type": content_type})
        assert (await one_event(webhook, request)).id == "/s 1"
    asked = make_request(b"", {"webhook-request-origin": "eventgrid.azure.net"}, method="OPTIONS")
    reply = (await webhook.receive(asked)).reply
    assert reply is not None
    assert reply.headers["webhook-allowed-origin"] == "eventgrid.azure.net"


@pytest.mark.parametrize(
    "body",
    [
        [{**_GRID, "id": ""}],
        [{**_GRID, "id": None}],
        [{**_GRID, "eventType": None}],
        [{**_GRID, "eventTime": "yesterday"}],
        [{**_GRID, "subject": 7}],
        [_GRID, 7],
        [[]],
        [{**_ASKS, "data": {}}],
        "text",
    ],
)
async def test_what_is_no_event_of_event_grid_is_refused_whole(body: Any) -> None:
    """One broken event refuses the delivery: all of it is taken, or nothing."""
    assert (await _refused(_json(body), format="event-grid")).status == 400


# -- several at once ---------------------------------------------------------------------------------------------------
async def test_a_batch_under_one_delivery_id_is_still_several_events() -> None:
    """A provider's delivery id names the delivery; each event of it has an id of its own, the same every time."""
    body = json.dumps([{"specversion": "1.0", "id": str(n), "source": "/s", "type": "t"} for n in range(3)]).encode()
    signature = "sha256=" + hmac.new(b"s", body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/cloudevents-batch+json",
        "x-hub-signature-256": signature,
        "x-github-delivery": "d",
    }
    webhook = make_webhook(verify={"scheme": "github", "secret": "s"}, cloudevents={"batch": True})
    first, second = [await webhook.receive(make_request(body, headers)) for _ in range(2)]
    assert [event.id for event in first.events] == ["d", "d 1", "d 2"] == [event.id for event in second.events]
    assert len({event.uid for event in (*first.events, *second.events)}) == 6


# -- content codings ---------------------------------------------------------------------------------------------------
def _deflate(body: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-15)
    return squeezer.compress(body) + squeezer.flush()


_CODINGS: dict[str, Any] = {"encodings": ["gzip", "deflate", "zstd"], "max_decoded": "64KiB"}


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gz(b'{"a": 1}')),
        ("GZIP", gz(b'{"a"') + gz(b": 1}")),
        ("x-gzip", gz(b'{"a": 1}')),
        ("deflate", zlib.compress(b'{"a": 1}')),
        ("deflate", _deflate(b'{"a": 1}')),
        ("zstd", zstd.compress(b'{"a": 1}')),
        ("identity", b'{"a": 1}'),
        ("", b'{"a": 1}'),
        ("identity, gzip", gz(b'{"a": 1}')),
    ],
)
async def test_codings_are_undone_where_they_are_allowed(coding: str, body: bytes) -> None:
    """The event holds what was meant, and the signature is of the bytes as they came."""
    signature = hmac.new(b"s", body, hashlib.sha256).hexdigest()
    verify = {"scheme": "hmac", "header": "x-sig", "secret": "s"}
    request = make_request(body, {"content-encoding": coding, "x-sig": signature})
    assert (await one_event(make_webhook(**_CODINGS, verify=verify), request)).data == b'{"a": 1}'


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("br", b"x", 415),
        ("gzip, gzip", gz(gz(b"{}")), 415),
        ("gzip", b"no gzip", 400),
        ("gzip", gz(b"{}")[:-3], 400),
        ("gzip", gz(b"{}") + b"rest", 400),
        ("gzip", gz(b"") * 40, 400),
        ("deflate", zlib.compress(b"{}") + b"rest", 400),
        ("zstd", b"(\xb5/\xfd", 400),
        ("gzip", b"", 400),
        ("gzip", gz(b" " * 65_537), 413),
        ("zstd", zstd.compress(b" " * 10_000_000), 413),
        ("deflate", zlib.compress(b" " * 10_000_000), 413),
        ("gzip", gz(b" " * 40_000) * 2, 413),
    ],
)
async def test_codings_are_bounded(coding: str, body: bytes, status: int) -> None:
    """What is not allowed, broken, nested, or becomes too much is the sender's fault, and never more than the cap."""
    refused = await _refused(make_request(body, {"content-encoding": coding}), **_CODINGS)
    assert refused.status == status
    if status == 415:
        assert refused.headers == {"accept-encoding": "gzip, deflate, zstd"}


async def test_a_bomb_costs_no_more_than_the_cap() -> None:
    """A gigabyte in a few bytes is refused when the cap is reached: what is made of it is measured."""
    import tracemalloc

    squeezer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(squeezer.compress(b"\0" * 1_000_000) for _ in range(200)) + squeezer.flush()
    tracemalloc.start()
    try:
        refused = await _refused(make_request(bomb, {"content-encoding": "gzip"}), **_CODINGS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.status == 413
    assert peak < 5_000_000


# -- paths -------------------------------------------------------------------------------------------------------------
async def test_a_path_captures_what_stands_in_it() -> None:
    """`{tenant}` in the path is `match.tenant` of the event, in scope of expressions, and part of its source."""
    webhook = make_webhook(path="/hooks/{tenant}/orders", subject="match['tenant'] + query['v']")
    request = make_request(path="/hooks/{tenant}/orders", query="v=2&token=geheim")
    event = await one_event(webhook, _at(request, tenant="acme"))
    assert (event.source, event.match, event.subject) == ("/hooks/acme/orders", {"tenant": "acme"}, "acme2")
    assert event.attributes == {"content-type": "application/json", "query.v": "2"}


async def test_a_secret_in_the_path_is_compared_and_never_kept() -> None:
    """A wrong secret is a path that does not exist; the right one is in no part of the event."""
    options: dict[str, Any] = {"path": "/hooks/{tenant}/{secret}", "path_secret": ["s3cret-new", "s3cret-old"]}
    request = make_request(path="/hooks/{tenant}/{secret}")
    for secret in ("s3cret-new", "s3cret-old"):
        event = await one_event(make_webhook(**options), _at(request, tenant="acme", secret=secret))
        assert event.source == "/hooks/acme/{secret}"
        assert "s3cret" not in repr(event)
    for wrong in ("s3cret", "", "S3CRET-NEW", "é"):
        refused = await _refused(_at(request, tenant="acme", secret=wrong), **options)
        assert (refused.status, refused.code, refused.public) == (404, "path_secret", "")


def _at(request: Request, **params: str) -> Request:
    return replace(request, params=params)


# -- answers -----------------------------------------------------------------------------------------------------------
async def test_slacks_challenge_is_answered_when_it_is_signed() -> None:
    """The URL check of Slack is answered with its text, and only to Slack."""
    challenge = "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    body = json.dumps({"type": "url_verification", "token": "x", "challenge": challenge}).encode()
    webhook = make_webhook(verify={"scheme": "slack", "secret": "secret"})
    batch = await webhook.receive(slack(body, NOW))
    assert batch.empty
    assert batch.reply is not None
    assert (batch.reply.status, batch.reply.content_type) == (200, "text/plain")
    assert batch.reply.body == challenge.encode()
    assert (await _refused(slack(body, NOW, b"other"), verify={"scheme": "slack", "secret": "secret"})).status == 401


async def test_a_challenge_that_is_none_is_an_event() -> None:
    """What could not be echoed safely is no challenge: it is taken like anything else."""
    webhook = make_webhook(verify={"scheme": "slack", "secret": "secret"})
    for challenge in ("<script>\n", "", 7, "x" * 2000):
        body = json.dumps({"type": "url_verification", "challenge": challenge}).encode()
        assert (await webhook.receive(slack(body, NOW))).reply is None


async def test_an_answer_that_a_sender_wants() -> None:
    """Status, content type and body are as configured; an expression may say what a delivery asks for."""
    fixed = await make_webhook(answer={"body": "<Response/>", "content_type": "text/xml"}).receive(make_request())
    assert fixed.reply is not None
    assert (fixed.reply.status, fixed.reply.body, fixed.reply.content_type) == (200, b"<Response/>", "text/xml")
    options = {"answer": {"value": "{'ok': body['n']}", "content_type": "application/json", "status": 201}}
    made = await make_webhook(**options).receive(make_request(b'{"n": 3}'))
    assert made.reply is not None
    assert (made.reply.status, orjson.loads(made.reply.body)) == (201, {"ok": 3})
    assert len(made.events) == 1


async def test_an_answer_that_cannot_be_made_loses_nothing() -> None:
    """When the expression of the answer fails, the delivery is kept and gets the standard answer."""
    batch = await make_webhook(answer={"value": "body['nope']"}).receive(make_request(b"{}"))
    assert batch.reply is None
    assert len(batch.events) == 1


# -- options -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        {"path": "/a/{b}c"},
        {"path": "/{a}/b"},
        {"path": "/a/{B}"},
        {"path": "/a/{b}/{b}"},
        {"path": "/a/{secret}"},
        {"path": "/a", "path_secret": "s"},
        {"path": "/a/{secret}", "path_secret": " "},
        {"path": "/a/{secret}", "path_secret": []},
        {"dedup": {"ids": "6d"}},
        {"limit": {"rate": "100"}},
        {"limit": {"rate": "0/s"}},
        {"limit": {"burst": 0}},
        {"wait": "10m"},
        {"answer": {"status": 500}},
        {"answer": {"status": 204, "body": "x"}},
        {"answer": {"body": "x", "value": "'y'"}},
        {"answer": {"content_type": "text/plain\r\nx: y"}},
        {"cors": {}},
        {"cors": {"origins": ["app.example.com"]}},
        {"cors": {"origins": ["https://app.example.com/path"]}},
        {"encodings": ["br"]},
        {"format": "sns"},
        {"cloudevents": {"rate": 0}},
        {"keep_refused": "1MiB"},
        {"verify": {"scheme": "none", "allow_from": ["everywhere"]}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """What would not do what it seems to say stops the start."""
    with pytest.raises(ValidationError):
        WebhookOptions.model_validate({"path": "/x", "verify": "none", **options})


async def test_ids_are_remembered_as_long_as_asked() -> None:
    """Seven days at least, and longer where senders retry longer."""
    batch = await make_webhook(dedup={"ids": "30d"}).receive(make_request())
    assert batch.dedup_for == 30 * 86_400
