"""The public door: a plain ASGI application for webhook paths, with nothing between the socket and the sensor.

In flow HTTP requests; out flow 202 after COMMIT, or the status that the design gives to every refusal. The body is
counted while it is read. Our own fault is 503 with Retry-After, overload 429 with Retry-After; neither is ever a 4xx
of the sender's.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from config.model import Limits
from sensors.errors import Refused
from sensors.ports import Receipt
from sensors.sensor import Request
from sensors.w3c import child_of, one_traceparent
from tidegate.api.endpoints import Endpoint, Route, Routes
from tidegate.api.patience import Patience
from tidegate.api.reading import (
    JSON,
    Answer,
    Gone,
    Receive,
    Scope,
    Send,
    accepted,
    problem,
    read_body,
    replied,
    respond,
    seen_of,
)
from tidegate.api.waiting import RunWaiter, asked_wait, run_result
from tidegate.refusals import Refusals, Seen

__all__ = ["Endpoint", "Receive", "RequestObserver", "Scope", "Send", "Webhooks"]


_PLENTY = (429, 503)  # refused for what they are not: nothing of them is worth the time to look at
_PRIVATE = (b"cache-control", b"private, no-store")  # the address holds a secret (RFC 6750, section 2.3)


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


@dataclass(slots=True)
class _Call:
    """One request on its way: what is known of it so far. `body` None: not read yet."""

    scope: Scope
    receive: Receive
    context: str
    body: bytes | None = None


class Webhooks:
    """Answers the paths of its endpoints. `endpoints` is swapped as one value on reload."""

    def __init__(
        self,
        observer: RequestObserver,
        refusals: Refusals,
        mint_root: Callable[[], str],
        limits: Limits,
        waiter: RunWaiter | None = None,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        """`full` says that no more may wait for a commit: then requests are sent away before they cost anything."""
        self._observer = observer
        self._refusals = refusals
        self._mint_root = mint_root
        self._patience = Patience(limits.read_timeout)
        self._header_bytes = limits.header_bytes
        self._waiter = waiter
        self._full = full
        self._endpoints: Mapping[str, Endpoint] = {}
        self._routes = Routes({})

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the endpoints by their configured paths."""
        return self._endpoints

    @endpoints.setter
    def endpoints(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints, self._routes = endpoints, Routes(endpoints)

    def find(self, path: str) -> Route | None:
        """Return what a path means, None when it is not ours."""
        return self._routes.find(path)

    def close(self) -> None:
        """Answer those who wait for runs."""
        if self._waiter is not None:
            self._waiter.close()

    async def answer(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an endpoint; never raises for what a sender can cause."""
        started = time.time_ns()
        endpoint = route.endpoint
        raw_headers = scope["headers"]
        remote = _remote(raw_headers)
        trusted = endpoint.verified and remote is not None
        call = _Call(scope, receive, child_of(remote) if trusted and remote is not None else self._mint_root())
        try:
            answer = await self._handle(route, call)
        except Gone:
            self._tell(endpoint, scope["method"], 499, started, call.context, remote, trusted=trusted)
            return
        except Refused as refusal:
            if trusted:  # who was refused has proved nothing: its trace is named, not continued
                trusted, call.context = False, self._mint_root()
            answer = (refusal.status, *problem(refusal.status, refusal.public, refusal.headers))
            self._refusals.add(
                endpoint.sensor,
                started // 1000,
                refusal.status,
                refusal.code,
                str(refusal),
                _client(scope),
                Seen(scope["method"])
                if refusal.status in _PLENTY
                else seen_of(scope, endpoint.shown, call.body, endpoint.keep_refused),
            )
        except Exception as error:  # noqa: BLE001 - whatever is wrong here is our fault: the sender shall try again
            answer = (503, *problem(503, "", {"Retry-After": "5"}))
            self._refusals.fault(endpoint.sensor, started // 1000, error)
        if b"access_token=" in scope["query_string"]:
            answer = (answer[0], (*answer[1], _PRIVATE), answer[2])
        if endpoint.cors is not None:
            answer = (answer[0], (*answer[1], *endpoint.cors.allowed(raw_headers)), answer[2])
        await respond(send, answer)
        self._tell(endpoint, scope["method"], answer[0], started, call.context, remote, trusted=trusted)

    def _tell(
        self,
        endpoint: Endpoint,
        method: str,
        status: int,
        started: int,
        context: str,
        remote: str | None,
        *,
        trusted: bool,
    ) -> None:
        """Tell the observer of one request, after its answer."""
        self._observer.request(
            endpoint.path,
            method,
            status,
            started,
            time.time_ns(),
            context,
            remote if trusted else None,
            None if trusted else remote,
        )

    async def _handle(self, route: Route, call: _Call) -> Answer:
        """Read, verify, store; return the answer."""
        endpoint, scope = route.endpoint, call.scope
        method, raw_headers = scope["method"], scope["headers"]
        if method not in endpoint.methods:
            if (
                method == "OPTIONS"
                and endpoint.cors is not None
                and (asked := endpoint.cors.preflight(raw_headers)) is not None
            ):
                return replied(asked)
            allow = ", ".join(name for name in endpoint.methods if name != "OPTIONS")
            raise Refused(405, "method", f"{method} is not one of {allow}", headers={"Allow": allow})
        headers: dict[str, list[str]] = {}
        size = 0
        for name, value in raw_headers:
            size += len(name) + len(value)
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        if size > self._header_bytes:
            raise Refused(431, "headers", f"the headers have {size} bytes; the cap is {self._header_bytes}")
        wait = asked_wait(scope["query_string"], endpoint.wait) if endpoint.wait else 0.0
        throttle = endpoint.throttle
        if throttle is None:
            return await self._store(route, call, headers, wait)
        throttle.enter()
        try:
            return await self._store(route, call, headers, wait)
        except BaseException:  # also of a sender that hung up: it used up nothing
            throttle.give_back(len(call.body) if call.body is not None else 0)
            raise

    async def _store(self, route: Route, call: _Call, headers: Mapping[str, list[str]], wait: float) -> Answer:
        endpoint, scope = route.endpoint, call.scope
        if self._full():
            raise Refused(429, "overloaded", "too much waits for a commit already", headers={"retry-after": "1"})
        body = await read_body(call.receive, headers, endpoint.max_body, self._patience)
        if endpoint.throttle is not None:
            endpoint.throttle.admit(len(body))
        call.body = body
        request = Request(
            method=scope["method"],
            path=endpoint.path,
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            client=_client(scope),
            received_at=time.time_ns() // 1000,
            params=route.params,
            raw_path=scope["raw_path"].decode("latin-1"),
        )
        batch, stored = await endpoint.gate.receive(request, call.context)
        receipts = stored.receipts
        if wait > 0 and self._waiter is not None and receipts:
            return await self._waited(self._waiter, receipts, wait)
        if batch.reply is not None:
            return replied(batch.reply)
        own = endpoint.receiver.answer([(receipt.uid, receipt.duplicate) for receipt in receipts])
        return 202, (JSON,), own if own is not None else accepted(receipts)

    async def _waited(self, waiter: RunWaiter, receipts: Sequence[Receipt], seconds: float) -> Answer:
        """Answer 200 with the runs when all have ended, 202 with them as they stand when not."""
        runs, ended = await waiter.wait([receipt.uid for receipt in receipts], seconds)
        events = [
            {
                "event": receipt.uid,
                "duplicate": receipt.duplicate,
                "runs": [run_result(row) for row in runs.get(receipt.uid, ())],
            }
            for receipt in receipts
        ]
        return 200 if ended else 202, (JSON,), orjson.dumps({"events": events})


def _remote(raw_headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return the sender's traceparent when exactly one valid one came."""
    found = [value for name, value in raw_headers if name == b"traceparent"]
    return one_traceparent([found[0].decode("latin-1")]) if len(found) == 1 else None


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
