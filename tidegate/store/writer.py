"""Group commit: one thread that owns the writing connection and commits whatever waits when it can start.

In flow items with the write they belong to, from the event loop; out flow their results, after COMMIT, in one call back
into the loop per group. What is submitted while a transaction runs goes into the next one, so one fsync serves many and
nobody waits on purpose. Order: writes of a group run in the order in which their first item came, items keep theirs.

When something fails: a data error halves the group until only the bad item is refused; a serialization failure runs the
group again; a store that cannot write fails all that waits with `Unavailable` and is probed, with back-off, until a
transaction succeeds: meanwhile `submit` refuses at once.
"""

import asyncio
import contextlib
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from sensors.ports import Overloaded, Unavailable
from tidegate.store.tx import ItemRefused, Tx, Write

_RETRIES = 10
_PROBE_FIRST = 0.05
_PROBE_MOST = 2.0
_SOON = 0.1  # seconds of quiet after which the backend may do its idle work
_GROUP_ITEMS = 2_000
_GROUP_BYTES = 8 * 1024 * 1024


class Failure(Enum):
    """What a failed transaction means."""

    DATA = auto()  # an item is at fault
    RETRY = auto()  # another transaction was in the way: the same again
    STORE = auto()  # the store cannot write now


class Backend(Protocol):
    """One writing connection. Every method runs on the writer's thread."""

    def open(self) -> None:
        """Connect and make ready. Raises StoreError."""
        ...

    def begin(self) -> Tx:
        """Start a transaction."""
        ...

    def commit(self) -> None:
        """Commit it; returns only when it is durable."""
        ...

    def rollback(self) -> None:
        """Undo it; must not raise for a transaction that is gone."""
        ...

    def judge(self, error: Exception) -> Failure:
        """Say what an error of a transaction means."""
        ...

    def recover(self) -> None:
        """Connect again if need be and prove with a write that the store works; raises while it does not."""
        ...

    def settle(self) -> None:
        """Do what can wait until the group's futures are resolved (checkpoints, hints)."""
        ...

    def idle(self) -> float:
        """Do what can wait until there is nothing to write; return the seconds until the next such time."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait for a commit before `submit` refuses."""

    items: int = 10_000
    bytes: int = 256 * 1024 * 1024


class _Entry:
    """One waiting item."""

    __slots__ = ("future", "item", "weight", "write")

    def __init__(self, write: Write[Any, Any], item: Any, weight: int, future: "asyncio.Future[Any]") -> None:
        self.write = write
        self.item = item
        self.weight = weight
        self.future = future


_Outcome = tuple[_Entry, Any, BaseException | None]


