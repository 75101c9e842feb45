"""Frames that the client could not read, made readable before it sees them.

A publisher may put any bytes into the short texts of a message (AMQP does not say that they are UTF-8) and any number
into its timestamp. The client gives up the whole connection over one such frame; the message would come again with the
next one, and nothing behind it would ever be read. So each header frame that does not decode is replaced by one that
says so and carries its bytes, and a routing key that is no text is escaped. Everything else passes as it is.
"""

import asyncio
import struct
from typing import Any, Final

UNREADABLE: Final = "x-tidegate-unreadable"  # why the header frame could not be read
ORIGINAL: Final = "x-tidegate-original"  # its properties as they came

_METHOD, _HEADER = 1, 2
_DELIVER, _GET_OK, _RETURN = (60, 60), (60, 71), (60, 50)
_CLOSE = struct.pack(">HH", 10, 50)
_HEADERS_FLAG = 0x2000
_HEAD = struct.Struct(">BHI")
_SIZES = struct.Struct(">HHQ")


class MendingReader:
    """A stream reader as the client uses one; hands out whole frames, mended where that is needed."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.farewell: tuple[int, str] | None = None  # code and reason with which the broker closed the connection
        self._reader = reader
        self._ready = b""
        self._at = 0

    def at_eof(self) -> bool:
        """Say whether nothing more comes."""
        return self._at >= len(self._ready) and self._reader.at_eof()

    async def readexactly(self, count: int) -> bytes:
        """Read so many bytes of the current frame, or of the next one."""
        if self._at >= len(self._ready):
            self._ready, self._at = await self._frame(), 0
        found = self._ready[self._at : self._at + count]
        self._at += len(found)
        if len(found) < count:
            found += await self._reader.readexactly(count - len(found))
        return found

    async def read(self, count: int = -1) -> bytes:
        """Read what there is."""
        rest, self._ready = self._ready[self._at :], b""
        self._at = 0
        return rest + await self._reader.read(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def _frame(self) -> bytes:
        first = await self._reader.readexactly(1)
        if first[0] not in (_METHOD, _HEADER):
            return first
        head = first + await self._reader.readexactly(_HEAD.size - 1)
        kind, channel, size = _HEAD.unpack(head)
        payload = await self._reader.readexactly(size)
        end = await self._reader.readexactly(1)
        if kind == _METHOD and payload.startswith(_CLOSE):
            self.farewell = (struct.unpack_from(">H", payload, 4)[0], escaped(_short(payload, 6)[0]))
        fixed = mended_header(payload) if kind == _HEADER else mended_method(payload)
        return _HEAD.pack(kind, channel, len(fixed)) + fixed + end


def mended_header(payload: bytes) -> bytes:
    """Return a header frame's payload, or one that says why it cannot be read."""
    from pamqp.header import ContentHeader

    try:
        ContentHeader().unmarshal(payload)
    except Exception as error:  # noqa: BLE001 - whatever the client's decoder raises, it would raise again
        why = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:500]
        table = _entry(UNREADABLE, why) + _entry(ORIGINAL, payload[_SIZES.size :])
        flags = struct.pack(">H", _HEADERS_FLAG)
        return payload[: _SIZES.size] + flags + struct.pack(">I", len(table)) + table
    return payload


def mended_method(payload: bytes) -> bytes:
    """Return a method frame's payload; where it tells of a message, the texts in it are UTF-8."""
    if payload.isascii():
        return payload
    method = struct.unpack_from(">HH", payload)
    if method == _DELIVER:
        tag, at = _short(payload, 4)
        middle = payload[at : at + 9]  # delivery tag, redelivered
        exchange, at = _short(payload, at + 9)
        key, _ = _short(payload, at)
        return payload[:4] + _packed(tag) + middle + _packed(exchange) + _packed(key)
    if method == _GET_OK:
        exchange, at = _short(payload, 13)
        key, rest = _short(payload, at)
        return payload[:13] + _packed(exchange) + _packed(key) + payload[rest:]
    if method == _RETURN:
        reply, at = _short(payload, 6)
        exchange, at = _short(payload, at)
        key, _ = _short(payload, at)
        return payload[:6] + _packed(reply) + _packed(exchange) + _packed(key)
    return payload


def escaped(text: bytes) -> str:
    """Return a short text; bytes that are no UTF-8 are percent-escaped."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"%{byte:02X}" for byte in text)


def _short(payload: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1 + payload[at]
    return payload[at + 1 : end], end


def _packed(text: bytes) -> bytes:
    raw = escaped(text).encode()[:255].decode("utf-8", "ignore").encode()
    return bytes((len(raw),)) + raw


def _entry(name: str, value: bytes) -> bytes:
    return bytes((len(name),)) + name.encode() + b"S" + struct.pack(">I", len(value)) + value
