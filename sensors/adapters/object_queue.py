"""The messages of a notification queue, received ahead, kept hidden while they are worked on, deleted when durable.

In flow notices, out flow `Incoming`s: what has come since the last one, taken together, so that many messages share one
commit. A queue that is away is tried again for ever, with back-off, and told of in `trouble`; the listing goes on.
Order: as received; nothing is promised by the queues themselves.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sensors.adapters.objects import Hint, Notice, NoticeQueue
from sensors.batch import Batch, DeadLetter
from sensors.clock import Clock
from sensors.errors import BackOff

TOGETHER = 500  # messages that share a commit, at most
HINTS = 1_000  # what they say together, at most, unless one says more
AHEAD = 1_000  # messages received and not yet taken
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0


@dataclass(slots=True, eq=False)
class Incoming:
    """Messages that are worked on together, and what settles them."""

    notices: Sequence[Notice]
    finish: Callable[["Incoming"], Any] = field(repr=False)

    @property
    def hints(self) -> list[Hint]:
        """Return what they say, in order."""
        return [hint for notice in self.notices for hint in notice.hints]

    @property
    def dead(self) -> list[DeadLetter]:
        """Return what could not be read of them."""
        return [notice.dead for notice in self.notices if notice.dead is not None]

    def settled(self, batch: Batch) -> Batch:
        """Return a batch after whose commit the messages are deleted."""

        async def ack() -> None:
            await self.finish(self)

        return replace(batch, ack=ack)


class QueueReader:
    """Receives ahead. Used from one loop; `start` and `close` may be called again."""

    def __init__(self, queue: NoticeQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._ring: Callable[[], None] = lambda: None
        self._came: deque[Notice] = deque()
        self._taken: set[Incoming] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: list[asyncio.Task[None]] = []
        self.trouble: str | None = None

    def start(self, ring: Callable[[], None]) -> None:
        """Begin to receive; `ring` is called whenever something came."""
        self._ring = ring
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._receive()), loop.create_task(self._keep())]

    def take(self) -> Incoming | None:
        """Return what has come, None when nothing has."""
        if not self._came:
            return None
        notices = [self._came.popleft()]
        hints = len(notices[0].hints)
        while self._came and len(notices) < TOGETHER and (hints := hints + len(self._came[0].hints)) <= HINTS:
            notices.append(self._came.popleft())
        incoming = Incoming(notices, self._finish)
        self._taken.add(incoming)
        self._room.set()
        return incoming

    def give_back(self, incoming: Incoming) -> None:
        """Take messages back that could not be worked on now: they come again, first."""
        if incoming in self._taken:
            self._taken.discard(incoming)
            self._came.extendleft(reversed(incoming.notices))

    def waiting(self) -> float | None:
        """Return about how many messages wait, here and in the queue; None while unknown."""
        there = self._queue.waiting()
        return None if there is None else there + len(self._came)

    async def close(self) -> None:
        """Stop receiving. Messages that are not settled are given back."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        held = [notice.receipt for one in self._taken for notice in one.notices]
        held += [notice.receipt for notice in self._came]
        self._came.clear()
        self._taken.clear()
        if held:
            with contextlib.suppress(Exception):  # they come again when their time is over
                await self._queue.give_back(held)
        self._room.set()
        await self._queue.close()

    async def _finish(self, incoming: Incoming) -> None:
        self._taken.discard(incoming)
        await self._queue.done([notice.receipt for notice in incoming.notices])

    async def _receive(self) -> None:
        wait, opened = _FIRST_WAIT, False
        while True:
            try:
                if not opened:
                    await self._queue.open()
                    opened = True
                while len(self._came) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
                notices = await self._queue.receive()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the queue is tried again
                self.trouble = f"notifications cannot be received: {str(error) or type(error).__name__}"
                self._ring()
                least = error.wait if isinstance(error, BackOff) else 0.0
                if opened and not isinstance(error, BackOff):
                    opened = False
                    with contextlib.suppress(Exception):
                        await self._queue.close()
                await self._clock.sleep(max(wait, least))
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            wait, self.trouble = _FIRST_WAIT, None
            if notices:
                self._came.extend(notices)
                self._ring()

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(self._queue.keep_every)
            receipts = [notice.receipt for incoming in self._taken for notice in incoming.notices]
            receipts += [notice.receipt for notice in self._came]
            if receipts:
                with contextlib.suppress(Exception):  # they come again then, and their ids drop the repeats
                    await self._queue.keep(receipts)
