"""The session over which HTTP requests leave: the address is checked at the socket, the right to send at the write.

Importing this imports aiohttp, which takes long enough to stall a loop: import it in a thread, when it is needed.

In flow requests, each sent within `sending(held)`; out they flow only while `held()` is true, asked immediately before
the first byte is handed to the transport, after everything that may take time (a free place, a name, a connection).
A process that was suspended in between, and whose work somebody else may have taken up, thus sends nothing.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

from pipelines.errors import LeaseLost
from sensors.netguard import NetGuard

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection

_HELD: ContextVar[Callable[[], bool]] = ContextVar("held", default=lambda: True)


@contextlib.contextmanager
def sending(held: Callable[[], bool]) -> Iterator[None]:
    """Let the requests made within be sent only while `held()`; afterwards they raise LeaseLost instead."""
    token = _HELD.set(held)
    try:
        yield
    finally:
        _HELD.reset(token)


class _Gated(aiohttp.ClientRequest):
    """A request that asks for the right to be sent, with head and body leaving in one piece after the last question."""

    async def send(self, conn: "Connection") -> aiohttp.ClientResponse:
        """Send a request without a body, or prepare one whose body is written by a task of its own."""
        if not _HELD.get()():
            raise _lost(self)
        return await super().send(conn)

    async def write_bytes(
        self, writer: "AbstractStreamWriter", conn: "Connection", content_length: int | None = None
    ) -> None:
        """Write head and body: this runs a turn of the loop, or more, after `send`."""
        if _HELD.get()():
            await super().write_bytes(writer, conn, content_length)
            return
        if conn.protocol is not None:
            conn.protocol.set_exception(_lost(self))
        conn.close()


def _lost(request: aiohttp.ClientRequest) -> LeaseLost:
    return LeaseLost(f"the lease ended before the request to {request.url.host} was sent; nothing was sent")


def make_session(guard: NetGuard, agent: str) -> aiohttp.ClientSession:
    """Return a session without cookies, proxies of the environment and addresses that `guard` refuses."""

    def checked(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, address = info
        refused = guard.refuses(address[0])
        if refused is not None:
            raise PermissionError(1, refused)
        return socket.socket(family, kind, proto)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=10, socket_factory=checked),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": agent, "Accept": "*/*"},
        skip_auto_headers=("Content-Type",),
        trust_env=False,
        request_class=_Gated,
    )