class GroupWriter:
    """The writer thread and its queue. `submit` and `backlog` belong to the loop's thread."""

    def __init__(self, backend: Backend, limits: Limits, fail_point: Callable[[str], None], name: str) -> None:
        self._backend = backend
        self._limits = limits
        self._fail_point = fail_point
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._queue: queue.SimpleQueue[list[_Entry] | None] = queue.SimpleQueue()
        self._batch: list[_Entry] = []  # submitted in this turn of the loop
        self._items = 0
        self._bytes = 0
        self._closing = False
        self._broken: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None
        self.groups = 0
        self.last_seconds = 0.0

    # -- on the loop's thread --------------------------------------------------------------------------------------
    async def open(self) -> None:
        """Start the thread; returns when the backend is ready, raises what it raised."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Commit what waits, then stop."""
        if self._loop is None or self._closing:
            return
        self._closing = True
        self._flush()
        self._queue.put(None)
        while self._thread.is_alive():
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 1.0)

    @property
    def broken(self) -> str | None:
        """Return why nothing can be written now, None when it can."""
        return self._broken

    @property
    def backlog(self) -> tuple[int, int]:
        """Return items and bytes that wait for a commit; the house's own small writes take nobody's place."""
        return self._items, self._bytes

    def submit(self, write: Write[Any, Any], item: Any, weight: int) -> "asyncio.Future[Any]":
        """Queue an item; see `Store.submit`."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("The store is not open.")
        future: asyncio.Future[Any] = loop.create_future()
        if self._closing:
            future.set_exception(Unavailable("The store is closing."))
        elif self._broken is not None:
            future.set_exception(Unavailable(self._broken))
        elif weight and (
            self._items >= self._limits.items or (self._items and self._bytes + weight > self._limits.bytes)
        ):
            future.set_exception(
                Overloaded(f"{self._items} items ({self._bytes} bytes) wait for the store already; send more slowly.")
            )
        else:
            self._items += weight > 0
            self._bytes += weight
            if not self._batch:  # what else this turn of the loop submits goes along
                loop.call_soon(self._flush)
            self._batch.append(_Entry(write, item, weight, future))
        return future

    def _flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._queue.put(batch)

    def _resolve(self, outcomes: Iterable[_Outcome]) -> None:
        for entry, result, error in outcomes:
            self._items -= entry.weight > 0
            self._bytes -= entry.weight
            future = entry.future
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    # -- on the writer's thread ------------------------------------------------------------------------------------
    def _main(self) -> None:
        try:
            self._backend.open()
        except BaseException as error:  # noqa: BLE001 - whatever it is, `open` raises it
            with contextlib.suppress(Exception):
                self._backend.close()
            self._call(self._answer_open, error)
            return
        self._call(self._answer_open, None)
        try:
            self._work()
        except BaseException as error:
            self._broken = f"The store's writer stopped: {error!r}. Restart the service."
            self._fail([], self._broken, error)
            raise
        finally:
            with contextlib.suppress(Exception):
                self._backend.close()

    def _answer_open(self, error: BaseException | None) -> None:
        if self._opened is None or self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _work(self) -> None:
        waiting: deque[_Entry] = deque()
        probe = _PROBE_FIRST
        timeout = self._backend.idle()
        while True:
            stop = self._receive(waiting, 0.0 if waiting else probe if self._broken else timeout)
            if self._broken is not None:
                if waiting:
                    self._fail(waiting, self._broken, None)
                    waiting.clear()
                if stop:
                    return
                probe = _PROBE_FIRST if self._probe() else min(probe * 2, _PROBE_MOST)
                continue
            if not waiting:
                if stop:
                    return
                timeout = self._backend.idle()
                continue
            while waiting and self._broken is None:
                self._commit(_take(waiting))
                if len(waiting) < _GROUP_ITEMS:
                    stop = self._receive(waiting, 0.0) or stop
            timeout = _SOON
            if stop:
                self._queue.put(None)

    def _receive(self, waiting: deque[_Entry], timeout: float) -> bool:
        """Move what was submitted into `waiting`; wait for it at most `timeout` seconds. True when asked to stop."""
        try:
            batch = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            while True:
                if batch is None:
                    return True
                waiting.extend(batch)
                batch = self._queue.get_nowait()
        except queue.Empty:
            return False

    def _commit(self, group: list[_Entry]) -> None:
        """Commit a group, halving it around bad items, and answer all of it at once."""
        started = time.perf_counter()
        outcomes: list[_Outcome] = []
        parts = deque([group])
        while parts:
            part = parts.popleft()
            try:
                results = self._transact(part)
            except Exception as error:  # noqa: BLE001 - judged by the backend
                if self._backend.judge(error) is not Failure.DATA:
                    self._break(error)
                    left = [entry for rest in (part, *parts) for entry in rest]
                    outcomes.extend(_unavailable(left, self._broken or "", error))
                    break
                if len(part) == 1:
                    outcomes.append((part[0], None, _refused(part[0], error)))
                else:
                    middle = len(part) // 2
                    parts.extendleft((part[middle:], part[:middle]))
            else:
                outcomes.extend((entry, result, None) for entry, result in zip(part, results, strict=True))
        self.groups += 1
        self.last_seconds = time.perf_counter() - started
        self._call(self._resolve, outcomes)
        if self._broken is None:
            try:
                self._backend.settle()
            except Exception as error:  # noqa: BLE001 - the group is durable; only the next one is in doubt
                self._break(error)

    def _transact(self, part: Sequence[_Entry]) -> Sequence[Any]:
        """Run one transaction, again when another one was in its way."""
        for attempt in range(_RETRIES):
            try:
                tx = self._backend.begin()
                self._fail_point("store.begin")
                results = _run(tx, part)
                self._fail_point("store.before_commit")
                self._backend.commit()
            except Exception as error:
                self._backend.rollback()
                if self._backend.judge(error) is not Failure.RETRY or attempt == _RETRIES - 1:
                    raise
                time.sleep(min(0.002 * 2**attempt, 0.25) * (0.5 + random.random()))
            else:
                self._fail_point("store.after_commit")
                return results
        raise AssertionError("unreachable")

    def _break(self, error: Exception) -> None:
        self._broken = f"The store cannot write now: {_first_line(error)}"

    def _probe(self) -> bool:
        try:
            self._backend.recover()
        except Exception as error:  # noqa: BLE001 - any error means: not yet
            self._break(error)
            return False
        self._broken = None
        return True

    def _fail(self, entries: Iterable[_Entry], reason: str, cause: BaseException | None) -> None:
        left = deque(entries)
        with contextlib.suppress(queue.Empty):
            while (batch := self._queue.get_nowait()) is not None or not self._closing:
                left.extend(batch or ())
            self._queue.put(None)
        self._call(self._resolve, _unavailable(left, reason, cause))

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(function, *arguments)


def _take(waiting: deque[_Entry]) -> list[_Entry]:
    """Take the next group: at least one item, at most so many and so heavy."""
    group = [waiting.popleft()]
    weight = group[0].weight
    while waiting and len(group) < _GROUP_ITEMS and weight + waiting[0].weight <= _GROUP_BYTES:
        entry = waiting.popleft()
        weight += entry.weight
        group.append(entry)
    return group


def _run(tx: Tx, part: Sequence[_Entry]) -> list[Any]:
    """Call each write once with all its items; return results in the order of `part`."""
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(part):
        groups.setdefault(entry.write.name, []).append(index)
    results: list[Any] = [None] * len(part)
    for indexes in groups.values():
        write = part[indexes[0]].write
        answers = write(tx, [part[index].item for index in indexes])
        for index, answer in zip(indexes, answers, strict=True):
            results[index] = answer
    return results


def _unavailable(entries: Iterable[_Entry], reason: str, cause: BaseException | None) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    for entry in entries:
        error = Unavailable(reason)
        error.__cause__ = cause
        outcomes.append((entry, None, error))
    return outcomes


def _refused(entry: _Entry, cause: Exception) -> ItemRefused:
    error = ItemRefused(f"An item of {entry.write.name!r} cannot be stored: {_first_line(cause)}")
    error.__cause__ = cause
    return error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
