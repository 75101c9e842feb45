"""The wire and the watch: senders who never end their headers, and files that vanish while they are looked at."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvicorn
from blockbuster import BlockBuster

from config.model import Limits
from tidegate import reload
from tidegate.api.wire import wire
from tidegate.serve import _server

App = Callable[[Any, Any, Any], Awaitable[None]]


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def _listening(limits: Limits) -> AsyncIterator[int]:
    """Serve `_hello` on a free port as `tidegate serve` does; yields the port."""
    server: uvicorn.Server = _server(_hello, "127.0.0.1:0", wire(limits))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


@pytest.mark.parametrize("head", [b"", b"\r\n", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_sender_who_never_ends_the_headers_is_cut(head: bytes) -> None:
    """A connection whose headers do not come within the time for reading is closed."""
    async with _listening(Limits(read_timeout=0.2)) as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 4_000 + b"\r\n", b"a" * 4_000])
async def test_headers_without_end_hold_no_memory(line: bytes) -> None:
    """Headers beyond every cap end the connection, whether they are many or one."""
    async with _listening(Limits(header_bytes=1_024)) as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX-B: ")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and sent < 4_000_000:
                writer.write(line)
                await writer.drain()
                sent += len(line)
                await asyncio.sleep(0)
        assert sent < 4_000_000
        writer.close()


async def test_requests_on_one_connection_are_not_cut() -> None:
    """A patient sender, in pieces, and an idle connection between two requests stay."""
    async with _listening(Limits(read_timeout=0.4)) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nHo")
            await asyncio.sleep(0.05)
            writer.write(b"st: x\r\nContent-Length: 4\r\n\r\nab")
            await asyncio.sleep(0.05)
            writer.write(b"cd")
            answer = await reader.readuntil(b"ok")
            assert answer.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.5)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        for _ in range(2):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_watch_that_fails_is_no_end_of_reloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_blocking: BlockBuster
) -> None:
    """When the files cannot be watched (one vanished, no watches left), changes are found by looking."""

    def broken(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("gone")

    no_blocking.deactivate()  # the files are looked at on the loop: a handful of local ones
    monkeypatch.setattr(reload, "awatch", broken)
    monkeypatch.setattr(reload, "RECHECK", 10)
    path = tmp_path / "a.yaml"
    path.write_text("a")
    applied: list[Any] = []

    class Config:
        hash = "h"
        files = (path,)
        pipelines: ClassVar[dict[str, Any]] = {}

    async def apply(config: Any) -> None:
        applied.append(config)

    task = asyncio.create_task(reload.watch_config([path], Config, apply))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    path.write_text("longer")
    async with asyncio.timeout(5):
        while not applied:
            await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
