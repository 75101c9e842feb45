"""The `http` engine: one task is one HTTP request.

In goes a task's method, URL, headers and body; out comes its answer as the task's output. Every request carries
`Idempotency-Key: <engine key>` and the propagation headers. The engine key stays the same while nobody knows whether
the receiver acted (`Ambiguous`: sent, then a reset, a time-out, or a gateway's 502/503/504), so that a receiver which
honours the key acts once. What was never sent, or was clearly refused, is a `TaskFailed` instead.

The address is checked when the socket is made, not when the URL is read (see `sensors.netguard`), no proxy of the
environment is used, and no redirect leads to another host. Requests to one host beyond `per_host` wait in order.
"""

import asyncio
import importlib
import re
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import orjson
from pydantic import Field, field_validator
from yarl import URL

from pipelines.answers import REDIRECTS, judge, safe_url
from pipelines.calls import Calls
from pipelines.cloudevent import CloudEventOptions, cloudevent
from pipelines.errors import Ambiguous, TaskFailed, TaskTimedOut
from pipelines.kind import EngineKind, EngineOptions, EngineSettings
from pipelines.ports import TaskContext, TaskResult
from sensors.netguard import ALLOW_KEY, NetGuard
from sensors.units import Duration

if TYPE_CHECKING:
    import aiohttp

