"""CloudEvents by the Kafka protocol binding: what is written is read back the same, in both modes."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cloudevent import CloudEventOptions, cloudevent, cloudevent_record
from sensors.adapters.kafka_formats import cloud_event
from sensors.cloudevents import Envelope, decode_structured
from tests.support.engine_contexts import TRACEPARENT, make_context

_CONTEXT = make_context("kafka", {})
_CARRIED = {"traceparent": TRACEPARENT, "tracestate": "a=1,b=2"}
_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)
_JSON = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | _TEXT | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
_NAMES = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: (
        name not in ("data", "id", "source", "subject", "time", "type", "specversion", "traceparent", "tracestate")
    )
)
_EXTENSIONS = st.dictionaries(_NAMES, _TEXT | st.booleans() | st.integers(-(2**31), 2**31 - 1), max_size=4)
_WORDS = st.fixed_dictionaries(
    {"id": _TEXT, "source": _TEXT, "type": _TEXT, "subject": _TEXT, "data": _JSON, "extensions": _EXTENSIONS}
)
_MODES = pytest.mark.parametrize("mode", ["binary", "structured"])


def _record(**options: Any) -> tuple[str | None, bytes, list[tuple[str, bytes | None]]]:
    given = CloudEventOptions.model_validate(options)
    key, value, headers = cloudevent_record(given, _CONTEXT.run, _CONTEXT.task_run, "test", _CARRIED)
    return key, value, [(name, text.encode()) for name, text in headers.items()]


def _read(value: bytes, headers: list[tuple[str, bytes | None]]) -> tuple[Envelope, Any]:
    cloud = cloud_event(value, headers)
    return cloud.envelope, cloud.content


@_MODES
@given(words=_WORDS)
def test_what_is_written_is_read_back(mode: str, words: dict[str, Any]) -> None:
    """Any attributes, extensions and JSON data survive the way over Kafka, with the tracing extension."""
    _, value, headers = _record(mode=mode, **words)
    envelope, content = _read(value, headers)

    assert {name: getattr(envelope, name) for name in ("id", "source", "type", "subject")} == {
        name: words[name] for name in ("id", "source", "type", "subject")
    }
    assert content == words["data"]
    assert envelope.time == _CONTEXT.run.created_at
    told = {
        name: str(text).lower() if isinstance(text, bool) else str(text) for name, text in words["extensions"].items()
    }
    assert envelope.extensions == {**told, **_CARRIED}


@given(words=_WORDS)
def test_both_modes_and_both_protocols_tell_the_same(words: dict[str, Any]) -> None:
    """One event is the same in binary and structured mode, and what HTTP would have carried."""
    (binary, one), (structured, two) = [_read(*_record(mode=mode, **words)[1:]) for mode in ("binary", "structured")]
    assert (binary, one) == (structured, two)
    options = CloudEventOptions.model_validate({"mode": "structured", **words})
    body, _ = cloudevent(options, _CONTEXT.run, _CONTEXT.task_run, "test", _CARRIED)
    assert decode_structured(orjson.loads(body)) == structured


def test_binary_mode_to_the_letter() -> None:
    """`ce_` headers in plain UTF-8, `content-type` for datacontenttype, the data alone as the value."""
    words: dict[str, Any] = {
        "id": "1 %",
        "source": "/ø",
        "type": "t",
        "subject": '"€"',
        "datacontenttype": "text/plain",
    }
    key, value, headers = _record(mode="binary", **words, data="smør", extensions={"n": 7, "partitionkey": "k"})

    assert (key, value) == ("k", "smør".encode())
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"1 %",
        "ce_source": "/ø".encode(),
        "ce_type": b"t",
        "ce_subject": '"€"'.encode(),
        "ce_time": b"1970-01-01T00:00:01Z",
        "ce_traceparent": TRACEPARENT.encode(),
        "ce_tracestate": b"a=1,b=2",
        "ce_n": b"7",
        "ce_partitionkey": b"k",
        "content-type": b"text/plain",
    }


def test_structured_mode_to_the_letter() -> None:
    """The JSON format as the value, its content type as the only header of the binding."""
    key, value, headers = _record(mode="structured", id="1", source="/s", type="t", data={"a": 1})

    assert key is None
    assert dict(headers) == {"content-type": b"application/cloudevents+json; charset=utf-8"}
    assert orjson.loads(value) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "subject": "p",
        "time": "1970-01-01T00:00:01Z",
        "datacontenttype": "application/json",
        "data": {"a": 1},
        **_CARRIED,
    }
