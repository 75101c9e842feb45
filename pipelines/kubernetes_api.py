"""A cluster's API over `kubernetes_asyncio`: its configuration, credentials and TLS; the JSON is ours to read.

Answers are judged by what the caller must do next: a refusal is TaskFailed, anything after which nobody knows whether
the request was carried out is Ambiguous.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import orjson

from pipelines.errors import Ambiguous, TaskFailed

SECONDS: Final = 30.0
MAX_ANSWER: Final = 8_388_608
_OURS: Final = frozenset({408, 425, 429})


class Missing(Exception):
    """The object is not there (404)."""


class Taken(Exception):
    """An object of that name is there already (409)."""


class Cluster:
    """One cluster, connected with the first call. `kubeconfig` and `context` as kubectl has them."""

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._client: Any = None
        self._connecting = asyncio.Lock()

    async def ready(self) -> None:
        """Make ready to ask: nothing is sent. Raises TaskFailed when no cluster is configured."""
        await self._connect()

    async def call(self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of an answer. Raises Missing, Taken, TaskFailed, Ambiguous."""
        async with self._answer(method, path, body, query, SECONDS) as answer:
            data = await answer.content.read(MAX_ANSWER)
            while data and not answer.content.at_eof() and len(data) < MAX_ANSWER:
                data += await answer.content.read(MAX_ANSWER - len(data))
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Ambiguous(f"{method} {path}: the cluster answered with something that is no JSON") from error

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the pieces of an answer that goes on for as long as the cluster has something to say."""
        async with self._answer("GET", path, None, query, None) as answer:
            yield answer.content.iter_any()

    async def close(self) -> None:
        """Let the connections go."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: Any, query: Mapping[str, str] | None, seconds: float | None
    ) -> AsyncIterator[Any]:
        client = self._client or await self._connect()
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=10.0)
        try:
            answer = await client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json, */*", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=timeout,
            )
            async with answer:
                if answer.status >= 400:
                    raise _refusal(method, path, answer.status, await answer.content.read(65_536))
                yield answer
        except aiohttp.ClientConnectorError as error:
            raise TaskFailed(f"the cluster cannot be reached ({error}); nothing was sent", "connect") from error
        except (TimeoutError, aiohttp.ClientError) as error:
            words = str(error) or type(error).__name__
            raise Ambiguous(f"{method} {path} was sent, then the connection broke ({words})") from error

    async def _connect(self) -> Any:
        """Return the client. The library is large: it is imported off the loop, when the first task needs it."""
        async with self._connecting:
            if self._client is None:
                try:
                    library = await asyncio.to_thread(importlib.import_module, "kubernetes_asyncio")
                except ImportError as error:
                    said = "the engine `kubernetes` needs its library: pip install 'tidegate[kubernetes]'"
                    raise TaskFailed(said, "no_library", retryable=False) from error
                self._client = library.client.ApiClient(await self._configuration(library))
            return self._client

    async def _configuration(self, library: Any) -> Any:
        """Read who and where the cluster is: the named file, else the pod that we run in, else kubectl's own file."""
        configuration = library.client.Configuration()
        try:
            if self._kubeconfig is None and self._context is None:
                with suppress(library.config.ConfigException):
                    library.config.load_incluster_config(client_configuration=configuration)
                    return configuration
            await library.config.load_kube_config(
                config_file=self._kubeconfig, context=self._context, client_configuration=configuration
            )
        except (library.config.ConfigException, OSError, ValueError, TypeError) as error:
            said = f"no cluster is configured ({error}); set `kubeconfig` and `context`, or run inside the cluster"
            raise TaskFailed(said, "no_cluster", retryable=False) from error
        return configuration


def _refusal(method: str, path: str, status: int, data: bytes) -> Exception:
    """Return what a bad status means, in the cluster's own words (its `Status` object)."""
    try:
        told = orjson.loads(data)
        words = told.get("message") if isinstance(told, dict) else None
    except orjson.JSONDecodeError:
        words = None
    said = f"{method} {path}: {status} {words or data[:300].decode('utf-8', 'replace') or 'without a word'}"
    if status == 404:
        return Missing(said)
    if status == 409:
        return Taken(said)
    if status in _OURS or status >= 500:
        return Ambiguous(said)
    if status in (401, 403):
        return TaskFailed(f"the cluster refuses us: {said}; see the service account's role", "forbidden")
    return TaskFailed(f"the cluster refuses the job: {said}", "refused", retryable=False)
