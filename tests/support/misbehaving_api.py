"""An HTTP API of ours that misbehaves as a test says: over real sockets, in every way that we know APIs to.

In flow requests, kept in `seen`; out flow the replies of `script` in their order, then those of `otherwise`.
"""

import asyncio
import gzip
import json
import ssl
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from queue import Queue
from threading import Thread
from typing import Any, Literal

from aiohttp import web

Manner = Literal["whole", "half", "silent", "drip", "hang-up", "bare"]


@dataclass(frozen=True)
class Reply:
    """An answer. `half` closes the connection within the body, `silent` never begins, `drip` sends a byte at a time,
    `hang-up` closes without an answer, `bare` sends the bytes of `body` as they are instead of HTTP. `repeat` sends the
    body so many times.
    """

    body: bytes = b"[]"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    manner: Manner = "whole"
    repeat: int = 1


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Otherwise = Callable[[Seen], Reply | Awaitable[Reply]]


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None, manner: Manner = "whole") -> Reply:
    """Return JSON."""
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})}, manner)


def zipped(value: Any, coding: str = "gzip") -> Reply:
    """Return JSON, packed."""
    data = json.dumps(value).encode()
    if coding == "gzip":
        packed = gzip.compress(data)
    elif coding == "deflate":
        packed = zlib.compress(data)
    else:
        from backports import zstd

        packed = zstd.compress(data)
    return Reply(packed, headers={"Content-Encoding": coding})


@cache
def bomb(coding: str = "gzip", megabytes: int = 200) -> Reply:
    """Return a small body that becomes a huge one."""
    piece = b" " * (1 << 20)
    if coding == "zstd":
        from backports import zstd

        packer: Any = zstd.ZstdCompressor()
        parts = [packer.compress(piece) for _ in range(megabytes)] + [packer.flush()]
    else:
        packer = zlib.compressobj(9, wbits=31)
        parts = [packer.compress(piece) for _ in range(megabytes)] + [packer.flush()]
    return Reply(b"".join(parts), headers={"Content-Encoding": coding})


class MisbehavingApi:
    """The server. `concurrent` is the most requests that were ever under way at once."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.script: deque[Reply] = deque()
        self.otherwise: Otherwise = lambda _: Reply()
        self.concurrent = 0
        self.sent = 0  # bytes of the body that is being sent
        self.gate: asyncio.Event | None = None  # closed: answers wait
        self._under_way = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer as told."""
        self._under_way += 1
        self.concurrent = max(self.concurrent, self._under_way)
        try:
            body = await request.read()
            seen = Seen(request.method, request.path, dict(request.query), dict(request.headers), body)
            self.seen.append(seen)
            if self.gate is not None:
                await self.gate.wait()
            if self.script:
                told = self.script.popleft()
            else:
                other = self.otherwise(seen)
                told = other if isinstance(other, Reply) else await other
            return await self._send(request, told)
        finally:
            self._under_way -= 1

    async def _send(self, request: web.Request, told: Reply) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if told.manner == "silent":
            while not transport.is_closing():
                await asyncio.sleep(0.01)
            return web.Response()
        if told.manner in ("hang-up", "bare"):
            if told.manner == "bare":
                transport.write(told.body)
            transport.close()
            return web.Response()
        response = web.StreamResponse(status=told.status, headers=dict(told.headers))
        if told.repeat == 1 and told.status not in (204, 304):
            response.content_length = len(told.body)
        await response.prepare(request)
        self.sent = 0
        try:
            if told.manner == "half":
                await response.write(told.body[: len(told.body) // 2])
                transport.close()
            elif told.manner == "drip":
                for byte in told.body:
                    await response.write(bytes([byte]))
                    self.sent += 1
                    await asyncio.sleep(0.02)
            elif told.status not in (204, 304):
                for _ in range(told.repeat):
                    await response.write(told.body)
                    self.sent += len(told.body)
        except (ConnectionError, asyncio.CancelledError):
            if not transport.is_closing():
                raise
        return response


@asynccontextmanager
async def running_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[MisbehavingApi]:
    """Serve every path on a free port of 127.0.0.1."""
    api = MisbehavingApi()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    api.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()


@contextmanager
def api_in_thread() -> Iterator[MisbehavingApi]:
    """Serve from a thread of its own, for tests that have no loop, or one that stands still."""
    started: Queue[tuple[MisbehavingApi, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def serve() -> None:
        async with running_api() as api:
            stop = asyncio.Event()
            started.put((api, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = Thread(target=lambda: asyncio.run(serve()), name="misbehaving-api", daemon=True)
    thread.start()
    api, loop, stop = started.get(timeout=10)
    try:
        yield api
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
