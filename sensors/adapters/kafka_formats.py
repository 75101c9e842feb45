"""What the bytes of a record mean: one decoder per format, from a record to what filters and events see.

In flow a record's value (and, for CloudEvents, its headers), out flows the content, or `BadRecord` with a sentence:
such a record goes to the dead letters. A decoder is synchronous; what it needs from a registry was fetched before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from sensors.cloudevents import Envelope, decode_attributes, decode_structured
from sensors.content import MAX_DEPTH, nested_deeper
from sensors.event import parse_data

JSON = "application/json"
Headers = Sequence[tuple[str, bytes | None]]


class BadRecord(Exception):
    """A record that cannot become an event: `reason` for counters, the sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Decoder(Protocol):
    """Turns values into content.

    `content_type` is the events'. A value that holds text which no rule may read holds both parts of `hostile`; None
    where the bytes do not tell.
    """

    content_type: str
    hostile: tuple[bytes, bytes] | None
    content: Callable[[bytes], Any]  # the content as expressions see it; raises BadRecord, or ValueError for `bad`

    def bad(self, error: Exception) -> "BadRecord":
        """Say what an error of `content` means."""
        ...

    def kept(self, value: bytes, content: Any) -> bytes:
        """Return the bytes that the event keeps. Raises BadRecord."""
        ...


class Json:
    """JSON, perhaps held against a schema: `check` raises BadRecord."""

    content_type = JSON
    hostile: tuple[bytes, bytes] | None = (b"\\", b"\\u0000")

    def __init__(self, check: Callable[[Any], None] | None = None) -> None:
        self.content: Callable[[bytes], Any] = orjson.loads if check is None else _checked(check)

    def bad(self, error: Exception) -> BadRecord:
        """It is no JSON, or does not keep the schema."""
        return error if isinstance(error, BadRecord) else BadRecord("undecodable", f"the value is no JSON: {error}")

    def kept(self, value: bytes, content: Any) -> bytes:
        """Keep the bytes as they came."""
        too_deep(value, content)
        return value


def _checked(check: Callable[[Any], None]) -> Callable[[bytes], Any]:
    def content(value: bytes) -> Any:
        parsed = orjson.loads(value)
        check(parsed)
        return parsed

    return content


class Text:
    """UTF-8."""

    content_type = "text/plain; charset=utf-8"
    hostile: tuple[bytes, bytes] | None = (b"\0", b"\0")

    def __init__(self) -> None:
        self.content: Callable[[bytes], Any] = bytes.decode

    def bad(self, error: Exception) -> BadRecord:
        """It is no UTF-8."""
        return BadRecord("undecodable", f"the value is not UTF-8: {error}")

    def kept(self, value: bytes, content: Any) -> bytes:
        """Keep the bytes as they came."""
        return value


class Bytes:
    """Whatever it is."""

    content_type = "application/octet-stream"
    hostile: tuple[bytes, bytes] | None = None

    def __init__(self) -> None:
        self.content: Callable[[bytes], Any] = bytes

    def bad(self, error: Exception) -> BadRecord:
        """There are no bad bytes."""
        return BadRecord("undecodable", str(error))

    def kept(self, value: bytes, content: Any) -> bytes:
        """Keep it."""
        return value


def too_deep(value: bytes, content: Any) -> None:
    """Raise BadRecord for JSON that is nested deeper than any event's."""
    if value.count(b"{") + value.count(b"[") > MAX_DEPTH and nested_deeper(content, MAX_DEPTH):
        raise BadRecord("undecodable", f"the value is nested deeper than {MAX_DEPTH}")


@dataclass(frozen=True, slots=True)
class Cloud:
    """A decoded CloudEvent with its parsed content."""

    envelope: Envelope
    content: Any


def cloud_event(value: bytes | None, headers: Headers) -> Cloud:
    """Decode a record by the Kafka binding: structured by its content type, else binary by `ce_` headers.

    Raises BadRecord.
    """
    said = _text_headers(headers)
    content_type = said.get("content-type", [None])[-1]
    media = (content_type or "").split(";", 1)[0].strip().lower()
    try:
        if media.startswith("application/cloudevents"):
            if media != "application/cloudevents+json":
                raise BadRecord(
                    "undecodable", f"CloudEvents as {media} are not read; only application/cloudevents+json"
                )
            envelope = decode_structured(orjson.loads(value or b""))
        else:
            envelope = decode_attributes(_attributes(said), value, content_type)
    except orjson.JSONDecodeError as error:
        raise BadRecord("undecodable", f"the structured CloudEvent is no JSON: {error}") from error
    except ValueError as error:
        raise BadRecord("undecodable", f"no CloudEvent: {error}") from error
    return Cloud(envelope, _content_of(envelope))


def _attributes(said: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the attributes of binary mode; unlike in HTTP their values are plain UTF-8."""
    found: dict[str, str] = {}
    for name, values in said.items():
        if name.startswith("ce_"):
            if len(values) != 1:
                raise BadRecord("undecodable", f"header {name[:64]} came {len(values)} times")
            found[name[3:]] = values[0]
    return found


def _text_headers(headers: Headers) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        lower = name.lower()
        if lower == "content-type" or lower.startswith("ce_"):
            try:
                found.setdefault(lower, []).append((value or b"").decode())
            except UnicodeDecodeError as error:
                raise BadRecord("undecodable", f"header {lower[:64]} is not UTF-8") from error
    return found


def _content_of(envelope: Envelope) -> Any:
    try:
        content = parse_data(envelope.data, envelope.content_type)
    except ValueError as error:
        raise BadRecord("undecodable", f"the data is not what its content type says: {error}") from error
    if envelope.data is not None and not isinstance(content, (bytes, str)):
        too_deep(envelope.data, content)
    return content
