"""What no well-behaved client sends: a published message whose frames are written byte by byte.

Names and properties are bytes of any kind; the rest of the conversation is that of any client.
"""

import asyncio
import struct

_METHOD, _HEADER, _BODY = 1, 2, 3


def short(text: bytes) -> bytes:
    """Write a short text."""
    return bytes((len(text),)) + text


def entry(name: bytes, value: bytes) -> bytes:
    """Write an entry of a header table, of long text."""
    return short(name) + b"S" + struct.pack(">I", len(value)) + value


def properties(*, message_id: bytes = b"", headers: bytes = b"", timestamp: int | None = None) -> bytes:
    """Write flags and properties of a header frame, in the order that AMQP wants."""
    flags, values = 0, b""
    if headers:
        flags, values = flags | 0x2000, values + struct.pack(">I", len(headers)) + headers
    if message_id:
        flags, values = flags | 0x0080, values + short(message_id)
    if timestamp is not None:
        flags, values = flags | 0x0040, values + struct.pack(">Q", timestamp)
    return struct.pack(">H", flags) + values


async def publish_raw(
    port: int, queue: bytes, body: bytes, written: bytes, *, exchange: bytes = b"", key: bytes | None = None
) -> None:
    """Publish one message with these properties as guest, and wait until the broker has it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def answer() -> bytes:
        head = await reader.readexactly(7)
        payload = await reader.readexactly(struct.unpack(">BHI", head)[2])
        await reader.readexactly(1)
        return payload

    def send(kind: int, channel: int, payload: bytes) -> None:
        writer.write(struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce")

    def method(channel: int, group: int, number: int, arguments: bytes) -> None:
        send(_METHOD, channel, struct.pack(">HH", group, number) + arguments)

    try:
        writer.write(b"AMQP\x00\x00\x09\x01")
        await answer()  # start
        credentials = b"\x00guest\x00guest"
        start = struct.pack(">I", 0) + short(b"PLAIN") + struct.pack(">I", len(credentials)) + credentials
        method(0, 10, 11, start + short(b"en_US"))
        tune = await answer()
        method(0, 10, 31, tune[4:])
        method(0, 10, 40, short(b"/") + short(b"") + b"\x00")
        await answer()  # open-ok
        method(1, 20, 10, short(b""))
        await answer()
        method(1, 85, 10, b"\x00")  # confirm.select
        await answer()
        method(1, 60, 40, struct.pack(">H", 0) + short(exchange) + short(queue if key is None else key) + b"\x00")
        send(_HEADER, 1, struct.pack(">HHQ", 60, 0, len(body)) + written)
        send(_BODY, 1, body)
        acknowledged = await answer()
        assert acknowledged[:4] == struct.pack(">HH", 60, 80), acknowledged
    finally:
        writer.close()
        await writer.wait_closed()
