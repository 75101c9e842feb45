"""The command line's way to the service: plain HTTP over one connection per request, nothing to import that is slow.

Raises nothing: what goes wrong ends the command with a sentence and the right exit code.
"""

import http.client
import json
import os
import socket
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

from tidegate.cli.errors import PROBLEMS, UNREACHABLE, USAGE, fail

_TIMEOUT = 30.0


class Client:
    """Talks to the service at `url`, with `token` if there is one."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._token = token
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            fail(f"{url} is no URL of a service; write one such as http://127.0.0.1:8080", USAGE)
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        try:
            self._port = parts.port
        except ValueError:
            fail(f"{url} has no valid port", USAGE)
        self._base = parts.path.rstrip("/")

    def get(self, *path: str, **query: Any) -> Any:
        """Read `/api/v1/` and the path's parts; parameters that are None are left out."""
        return self._api("GET", path, query, None)

    def post(self, *path: str, body: Mapping[str, Any] | None = None, patience: float = _TIMEOUT, **query: Any) -> Any:
        """Ask for a change; wait `patience` seconds for it."""
        return self._api("POST", path, query, body, patience)

    def delete(self, *path: str) -> None:
        """Delete something."""
        self._api("DELETE", path, {}, None)

    def pages(self, *path: str, most: int, **query: Any) -> dict[str, Any]:
        """Read pages of a list until `most` items are there; return them as one page."""
        items: list[Any] = []
        cursor: str | None = query.pop("cursor", None)
        while True:
            page = self.get(*path, **query, limit=max(1, min(500, most - len(items))), cursor=cursor)
            items.extend(page["items"])
            cursor = page["cursor"]
            if cursor is None or len(items) >= most:
                return {"items": items, "cursor": cursor}

    def probe(self, path: str, timeout: float) -> tuple[int, bytes]:
        """Ask an address outside the API; return status and body."""
        status, body, _ = self._ask("GET", path, None, timeout)
        return status, body

    def _api(
        self, method: str, path: tuple[str, ...], query: Mapping[str, Any], body: Any, timeout: float = _TIMEOUT
    ) -> Any:
        payload = None if body is None else json.dumps(body).encode()
        status, answer, _ = self._ask(method, self._path(path, query), payload, timeout)
        if not 200 <= status < 300:
            self._refuse(status, answer)
        if not answer:
            return None
        try:
            return json.loads(answer)
        except ValueError:
            fail(f"what answers at {self._url} is not Tidegate", UNREACHABLE)

    def _ask(
        self, method: str, path: str, payload: bytes | None, timeout: float
    ) -> tuple[int, bytes, Mapping[str, str]]:
        connection = self._connection(timeout)
        try:
            connection.request(method, path, payload, self._headers(payload))
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        except (OSError, http.client.HTTPException) as error:
            self._unreachable(error)
        finally:
            connection.close()

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout)

    def _path(self, path: tuple[str, ...], query: Mapping[str, Any]) -> str:
        whole = f"{self._base}/api/v1/" + "/".join(quote(part, safe="", errors="replace") for part in path)
        asked = {name: value for name, value in query.items() if value is not None}
        return f"{whole}?{urlencode(asked, errors='replace')}" if asked else whole

    def _headers(self, payload: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "tidegate-cli"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if payload is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _unreachable(self, error: Exception) -> NoReturn:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        if isinstance(error, ConnectionRefusedError):
            reason = "nothing listens there"
        elif isinstance(error, socket.gaierror):
            reason = "its name is unknown"
        fail(f"cannot reach the service at {self._url}: {reason}; start it, or set TIDEGATE_URL", UNREACHABLE)

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        """End the command with what the service said."""
        try:
            problem = json.loads(body)
            said = str(problem.get("detail") or problem["title"])
        except (ValueError, KeyError, AttributeError, TypeError):
            fail(f"what answers at {self._url} is not Tidegate (HTTP {status})", UNREACHABLE)
        if status == 401:
            said += "; set TIDEGATE_TOKEN"
        fail(said, UNREACHABLE if status >= 500 else PROBLEMS)


def connect(url: str | None = None) -> Client:
    """Return a client for the environment's TIDEGATE_URL and TIDEGATE_TOKEN; `url` overrides the first."""
    from config.settings import read_settings

    try:
        settings = read_settings(os.environ)
    except ValueError as error:
        fail(str(error), USAGE)
    return Client(url or settings.url, settings.token)
