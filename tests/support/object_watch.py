"""A sensor on a source of objects, driven read by read: stopped in the middle of a scan, failed, crashed, started anew.

In flow what a test wants to go wrong, out flows what became durable. Time stands still unless a test moves it, and
nothing sleeps: a sensor rests when its read waits although no call of its source is under way and no message waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from sensors.adapters.objects import Hint, Listed, Notice, ObjectPage, ObjectSource
from sensors.batch import Batch
from sensors.errors import BackOff, NotConnected
from sensors.sensor import Sensor
from sensors.testing import EverythingWanted, FakeInbox, VirtualClock

T = TypeVar("T")

SENSOR = "watched"
_TURNS = 40  # of the loop, after which tasks that only pass things on have come to rest
_PATIENCE = 30.0  # seconds of real time that a server may take for one call


class SmallPages:
    """An `ObjectSource` before another one: cuts its pages, counts the calls under way, and fails when told to.

    A page is asked for anew after the last key of the page before it, so each is a look at what is there at that
    moment, as with a real listing. `failures` are raised by the next calls of `page`, `head` and `shards`.
    """

    def __init__(self, source: ObjectSource, size: int = 2) -> None:
        self.source = source
        self.size = size
        self.busy = 0
        self.failures: deque[Exception] = deque()

    @property
    def place(self) -> str:
        """Name what is watched."""
        return self.source.place

    @property
    def ordered(self) -> bool:
        """Say whether pages come in key order."""
        return self.source.ordered

    async def open(self) -> None:
        """Connect."""
        await self._call(self.source.open(), fails=False)

    async def shards(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Split as the source does."""
        return await self._call(self.source.shards(prefixes))

    async def page(self, prefix: str, token: str | None, after: str = "") -> ObjectPage:
        """List a small page."""
        if not self.ordered:
            return await self._call(self.source.page(prefix, token, after))
        found = await self._call(self.source.page(prefix, None, token or after))
        part = found.objects[: self.size]
        more = len(found.objects) > self.size or found.next is not None
        return ObjectPage(part, part[-1].key if more and part else None)

    async def head(self, key: str, *, details: bool = False) -> Listed | None:
        """Look at one object."""
        return await self._call(self.source.head(key, details=details))

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Read a part."""
        return await self._call(self.source.read(key, start, length))

    def url(self, key: str) -> str:
        """Return the object's URL."""
        return self.source.url(key)

    async def copy(self, key: str, etag: str, to: str) -> None:
        """Copy an object."""
        await self._call(self.source.copy(key, etag, to))

    async def move(self, key: str, etag: str, to: str) -> None:
        """Move an object."""
        await self._call(self.source.move(key, etag, to))

    async def delete(self, key: str, etag: str) -> None:
        """Delete an object."""
        await self._call(self.source.delete(key, etag))

    async def tag(self, key: str, etag: str, tags: Mapping[str, str]) -> None:
        """Tag an object."""
        await self._call(self.source.tag(key, etag, tags))

    async def close(self) -> None:
        """Let go."""
        await self.source.close()

    async def _call(self, call: Coroutine[Any, Any, T], *, fails: bool = True) -> T:
        self.busy += 1
        try:
            if fails and self.failures:
                call.close()
                error = self.failures.popleft()
                await asyncio.sleep(0)
                raise error
            return await call
        finally:
            self.busy -= 1


class Mailbox:
    """A `NoticeQueue` that delivers what a test lets through, and again what was not settled before it was closed."""

    keep_every = 30.0

    def __init__(self) -> None:
        self.settled: list[int] = []
        self._visible: deque[Notice] = deque()
        self._hidden: dict[int, Notice] = {}
        self._receipts = count(1)
        self._come = asyncio.Event()

    @property
    def quiet(self) -> bool:
        """Say whether nothing waits to be received."""
        return not self._visible

    @property
    def unsettled(self) -> int:
        """Return how many messages were received and not deleted."""
        return len(self._hidden)

    def deliver(self, *hints: Hint) -> None:
        """Let one message come, with these hints."""
        self._visible.append(Notice(hints, next(self._receipts)))
        self._come.set()

    async def open(self) -> None:
        """Begin anew: the time of what others had received is over."""
        self._visible.extendleft(reversed(self._hidden.values()))
        self._hidden.clear()
        if self._visible:
            self._come.set()

    async def receive(self) -> Sequence[Notice]:
        """Wait for messages; return at most three."""
        while not self._visible:
            self._come.clear()
            await self._come.wait()
        some = [self._visible.popleft() for _ in range(min(3, len(self._visible)))]
        self._hidden.update((notice.receipt, notice) for notice in some)
        return some

    async def keep(self, receipts: Sequence[Any]) -> None:
        """Hide messages for longer."""
        assert all(receipt in self._hidden for receipt in receipts), "only what is being worked on is kept hidden"

    async def give_back(self, receipts: Sequence[Any]) -> None:
        """Show messages to others again."""
        self._visible.extendleft(self._hidden.pop(receipt) for receipt in receipts if receipt in self._hidden)

    async def done(self, receipts: Sequence[Any]) -> None:
        """Delete messages."""
        for receipt in receipts:
            self._hidden.pop(receipt, None)
            self.settled.append(receipt)

    def waiting(self) -> float | None:
        """Return how many messages wait."""
        return float(len(self._visible))

    async def close(self) -> None:
        """Let go."""


