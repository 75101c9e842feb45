"""The one door to an API: a request goes out, a whole answer within all its bounds comes back.

Importing this imports aiohttp, which takes long enough to stall a loop: import it in a thread, when it is needed.

In flow requests, one after the other per host; out flow answers, or errors whose sentence names the cause. The address
is checked when the socket is made, no proxy of the environment and no cookie is used, and no redirect leads away from
where was asked. Bodies are read and unpacked piece by piece: one that is too large, too slow or cut off costs no more
than its bound.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from sensors.adapters.http_asking import Answer, Ask, host_of, origin_of, shown_url
from sensors.adapters.http_inflate import ACCEPTED, Undecodable, unpacker_of
from sensors.adapters.http_judge import REDIRECTS, admit
from sensors.errors import BackOff, NotConnected
from sensors.headers import safe_text
from sensors.hosts import Outgoing
from sensors.units import format_duration

TURN: Final = 300.0  # seconds for which a turn at a host is waited for
_CONNECT: Final = 10.0
_MAX_REDIRECTS: Final = 5
_MAX_HEAD: Final = 64 * 1024  # bytes of all headers together
_MAX_FIELD: Final = 16 * 1024
_LEAST: Final = 1024  # bytes in each `read_timeout`, or the answer is too slow
_KEPT_AWAY: Final = frozenset({"set-cookie", "set-cookie2"})


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds of one exchange. Seconds and bytes."""

    timeout: float
    read_timeout: float
    max_body: int
    per_host: int