_MAX_REDIRECTS = 5
_CONNECT = 10.0
_OUR_FRAMING = frozenset({"Content-Length", "Transfer-Encoding", "Connection"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HttpOptions(EngineOptions):
    """One request. `json`, `body` and `cloudevent` exclude each other; `expect` are statuses that mean success (2xx).

    `output`: `auto` keeps a JSON or text answer if it fits the ledger (256 KiB), `json` and `text` demand it, `none`
    throws it away. `request_timeout` bounds one request, the task's own `timeout` the attempt. `per_host` requests to
    one host are under way at once.
    """

    url: str
    method: str = Field(default="POST", pattern=r"^([A-Za-z]{3,16}|\$\{\{.*\}\})$")
    headers: Mapping[str, Any] = Field(default_factory=dict)
    json_: Any = Field(default=None, alias="json")
    body: str | None = None
    cloudevent: CloudEventOptions | None = None
    request_timeout: Duration = 60.0
    expect: tuple[int, ...] = ()
    output: Literal["auto", "json", "text", "none"] = "auto"
    redirects: Literal["none", "same_host"] = "none"
    per_host: int = Field(default=64, ge=1, le=1024)

    @field_validator("url")
    @classmethod
    def _http_only(cls, value: str) -> str:
        if not value.startswith(("http://", "https://", "${{")):
            raise ValueError("a URL starts with http:// or https://")
        return value


class HttpEngine:
    """Sends requests from the service's loop over one session, made with the first request."""

    survives = False
    dedupes = True
    poll_every = 1.0

    def __init__(self, settings: EngineSettings) -> None:
        self._clock = settings.clock
        self._guard = NetGuard(settings.network_allow)
        self._agent = f"tidegate/{settings.service}"
        self._service = settings.service
        self._session: aiohttp.ClientSession | None = None
        self._calls = Calls("request")
        self._gates: WeakValueDictionary[tuple[Any, ...], asyncio.Semaphore] = WeakValueDictionary()

    async def open(self) -> None:
        return

    async def start(self, context: TaskContext) -> str:
        try:
            options = HttpOptions.model_validate(context.options)
            url = URL(options.url)
            if url.scheme not in ("http", "https") or not url.host:
                raise ValueError("a URL starts with http:// or https:// and names a host")
            if sum(part is not None for part in (options.json_, options.body, options.cloudevent)) > 1:
                raise ValueError("`json`, `body` and `cloudevent` exclude each other; keep one")
            body, headers = self._message(context, options)
        except ValueError as error:
            raise TaskFailed(f"the http task's options are wrong: {error}", "bad_options", retryable=False) from error
        return self._calls.start(self._call(context, options, url, headers, body))

    async def find(self, context: TaskContext) -> str | None:
        return None

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        return await self._calls.result(handle)

    async def cancel(self, context: TaskContext, handle: str) -> None:
        await self._calls.cancel(handle)

    async def close(self) -> None:
        await self._calls.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _message(self, context: TaskContext, options: HttpOptions) -> tuple[bytes | None, dict[str, str]]:
        """Return the body's bytes and the headers: the user's, then ours (ours win where they carry a promise)."""
        headers: dict[str, str] = {}
        for name, value in options.headers.items():
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            if "\r" in text or "\n" in text or "\x00" in text:
                raise ValueError(f"header {name} holds a line break or NUL, which HTTP forbids; encode the value")
            title = name.title()
            if not _TOKEN.fullmatch(name) or title in _OUR_FRAMING:
                raise ValueError(f"{name!r} cannot be set as a header")
            headers[title] = text
        body: bytes | None = None
        if options.cloudevent is not None:
            body, own = cloudevent(options.cloudevent, context.run, context.task_run, self._service, context.headers)
            headers.update(own)
        elif options.json_ is not None:
            body = orjson.dumps(options.json_)
            headers.setdefault("Content-Type", "application/json")
        elif options.body is not None:
            body = options.body.encode()
            headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        headers["Idempotency-Key"] = context.task_run.engine_key or context.task_run.uid
        for name, value in context.headers.items():
            headers[name.title()] = value
        return body, headers

    async def _call(
        self,
        context: TaskContext,
        options: HttpOptions,
        url: URL,
        headers: dict[str, str],
        body: bytes | None,
    ) -> TaskResult:
        gate = self._gate(url, options.per_host)
        if gate.locked():
            await self._turn(context, gate, url)
        else:
            await gate.acquire()
        try:
            left = min(options.request_timeout, context.deadline - self._clock.monotonic())
            if left <= 0:
                raise TaskTimedOut(f"the task's timeout had passed before the request to {safe_url(url)} was sent")
            return await self._exchange(context, options, url, headers, body, left)
        finally:
            gate.release()

    async def _turn(self, context: TaskContext, gate: asyncio.Semaphore, url: URL) -> None:
        left = context.deadline - self._clock.monotonic()
        try:
            async with asyncio.timeout(None if left == inf else left):
                await gate.acquire()
        except TimeoutError:
            raise TaskTimedOut(
                f"the request to {safe_url(url)} waited for its turn until the task's timeout; nothing was sent. "
                "Raise `per_host` or the timeout"
            ) from None

    async def _exchange(
        self,
        context: TaskContext,
        options: HttpOptions,
        url: URL,
        headers: dict[str, str],
        body: bytes | None,
        seconds: float,
    ) -> TaskResult:
        session = self._session or await self._connect()
        import aiohttp

        from pipelines.outgoing import sending

        timeout = aiohttp.ClientTimeout(total=seconds, connect=min(_CONNECT, seconds * 0.9))
        method, first = options.method.upper(), url
        try:
            for _ in range(_MAX_REDIRECTS + 1):
                with sending(context.held):
                    asked = session.request(
                        method, url, data=body, headers=headers, allow_redirects=False, timeout=timeout
                    )
                    answer = await asked
                async with answer:
                    status = answer.status
                    if status in REDIRECTS and status not in options.expect and options.redirects == "same_host":
                        url = _next(first, url, answer.headers.get("Location", ""))
                        if status == 303 or (status in (301, 302) and method == "POST"):
                            method, body = "GET", None
                        continue
                    output = await judge(answer, options.expect, options.output, self._clock.now(), context.log)
                    return TaskResult(output=output)
        except aiohttp.ClientConnectorError as error:
            raise _unreachable(url, error) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise TaskFailed(
                f"{safe_url(url)} did not accept a connection in time; nothing was sent", "connect"
            ) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise TaskFailed(
                f"{safe_url(url)} is not a URL that can be called: {error}", "bad_url", retryable=False
            ) from error
        except TimeoutError as error:
            raise Ambiguous(
                f"{method} {safe_url(url)} was sent but not answered within {seconds:.3g} s; "
                "whether it had an effect is not known"
            ) from error
        except aiohttp.ClientError as error:
            raise Ambiguous(
                f"{method} {safe_url(url)} was sent, then the connection broke ({str(error) or type(error).__name__}); "
                "whether it had an effect is not known"
            ) from error
        raise TaskFailed(f"{safe_url(first)} redirected more than {_MAX_REDIRECTS} times", "redirect", retryable=False)

    def _gate(self, url: URL, limit: int) -> asyncio.Semaphore:
        key = (url.raw_host, url.port, limit)
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = asyncio.Semaphore(limit)
        return gate

    async def _connect(self) -> "aiohttp.ClientSession":
        """Return the session. The library is imported off the loop: leases are renewed meanwhile."""
        await asyncio.to_thread(importlib.import_module, "pipelines.outgoing")
        from pipelines.outgoing import make_session

        if self._session is None:
            self._session = make_session(self._guard, self._agent)
        return self._session


def _next(first: URL, here: URL, location: str) -> URL:
    """Return where a redirect leads, when it stays on the host that was asked for."""
    try:
        target = here.join(URL(location))
    except ValueError as error:
        raise TaskFailed(
            f"{safe_url(here)} redirects to {location!r}, which is no URL", "redirect", retryable=False
        ) from error
    if not location or (target.scheme, target.raw_host, target.port) != (first.scheme, first.raw_host, first.port):
        raise TaskFailed(
            f"{safe_url(here)} redirects to another host ({safe_url(target)}); that is not followed. Use the final URL",
            "redirect",
            retryable=False,
        )
    return target


def _unreachable(url: URL, error: "aiohttp.ClientConnectorError") -> TaskFailed:
    cause = error.os_error
    text = cause.strerror or str(cause)
    if ALLOW_KEY in text:
        return TaskFailed(f"{safe_url(url)} may not be called: {text}", "forbidden_address", retryable=False)
    return TaskFailed(f"{safe_url(url)} cannot be reached ({text}); nothing was sent", "connect")


KIND = EngineKind(
    name="http",
    help="Sends one HTTP request, with an idempotency key and the run's trace context; the answer is the output.",
    options=HttpOptions,
    build=HttpEngine,
    example="notify: {engine: http, url: 'https://api.example.com/orders', json: {day: '${{ params.day }}'}}",
)
