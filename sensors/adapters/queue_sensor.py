"""The sensor on a queue that hides what it hands out until it is deleted or its time is over: SQS, Azure's queues.

In flow raw messages, received ahead up to a number and a size; out flow batches of all that is there, which share one
commit. Messages are kept hidden while they wait and work lasts, and deleted only after the commit; what is in hand when
the sensor closes is given back. Order: as received; a queue that keeps an order is asked by one request at a time.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sensors.adapters.queue_message import QueueMessage
from sensors.adapters.queue_reading import MessageReader, Read
from sensors.adapters.raw_queue import Claim, RawMessage, RawQueue
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.clock import Clock
from sensors.errors import BackOff, NotConnected
from sensors.event import Event
from sensors.polling import Alarm
from sensors.ports import Lookup, Prefilter

TOGETHER = 500  # messages that share a commit, at most
TOGETHER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Ahead:
    """How much is received ahead of the store: messages, and bytes."""

    messages: int = 1_000
    size: int = 32 << 20


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """A message in hand, and what became of it."""

    claim: Claim
    size: int
    read: Read


def batch_of(reads: Sequence[Read]) -> Batch:
    """Return the batch of messages whose ids are remembered equally long."""
    results = [one.result for one in reads]
    return Batch(
        events=[result for result in results if isinstance(result, Event)],
        dead_letters=[result for result in results if isinstance(result, DeadLetter)],
        dedup_for=reads[0].window if reads else None,
    )


class QueueSensor:
    """A sensor over a raw queue. `convert` translates what the queue gives, `reader` makes events of it."""

    def __init__(
        self,
        queue: RawQueue,
        convert: Callable[[RawMessage], QueueMessage],
        reader: MessageReader,
        clock: Clock,
        ahead: Ahead | None = None,
    ) -> None:
        self._queue = queue
        self._convert = convert
        self._reader = reader
        self._clock = clock
        self._ahead = ahead or Ahead()
        self._alarm = Alarm(clock)
        self._came: deque[_Held] = deque()
        self._taken: set[_Held] = set()
        self._size = 0
        self._room = asyncio.Event()
        self._asked = False
        self._error: Exception | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._undeleted: str | None = None

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Prove that messages may be received, and begin to receive."""
        await self._queue.open()
        self._error = None
        self._asked = True  # opening has asked
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        self._start()

    async def read(self) -> Batch:
        """Return what is there; wait for the first message, or for the queue to say that there is none."""
        self._start()
        while not self._came:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._asked:
                self._asked = False
                return Batch()
            await self._alarm.wait(None)
        self._asked = False
        return self._take()

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Read a message that was refused once more; see `sensors.retrying.Retryable`."""
        return batch_of([self._reader.again(uid, letter, at)])

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Show what reads would bring next."""
        shown = [self._read(raw).read for raw in await self._queue.peek(limit)]
        return batch_of(shown)

    def poll(self) -> None:
        """Look at once: the queue is asked all the time, so there is nothing to hasten."""
        self._alarm.ring()

    def lag(self) -> float | None:
        """Return about how many messages wait, here and in the queue; None while unknown."""
        there = self._queue.waiting()
        return None if there is None else there + len(self._came)

    def trouble(self) -> str | None:
        """Say that stored messages cannot be deleted; they would come again and again."""
        return self._undeleted

    async def close(self) -> None:
        """Stop receiving and give back what is not settled."""
        tasks = [task for task in (self._receiving, self._keeping) if task is not None]
        self._receiving = self._keeping = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        held = [one.claim for one in (*self._taken, *self._came)]
        self._came.clear()
        self._taken.clear()
        self._size = 0
        self._asked = False
        await self._queue.leave(held)

    # -- from messages to batches -------------------------------------------------------------------------------------
    def _read(self, raw: RawMessage) -> _Held:
        message = self._convert(raw)
        return _Held(raw.claim, len(message.body), self._reader.read(message, self._clock.now()))

    def _take(self) -> Batch:
        first = self._came[0]
        taken: list[_Held] = []
        size = 0
        while self._came and len(taken) < TOGETHER and self._came[0].read.window == first.read.window:
            size += self._came[0].size
            if taken and size > TOGETHER_BYTES:
                break
            taken.append(self._came.popleft())
        self._taken.update(taken)
        self._size -= sum(one.size for one in taken)
        self._room.set()
        batch = batch_of([one.read for one in taken])

        async def ack() -> None:
            await self._settle(taken)

        return Batch(events=batch.events, dead_letters=batch.dead_letters, dedup_for=batch.dedup_for, ack=ack)

    async def _settle(self, taken: Sequence[_Held]) -> None:
        """Delete what is durable. What cannot be deleted comes again when its time is over."""
        self._taken.difference_update(taken)
        try:
            await self._queue.done([one.claim for one in taken])
        except Exception as error:
            self._undeleted = (
                f"messages are stored but cannot be deleted, and come again: {str(error) or type(error).__name__}"
            )
            raise
        self._undeleted = None

    # -- receiving ahead ----------------------------------------------------------------------------------------------
    def _start(self) -> None:
        if self._receiving is None or (self._receiving.done() and self._error is None):
            self._receiving = asyncio.get_running_loop().create_task(self._receive())

    async def _receive(self) -> None:
        """Receive until something is wrong; `read` tells of it after what had come before it."""
        try:
            while True:
                while self._full():
                    self._room.clear()
                    await self._room.wait()
                for raw in await self._queue.receive():
                    held = self._read(raw)
                    self._came.append(held)
                    self._size += held.size
                self._asked = True
                self._alarm.ring()
        except Exception as error:  # noqa: BLE001 - whatever it is, `read` raises it
            known = isinstance(error, NotConnected | BackOff)
            self._error = error if known else NotConnected(f"messages cannot be received: {error}")
            self._alarm.ring()

    def _full(self) -> bool:
        return len(self._came) >= self._ahead.messages or self._size >= self._ahead.size

    async def _keep(self) -> None:
        """Keep what is in hand hidden from others."""
        while True:
            await self._clock.sleep(self._queue.hidden_for / 3)
            claims = [one.claim for one in (*self._taken, *self._came)]
            if claims:
                with contextlib.suppress(Exception):  # they come again then, and their ids drop the repeats
                    await self._queue.keep(claims)
