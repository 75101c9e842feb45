"""Sample events: what people write down becomes events, each at its moment."""

import json
from typing import Any

import pytest

from config.samples import BadSample, kind_sample, read_events, read_moment

NOW = 1_767_225_600_000_000
MINUTE = 60_000_000
SAMPLES = {"hook": {"type": "webhook.received", "subject": "s", "content_type": "application/json", "data": {"a": 1}}}


def read(value: Any, sensor: str | None = "hook") -> list[tuple[str, str, str | None, bytes | None, int]]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    events = read_events(raw, sensor, SAMPLES, NOW)
    return [(one.sensor, one.type, one.subject, one.data, (one.received_at - NOW) // MINUTE) for one in events]


def test_an_envelope_is_an_event() -> None:
    """What it does not say comes from the kind's sample; the sensor is the one that was named."""
    assert read({"type": "x", "data": {"b": 2}}) == [("hook", "x", "s", b'{"b": 2}', 0)]
    assert read({"type": "x", "id": "1", "subject": "t"}) == [("hook", "x", "t", b'{"a": 1}', 0)]
    assert read({"type": "x", "data": "text", "content_type": "text/plain"})[0][3] == b"text"
    assert read({"type": "x", "data": 1, "sensor": "other"})[0][0] == "hook"
    assert read({"type": "x", "data": 1, "sensor": "other"}, None)[0][0] == "other"


@pytest.mark.parametrize("content", [{"b": 2}, [1, 2], [{"type": "x", "data": 1}, 3], b"\xff\xfe", b"", b'{"a": 1}\n2'])
def test_anything_else_is_content(content: Any) -> None:
    """The envelope is the sample's, the content the file's, to the byte."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()

    assert read(content) == [("hook", "webhook.received", "s", raw, 0)]


@pytest.mark.parametrize("lines", [False, True])
def test_several_events_come_one_after_the_other(lines: bool) -> None:
    """A list, or a line for each; `at` is a moment or so long after the one before; each may name its sensor."""
    given = [
        {"type": "a", "data": 1},
        {"type": "b", "data": 2, "at": "+5m", "sensor": "other"},
        {"type": "c", "data": 3, "at": "2026-01-01T01:00:00Z"},
        {"type": "d", "data": 4, "received_at": "2026-01-01T02:00:00Z"},
        {"type": "e", "data": 5},
    ]
    raw: Any = b"\n".join(json.dumps(one).encode() for one in given) if lines else given
    found = read(raw)

    assert [(sensor, kind, at) for sensor, kind, _, _, at in found] == [
        ("hook", "a", 0),
        ("other", "b", 5),
        ("hook", "c", 60),
        ("hook", "d", 120),
        ("hook", "e", 120),
    ]
    events = read_events(json.dumps(given).encode(), "hook", SAMPLES, NOW)
    assert len({one.uid for one in events}) == len({one.id for one in events}) == 5


@pytest.mark.parametrize(
    ("value", "sensor", "sentence"),
    [
        ({"type": "x", "data": 1, "subject": 3}, "hook", "subject is no text"),
        ({"type": "x", "data": 1, "attributes": 3}, "hook", "attributes is no map"),
        ({"type": "x", "data": 1, "at": 3}, "hook", "`at` is no text"),
        ({"type": "x", "data": 1, "at": "soon"}, "hook", "soon is no moment"),
        ({"type": "x", "data": 1, "at": "+soon"}, "hook", "write \\+5m"),
        ({"type": "x", "data": 1}, None, "nothing says from which sensor"),
    ],
)
def test_what_is_no_event_says_why(value: Any, sensor: str | None, sentence: str) -> None:
    """A sentence, with what would be right."""
    with pytest.raises(BadSample, match=sentence):
        read(value, sensor)


def test_moments_and_kinds() -> None:
    """RFC 3339 with an offset, or so long after; samples of kinds by name."""
    assert read_moment("2026-01-01T01:00:00+01:00", 0) == NOW
    assert read_moment("+1.5h", NOW) == NOW + 90 * MINUTE
    assert kind_sample("files")["type"] == "object.created"
    with pytest.raises(BadSample, match="no moment"):
        read_moment("2026-01-01T01:00:00", 0)
    with pytest.raises(BadSample, match="did you mean `files`"):
        kind_sample("file")
