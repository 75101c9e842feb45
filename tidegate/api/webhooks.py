"""The public door: a plain ASGI application for webhook paths, with nothing between the socket and the sensor.

In flow HTTP requests; out flow 202 after COMMIT, or the status that the design gives to every refusal. The body is counted
while it is read. Our own fault is 503 with Retry-After, overload 429 with Retry-After; neither is ever a 4xx of the sender's.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

import orjson

from sensors.errors import Refused
from sensors.ports import Overloaded, Receipt, Stored, Unavailable
from sensors.sensor import PushSensor, Request
from sensors.w3c import TraceContext, child_of, parse_traceparent
from tidegate.refusals import Refusals

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook sensor's door. `paused`: None, or what happens to requests meanwhile (`hold` answers 503, `drop` 202)."""

    sensor: str
    path: str
    methods: tuple[str, ...]
    receiver: PushSensor
    verified: bool
    max_body: int
    paused: str | None = None


class Inbox(Protocol):
    """The inbox with the receiving span's context."""

    async def put(self, sensor: str, batch: Any, parent: str | None = None) -> Stored:
        """Make the batch durable."""
        ...


class RequestObserver(Protocol):
    """Told of every answered request, for the SERVER span and the metrics."""

    def request(
        self, route: str, method: str, status: int, start_ns: int, end_ns: int, context: str, parent: str | None, link: str | None
    ) -> None:
        """Record one request. `context` is its span's; `parent` the remote one it continues, `link` the one it only names."""
        ...


class Webhooks:
    """Answers the paths of its endpoints. `endpoints` is swapped as one value on reload."""

    def __init__(self, inbox: Inbox, observer: RequestObserver, refusals: Refusals, mint_root: Callable[[], str], read_timeout: float) -> None:
        self._inbox = inbox
        self._observer = observer
        self._refusals = refusals
        self._mint_root = mint_root
        self._read_timeout = read_timeout
        self.endpoints: Mapping[str, Endpoint] = {}

    def find(self, path: str) -> Endpoint | None:
        """Return the endpoint of a path, None when it is not ours."""
        return self.endpoints.get(path)

    async def answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an endpoint; never raises for what a sender can cause."""
        started = time.time_ns()
        method = scope["method"]
        raw_headers = scope["headers"]
        remote = _remote(raw_headers)
        trusted = endpoint.verified and remote is not None
        context = child_of(remote[0]) if trusted and remote is not None else self._mint_root()
        status, headers, body = 500, (_PROBLEM,), b""
        try:
            status, headers, body = await self._handle(endpoint, scope, receive, method, raw_headers, context)
        except _Gone:
            status = 499
            return
        except Refused as refusal:
            status = refusal.status
            headers, body = _problem(refusal.status, refusal.public, refusal.headers)
            self._refusals.add(endpoint.sensor, started // 1000, refusal.status, refusal.code, str(refusal), _client(scope))
        except Overloaded as full:
            status = 429
            headers, body = _problem(429, "too much waits already", {"Retry-After": _whole(full.retry_after)})
        except Unavailable as gone:
            status = 503
            headers, body = _problem(503, "", {"Retry-After": _whole(gone.retry_after)})
        except Exception as error:  # noqa: BLE001 - whatever is wrong here is our fault: the sender shall try again
            status = 503
            headers, body = _problem(503, "", {"Retry-After": "5"})
            self._refusals.fault(endpoint.sensor, started // 1000, error)
        finally:
            self._observer.request(
                endpoint.path,
                method,
                status,
                started,
                time.time_ns(),
                context,
                remote[0] if trusted and remote is not None else None,
                None if trusted or remote is None else remote[0],
            )
        await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def _handle(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, method: str, raw_headers: Sequence[tuple[bytes, bytes]], context: str
    ) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes]:
        """Read, verify, store; return the answer."""
        if method not in endpoint.methods:
            raise Refused(405, "method", f"{method} is not one of {', '.join(endpoint.methods)}", headers={"Allow": ", ".join(endpoint.methods)})
        if endpoint.paused == "hold":
            raise Unavailable(f"sensor {endpoint.sensor} is paused", 30.0)
        headers: dict[str, list[str]] = {}
        for name, value in raw_headers:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        body = await self._body(receive, headers, endpoint.max_body)
        if endpoint.paused == "drop":
            return 202, (_JSON,), b'{"events":[]}'
        request = Request(
            method=method,
            path=endpoint.path,
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            client=_client(scope),
            received_at=time.time_ns() // 1000,
        )
        batch = await endpoint.receiver.receive(request)
        stored = await self._inbox.put(endpoint.sensor, batch, context)
        await batch.ack()
        own = endpoint.receiver.answer([(receipt.uid, receipt.duplicate) for receipt in stored.receipts])
        return 202, (_JSON,), own if own is not None else _accepted(stored.receipts)

    async def _body(self, receive: Receive, headers: Mapping[str, Sequence[str]], cap: int) -> bytes:
        """Read the body, counting; refuse it as soon as it is over the cap, or when it does not come in time."""
        declared = headers.get("content-length")
        if declared and declared[0].isdigit() and int(declared[0]) > cap:
            raise Refused(413, "too_large", f"the body declares {declared[0]} bytes; the cap is {cap}")
        message = await self._next(receive)
        body = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > cap:
                raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
            return bytes(body)
        parts = [body]
        size = len(body)
        while message.get("more_body", False):
            message = await self._next(receive)
            part = message.get("body", b"")
            size += len(part)
            if size > cap:
                raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _next(self, receive: Receive) -> Message:
        """Await one message; a sender that is too slow is cut, one that is gone needs no answer."""
        try:
            async with asyncio.timeout(self._read_timeout):
                message = await receive()
        except TimeoutError:
            raise Refused(408, "slow", f"the body did not come within {self._read_timeout:g} s", headers={"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise _Gone
        return message


class _Gone(Exception):  # noqa: N818 - not an error: the sender hung up before its request was complete
    """The sender is gone; there is nobody to answer, and nothing was stored."""


def _remote(raw_headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, TraceContext] | None:
    """Return the sender's traceparent when exactly one valid one came."""
    found = [value for name, value in raw_headers if name == b"traceparent"]
    if len(found) != 1:
        return None
    text = found[0].decode("latin-1").strip(" \t")
    parsed = parse_traceparent(text)
    return None if parsed is None else (f"00-{parsed.trace_id}-{parsed.span_id}-{parsed.flags:02x}", parsed)


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _whole(seconds: float) -> str:
    """Write a Retry-After: whole seconds, rounded up, at least one."""
    return str(max(1, math.ceil(seconds)))


def _accepted(receipts: Sequence[Receipt]) -> bytes:
    if len(receipts) == 1:
        receipt = receipts[0]
        return b'{"events":[{"event":"%s","duplicate":%s}]}' % (receipt.uid.encode(), b"true" if receipt.duplicate else b"false")
    return orjson.dumps({"events": [{"event": receipt.uid, "duplicate": receipt.duplicate} for receipt in receipts]})


def _problem(status: int, detail: str, extra: Mapping[str, str]) -> tuple[tuple[tuple[bytes, bytes], ...], bytes]:
    """Build an RFC 9457 answer."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    headers = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in extra.items())
    return (_PROBLEM, *headers), orjson.dumps(body)