class Client:
    """A session with one API."""

    def __init__(self, outgoing: Outgoing, caps: Caps, agent: str, ca_bundle: Path | None) -> None:
        self._outgoing = outgoing
        self._caps = caps
        self._agent = agent
        self._ca_bundle = ca_bundle
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; nothing is connected yet. Raises NotConnected when `ca_bundle` cannot be used."""
        try:
            context = await asyncio.to_thread(_tls, self._ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise NotConnected(f"`ca_bundle` {self._ca_bundle} cannot be used: {error.strerror or error}") from error
        await self.close()

        def checked(info: tuple[Any, ...]) -> socket.socket:
            family, kind, proto, _, address = info
            refused = self._outgoing.guard.refuses(address[0])
            if refused is not None:
                raise PermissionError(1, refused)
            return socket.socket(family, kind, proto)

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=10, socket_factory=checked, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._agent},
            skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            trust_env=False,
            max_line_size=_MAX_FIELD,
            max_field_size=_MAX_FIELD,
        )

    async def close(self) -> None:
        """Let go; never raises."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):
                await session.close()

    async def exchange(self, ask: Ask) -> Answer:
        """Ask in turn, and return the answer whatever its status. Raises NotConnected, BackOff, Waits."""
        hosts, host = self._outgoing.hosts, host_of(ask.url)
        admit(hosts, ask.url)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(TURN):
                    await stack.enter_async_context(hosts.turn(host, self._caps.per_host))
            except TimeoutError:
                raise BackOff(
                    f"other sensors have kept {host} busy for {format_duration(TURN)}; raise `per_host` or `every`", 1.0
                ) from None
            admit(hosts, ask.url)
            return await self._follow(ask)

    async def _follow(self, ask: Ask) -> Answer:
        first = ask
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._once(ask)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or not location:
                return answer
            try:
                target = urljoin(answer.url, location)
                same = origin_of(target) == origin_of(first.url)
            except ValueError:
                raise NotConnected(f"{shown_url(ask.url)} redirects to what is no URL; write the final URL") from None
            if not same:
                raise NotConnected(
                    f"{shown_url(ask.url)} redirects to another place ({shown_url(target)}); that is not followed: "
                    "write the final URL"
                )
            gets = answer.status == 303 or (answer.status in (301, 302) and ask.method == "POST")
            ask = replace(ask, url=target.partition("#")[0], query=())
            if gets:
                ask = replace(ask, method="GET", json=None, text=None)
        raise NotConnected(f"{shown_url(first.url)} redirects more than {_MAX_REDIRECTS} times; write the final URL")

    async def _once(self, ask: Ask) -> Answer:
        if self._session is None:
            raise NotConnected("not connected")
        at, caps = shown_url(ask.url), self._caps
        timeout = aiohttp.ClientTimeout(
            total=caps.timeout, sock_connect=min(_CONNECT, caps.timeout), sock_read=caps.read_timeout
        )
        headers = {**ask.headers, "Accept-Encoding": ACCEPTED}
        url = URL(ask.target, encoded=True)
        try:
            asked = self._session.request(
                ask.method, url, data=ask.payload, headers=headers, allow_redirects=False, timeout=timeout
            )
            async with asked as answer:
                return await self._read(answer, ask, at)
        except aiohttp.ClientConnectorCertificateError as error:
            raise NotConnected(
                f"the certificate of {at} is not trusted ({_short(error.certificate_error)}); correct `url`, or name "
                "the certificates in `ca_bundle`"
            ) from error
        except aiohttp.ClientSSLError as error:
            raise NotConnected(f"TLS with {at} failed ({_short(error.os_error)}); is it https at all?") from error
        except aiohttp.ClientConnectorDNSError as error:
            raise NotConnected(
                f"the name of {at} cannot be resolved ({_short(error.os_error)}); correct `url`"
            ) from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, PermissionError):
                raise NotConnected(f"{at} may not be asked: {error.os_error.strerror}") from error
            raise NotConnected(f"no connection to {at} ({_short(error.os_error)}); is it running?") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise NotConnected(f"{at} did not accept a connection in time; is a firewall between?") from error
        except aiohttp.SocketTimeoutError as error:
            raise NotConnected(
                f"{at} fell silent for {format_duration(caps.read_timeout)}; raise `read_timeout` if it needs so long"
            ) from error
        except TimeoutError as error:
            raise NotConnected(
                f"{at} did not answer whole within {format_duration(caps.timeout)}; raise `timeout`, or ask for less"
            ) from error
        except aiohttp.ClientPayloadError as error:
            raise NotConnected(f"the answer of {at} was cut off; the poll begins anew, nothing is skipped") from error
        except aiohttp.ClientResponseError as error:
            raise NotConnected(f"the answer of {at} is no sound HTTP: {_line(error.message)}") from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise NotConnected(f"{at} is no URL that can be asked; correct `url`") from error
        except aiohttp.ClientError as error:
            raise NotConnected(f"the connection to {at} broke ({_line(str(error)) or type(error).__name__})") from error

    async def _read(self, answer: aiohttp.ClientResponse, ask: Ask, at: str) -> Answer:
        headers: dict[str, str] = {}
        size = 0
        for name, value in answer.headers.items():
            size += len(name) + len(value) + 4
            lowered = name.lower()
            if lowered not in _KEPT_AWAY:
                text = safe_text(value)
                headers[lowered] = f"{headers[lowered]}, {text}" if lowered in headers else text
        if size > _MAX_HEAD:
            raise NotConnected(f"the headers of the answer of {at} are larger than 64 KiB; that is not read")
        body = bytearray()
        try:
            if 200 <= answer.status < 300 and answer.status != 204:  # of all else only the status counts
                unpacker = unpacker_of(headers.get("content-encoding", ""))
                async for chunk in self._chunks(answer, at):
                    for piece in unpacker.feed(chunk):
                        body += piece
                        if len(body) > self._caps.max_body:
                            raise self._too_large(at)
                unpacker.end()
        except Undecodable as error:
            raise NotConnected(f"the answer of {at} cannot be read: {error}") from error
        return Answer(answer.status, headers, body, ask.target)

    async def _chunks(self, answer: aiohttp.ClientResponse, at: str) -> AsyncIterator[bytes]:
        """Yield the body as it comes, not more of it than may be and not slower than it must."""
        caps, loop = self._caps, asyncio.get_running_loop()
        if (answer.content_length or 0) > caps.max_body:
            raise self._too_large(at)
        total = since = 0
        began = loop.time()
        async for chunk in answer.content.iter_any():
            total += len(chunk)
            since += len(chunk)
            if total > caps.max_body:
                raise self._too_large(at)
            if loop.time() - began >= caps.read_timeout:
                if since < _LEAST:
                    raise NotConnected(
                        f"{at} answers too slowly: {since} bytes in {format_duration(caps.read_timeout)} "
                        "(`read_timeout`)"
                    )
                began, since = loop.time(), 0
            yield chunk

    def _too_large(self, at: str) -> NotConnected:
        size = self._caps.max_body
        shown = f"{size >> 20}MiB" if size >= 1 << 20 and size % (1 << 20) == 0 else f"{size} bytes"
        return NotConnected(
            f"the answer of {at} is larger than {shown} unpacked (`max_body`); raise it, or ask for smaller pages"
        )


def _tls(ca_bundle: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_bundle is not None:
        context.load_verify_locations(cafile=str(ca_bundle))
    return context


def _short(error: BaseException) -> str:
    return _line(getattr(error, "strerror", None) or str(error))


def _line(text: str) -> str:
    """Return the first line of a text, printable and short; of what a parser shows, not what it shows."""
    first = text.strip().split("\n", 1)[0].split(":\n", 1)[0]
    return "".join(char if char.isprintable() else "�" for char in first)[:160].rstrip(": ")
