"""The webhook kind against odd and hostile senders: refusals have their status, what is kept is bounded, no secret."""

import hmac
import inspect
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sensors.errors import Refused
from sensors.event import Event, parse_data, storable_text
from sensors.kinds.webhook import KIND, WebhookOptions
from sensors.sensor import Request
from sensors.testing import make_request
from tests.support.webhooks import make_webhook, one_event

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


_CE = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/orders", "ce-type": "order.paid"}


async def _refused(request: Request, **options: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        await make_webhook(**options).receive(request)
    return refused.value


_GITHUB: dict[str, Any] = {"verify": {"scheme": "github", "secret": "s"}}


@pytest.mark.parametrize(
    ("status", "code", "request_", "options"),
    [
        (405, "method", make_request(method="GET"), {}),
        (405, "method", make_request(method="PUT"), {"methods": ["POST", "PATCH"]}),
        (404, "unknown_path", make_request(path="/other"), {}),
        (413, "too_large", make_request(b"x" * 101), {"max_body": 100}),
        (401, "unverified", make_request(), _GITHUB),
        (415, "content_encoding", make_request(headers={"content-encoding": "gzip"}), {}),
        (415, "media_type", make_request(headers={"content-type": "application/pdf"}), {}),
        (
            415,
            "media_type",
            make_request(headers={"content-type": "text/html"}),
            {"content_types": ["application/json"]},
        ),
        (415, "media_type", make_request(headers={"content-type": "application/cloudevents-batch+json"}), {}),
        (400, "bad_json", make_request(b"{"), {}),
        (400, "bad_json", make_request(b"\xff\xfe", {"content-type": "application/vnd.x+json"}), {}),
        (400, "bad_json", make_request(b"NaN"), {}),
        (400, "bad_json", make_request(b'["\\u0061", NaN]'), {}),
        (400, "too_deep", make_request(b"[" * 200 + b"]" * 200), {}),
        (400, "too_deep", make_request(b'{"a":' * 129 + b"1" + b"}" * 129), {}),
    ],
)
async def test_what_the_sender_did_wrong_has_its_status(
    status: int, code: str, request_: Request, options: dict[str, Any]
) -> None:
    """Each fault of a sender is refused with the status and code of the design."""
    refused = await _refused(request_, **options)
    assert (refused.status, refused.code) == (status, code)


async def test_405_names_what_is_allowed() -> None:
    """The answer lists the methods."""
    assert (await _refused(make_request(method="GET"))).headers == {"allow": "POST"}


async def test_the_signature_is_checked_before_the_body_is_read() -> None:
    """A forged request learns nothing about media types or JSON."""
    refused = await _refused(make_request(b"{", {"content-type": "application/pdf"}), **_GITHUB)
    assert refused.status == 401


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json; charset=utf-8", b"[]"),
        ("Application/JSON", b"[]"),
        ("application/vnd.acme+json", b"[]"),
        ("text/plain", b"hello"),
        ("application/x-www-form-urlencoded", b"a=1"),
        ("application/octet-stream", b"\x00\xff"),
        ("application/json", b""),
    ],
)
async def test_usual_media_types_are_taken(content_type: str, body: bytes) -> None:
    """JSON, text, forms and bytes are accepted by default; an empty body is no data."""
    event = await one_event(make_webhook(), make_request(body, {"content-type": content_type}))
    assert event.data == (body or None)
    assert event.content_type == content_type


async def test_no_content_type_is_taken() -> None:
    """Senders that say nothing about their body are heard."""
    request = make_request(b"[1]", {"content-type": []})
    event = await one_event(make_webhook(), request)
    assert event.content_type is None
    assert parse_data(event.data, event.content_type) == [1]


async def test_json_with_lone_surrogates_is_stored_and_left_to_the_triggers() -> None:
    """Grammatical JSON that is no text is no fault of the sender's; it is kept as it came."""
    body = b'{"a": "\\ud800"}'
    event = await one_event(make_webhook(), make_request(body))
    assert event.data == body


async def test_wide_json_is_no_deep_json() -> None:
    """Many small objects are welcome; only nesting is bounded."""
    body = orjson.dumps([{"a": [1]}] * 5000)
    assert (await one_event(make_webhook(), make_request(body))).data == body
    deepest = b"[" * 128 + b"]" * 128
    assert (await one_event(make_webhook(), make_request(deepest))).data == deepest


async def test_secrets_are_never_kept() -> None:
    """Headers and query parameters that carry secrets are in no attribute, whatever the configuration asks."""
    headers = {
        "authorization": "Bearer geheim",
        "cookie": "geheim",
        "x-hub-signature-256": "geheim",
        "x-api-key": "geheim",
        "x-amz-security-token": "geheim",
        "stripe-signature": "geheim",
    }
    for options in ({}, {"keep_headers": ["authorization", "cookie", "x-hub-signature-256", "stripe-signature"]}):
        event = await one_event(make_webhook(**options), make_request(headers=headers, query="access_token=geheim&a=1"))
        assert "geheim" not in str(event.attributes)
        assert event.attributes["query.a"] == "1"
    scheme = {"scheme": "hmac", "secret": "s", "header": "X-Proof"}
    event = await one_event(
        make_webhook(verify=scheme, keep_headers=["x-*"]),
        make_request(headers={"x-proof": hmac.digest(b"s", b"{}", "sha256").hex(), "x-a": "1"}),
    )
    assert event.attributes == {"x-a": "1"}


