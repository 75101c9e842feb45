"""How a message of a queue becomes an event, or a dead letter that says why not."""

import json
from pathlib import Path
from typing import Any

import pytest

from sensors.adapters.queue_message import QueueMessage, attributes_of, text_of, trace_of
from sensors.adapters.queue_options import QueueOptions
from sensors.adapters.queue_reading import MOST_KEPT, MessageReader
from sensors.batch import DeadLetter
from sensors.event import Event
from sensors.headers import CUT, HeaderPolicy
from sensors.kind import SensorContext
from sensors.testing import VirtualClock
from triggers.template import compile_function

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CLOUD = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "shop.order"}


def read(
    body: bytes = b"{}", *, hashes: float | None = None, options: dict[str, Any] | None = None, **more: Any
) -> Any:
    context = SensorContext("q", "svc", VirtualClock(), Path("/nowhere"), {}, compile_function)
    made = QueueOptions.model_validate(options or {})
    reader = MessageReader(made, "queue://jobs", "queue.message", context, hashes=hashes)
    return reader.read(QueueMessage(body=body, position="jobs/1", **more), 7)


def event(*args: Any, **more: Any) -> Event:
    found = read(*args, **more).result
    assert isinstance(found, Event), found
    return found


def letter(*args: Any, **more: Any) -> DeadLetter:
    found = read(*args, **more).result
    assert isinstance(found, DeadLetter), found
    return found


@pytest.mark.parametrize(
    ("format_", "told", "body", "expected"),
    [
        ("auto", None, b"\xff\0", None),
        ("auto", "application/json; charset=utf-8", b'{"a": 1}', "application/json; charset=utf-8"),
        ("auto", "application/vnd.x+json", b"[]", "application/vnd.x+json"),
        ("auto", "text/csv", b"a,b", "text/csv"),
        ("auto", "image/png", b"\xff", "image/png"),
        ("json", None, b"1", "application/json"),
        ("json", "text/plain", b"{}", "application/json"),
        ("text", None, "ü".encode(), "text/plain; charset=utf-8"),
        ("text", "application/json", b"{", "text/plain; charset=utf-8"),
        ("bytes", "application/json", b"{", "application/octet-stream"),
        ("bytes", "image/png", b"\xff", "image/png"),
    ],
)
def test_the_format_decides_what_the_content_is(
    format_: str, told: str | None, body: bytes, expected: str | None
) -> None:
    """The bytes stay as they came; the content type is the message's own where the format agrees."""
    found = event(body, options={"format": format_}, content_type=told)
    assert (found.data, found.content_type) == (body, expected)


@pytest.mark.parametrize(
    ("format_", "told", "body", "word"),
    [
        ("json", None, b"", "no JSON"),
        ("json", None, b"[" * 200 + b"]" * 200, "nested deeper"),
        ("json", None, b"\xff", "no JSON"),
        ("auto", "application/json", b"{", "no JSON"),
        ("auto", "text/plain", b"\xff", "UTF-8"),
        ("text", None, b"\xff", "UTF-8"),
        ("cloudevents", None, b"{}", "specversion"),
        ("cloudevents", None, b"[1]", "JSON object"),
        ("auto", "application/cloudevents+json", b"[]", "JSON object"),
    ],
)
def test_what_is_not_what_it_should_be_is_a_dead_letter(format_: str, told: str | None, body: bytes, word: str) -> None:
    """The dead letter has the bytes, a sentence, and where the message stood."""
    found = letter(body, options={"format": format_}, content_type=told, attributes={"a": "b"})
    assert (found.reason, found.payload, found.position) == ("undecodable", body, "jobs/1")
    assert word in found.detail
    assert found.attributes == {"a": "b"}


def test_half_a_surrogate_pair_in_json_is_an_event() -> None:
    """JSON whose text no expression may see is stored as it came; its judgement will say so."""
    assert event(b'"\\ud800"', options={"format": "json"}).data == b'"\\ud800"'


def test_a_cloud_event_brings_its_own_envelope() -> None:
    """Identity, type, source, subject, time, extensions and trace are the CloudEvent's; the queue's facts stay."""
    whole = {**CLOUD, "subject": "s", "time": "2026-01-31T06:00:00Z", "team": "x", "traceparent": TRACE, "data": [1]}
    found = event(json.dumps(whole).encode(), options={"format": "cloudevents"}, id="m", attributes={"team": "fact"})
    assert (found.id, found.type, found.source, found.subject) == ("/shop 1", "shop.order", "/shop", "s")
    assert (found.time, found.data, found.traceparent, found.trusted) == (1_769_839_200_000_000, b"[1]", TRACE, False)
    assert found.attributes["team"] == "fact"

    binary = event(b"x", options={"format": "auto"}, envelope=CLOUD, content_type="text/plain", time=5, subject="key")
    assert (binary.id, binary.data, binary.content_type) == ("/shop 1", b"x", "text/plain")
    assert (binary.time, binary.subject) == (5, "key")


