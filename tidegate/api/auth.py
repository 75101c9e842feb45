"""Who may do what: the gate in front of API and console, closed by default.

In flow all HTTP requests of the application; through go those whose token covers what they ask (GET and HEAD: read;
anything else: operate; tokens: admin), and on a loopback bind those without a token, if they come from this machine on
purpose: the Host names this machine (a page elsewhere cannot rebind its name to us), the Origin is our own, and nothing
was forwarded.
A browser keeps its token in a strict same-site cookie, which opens reading only.
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send

from sensors.clock import Clock, SystemClock
from sensors.ports import Unavailable
from tidegate.api.house import House
from tidegate.api.problems import from_error, problem
from tidegate.tokens import Scope, TokenBook

COOKIE = "tidegate_token"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/console/login", "/console/style.css", "/console/console.js"})
ADMIN_PATH = "/api/v1/tokens"
MAX_BODY = 256 * 1024
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORWARDED = (b"x-forwarded-", b"x-real-ip", b"forwarded", b"x-original-")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_STORE = (b"cache-control", b"no-store")
_log = logging.getLogger("tidegate.api")

AsgiScope = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `name` is the token's, or `loopback` for this machine's own user."""

    name: str
    scope: Scope


_LOOPBACK = Principal("loopback", Scope.ADMIN)


@dataclass(frozen=True, slots=True)
class Auth:
    """How requests are judged. `loopback` says that the bind is reachable from this machine only."""

    tokens: TokenBook
    loopback: bool

    @staticmethod
    def of(house: House, clock: Clock | None = None) -> "Auth":
        """Judge requests to the address on which the API of `house` listens, with the tokens in its store."""
        config = house.config
        return Auth.for_listen(config.admin_listen or config.listen, TokenBook(house.store, clock or SystemClock()))

    @staticmethod
    def for_listen(listen: str, tokens: TokenBook) -> "Auth":
        """Judge requests to the bind address `host:port` of the configuration."""
        return Auth(tokens, is_loopback(listen))


def is_loopback(authority: str) -> bool:
    """Say whether `host`, `host:port` or `[v6]:port` is written as this machine: localhost or a loopback address."""
    host = _host(authority)
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(authority: str) -> str | None:
    """Return the host of `host[:port]`, None when it is not written that way."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else None if rest else "0"
        return host if bracket and port is not None and port.isascii() and port.isdigit() else None
    host, colon, port = authority.partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        return None
    return host or None


class Gate:
    """The ASGI middleware: judges, caps bodies, sets the headers of safety, answers for what went wrong inside."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Let one request through or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                names = {name for name, _ in message["headers"]}
                extra = [*_HEADERS] if b"cache-control" in names else [*_HEADERS, _NO_STORE]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            refusal = await self._judge(scope)
            if refusal is not None:
                await refusal(scope, receive, guarded)
                return
            await self._app(scope, _Capped(scope, receive, MAX_BODY), guarded)
        except Exception as error:
            answer = from_error(error)
            if answer is None:
                _log.exception("%s %s failed", scope["method"], scope["path"], extra={"action": "api_fault"})
                answer = problem(500, "the request failed by our own fault; the service's log tells why")
            if started:
                raise
            await answer(scope, receive, guarded)

    async def _judge(self, scope: AsgiScope) -> Response | None:
        """Return the refusal of a request; None lets it through, with its principal in the scope's state."""
        headers = scope["headers"]
        method, path = scope["method"], scope["path"]
        if not _well_formed(path):
            return problem(404)
        refusal = self._check_origin(headers, method)
        if refusal is not None:
            return refusal
        state = scope.setdefault("state", {})
        state["principal"] = None
        token, from_cookie = _token(headers)
        if token is None and self._auth.loopback:
            state["principal"] = _LOOPBACK
            return None
        if token is not None:
            try:
                found = await self._auth.tokens.find(token)
            except Unavailable:
                if path not in OPEN_PATHS:
                    raise
                found = None
            if found is not None:
                state["principal"] = Principal(found.name, found.scope)
        if path in OPEN_PATHS:
            return None
        return _permit(state["principal"], path, method, from_cookie=from_cookie)

    def _check_origin(self, headers: list[tuple[bytes, bytes]], method: str) -> Response | None:
        """Refuse what a page elsewhere, or a forwarder in between, makes a browser send."""
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        host = hosts[0] if len(hosts) == 1 else ""
        if self._auth.loopback:
            if any(name.startswith(_FORWARDED) for name, _ in headers):
                return problem(
                    403,
                    "forwarded requests are refused on a loopback bind; bind another address, which asks for a token",
                )
            if not is_loopback(host):
                return problem(403, "the Host is not this machine; ask for localhost or 127.0.0.1")
        elsewhere = any(origin.partition("://")[2].lower() != host.lower() for origin in origins)
        if elsewhere and (self._auth.loopback or method not in _SAFE):
            return problem(403, "the Origin is another site")
        if method not in _SAFE and (b"sec-fetch-site", b"cross-site") in headers:
            return problem(403, "the request comes from another site")
        return None


def _permit(principal: Principal | None, path: str, method: str, *, from_cookie: bool) -> Response | None:
    """Say no to who is unknown or may not do this."""
    if principal is None:
        if method in _SAFE and (path == "/" or path.startswith("/console/")):
            return RedirectResponse("/console/login", 303)
        return problem(
            401,
            "a token is needed: Authorization: Bearer …; `tidegate tokens add` makes one",
            {"WWW-Authenticate": 'Bearer realm="tidegate"'},
        )
    needed = Scope.READ if method in _SAFE else Scope.OPERATE
    if path == ADMIN_PATH or path.startswith(f"{ADMIN_PATH}/"):
        needed = Scope.ADMIN
    if from_cookie and needed is not Scope.READ and path != "/console/logout":
        return problem(403, "a browser's session may only read; send the token as Authorization: Bearer …")
    if not principal.scope.covers(needed) and path != "/console/logout":
        return problem(403, f"the token's scope is {principal.scope}; this needs {needed}")
    return None


def _token(headers: list[tuple[bytes, bytes]]) -> tuple[str | None, bool]:
    """Return the token that came, and whether it came in a cookie. A wrong scheme counts as a wrong token."""
    sent = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
    if sent:
        scheme, _, text = sent[0].partition(" ")
        return (text.strip() if scheme.lower() == "bearer" and len(sent) == 1 else ""), False
    for name, value in headers:
        if name == b"cookie":
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if morsel is not None:
                return morsel.value, True
    return None, False


def _well_formed(path: str) -> bool:
    """Say whether a path can name anything: no NUL, no lone surrogate."""
    return "\0" not in path and not any("\ud800" <= char <= "\udfff" for char in path)


class _Capped:
    """A request's body, refused with 413 as soon as it is over the cap."""

    def __init__(self, scope: AsgiScope, receive: Callable[[], Awaitable[Message]], cap: int) -> None:
        self._receive = receive
        self._left = cap
        declared = [value for name, value in scope["headers"] if name == b"content-length"]
        self._refused = bool(declared) and declared[0].isdigit() and int(declared[0]) > cap

    async def __call__(self) -> Message:
        """Return the next part."""
        if self._refused:
            raise _too_large()
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                self._refused = True
                raise _too_large()
        return message


def _too_large() -> HTTPException:
    # What is raised inside `receive` passes FastAPI's body parser unharmed only as its own kind of exception.
    return HTTPException(413, f"the body is over {MAX_BODY // 1024} KiB")
