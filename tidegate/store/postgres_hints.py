"""Hints from other replicas that there is work: a listening connection in a thread of its own, made anew when lost.

Hints only shorten the wait of a poll that goes on beside them; they may be lost, doubled or late.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import psycopg

from tidegate.store.postgres import CHANNEL, PostgresOptions, connect
from tidegate.store.tx import StoreError

_LOOK = 0.5  # seconds until a stop is noticed
_AGAIN = 2.0  # seconds between attempts to connect


class PostgresHints:
    """Calls `on_hint` on the loop when another replica (another `shard`) has made work."""

    def __init__(self, url: str, shard: str, on_hint: Callable[[], None]) -> None:
        self._options = PostgresOptions(url, shard, 0)
        self._on_hint = on_hint
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="tidegate-postgresql-hints", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to listen."""
        self._loop = loop
        self._thread.start()

    async def stop(self) -> None:
        """Listen no more."""
        self._stopped.set()
        if self._loop is not None:
            await self._loop.run_in_executor(None, self._thread.join)

    def _main(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(psycopg.Error, StoreError):
                self._listen()
            self._stopped.wait(_AGAIN)

    def _listen(self) -> None:
        with connect(self._options, read_only=True) as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._tell()  # what came while nobody listened
            while not self._stopped.is_set():
                for notice in connection.notifies(timeout=_LOOK, stop_after=1):
                    if notice.payload != self._options.shard:
                        self._tell()

    def _tell(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._on_hint)
