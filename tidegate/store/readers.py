"""A few threads with a read-only connection each: reads never wait for the writer, nor block the loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from sensors.ports import Unavailable
from tidegate.store.reader import Reader

_THREADS = 2


class ReadConnection(Protocol):
    """One read-only connection."""

    def begin(self) -> Reader:
        """Start a snapshot."""
        ...

    def end(self) -> None:
        """End it."""
        ...

    def lost(self, error: Exception) -> bool:
        """Say whether the error means that the database, not the query, is at fault."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class ReaderPool:
    """Runs read functions on its threads. A lost connection is made anew and the function run once more."""

    def __init__(self, connect: Callable[[], ReadConnection], name: str) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)
        self._local = threading.local()
        self._open: set[ReadConnection] = set()

    async def read(self, fn: Callable[[Reader], Any]) -> Any:
        """Run `fn` in one snapshot. Raises Unavailable when the database cannot be read now."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._job, fn)

    def _job(self, fn: Callable[[Reader], Any]) -> Any:
        connection: ReadConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            try:
                return _snapshot(connection, fn)
            except Exception as error:
                if not connection.lost(error):
                    raise
                self._drop(connection)
        try:
            connection = self._connect()
        except Exception as error:
            raise Unavailable(f"The store cannot be read now: {error}") from error
        self._local.connection = connection
        self._open.add(connection)
        try:
            return _snapshot(connection, fn)
        except Exception as error:
            if not connection.lost(error):
                raise
            self._drop(connection)
            raise Unavailable(f"The store cannot be read now: {error}") from error

    def _drop(self, connection: ReadConnection) -> None:
        self._local.connection = None
        self._open.discard(connection)
        connection.close()

    async def close(self) -> None:
        """Finish what runs, then disconnect."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        for connection in list(self._open):
            connection.close()
        self._open.clear()


def _snapshot(connection: ReadConnection, fn: Callable[[Reader], Any]) -> Any:
    reader = connection.begin()
    try:
        return fn(reader)
    finally:
        connection.end()
