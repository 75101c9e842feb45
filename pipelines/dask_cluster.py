"""One Dask cluster as the service sees it: submit under a key, look a key up, follow it to its end, call it off.

In flow payloads of `pipelines.dask_node`; out flow log lines and answers. The client lives in a thread with a loop of
its own, so that nothing of it can hold the service up; it is started with the first call, and anew when its connection
is gone. What is submitted is published on the scheduler under its key: it outlives this client, and the next one finds
it there. A queue of one place under the same key lets it be begun once (see `pipelines.dask_node`).

Importing this imports `distributed`, which takes long enough to stall a loop: import it in a thread.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import distributed
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError

from pipelines.dask_node import carry, stop

T = TypeVar("T")
Log = Callable[[str, str], None]
_CONNECT_WITHIN = 10.0
_CALL_OFF_WITHIN = 20.0
_LOST_SIGHTS = 5  # times that a task is looked for again when the scheduler says that it was cancelled
_LOOK_AGAIN = 0.2
_RELEASES = 8  # as often as the queue of a key may have been made


class Unreachable(Exception):
    """The scheduler does not answer now."""


class Forgotten(Exception):
    """The scheduler knows nothing of the key."""


@dataclass(frozen=True, slots=True)
class Place:
    """A scheduler, and who we are to it (files of a certificate authority, our certificate and key; empty: no TLS)."""

    scheduler: str
    ca: str = ""
    cert: str = ""
    key: str = ""


class Cluster:
    """The connection to one scheduler."""

    def __init__(self, place: Place, topic: str) -> None:
        self._place = place
        self.topic = topic
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._connecting: asyncio.Lock | None = None
        self._listeners: dict[str, _Listener] = {}

    async def connect(self) -> None:
        """See to it that there is a connection. Raises Unreachable."""
        await self._call(self._connected)

    async def submit(self, key: str, payload: Mapping[str, Any], resources: Mapping[str, float] | None) -> None:
        """Submit a payload under its key, unless it is there. Raises Unreachable; then it may have been submitted."""
        await self._call(lambda: self._submit(key, payload, resources))

    async def knows(self, key: str) -> bool:
        """Say whether the key was submitted. Raises Unreachable."""
        return await self._call(lambda: self._knows(key))

    async def follow(self, key: str, log: Log) -> dict[str, Any]:
        """Return the answer of a key when it is there; lines go to `log`, in the caller's loop. Forgets the key.

        Raises Unreachable, Forgotten, or whatever the cluster failed with.
        """
        loop = asyncio.get_running_loop()

        def hand_over(stream: str, text: str) -> None:
            loop.call_soon_threadsafe(log, stream, text)

        listener = self._listeners.setdefault(key, _Listener(hand_over))
        try:
            return await self._call(lambda: self._follow(key, listener))
        finally:
            self._listeners.pop(key, None)

    async def call_off(self, key: str) -> None:
        """Kill what runs under the key, wherever it runs, and forget it. Raises Unreachable."""
        await self._call(lambda: self._call_off(key))

    async def close(self) -> None:
        """Let go of the cluster; what runs there goes on."""
        if self._loop is None or self._thread is None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 5)
        self._thread = self._loop = None

    # -- in the caller's loop -----------------------------------------------------------------------------------------
    async def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, args=(self._loop,), name="dask-client", daemon=True)
            self._thread.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._guarded(work), self._loop))

    # -- in the thread ------------------------------------------------------------------------------------------------
    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.close()

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work()
        except (OSError, CommClosedError, TimeoutError) as error:
            raise Unreachable(
                f"the Dask scheduler at {self._place.scheduler} does not answer: {str(error) or type(error).__name__}"
            ) from error

    async def _connected(self) -> Any:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._client is not None and self._client.status != "running":
                await self._disconnect()
            if self._client is None:
                client = _client(self._place)
                try:
                    await client
                except BaseException:
                    await _closed(client)
                    raise
                client.subscribe_topic(self.topic, self._heard)
                self._client = client
            return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await _closed(client)

    async def _submit(self, key: str, payload: Mapping[str, Any], resources: Mapping[str, float] | None) -> None:
        client = await self._connected()
        if await client.get_dataset(key, default=None) is not None:
            return
        await client.scheduler.queue_create(name=key, client=client.id, maxsize=1)
        future = client.submit(carry, dict(payload), key=key, pure=False, retries=0, resources=resources or None)
        await client.publish_dataset(future, name=key)

    async def _knows(self, key: str) -> bool:
        client = await self._connected()
        return await client.get_dataset(key, default=None) is not None

    async def _follow(self, key: str, listener: "_Listener") -> dict[str, Any]:
        for _ in range(_LOST_SIGHTS):
            client = await self._connected()
            future = await client.get_dataset(key, default=None)
            if future is None:
                raise Forgotten(key)
            try:
                answer: dict[str, Any] = await future
            except (asyncio.CancelledError, FutureCancelledError) as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                if client.status != "running" or "connection" in str(error):  # it went, and its futures with it
                    if self._client is client:
                        await self._disconnect()
                    said = f"the connection to the Dask scheduler at {self._place.scheduler} broke"
                    raise Unreachable(said) from None
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            if listener.lines < answer["lines"]:
                for _, event in await client.get_events(self.topic):
                    self._take(event)
            await self._forget(client, key)
            return answer
        raise Forgotten(key)

    async def _call_off(self, key: str) -> None:
        client = await self._connected()
        self._release(client, key)
        async with asyncio.timeout(_CALL_OFF_WITHIN):
            await client.run(stop, key, on_error="ignore")
        await self._forget(client, key)

    async def _forget(self, client: Any, key: str) -> None:
        """Have the scheduler forget a key; what it has not begun is not begun."""
        self._release(client, key)
        future = await client.get_dataset(key, default=None)
        if future is not None:
            await client.unpublish_dataset(key)
            await client.cancel([future], force=True)

    def _release(self, client: Any, key: str) -> None:
        for _ in range(_RELEASES):
            client._send_to_scheduler({"op": "queue_release", "name": key})  # noqa: SLF001 - as distributed.Queue does

    def _heard(self, event: tuple[float, Any]) -> None:
        self._take(event[1])

    def _take(self, event: Mapping[str, Any]) -> None:
        listener = self._listeners.get(event["key"])
        if listener is not None:
            listener.take(event["first"], event["lines"])


class _Listener:
    """Lines of one key, each handed on once however often it is told, in order."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.lines = 0

    def take(self, first: int, lines: list[tuple[str, str]]) -> None:
        for stream, text in lines[max(0, self.lines - first) :]:
            self._log(stream, text)
        self.lines = max(self.lines, first + len(lines))


def _client(place: Place) -> Any:
    """Return a client that connects when it is awaited."""
    library: Any = distributed  # its functions have no types
    security = None
    if place.ca:
        security = library.Security(
            tls_ca_file=place.ca, tls_client_cert=place.cert, tls_client_key=place.key, require_encryption=True
        )
    return library.Client(
        place.scheduler, asynchronous=True, set_as_default=False, timeout=_CONNECT_WITHIN, security=security
    )


async def _closed(client: Any) -> None:
    """Close a client; never raises, and takes a few seconds at most."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(3):
            await client.close(timeout=2)
