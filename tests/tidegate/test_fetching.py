"""Fetching keys and certificates: over TLS that is checked, from addresses that may be called, within bounds."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import web

from sensors.ports import Unavailable
from tidegate.fetching import Fetcher

_LOOPBACK = ("127.0.0.0/8", "::1/128")


@asynccontextmanager
async def _server(ca: trustme.CA) -> AsyncIterator[str]:
    """Serve over TLS; the path says how to answer."""

    async def answer(request: web.Request) -> web.Response:
        match request.path:
            case "/keys":
                return web.Response(body=b"keys")
            case "/large":
                return web.Response(body=b"x" * 300_000)
            case "/moved":
                raise web.HTTPFound("/keys")
            case "/broken":
                return web.Response(status=503)
            case "/busy":
                return web.Response(status=429)
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _fetcher(ca: trustme.CA | None, allow: tuple[str, ...] = _LOOPBACK) -> AsyncIterator[Fetcher]:
    trust = None
    if ca is not None:
        trust = ssl.create_default_context()
        ca.configure_trust(trust)
    made = Fetcher(allow, "tidegate/test", trust)
    try:
        yield made
    finally:
        await made.close()


async def test_what_is_there_is_fetched() -> None:
    """An answer comes as bytes, and many questions share a session."""
    ca = trustme.CA()
    async with _server(ca) as url, _fetcher(ca) as fetcher:
        assert [await fetcher.fetch(f"{url}/keys") for _ in range(3)] == [b"keys"] * 3


async def test_what_is_not_there_is_told_from_what_cannot_be_had() -> None:
    """Only a host that says so has nothing; trouble, patience, redirects and too much are no answer."""
    ca = trustme.CA()
    async with _server(ca) as url, _fetcher(ca) as fetcher:
        with pytest.raises(LookupError, match="404"):
            await fetcher.fetch(f"{url}/nothing")
        for path, sentence in (("broken", "503"), ("busy", "429"), ("moved", "302"), ("large", "more than")):
            with pytest.raises(Unavailable, match=sentence):
                await fetcher.fetch(f"{url}/{path}")
    async with _fetcher(ca) as fetcher:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await fetcher.fetch("https://127.0.0.1:9/keys")


async def test_addresses_and_certificates_are_checked() -> None:
    """No private address unless it is allowed, no certificate that nobody vouches for, no plain http."""
    ca = trustme.CA()
    async with _server(ca) as url:
        async with _fetcher(ca, ()) as fetcher:
            with pytest.raises(Unavailable, match=r"network\.allow"):
                await fetcher.fetch(f"{url}/keys")
        async with _fetcher(None) as fetcher:
            with pytest.raises(Unavailable, match=r"(?i)certificate"):
                await fetcher.fetch(f"{url}/keys")
        async with _fetcher(ca) as fetcher:
            with pytest.raises(Unavailable, match="https"):
                await fetcher.fetch(url.replace("https", "http") + "/keys")
