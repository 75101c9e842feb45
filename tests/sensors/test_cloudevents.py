"""The CloudEvents decoder: nothing invented, nothing lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensors.cloudevents import decode_binary, decode_structured, header_text, parse_time

_OK: dict[str, Any] = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    ("more", "data", "content_type"),
    [
        ({}, None, None),
        ({"data": None}, None, None),
        ({"data": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"data": "x"}, b'"x"', "application/json"),
        ({"data": "x", "datacontenttype": "text/plain"}, b"x", "text/plain"),
        ({"data": [1], "datacontenttype": "application/vnd.x+json"}, b"[1]", "application/vnd.x+json"),
        (
            {"data_base64": "AP8=", "datacontenttype": "application/octet-stream"},
            b"\x00\xff",
            "application/octet-stream",
        ),
    ],
)
def test_structured_data(more: dict[str, Any], data: bytes | None, content_type: str | None) -> None:
    """Data comes out as the bytes that its content type says."""
    envelope = decode_structured({**_OK, **more})
    assert (envelope.data, envelope.content_type) == (data, content_type)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": None},
        {"id": 1},
        {"source": None},
        {"type": ""},
        {"specversion": "1.1"},
        {"specversion": None},
        {"time": "2026-01-31T06:00:00"},
        {"time": "2026-01-31"},
        {"data_base64": "***"},
        {"data_base64": 3},
        {"UPPER": "x"},
        {"ext": {"nested": 1}},
        {"subject": "a\x00b"},
        {"id": "\ud800"},
    ],
)
def test_broken_envelopes_are_refused(change: dict[str, Any]) -> None:
    """What the specification forbids, or what cannot be stored, is an error with a sentence."""
    document = {k: v for k, v in {**_OK, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=r"\w"):
        decode_structured(document)


def test_extensions_are_text() -> None:
    """Booleans and numbers become their JSON spelling."""
    assert decode_structured({**_OK, "a": True, "b": 7, "c": "x"}).extensions == {"a": "true", "b": "7", "c": "x"}


def test_identity_is_unambiguous() -> None:
    """A space in the source cannot move it into the id."""
    one = decode_structured({**_OK, "source": "a", "id": "b c"})
    two = decode_structured({**_OK, "source": "a b", "id": "c"})
    assert one.identity != two.identity


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC", "Euro €"),
        ('"quoted \\"x\\" \\\\"', 'quoted "x" \\'),
        ('"a%20b"', "a b"),
        ("100%25", "100%"),
        ("%2525", "%25"),
    ],
)
def test_header_values_are_decoded_once(raw: str, text: str) -> None:
    """Quotes first, then one round of percent-decoding."""
    assert header_text(raw) == text


def test_header_values_that_are_no_utf8_are_refused() -> None:
    """`%C0%A0` is an overlong form, and no text."""
    with pytest.raises(ValueError, match="utf-8"):
        header_text("%C0%A0")


def test_binary_headers_must_not_repeat() -> None:
    """Two ids would let a sender choose which one counts."""
    headers = {"ce-specversion": ["1.0"], "ce-id": ["1", "2"], "ce-source": ["/s"], "ce-type": ["t"]}
    with pytest.raises(ValueError, match="2 times"):
        decode_binary(headers, b"", None)


def test_times_need_an_offset() -> None:
    """A moment is exact to the microsecond, in any zone."""
    assert (
        parse_time("2026-01-31T07:00:00.000001+01:00")
        == parse_time("2026-01-31T06:00:00.000001Z")
        == 1_769_839_200_000_001
    )


@given(st.dictionaries(st.sampled_from([*_OK, "data", "time", "x"]), st.none() | st.text(max_size=8) | st.integers()))
def test_any_document_is_decoded_or_refused(document: dict[str, Any]) -> None:
    """No JSON makes the decoder raise anything but ValueError."""
    try:
        envelope = decode_structured({**_OK, **document})
    except ValueError:
        return
    assert envelope.id
    assert envelope.identity
