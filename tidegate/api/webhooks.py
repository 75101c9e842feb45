"""The public door: a plain ASGI application for webhook paths, with nothing between the socket and the sensor.

In flow HTTP requests; out flow 202 after COMMIT, or the status that the design gives to every refusal. The body is
counted while it is read. Our own fault is 503 with Retry-After, overload 429 with Retry-After; neither is ever a 4xx
of the sender's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, cast

import orjson

from config.model import Limits
from sensors.errors import Refused
from sensors.ports import Receipt
from sensors.push import PushGate
from sensors.sensor import PushSensor, Request
from sensors.w3c import TraceContext, child_of, parse_traceparent
from tidegate.api.patience import Patience
from tidegate.refusals import Refusals

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
Headers = tuple[tuple[bytes, bytes], ...]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One webhook sensor's door: where it stands, what it takes, and the gate behind it."""

    sensor: str
    path: str
    methods: tuple[str, ...]
    gate: PushGate
    receiver: PushSensor
    verified: bool
    max_body: int


class RequestObserver(Protocol):
    """Told of every answered request, for the SERVER span and the metrics."""

    def request(
        self,
        route: str,
        method: str,
        status: int,
        start_ns: int,
        end_ns: int,
        context: str,
        parent: str | None,
        link: str | None,
    ) -> None:
        """Record one request. `context` is its span's.

        `parent` the remote one it continues, `link` the one it only names.
        """
        ...


class Webhooks:
    """Answers the paths of its endpoints. `endpoints` is swapped as one value on reload."""

    def __init__(
        self, observer: RequestObserver, refusals: Refusals, mint_root: Callable[[], str], limits: Limits
    ) -> None:
        self._observer = observer
        self._refusals = refusals
        self._mint_root = mint_root
        self._patience = Patience(limits.read_timeout)
        self._header_bytes = limits.header_bytes
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
        headers: Headers
        try:
            status, headers, body = await self._handle(endpoint, scope, receive, method, raw_headers, context)
        except _Gone:
            self._tell(endpoint, method, 499, started, context, remote, trusted=trusted)
            return
        except Refused as refusal:
            if trusted:  # who was refused has proved nothing: its trace is named, not continued
                trusted, context = False, self._mint_root()
            status = refusal.status
            headers, body = _problem(refusal.status, refusal.public, refusal.headers)
            self._refusals.add(
                endpoint.sensor, started // 1000, refusal.status, refusal.code, str(refusal), _client(scope)
            )
        except Exception as error:  # noqa: BLE001 - whatever is wrong here is our fault: the sender shall try again
            status = 503
            headers, body = _problem(503, "", {"Retry-After": "5"})
            self._refusals.fault(endpoint.sensor, started // 1000, error)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})
        self._tell(endpoint, method, status, started, context, remote, trusted=trusted)

    def _tell(
        self,
        endpoint: Endpoint,
        method: str,
        status: int,
        started: int,
        context: str,
        remote: tuple[str, TraceContext] | None,
        *,
        trusted: bool,
    ) -> None:
        """Tell the observer of one request, after its answer."""
        link = None if remote is None else remote[0]
        self._observer.request(
            endpoint.path,
            method,
            status,
            started,
            time.time_ns(),
            context,
            link if trusted else None,
            None if trusted else link,
        )

    async def _handle(
        self,
        endpoint: Endpoint,
        scope: Scope,
        receive: Receive,
        method: str,
        raw_headers: Sequence[tuple[bytes, bytes]],
        context: str,
    ) -> tuple[int, Headers, bytes]:
        """Read, verify, store; return the answer."""
        if method not in endpoint.methods:
            raise Refused(
                405,
                "method",
                f"{method} is not one of {', '.join(endpoint.methods)}",
                headers={"Allow": ", ".join(endpoint.methods)},
            )
        headers: dict[str, list[str]] = {}
        size = 0
        for name, value in raw_headers:
            size += len(name) + len(value)
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        if size > self._header_bytes:
            raise Refused(431, "headers", f"the headers have {size} bytes; the cap is {self._header_bytes}")
        body = await self._body(receive, headers, endpoint.max_body)
        request = Request(
            method=method,
            path=endpoint.path,
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            client=_client(scope),
            received_at=time.time_ns() // 1000,
        )
        _, stored = await endpoint.gate.receive(request, context)
        own = endpoint.receiver.answer([(receipt.uid, receipt.duplicate) for receipt in stored.receipts])
        return 202, (_JSON,), own if own is not None else _accepted(stored.receipts)

    async def _body(self, receive: Receive, headers: Mapping[str, Sequence[str]], cap: int) -> bytes:
        """Read the body, counting; refuse it as soon as it is over the cap, or when the whole does not come in time."""
        declared = headers.get("content-length")
        if declared and declared[0].isdecimal() and int(declared[0]) > cap:
            raise Refused(413, "too_large", f"the body declares {declared[0]} bytes; the cap is {cap}")
        task = cast("asyncio.Task[Any]", asyncio.current_task())  # requests are answered in tasks of the server
        self._patience.begin(task)
        try:
            return await _read(receive, cap)
        except asyncio.CancelledError:
            if self._patience.lost(task):
                task.uncancel()
                reason = f"the body did not come within {self._patience.seconds:g} s"
                raise Refused(408, "slow", reason, headers={"Connection": "close"}) from None
            raise
        finally:
            self._patience.end(task)


async def _read(receive: Receive, cap: int) -> bytes:
    """Read a body of at most `cap` bytes. Raises _Gone when the sender hangs up before its end."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    body = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > cap:
            raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
        return bytes(body)
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        if size > cap:
            raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
    if size > cap:
        raise Refused(413, "too_large", f"the body is over the cap of {cap} bytes")
    return b"".join(parts)


class _Gone(Exception):
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


def _accepted(receipts: Sequence[Receipt]) -> bytes:
    if len(receipts) == 1:
        receipt = receipts[0]
        return b'{"events":[{"event":"%s","duplicate":%s}]}' % (
            receipt.uid.encode(),
            b"true" if receipt.duplicate else b"false",
        )
    return orjson.dumps({"events": [{"event": receipt.uid, "duplicate": receipt.duplicate} for receipt in receipts]})


def _problem(status: int, detail: str, extra: Mapping[str, str]) -> tuple[Headers, bytes]:
    """Build an RFC 9457 answer."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        body["detail"] = detail
    headers = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in extra.items())
    return (_PROBLEM, *headers), orjson.dumps(body)
