"""The Event: one immutable fact from a source, shaped as CloudEvents 1.0.

Identity is `(sensor, id)`; `id` comes from the source and is the same wherever and whenever the fact is seen again.
`uid` is our own opaque name for it. Data stays raw bytes and is parsed on demand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

EMPTY: Mapping[str, str] = MappingProxyType({})
OWN_SENSOR = "tidegate"
MAX_DEPTH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact. Build it with every field; `replace` copies.

    Moments are UTC microseconds. `time` is the source's own (None when it gave none), `received_at` is ours.
    `traceparent`/`tracestate` are the producer's W3C context; `trusted` says that the sender was verified, so that
    its trace may be continued instead of only linked. `depth` counts how many runs lie between an outside event and
    this one (0 for outside events); `cause_run` is the run that an own event tells of.
    """

    sensor: str
    id: str
    uid: str
    source: str
    type: str
    received_at: int
    subject: str | None = None
    time: int | None = None
    data: bytes | None = None
    content_type: str | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    match: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    traceparent: str | None = None
    tracestate: str | None = None
    trusted: bool = False
    depth: int = 0
    cause_run: str | None = None


def parse_data(data: bytes | None, content_type: str | None) -> Any:
    """Return the content as expressions see it: JSON decoded, text as str, anything else as bytes, None as None.

    JSON is what the content type says is JSON, or what says nothing and parses. Raises ValueError when the content
    type promises JSON or text and the bytes do not keep the promise.
    """
    if data is None:
        return None
    media = (content_type or "").split(";", 1)[0].strip().lower()
    if media in ("application/json", "text/json") or media.endswith("+json"):
        return orjson.loads(data)
    if media.startswith("text/"):
        return data.decode()
    if not media:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return data
    return data


def storable_text(text: str) -> bool:
    """Say whether text may enter text columns and CEL: no NUL and no lone surrogate."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
