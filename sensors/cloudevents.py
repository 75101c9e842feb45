"""CloudEvents 1.0 over HTTP: binary mode (`ce-` headers), structured JSON, and batches of it.

In flow a request's headers and body, out flows an `Envelope`; a broken CloudEvent is a ValueError with a sentence.
Nothing is invented: an event without `id`, `source`, `type` or `specversion` is broken, and so is a batch with one
such event in it. `header_value` and `structured` write what the decoders read.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import orjson

from sensors.event import storable_text

_REQUIRED = ("id", "source", "type")
_FIELDS = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64"}
)
_EXTENSION = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_QUOTED = re.compile(r"\\(.)")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_INTEGERS = range(-(2**31), 2**31)
MAX_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded CloudEvent. `time` in UTC microseconds; `extensions` are all other attributes as text."""

    id: str
    source: str
    type: str
    subject: str | None
    time: int | None
    data: bytes | None
    content_type: str | None
    extensions: Mapping[str, str]

    @property
    def identity(self) -> str:
        """Return source and id as one text. A source is a URI without spaces, so the first space always parts them."""
        return f"{self.source.replace(' ', '%20')} {self.id}"


def decode_structured(document: Any) -> Envelope:
    """Decode a parsed `application/cloudevents+json` document. Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError("a structured CloudEvent is a JSON object")  # noqa: TRY004 - callers expect ValueError
    attributes = {
        name: _text(name, value)
        for name, value in document.items()
        if name not in ("data", "data_base64") and value is not None
    }
    content_type = attributes.get("datacontenttype", "application/json")
    data: bytes | None = None
    if document.get("data_base64") is not None:
        if document.get("data") is not None:
            raise ValueError("data and data_base64 exclude each other")
        if not isinstance(document["data_base64"], str):
            raise ValueError("data_base64 must be text")
        data = base64.b64decode(document["data_base64"], validate=True)
    elif document.get("data") is not None:
        value = document["data"]
        media = content_type.split(";", 1)[0].strip().lower()
        is_json = media.endswith(("/json", "+json"))
        if not is_json and not isinstance(value, str):
            raise ValueError("data must be text where datacontenttype is not JSON")
        data = _encoded(value) if is_json else value.encode()
    return _envelope(attributes, data, content_type if data is not None else attributes.get("datacontenttype"))


def decode_batch(document: Any) -> list[Envelope]:
    """Decode a parsed `application/cloudevents-batch+json` document; it may be empty. Raises ValueError."""
    if not isinstance(document, list):
        raise ValueError("a batch of CloudEvents is a JSON array")  # noqa: TRY004 - callers expect ValueError
    if len(document) > MAX_BATCH:
        raise ValueError(f"a batch holds {len(document)} events, and at most {MAX_BATCH} are taken")
    found: list[Envelope] = []
    for number, item in enumerate(document):
        try:
            found.append(decode_structured(item))
        except ValueError as error:
            raise ValueError(f"event {number} of the batch: {error}") from error
    return found


def decode_binary(headers: Mapping[str, Sequence[str]], body: bytes, content_type: str | None) -> Envelope:
    """Decode the `ce-` headers of a request. Raises ValueError."""
    attributes: dict[str, str] = {}
    for header, values in headers.items():
        if header.startswith("ce-"):
            if len(values) != 1:
                raise ValueError(f"header {header} came {len(values)} times")
            attributes[header[3:]] = header_text(values[0])
    if "datacontenttype" in attributes:
        raise ValueError("ce-datacontenttype must not be present; Content-Type says it")
    return _envelope(attributes, body or None, content_type)


def decode_attributes(attributes: Mapping[str, str], body: bytes | None, content_type: str | None) -> Envelope:
    """Decode attributes that came beside the body, by their plain names, as message queues and logs carry them.

    Raises ValueError.
    """
    if "datacontenttype" in attributes:
        raise ValueError("datacontenttype must not be among them; the content type says it")
    return _envelope(attributes, body, content_type)


def header_text(value: str) -> str:
    """Undo the header encoding: double quotes, then one round of percent-decoding. Raises ValueError if not UTF-8.

    `value` are the header's bytes, read as Latin-1; bytes beyond ASCII are taken for UTF-8 that was not encoded.
    """
    text = value.strip(" \t")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = _QUOTED.sub(r"\1", text[1:-1])
    if "%" not in text and text.isascii():
        return text
    return unquote_to_bytes(text.encode("latin-1", "surrogateescape")).decode("utf-8", "strict")


def header_value(text: str) -> str:
    """Encode an attribute's value for a header: all but printable ASCII, and space, quote and percent, is escaped."""
    return quote(text, safe="!#$&'()*+,/:;<=>?@[\\]^_`{|}~.-")


def parse_time(text: str) -> int:
    """Return UTC microseconds of an RFC 3339 moment. Raises ValueError when it is none, or has no offset."""
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"time {text[:40]!r} is no RFC 3339 moment with an offset")
    moment = datetime.fromisoformat(text.upper())
    return round(moment.timestamp() * 1_000_000)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and name not in _FIELDS and value in _INTEGERS:
        return str(value)
    raise ValueError(f"attribute {name[:64]!r} must be text")


def _envelope(attributes: Mapping[str, str], data: bytes | None, content_type: str | None) -> Envelope:
    if attributes.get("specversion") != "1.0":
        raise ValueError("specversion must be 1.0")
    for name in _REQUIRED:
        if not attributes.get(name):
            raise ValueError(f"attribute {name} is missing or empty")
    extensions: dict[str, str] = {}
    for name, value in attributes.items():
        if _CONTROL.search(value) or not storable_text(value):
            raise ValueError(f"attribute {name[:64]!r} holds a control character or a lone surrogate")
        if name not in _FIELDS:
            if not _EXTENSION.fullmatch(name):
                raise ValueError(f"extension name {name[:64]!r} must be lower-case letters and digits")
            extensions[name] = value
    time = attributes.get("time")
    return Envelope(
        attributes["id"],
        attributes["source"],
        attributes["type"],
        attributes.get("subject") or None,
        parse_time(time) if time else None,
        data,
        content_type,
        extensions,
    )


def _encoded(value: Any) -> bytes:
    """Write JSON. Raises ValueError for what has no JSON text here, such as integers beyond 64 bits."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise ValueError(f"the data cannot be written as JSON: {error}") from error
