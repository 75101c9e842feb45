"""Open-loop load.

Signed webhooks leave at fixed moments, whatever the answers do, and a sink in the same process sees the requests that
the runs send, so that one clock measures the whole way.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.harness import signature
from benchmarks.sink import Sink


@dataclass(slots=True)
class Figures:
    """What was seen, in seconds of one monotonic clock. `late` counts sends that left over 50 ms after their moment."""

    sent: dict[int, float] = field(default_factory=dict)
    answered: dict[int, float] = field(default_factory=dict)
    arrived: dict[int, float] = field(default_factory=dict)
    repeats: int = 0
    refused: int = 0
    late: int = 0

    def delays(self) -> Sequence[float]:
        """Return seconds from sending the webhook to the arrival of the run's request, for those that arrived."""
        return [self.arrived[n] - sent for n, sent in self.sent.items() if n in self.arrived]


class Client(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, pool: list["Client"], figures: Figures) -> None:
        self._pool = pool
        self._figures = figures
        self._transport: asyncio.Transport | None = None
        self._n = -1
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the idle ones."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.append(self)

    def send(self, n: int, request: bytes) -> None:
        """Send request number n."""
        assert self._transport is not None
        self._n = n
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Note the answer, become idle."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.lower().find(b"content-length:")
        length = int(self._buffer[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        if self._buffer.startswith(b"HTTP/1.1 202"):
            self._figures.answered[self._n] = time.monotonic()
        else:
            self._figures.refused += 1
        self._buffer = self._buffer[end + 4 + length :]
        self._pool.append(self)


class Rig:
    """A sink with its port, and clients of one service."""

    def __init__(self, sink_port: int) -> None:
        self.sink_port = sink_port
        self.figures = Figures()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Sink(self._on_request), "127.0.0.1", self.sink_port
        )

    def _on_request(self, arrived: float, line: bytes, headers: bytes, body: bytes) -> bytes | None:
        n = int(line.split(b" ", 2)[1].rsplit(b"/", 1)[1])
        if n in self.figures.arrived:
            self.figures.repeats += 1
        else:
            self.figures.arrived[n] = arrived
        return None

    async def load(
        self, host: str, port: int, rate: float, seconds: float, first: int = 0, connections: int = 64
    ) -> Figures:
        """Send `rate` webhooks a second for `seconds`; return fresh figures (the sink goes on filling them)."""
        figures = self.figures = Figures()
        pool: list[Client] = []
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Client(pool, figures), host, port)
        total = int(rate * seconds)
        requests = [_request(first + n) for n in range(total)]
        start = time.monotonic() + 0.1
        for n in range(total):
            due = start + n / rate
            wait = due - time.monotonic()
            if wait > 0.0005:
                await asyncio.sleep(wait)
            elif n % 20 == 0:
                await asyncio.sleep(0)
            while not pool:  # noqa: ASYNC110 - a pool of protocols, polled within the pace of the load
                await asyncio.sleep(0.001)
            now = time.monotonic()
            if now - due > 0.05:
                figures.late += 1
            figures.sent[first + n] = due
            pool.pop().send(first + n, requests[n])
        return figures

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()


def _request(n: int) -> bytes:
    lines = b'[{"sku":"a-1","quantity":2},{"sku":"b-2","quantity":1}]'
    body = b'{"id":"order-%d","n":%d,"customer":"acme","amount":12.5,"lines":%s}' % (n, n, lines)
    head = b"POST /hooks/bench HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    sign = b"x-signature: %s\r\ncontent-length: %d\r\n\r\n" % (signature(body).encode(), len(body))
    return head + sign + body


def calling_pipeline(sink_port: int) -> Mapping[str, object]:
    """Return trigger and pipeline that call the sink once per webhook."""
    return {
        "triggers": {
            "call": {
                "on": {"sensor": "hooks"},
                "run": {"pipeline": "call", "params": {"n": "${{ event.data.n }}"}, "key": "event.data.id"},
            }
        },
        "pipelines": {
            "call": {
                "concurrency": 256,
                "params": {"n": {"type": "int", "required": True}},
                "tasks": {
                    "call": {
                        "engine": "http",
                        "method": "POST",
                        "url": f"http://127.0.0.1:{sink_port}/runs/${{{{ params.n }}}}",
                        "json": {"n": "${{ params.n }}"},
                    }
                },
            }
        },
    }
