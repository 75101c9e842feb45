"""The few pieces of protobuf wire format that differ from span to span.

Everything constant about a kind of span (name, kind, fixed attributes, status) is encoded once by the official OTLP
classes and kept as bytes; a message may be written as pieces in any order, so a span is those bytes plus its ids,
times, links and own attributes, laid out here. Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`;
tests read every layout back with the official classes.
"""

from collections.abc import Sequence

MAX_TEXT = 1024
MAX_LINKS = 1000

_REMOTE = "03"  # SpanFlags: "is remote" is known, and true
_LOCAL = "01"  # SpanFlags: "is remote" is known, and false
_IDS_BYTES = 18 + 10
_PARENT_BYTES = 10
_FLAGS_BYTES = 6
_LINK_BYTES = 2 + 18 + 10 + 5


class BadContext(ValueError):
    """A context handed in is no traceparent text; the span cannot be built."""


def varint(n: int) -> bytes:
    """Encode a non-negative integer."""
    if n < 0x80:
        return bytes((n,))
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def framed(tag: int, payload: bytes) -> bytes:
    """Encode a length-delimited field with a one-byte tag."""
    n = len(payload)
    if n < 0x80:
        return bytes((tag, n)) + payload
    return bytes((tag,)) + varint(n) + payload


def clipped(text: str) -> bytes:
    """Encode text as UTF-8, at most MAX_TEXT characters; what cannot be encoded becomes a question mark."""
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT]
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace")


class TextAttribute:
    """A span attribute with a fixed key and text values: its bytes are the frame around each value.

    Frames of short values, whose lengths all fit one byte, are made once.
    """

    __slots__ = ("_frames", "_key")

    def __init__(self, key: str) -> None:
        self._key = framed(0x0A, key.encode())
        short = 0x80 - 4 - len(self._key)
        self._frames = tuple(
            bytes((0x4A, len(self._key) + n + 4)) + self._key + bytes((0x12, n + 2, 0x0A, n)) for n in range(short)
        )

    def encode(self, value: str) -> bytes:
        """Return the `attributes` field (9) holding key and value."""
        text = clipped(value)
        n = len(text)
        if n < len(self._frames):
            return self._frames[n] + text
        return framed(0x4A, self._key + framed(0x12, framed(0x0A, text)))


def int_attribute(key: str, value: int) -> bytes:
    """Return the `attributes` field (9) holding a key and a non-negative integer."""
    return framed(0x4A, framed(0x0A, key.encode()) + framed(0x12, b"\x18" + varint(value)))


def ids(
    context: str, parent: str | None, links: Sequence[str], *, remote_parent: bool = False, remote_links: bool = False
) -> bytes:
    """Return trace id, span id, parent, flags and links of a span.

    Raises BadContext when one of them is no traceparent text: nothing half-written may enter a message.
    """
    dropped = b""
    if len(links) > MAX_LINKS:
        dropped = b"\x70" + varint(len(links) - MAX_LINKS)
        links = links[:MAX_LINKS]
    expected = _IDS_BYTES + _FLAGS_BYTES + _LINK_BYTES * len(links)
    text = f"0a10{context[3:35]}1208{context[36:52]}8501{context[53:55]}{_REMOTE if remote_parent else _LOCAL}0000"
    if parent is not None:
        text += f"2208{parent[36:52]}"
        expected += _PARENT_BYTES
    if links:
        tail = f"{_REMOTE if remote_links else _LOCAL}0000"
        text += "".join([f"6a210a10{link[3:35]}1208{link[36:52]}35{link[53:55]}{tail}" for link in links])
    try:
        raw = bytes.fromhex(text)
    except ValueError as broken:
        raise BadContext("a span's context is not W3C traceparent text") from broken
    if len(raw) != expected:  # a text that is too short, or hex digits apart: fromhex skips white space
        raise BadContext("a span's context is not W3C traceparent text")
    return raw + dropped
