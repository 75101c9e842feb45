"""The store as everyone sees it: a group-commit writer and a pool of readers over one backend."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from tidegate.store.reader import Reader
from tidegate.store.readers import ReadConnection, ReaderPool
from tidegate.store.tx import StoreHealth, Write
from tidegate.store.writer import Backend, GroupWriter, Limits

I = TypeVar("I")  # noqa: E741 - the port's own name
R = TypeVar("R")


class StoreBackend(Backend, Protocol):
    """A database: the writing connection, and where reading ones come from."""

    name: str

    def migrate(self) -> None:
        """Bring the schema to this service's version, with a connection of its own. Raises StoreError."""
        ...

    def reader(self) -> ReadConnection:
        """Open a read-only connection; called on the reader's thread."""
        ...

    def details(self) -> Mapping[str, Any]:
        """Return versions and warnings for health; must not touch the database."""
        ...


class Hints(Protocol):
    """Listens for news from other replicas."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to listen; call back on this loop."""
        ...

    async def stop(self) -> None:
        """Listen no more."""
        ...


class GroupStore:
    """`Store` over a backend."""

    def __init__(
        self, backend: StoreBackend, limits: Limits, fail_point: Callable[[str], None], hints: Hints | None = None
    ) -> None:
        self.name = backend.name
        self._hints = hints
        self._backend = backend
        self._writer = GroupWriter(backend, limits, fail_point, f"tidegate-{backend.name}-writer")
        self._readers = ReaderPool(backend.reader, f"tidegate-{backend.name}-reader")

    async def open(self) -> None:
        """Connect, check or migrate the schema. Raises StoreError with a sentence that names the remedy."""
        await self._writer.open()
        if self._hints is not None:
            self._hints.start(asyncio.get_running_loop())

    async def close(self) -> None:
        """Finish what waits, then close."""
        if self._hints is not None:
            await self._hints.stop()
        await self._readers.close()
        await self._writer.close()

    def submit(self, write: Write[I, R], item: I, weight: int = 0) -> "asyncio.Future[R]":
        """Queue one item; see the port."""
        return self._writer.submit(write, item, weight)

    async def read(self, fn: Callable[[Reader], R]) -> R:
        """Run a read-only function on a reader's thread, in one snapshot."""
        answer: R = await self._readers.read(fn)
        return answer

    def health(self) -> StoreHealth:
        """Answer at once from what the last writes showed."""
        reason = self._writer.broken
        items, size = self._writer.backlog
        details = {
            **self._backend.details(),
            "backlog_items": items,
            "backlog_bytes": size,
            "groups": self._writer.groups,
            "last_commit_seconds": round(self._writer.last_seconds, 6),
        }
        return StoreHealth(reason is None, reason or "", details)

    @property
    def backlog(self) -> tuple[int, int]:
        """Return items and bytes that wait for a commit."""
        return self._writer.backlog
