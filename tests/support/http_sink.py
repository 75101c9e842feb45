"""A real HTTP server on loopback that answers as it is told and remembers what it got."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Sink:
    """What arrived (request and body), and where the server listens."""

    url: str
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def http_sink(handler: Handler) -> AsyncIterator[Sink]:
    """Serve every path with `handler` on a free port of 127.0.0.1."""
    sink = Sink("")

    async def answer(request: web.Request) -> web.StreamResponse:
        sink.requests.append(request)
        sink.bodies.append(await request.read())
        sink.arrived.set()
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    sink.url = f"http://127.0.0.1:{port}"
    try:
        yield sink
    finally:
        await runner.cleanup()