def test_who_gives_the_identity() -> None:
    """The expression, the CloudEvent, the message, equal bodies if asked for; else each delivery is its own."""
    given = {"options": {"id": "headers.n"}, "attributes": {"n": "7"}, "id": "m", "envelope": CLOUD}
    assert event(**given).id == "7"
    assert event(id="m", envelope=CLOUD).id == "/shop 1"
    assert event(id="m", hashes=600.0).id == "m"
    assert event(b"a", hashes=600.0).id == event(b"a", hashes=600.0).id != event(b"b", hashes=600.0).id
    alone = event(b"a")
    assert alone.id == alone.uid != event(b"a").id


def test_how_long_an_identity_is_remembered() -> None:
    """A hash as long as it was asked for, everything else as `remember` says."""
    assert read(b"a", hashes=600.0).window == 600.0
    assert read(b"a", hashes=600.0, id="m").window == 15 * 86_400.0
    assert read(b"a", hashes=600.0, options={"id": '"x"'}).window == 15 * 86_400.0
    assert read(options={"remember": "1h"}).window == 3_600.0


def test_a_long_id_is_hashed_and_an_impossible_one_is_a_dead_letter() -> None:
    """An id that no index takes is its hash; one that no store takes is told."""
    assert event(id="x" * 2_000).id.startswith("sha256:")
    assert letter(id="a\0b").reason == "unstorable"
    assert letter(id="\ud800").reason == "unstorable"


@pytest.mark.parametrize(
    ("option", "expression", "word"),
    [
        ("id", "body.missing", "missing"),
        ("id", '""', "nothing"),
        ("type", "1 == 1", "bool"),
        ("subject", "body.x", "`subject`"),
    ],
)
def test_an_expression_that_fails_keeps_the_message(option: str, expression: str, word: str) -> None:
    """What our own expression cannot be evaluated on goes to the dead letters, with its bytes."""
    found = letter(b'{"a": 1}', options={option: expression, "format": "json"})
    assert (found.reason, found.payload) == ("expression_failed", b'{"a": 1}')
    assert word in found.detail


def test_expressions_see_body_and_headers() -> None:
    """`type` and `subject` may be made of both."""
    options = {"format": "json", "type": '"job." + body.kind', "subject": "headers.routing_key"}
    found = event(b'{"kind": "load"}', options=options, attributes={"routing_key": "a.b"}, subject="other")
    assert (found.type, found.subject) == ("job.load", "a.b")


def test_too_large_is_told_and_kept_up_to_a_bound() -> None:
    """The dead letter has the message; of one that is far too large it has the beginning, and says so."""
    found = letter(b"x" * 11, options={"max_message": 10})
    assert (found.reason, found.payload) == ("too_large", b"x" * 11)
    far = letter(b"x" * (MOST_KEPT + 1), options={"max_message": 10})
    assert len(far.payload) == MOST_KEPT
    assert f"first {MOST_KEPT} are kept" in far.detail


def test_attributes_are_bounded_safe_and_cannot_be_pretended() -> None:
    """Secrets and the trace are left out, unsafe text is escaped, facts go first, and there is an end."""
    headers = [("Api-Token", "x"), ("TraceParent", TRACE), ("id", "mine"), ("a\0", "b\ud800")]
    found = attributes_of(headers, {"id": "", "key": "k"}, HeaderPolicy(None))
    assert found == {"key": "k", "header.id": "mine", "a%00": "b%ED%A0%80"}
    many = attributes_of([(f"h{n}", "v") for n in range(100)], {}, HeaderPolicy(None))
    assert (len(many), many[CUT]) == (65, "36")
    assert attributes_of([("x-a", "1"), ("b", "2")], {}, HeaderPolicy(["x-*"])) == {"x-a": "1"}


def test_values_of_headers_as_text() -> None:
    """Text stays, bytes are UTF-8 or else Latin-1, everything else is JSON."""
    assert [text_of(value) for value in ("a", "ü".encode(), b"\xff", 7, True, None, {"a": [b"x"]}, 1 << 70)] == [
        "a",
        "ü",
        "ÿ",
        "7",
        "true",
        "null",
        '{"a":["x"]}',
        "1180591620717411303424",
    ]


def test_only_a_valid_trace_is_taken() -> None:
    """Names in any case; a broken parent is as if it were absent, a tracestate that is too long is left out."""
    assert trace_of({"TraceParent": TRACE, "tracestate": "a=b"}) == (TRACE, "a=b")
    assert trace_of({"traceparent": "00-0-0-0", "tracestate": "a=b"}) == (None, None)
    assert trace_of({"traceparent": TRACE, "tracestate": "x" * 600}) == (TRACE, None)
