"""The doors: which application answers a request. Webhook paths go straight to the raw handler, all else to the API.

`both` serves one address; with `admin_listen`, `public` serves webhooks alone and `admin` everything else.
"""

from typing import Any

from sensors.clock import SystemClock
from tidegate.api.app import create_app
from tidegate.api.auth import Auth
from tidegate.api.stream import RunWatcher
from tidegate.api.webhooks import Receive, Scope, Send, Webhooks
from tidegate.service import Service
from tidegate.tokens import TokenBook

_NOT_FOUND = b'{"type":"about:blank","title":"Not Found","status":404}'
_HEALTHY = b'{"status":"ok"}'


class Door:
    """ASGI applications over one service. Streams of the API end with `close`."""

    def __init__(self, service: Service, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._watcher = RunWatcher(service)
        self._app = _make_app(service, self._watcher)

    def close(self) -> None:
        """End the streams that are open and answer those who wait, so that their connections can be closed."""
        self._webhooks.close()
        self._watcher.close()

    async def both(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve webhooks, API, metrics and console on one address."""
        if scope["type"] == "http":
            route = self._webhooks.find(scope["path"])
            if route is not None:
                await self._webhooks.answer(route, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve API, metrics and console."""
        await self._app(scope, receive, send)

    async def public(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve webhooks, and `/healthz` for load balancers; nothing else exists here."""
        if scope["type"] != "http":
            return
        route = self._webhooks.find(scope["path"])
        if route is not None:
            await self._webhooks.answer(route, scope, receive, send)
        elif scope["path"] == "/healthz":
            await _plain(send, 200, _HEALTHY)
        else:
            await _plain(send, 404, _NOT_FOUND)


async def _plain(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _make_app(service: Service, watcher: RunWatcher) -> Any:
    listen = service.config.admin_listen or service.config.listen
    return create_app(service, auth=Auth.for_listen(listen, TokenBook(service.store, SystemClock())), watcher=watcher)
