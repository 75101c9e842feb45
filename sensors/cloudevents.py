"""CloudEvents 1.0 over HTTP, decoded: binary mode (`ce-` headers) and structured JSON.

In flow a request's headers and body, out flows an `Envelope`; a broken CloudEvent is a ValueError with a sentence.
Nothing is invented: an event without `id`, `source`, `type` or `specversion` is broken. Batch mode is not decoded here.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from sensors.event import storable_text

_REQUIRED = ("id", "source", "type")
_FIELDS = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data", "data_base64"}
)
_EXTENSION = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
_QUOTED = re.compile(r'\\(["\\])')


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
    attributes = {name: _text(name, value) for name, value in document.items() if name not in ("data", "data_base64")}
    content_type = attributes.get("datacontenttype", "application/json")
    data: bytes | None = None
    if "data_base64" in document:
        if not isinstance(document["data_base64"], str):
            raise ValueError("data_base64 must be text")
        data = base64.b64decode(document["data_base64"], validate=True)
    elif document.get("data") is not None:
        value = document["data"]
        media = content_type.split(";", 1)[0].strip().lower()
        is_json = media in ("application/json", "text/json") or media.endswith("+json")
        data = value.encode() if isinstance(value, str) and not is_json else _encoded(value)
    return _envelope(attributes, data, content_type if data is not None else attributes.get("datacontenttype"))


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
    """Decode attributes that came beside the body, by their plain names, as message queues carry them.

    Raises ValueError.
    """
    return _envelope(attributes, body, content_type)


def header_text(value: str) -> str:
    """Undo the header encoding: double quotes, then one round of percent-decoding. Raises ValueError if not UTF-8."""
    text = value.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = _QUOTED.sub(r"\1", text[1:-1])
    if "%" not in text:
        return text
    return unquote_to_bytes(text).decode("utf-8", "strict")


def parse_time(text: str) -> int:
    """Return UTC microseconds of an RFC 3339 moment. Raises ValueError when it is none, or has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError(f"time {text[:40]!r} is no RFC 3339 moment with an offset")
    return round(moment.timestamp() * 1_000_000)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and name not in _FIELDS:
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
        if not storable_text(value):
            raise ValueError(f"attribute {name[:64]!r} holds NUL or a lone surrogate")
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