async def test_headers_are_bounded() -> None:
    """Beyond 64 headers or 16 KiB they are left out, and the event says how many."""
    many = {f"x-{n}": "v" for n in range(100)}
    event = await one_event(make_webhook(), make_request(headers=many))
    assert len(event.attributes) == 65
    assert event.attributes["tidegate-headers-cut"] == "37"
    big = await one_event(make_webhook(), make_request(headers={"x-big": "v" * 20_000, "a": "b"}))
    assert sum(map(len, big.attributes.values())) < 1000


@pytest.mark.parametrize("bad", ["hello", "00-" + "0" * 32 + "-b7ad6b7169203331-01", _TRACE + "-x"])
async def test_an_invalid_traceparent_is_as_if_absent(bad: str) -> None:
    """Only valid contexts are kept."""
    event = await one_event(make_webhook(), make_request(headers={"traceparent": bad, "tracestate": "k=v"}))
    assert (event.traceparent, event.tracestate) == (None, None)


async def test_a_cloudevents_traceparent_serves_when_the_request_has_none() -> None:
    """The extension is the producer's context; the request's own comes first."""
    other = _TRACE.replace("b7ad", "c7ad")
    extension = {**_CE, "ce-traceparent": _TRACE}
    assert (await one_event(make_webhook(), make_request(headers=extension))).traceparent == _TRACE
    both = make_request(headers={**extension, "traceparent": other})
    assert (await one_event(make_webhook(), both)).traceparent == other


@pytest.mark.parametrize(
    "options",
    [
        {"verify": "none"},
        {"path": "/x"},
        {"path": "x", "verify": "none"},
        {"path": "/", "verify": "none"},
        {"path": "/a?b", "verify": "none"},
        {"path": "/a b", "verify": "none"},
        {"path": "/x", "verify": "none", "methods": []},
        {"path": "/x", "verify": "none", "methods": ["TRACE"]},
        {"path": "/x", "verify": "none", "dedup": {"body": "0s"}},
        {"path": "/x", "verify": "none", "dedup": {"header": "1m"}},
        {"path": "/x", "verify": "none", "content_types": ["json"]},
        {"path": "/x", "verify": "none", "max_body": 0},
        {"path": "/x", "verify": "none", "pth": "/y"},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    """A missing verifier, an odd path and unknown keys stop the start."""
    with pytest.raises(ValidationError):
        WebhookOptions.model_validate(options)


_HEADER_TEXT = st.text(st.characters(max_codepoint=255, exclude_categories=()), max_size=30)


_STRANGE = st.dictionaries(
    st.one_of(
        st.sampled_from(["content-type", "ce-specversion", "ce-id", "traceparent", "content-encoding"]), _HEADER_TEXT
    ),
    st.lists(
        st.one_of(_HEADER_TEXT, st.sampled_from(["1.0", "application/cloudevents+json", "%00", "a\0b"])), max_size=3
    ),
    max_size=8,
)


def _run(webhook: Any, request: Request) -> Sequence[Event]:
    """Drive `receive` without a loop: it never waits."""
    coroutine = webhook.receive(request)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return list(done.value.events)
    except Refused as refused:
        if refused.status not in (400, 415):
            raise
        return []
    raise AssertionError("receive waited")


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), _STRANGE, st.text(max_size=30))
def test_hostile_requests_are_refused_or_storable(body: bytes, headers: dict[str, list[str]], query: str) -> None:
    """Whatever comes, the answer is an event whose texts may be stored, or a refusal with a status of the sender's."""
    request = Request(
        method="POST",
        path="/hooks/test",
        query=query,
        headers=headers,
        body=body,
        client="",
        received_at=1_800_000_000_000_000,
    )
    for event in _run(make_webhook(), request):
        texts = [
            event.id,
            event.type,
            event.source,
            event.subject or "",
            event.content_type or "",
            event.tracestate or "",
        ]
        assert all(storable_text(text) for text in [*texts, *event.attributes, *event.attributes.values()])


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=20
    )
)
def test_any_json_is_kept_byte_for_byte(value: Any) -> None:
    """The body is stored as it came, not as it parses."""
    body = json.dumps(value, indent=3).encode()
    (event,) = _run(make_webhook(), make_request(body))
    assert event.data == body


def test_receive_never_waits() -> None:
    """The hot path has no await: a request is one step of the loop."""
    assert inspect.iscoroutinefunction(type(make_webhook()).receive)
    assert "await " not in inspect.getsource(type(make_webhook()).receive)
    assert KIND.push
