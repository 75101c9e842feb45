"""The rules of CloudEvents' HTTP binding, JSON format and webhooks, one by one, with the section that says so.

`HTTP` is the HTTP Protocol Binding 1.0.2, `JSON` the JSON Event Format 1.0.2, `CORE` the specification 1.0.2, `HOOK`
the HTTP 1.1 Web Hooks for Event Delivery 1.0.2. The words are ours.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t", "content-type": "application/json"}
_JSON = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
_STRUCTURED = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"


@dataclass(frozen=True)
class Rule:
    """One rule: where it stands, what it says, a request, and what comes of it.

    `gives` are attributes of each event, `refused` the status of a request that breaks the rule.
    """

    section: str
    says: str
    headers: Mapping[str, str | Sequence[str]]
    body: bytes = b"{}"
    gives: Sequence[Mapping[str, Any]] = ()
    refused: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def _structured(content_type: str = _STRUCTURED, **changes: Any) -> dict[str, Any]:
    return {"headers": {"content-type": content_type}, "body": json.dumps({**_JSON, **changes}).encode()}


def _batch(*events: Any) -> dict[str, Any]:
    return {
        "headers": {"content-type": _BATCH},
        "body": json.dumps(list(events)).encode(),
        "options": {"cloudevents": {"batch": True}},
    }


RULES = [
    # -- which mode ---------------------------------------------------------------------------------------------------
    Rule("HTTP 1.3", "binary mode puts the data into the body as it is", _BINARY, b'{"a": 1}', [{"data": b'{"a": 1}'}]),
    Rule("HTTP 3", "a content type of CloudEvents means structured mode", **_structured(), gives=[{"type": "t"}]),
    Rule(
        "HTTP 3",
        "that it is one is seen whatever its case",
        **_structured("Application/CloudEvents+JSON"),
        gives=[{"id": "/s 1"}],
    ),
    Rule(
        "HTTP 3",
        "parameters behind the media type change nothing",
        **_structured(f"{_STRUCTURED}; charset=UTF-8"),
        gives=[{"id": "/s 1"}],
    ),
    Rule("HTTP 3", "the batch's content type means batched mode", **_batch(_JSON), gives=[{"id": "/s 1"}]),
    Rule("HTTP 3", "batches are sent only to those who asked for them", {"content-type": _BATCH}, b"[]", refused=415),
    Rule(
        "HTTP 3",
        "any other content type means binary mode",
        {**_BINARY, "content-type": "text/plain"},
        b"hi",
        [{"data": b"hi", "content_type": "text/plain"}],
    ),
    Rule("HTTP 3", "without any CloudEvents header it is no CloudEvent", {}, b"{}", [{"type": "webhook.received"}]),
    Rule(
        "HTTP 3",
        "an event format that is not known need not be taken",
        {"content-type": "application/cloudevents+avro"},
        refused=415,
    ),
    Rule(
        "HTTP 3",
        "what looks like a CloudEvent must keep all rules to be one",
        {"ce-specversion": "1.0", "ce-id": "1"},
        refused=400,
    ),
    Rule(
        "HOOK 2.2",
        "a format that is not understood is answered 415",
        {"content-type": "application/cloudevents-batch+xml"},
        options={"cloudevents": {"batch": True}},
        refused=415,
    ),
    # -- binary mode --------------------------------------------------------------------------------------------------
    Rule(
        "HTTP 3.1.1",
        "Content-Type is datacontenttype",
        {**_BINARY, "content-type": "text/csv; charset=utf-8"},
        b"a,b",
        [{"content_type": "text/csv; charset=utf-8"}],
    ),
    Rule(
        "HTTP 3.1.1",
        "ce-datacontenttype must not be there as well",
        {**_BINARY, "ce-datacontenttype": "text/plain"},
        refused=400,
    ),
    Rule("HTTP 3.1.2", "an empty body is no data", _BINARY, b"", [{"data": None}]),
    Rule(
        "HTTP 3.1.3",
        "every attribute, extensions included, has a header of its own",
        {**_BINARY, "ce-traceid": "x", "ce-n": "7"},
        gives=[{"traceid": "x", "n": "7"}],
    ),
    Rule(
        "HTTP 3.1.3",
        "an attribute whose header comes twice is ambiguous",
        {**_BINARY, "ce-id": ["1", "2"]},
        refused=400,
    ),
    Rule(
        "HTTP 3.1.3.1",
        "header names are those of attributes behind ce-",
        {**_BINARY, "ce-subject": "a", "ce-time": "2026-01-31T06:00:00Z"},
        gives=[{"subject": "a", "time": 1_769_839_200_000_000}],
    ),
    Rule("HTTP 3.1.3.2", "quotes are undone first", {**_BINARY, "ce-subject": '"a b"'}, gives=[{"subject": "a b"}]),
    Rule(
        "HTTP 3.1.3.2",
        "backslashes within quotes are undone with them",
        {**_BINARY, "ce-subject": r'"a\"b\\c"'},
        gives=[{"subject": r'a"b\c'}],
    ),
    Rule(
        "HTTP 3.1.3.2",
        "quotes are undone before percent-decoding",
        {**_BINARY, "ce-subject": '"%22x%22"'},
        gives=[{"subject": '"x"'}],
    ),
    Rule(
        "HTTP 3.1.3.2",
        "quotes that percent-decoding brings are part of the value",
        {**_BINARY, "ce-subject": "%22x%22"},
        gives=[{"subject": '"x"'}],
    ),
    Rule("HTTP 3.1.3.2", "parentheses are no comments", {**_BINARY, "ce-subject": "a(b)"}, gives=[{"subject": "a(b)"}]),
    Rule(
        "HTTP 3.1.3.2",
        "values are percent-decoded as UTF-8",
        {**_BINARY, "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80"},
        gives=[{"subject": "Euro € 😀"}],
    ),
    Rule(
        "HTTP 3.1.3.2",
        "one round of decoding, and no more",
        {**_BINARY, "ce-subject": "%2541"},
        gives=[{"subject": "%41"}],
    ),
    Rule(
        "HTTP 3.1.3.2",
        "lower-case digits are decoded as well",
        {**_BINARY, "ce-subject": "%e2%82%ac"},
        gives=[{"subject": "€"}],
    ),
    Rule(
        "HTTP 3.1.3.2",
        "what need not have been encoded is decoded",
        {**_BINARY, "ce-subject": "%61%2D"},
        gives=[{"subject": "a-"}],
    ),
    Rule(
        "HTTP 3.1.3.2",
        "a percent sign that begins no triplet stays",
        {**_BINARY, "ce-subject": "100%"},
        gives=[{"subject": "100%"}],
    ),
    Rule(
        "HTTP 3.1.3.2", "an overlong form is no UTF-8 and is refused", {**_BINARY, "ce-subject": "%C0%A0"}, refused=400
    ),
    Rule("HTTP 3.1.3.2", "a sequence that is cut off is refused", {**_BINARY, "ce-subject": "%E2%82"}, refused=400),
    Rule("HTTP 3.1.3.2", "an encoded surrogate is refused", {**_BINARY, "ce-subject": "%ED%A0%80"}, refused=400),
    Rule(
        "HTTP 3.1.3.2",
        "raw bytes beyond ASCII count as the UTF-8 they were",
        {**_BINARY, "ce-subject": "\u00e2\u0082\u00ac"},
        gives=[{"subject": "€"}],
    ),
    Rule("HTTP 3.1.3.2", "raw bytes that are no UTF-8 are refused", {**_BINARY, "ce-subject": "\u00ff"}, refused=400),
    Rule("CORE 3.1", "control characters are no part of a text", {**_BINARY, "ce-subject": "a%0Ab"}, refused=400),
    Rule("CORE 3.1", "nor are those from U+0080 on", {**_BINARY, "ce-subject": "a%C2%85b"}, refused=400),
    Rule("CORE 3.2", "id must be there and not empty", {**_BINARY, "ce-id": ""}, refused=400),
    Rule("CORE 3.2", "source must be there and not empty", {**_BINARY, "ce-source": ""}, refused=400),
    Rule("CORE 3.2", "type must be there and not empty", {**_BINARY, "ce-type": ""}, refused=400),
    Rule("CORE 3.2", "specversion must be 1.0", {**_BINARY, "ce-specversion": "0.3"}, refused=400),
    Rule(
        "CORE 3.2",
        "source and id together say which event it is",
        {**_BINARY, "ce-source": "/a b", "ce-id": "c d"},
        gives=[{"id": "/a%20b c d"}],
    ),
    Rule(
        "CORE 3.3",
        "time is a moment of RFC 3339",
        {**_BINARY, "ce-time": "2026-01-31T07:00:00.25+01:00"},
        gives=[{"time": 1_769_839_200_250_000}],
    ),
    Rule("CORE 3.3", "a time without an offset is none", {**_BINARY, "ce-time": "2026-01-31T07:00:00"}, refused=400),
    Rule("CORE 3.3", "a date alone is no time", {**_BINARY, "ce-time": "2026-01-31"}, refused=400),
    Rule(
        "CORE 3.3", "other forms of ISO 8601 are no RFC 3339", {**_BINARY, "ce-time": "20260131T060000Z"}, refused=400
    ),
    Rule(
        "CORE 3.1", "names of attributes are lower-case letters and digits", {**_BINARY, "ce-my-ext": "x"}, refused=400
    ),
    # -- structured mode ----------------------------------------------------------------------------------------------
    Rule(
        "HTTP 3.2.3",
        "headers of binary mode may come along, and the payload counts",
        {"content-type": _STRUCTURED, **{k: "other" for k in _BINARY if k.startswith("ce-")}},
        json.dumps(_JSON).encode(),
        [{"id": "/s 1", "type": "t"}],
    ),
    Rule(
        "HTTP 3.2.3",
        "an attribute that is only in a header is missing",
        {"content-type": _STRUCTURED, "ce-id": "1"},
        json.dumps({**_JSON, "id": None}).encode(),
        refused=400,
    ),
    Rule("JSON 2", "extensions are members beside the others", **_structured(myext="x"), gives=[{"myext": "x"}]),
    Rule(
        "JSON 2.2",
        "booleans and integers are values of attributes",
        **_structured(a=True, b=-7),
        gives=[{"a": "true", "b": "-7"}],
    ),
    Rule("JSON 2.2", "an integer has 32 bits", **_structured(b=2**31), refused=400),
    Rule("JSON 2.2", "a number with a fraction is none", **_structured(b=1.5), refused=400),
    Rule("JSON 2.2", "an object is no value of an attribute", **_structured(b={"c": 1}), refused=400),
    Rule(
        "JSON 2.2",
        "null is as if it were not there",
        **_structured(subject=None, time=None, myext=None),
        gives=[{"subject": None, "time": None}],
    ),
    Rule("JSON 2.2", "null is no value of what must be there", **_structured(source=None), refused=400),
    Rule("JSON 3", "an event is an object", {"content-type": _STRUCTURED}, b"[]", refused=400),
    Rule(
        "JSON 3.1.1", "data and data_base64 exclude each other", **_structured(data=1, data_base64="AA=="), refused=400
    ),
    Rule(
        "JSON 3.1.2",
        "data_base64 is decoded into bytes",
        **_structured(data_base64="AP8=", datacontenttype="image/png"),
        gives=[{"data": b"\x00\xff", "content_type": "image/png"}],
    ),
    Rule("JSON 3.1.2", "data_base64 that is none is refused", **_structured(data_base64="*"), refused=400),
    Rule(
        "JSON 3.1.2",
        "data of a JSON type is a JSON value",
        **_structured(data={"a": 1}, datacontenttype="application/vnd.x+json"),
        gives=[{"data": b'{"a":1}'}],
    ),
    Rule(
        "JSON 3.1.2",
        "*/json is a JSON type whatever stands before it",
        **_structured(data=[1], datacontenttype="model/json"),
        gives=[{"data": b"[1]"}],
    ),
    Rule(
        "JSON 3.1.2",
        "a text in data of a JSON type is a JSON text, not parsed again",
        **_structured(data='{"a":1}'),
        gives=[{"data": b'"{\\"a\\":1}"'}],
    ),
    Rule(
        "JSON 3.1.2",
        "without datacontenttype data is JSON",
        **_structured(data=3),
        gives=[{"data": b"3", "content_type": "application/json"}],
    ),
    Rule(
        "JSON 3.1.2",
        "data of another type is the text itself",
        **_structured(data="<a/>", datacontenttype="application/xml"),
        gives=[{"data": b"<a/>", "content_type": "application/xml"}],
    ),
    Rule(
        "JSON 3.1.2",
        "data of another type that is no text may be refused",
        **_structured(data={"a": 1}, datacontenttype="application/xml"),
        refused=400,
    ),
    # -- batched mode -------------------------------------------------------------------------------------------------
    Rule("HTTP 3.3.2", "a batch may be empty", **_batch(), gives=[]),
    Rule(
        "HTTP 3.3.2",
        "attributes differ from event to event",
        **_batch({**_JSON, "data": 1}, {**_JSON, "id": "2", "type": "u", "data": "x", "datacontenttype": "text/plain"}),
        gives=[{"id": "/s 1", "data": b"1"}, {"id": "/s 2", "type": "u", "data": b"x"}],
    ),
    Rule(
        "HTTP 3.3.2",
        "all events have the same specversion",
        **_batch(_JSON, {**_JSON, "specversion": "0.3"}),
        refused=400,
    ),
    Rule(
        "JSON 4.1",
        "a batch is an array",
        {"content-type": _BATCH},
        json.dumps(_JSON).encode(),
        options={"cloudevents": {"batch": True}},
        refused=400,
    ),
    Rule("JSON 4.1", "each element is an event, or none is taken", **_batch(_JSON, {"id": "2"}), refused=400),
    # -- tracing ------------------------------------------------------------------------------------------------------
    Rule(
        "Distributed Tracing",
        "traceparent of the event is where it was made",
        {
            **_BINARY,
            "ce-traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ce-tracestate": "a=b",
        },
        gives=[{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}],
    ),
]
