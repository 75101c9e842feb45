"""HTTP receivers for benchmarks, as bare asyncio protocols, so that they cost as little of their core as possible.

`Sink` answers every request 200 at once and hands (arrival, path, headers, body) to a callback; keep-alive,
content-length only. Run as a program (`python -m benchmarks.sink PORT`) it is an OTLP receiver that counts bytes and
requests: GET / tells them.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
OnRequest = Callable[[float, bytes, bytes, bytes], bytes | None]


class Sink(asyncio.Protocol):
    """One connection. `on_request(monotonic arrival, request line, header block, body)` may return a whole answer."""

    def __init__(self, on_request: OnRequest) -> None:
        self._on_request = on_request
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in the buffer."""
        arrived = time.monotonic()
        buffer = self._buffer + data if self._buffer else data
        assert self._transport is not None
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                break
            head = buffer[:end]
            line, _, headers = head.partition(b"\r\n")
            length = 0
            at = headers.lower().find(b"content-length:")
            if at >= 0:
                length = int(headers[at + 15 :].split(b"\r\n", 1)[0])
            if len(buffer) < end + 4 + length:
                break
            body = buffer[end + 4 : end + 4 + length]
            buffer = buffer[end + 4 + length :]
            self._transport.write(self._on_request(arrived, line, headers, body) or _OK)
        self._buffer = buffer


async def serve(port: int) -> None:
    """Count what comes until the process ends."""
    seen = {"requests": 0, "bytes": 0}

    def on_request(_arrived: float, line: bytes, _headers: bytes, body: bytes) -> bytes | None:
        if line.startswith(b"GET"):
            text = json.dumps(seen).encode()
            return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)
        seen["requests"] += 1
        seen["bytes"] += len(body)
        return None

    server = await asyncio.get_running_loop().create_server(lambda: Sink(on_request), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