@dataclass(frozen=True)
class Made:
    """One instance of a sensor, how it is asked to scan, whether all is quiet around it, and what shall fail next.

    `settled` counts the messages that it has deleted.
    """

    sensor: Sensor
    poll: Callable[[], None]
    quiet: Callable[[], bool]
    failures: deque[Exception] = field(default_factory=deque)
    settled: Callable[[], int] = lambda: 0


class Driver:
    """Drives one sensor after the other over one memory. `make` makes the next instance."""

    def __init__(self, make: Callable[[], Made], clock: VirtualClock) -> None:
        self.inbox = FakeInbox()
        self.clock = clock
        self.trouble: list[str] = []
        self._make = make
        self._made: Made | None = None
        self._read: asyncio.Task[Batch] | None = None

    @property
    def started(self) -> bool:
        """Say whether an instance lives."""
        return self._made is not None

    async def start(self) -> None:
        """Start an instance from what is durable."""
        self._made = self._make()
        await self._connect()

    async def crash(self) -> None:
        """Let go of the instance as it is: what it has read and not stored is lost. Start another one."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """Let go of the instance."""
        if self._made is None:
            return
        made, self._made = self._made, None
        await self._forget_read()
        await made.sensor.close()

    async def step(self, *, lose: bool = False, unacknowledged: bool = False) -> bool:
        """Have one batch read and stored; False when the sensor rests instead.

        `lose`: the process dies before the batch is stored. `unacknowledged`: it dies after that.
        """
        made = self._now()
        settled = made.settled()
        if self._read is None:
            self._read = asyncio.ensure_future(made.sensor.read())
        if not await self._read_or_rest(self._read, made):
            return False
        task, self._read = self._read, None
        try:
            batch = task.result()
        except BackOff as error:
            self.trouble.append(str(error))
            return True
        except NotConnected as error:
            self.trouble.append(str(error))
            await made.sensor.close()
            await self._connect()
            return True
        await asyncio.sleep(0)
        assert made.settled() == settled, "messages were deleted before what they told of was durable"
        if lose:
            await self.crash()
            return True
        if not batch.empty:
            await self.inbox.put(SENSOR, batch)
        if unacknowledged:
            await self.crash()
            return True
        await batch.ack()
        return True

    async def rest(self) -> None:
        """Let it work until it rests."""
        for _ in range(10_000):
            if not await self.step():
                return
        raise AssertionError("the sensor does not come to rest")

    def poll(self) -> None:
        """Ask it to scan everything."""
        self._now().poll()

    def _now(self) -> Made:
        assert self._made is not None, "not started"
        return self._made

    async def _connect(self) -> None:
        made = self._now()
        for _ in range(500):
            try:
                await made.sensor.connect(
                    await self.inbox.cursors(SENSOR), self.inbox.lookup(SENSOR), EverythingWanted()
                )
            except (NotConnected, BackOff) as error:  # the runner would wait, and connect again
                self.trouble.append(str(error))
                continue
            return
        raise AssertionError("the sensor does not connect: " + self.trouble[-1])

    async def _forget_read(self) -> None:
        task, self._read = self._read, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()

    async def _read_or_rest(self, task: "asyncio.Task[Batch]", made: Made) -> bool:
        """Wait until the read is done (True), or nothing moves any more (False)."""
        calm = 0
        async with asyncio.timeout(_PATIENCE):
            while not task.done():
                calm = calm + 1 if made.quiet() else 0
                if calm > _TURNS:
                    return False
                await asyncio.sleep(0 if made.quiet() else 0.0005)
        return True
