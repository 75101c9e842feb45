"""The in-memory store, for tests and for trying things out: the same promises but durability."""

from collections.abc import Mapping
from typing import Any

from sensors.clock import Clock
from tidegate.store.memory_reader import MemoryReader
from tidegate.store.memory_state import State
from tidegate.store.memory_tx import MemoryTx
from tidegate.store.reader import Reader
from tidegate.store.readers import ReadConnection
from tidegate.store.tx import StoreError, Tx
from tidegate.store.writer import Failure


class MemoryBackend:
    """See `writer.Backend`. A transaction works on a copy of all tables; COMMIT puts it in place."""

    name = "memory"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._state = State()
        self._tx: MemoryTx | None = None

    def open(self) -> None:
        """Nothing to connect."""

    def migrate(self) -> None:
        raise StoreError("A store in memory has no schema to migrate; name a file or a database in `store:`.")

    def begin(self) -> Tx:
        self._tx = MemoryTx(self._state.copy(), self._clock.now())
        return self._tx

    def commit(self) -> None:
        if self._tx is not None:
            self._state = self._tx.state
            self._tx = None

    def rollback(self) -> None:
        self._tx = None

    def judge(self, error: Exception) -> Failure:
        return Failure.DATA

    def recover(self) -> None:
        """It never breaks."""

    def settle(self) -> None:
        """Nothing waits."""

    def idle(self) -> float:
        return 60.0

    def close(self) -> None:
        """Nothing to disconnect."""

    def reader(self) -> ReadConnection:
        return _MemoryReadConnection(self)

    def snapshot(self) -> Reader:
        """Return a reader of what is committed now; committed states never change."""
        return MemoryReader(self._state, self._clock.now())

    def details(self) -> Mapping[str, Any]:
        return {"warning": "Nothing is durable: this store lives in memory."}


class _MemoryReadConnection:
    """See `readers.ReadConnection`."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend

    def begin(self) -> Reader:
        return self._backend.snapshot()

    def end(self) -> None:
        """Nothing to end."""

    def lost(self, error: Exception) -> bool:
        return False

    def close(self) -> None:
        """Nothing to disconnect."""
