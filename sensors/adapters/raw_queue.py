"""Messages of a queue that hides what it hands out until it is deleted or its time is over; and notices made of them.

In flow the calls of one service (what `RawQueue` leaves open), out flow raw messages, each with the claim that settles
it. A request for messages that waits at the service is never given up because its caller was: what it brings is handed
out by the next call, and not hidden from everybody until its time is over. No order is promised.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from sensors.adapters.notice_reading import Message, Told
from sensors.adapters.objects import Notice
from sensors.clock import Clock

COUNT_EVERY = 30.0  # seconds between two questions for the number of messages
_MORE = 4  # requests at once when one came back full
_OVERTAKEN = 0.5  # seconds to wait, at the end, for a request that may have been handed what was given back
_EMPTY = 3  # answers without a message after which a peek ends: a service asks only some of its machines each time
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Claim:
    """What settles one message: its id, and the receipt, which some services renew. `lock` orders who uses it."""

    id: str
    receipt: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it came, and its claim. `whole` is what the service's SDK gave, where the queue was asked for it."""

    message: Message
    claim: Claim
    whole: Any = field(default=None, repr=False)


class RawQueue(ABC):
    """A queue. `receive` is called by one task at a time; `keep` and `done` may overlap it and each other.

    Errors are NotConnected with a sentence that names the cause, or BackOff. `hidden_for`: seconds for which a message
    is hidden when it is received or kept.
    """

    page: ClassVar[int]  # messages of one request, at most
    alone = False  # only one request at a time, since the queue keeps an order

    def __init__(self, name: str, clock: Clock, hidden_for: float) -> None:
        self.name = name
        self.hidden_for = hidden_for
        self._clock = clock
        self._untold: list[RawMessage] = []
        self._polling: asyncio.Task[list[RawMessage]] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._count_due = clock.monotonic()
        self._waiting: float | None = None

    async def open(self) -> None:
        """Connect, and prove by a first look that messages may be received; what it brings is received first."""
        await self.close()
        try:
            await self._connect()
            self._untold = await self._fetch(wait=False)
        except BaseException:
            await self._disconnect()
            raise

    async def receive(self) -> Sequence[RawMessage]:
        """Wait for messages, at most for the long poll; return a few of them, or none."""
        if self._untold:
            untold, self._untold = self._untold, []
            return untold
        self._refresh_count()
        if self._polling is None:
            self._polling = asyncio.get_running_loop().create_task(self._fetch(wait=True))
        polling = self._polling
        await asyncio.wait((polling,))
        self._polling = None
        return polling.result()

    async def peek(self, limit: int) -> Sequence[RawMessage]:
        """Show up to `limit` messages and leave them where they are; to be called instead of `open`."""
        try:
            await self._connect()
            return await self._peek(limit)
        finally:  # also of what was opened when something fails on the way
            await self._disconnect()

    async def keep(self, claims: Sequence[Claim]) -> None:
        """Hide these messages for `hidden_for` from now; those that are gone or in other hands are left alone."""
        await self._extend(claims, self.hidden_for)

    async def give_back(self, claims: Sequence[Claim]) -> None:
        """Let others have these messages at once."""
        await self._extend(claims, 0.0)

    async def leave(self, claims: Sequence[Claim]) -> None:
        """Give these back and `close`; never raises.

        Our own request that still waits may be handed what was given back, so its answer is given back as well.
        """
        if claims:
            with contextlib.suppress(Exception):  # then they come again when their time is over
                await self._extend(claims, 0.0)
            if self._polling is not None:
                await asyncio.wait((self._polling,), timeout=_OVERTAKEN)
        await self.close()

    async def done(self, claims: Sequence[Claim]) -> None:
        """Delete these messages; those that are gone already are as good as deleted."""
        await self._delete(claims)

    def waiting(self) -> float | None:
        """Return about how many messages wait, as of at most `COUNT_EVERY` before the last receive; None: unknown."""
        return self._waiting

    async def close(self) -> None:
        """Let go; never raises. What was received and not handed out is given back to the queue.

        A request that still waits is given up; some services hide what they would have answered for its time.
        """
        tasks = [task for task in (self._polling, self._counting) if task is not None]
        untold, self._untold = self._untold, []
        self._polling = self._counting = self._waiting = None
        for task in tasks:
            task.cancel()
        for found in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(found, list):
                untold += found
        if untold:
            with contextlib.suppress(Exception):  # then they come again when their time is over
                await self._extend([raw.claim for raw in untold], 0.0)
        await self._disconnect()

    async def _fetch(self, *, wait: bool) -> list[RawMessage]:
        """Ask once; where that brings as many as it can, there are more, so ask for some at once."""
        found = await self._poll(wait=wait)
        if len(found) < self.page or self.alone:
            return found
        more = await asyncio.gather(*(self._poll(wait=False) for _ in range(_MORE)), return_exceptions=True)
        for answer in more:  # an error is told by the next request, and must not cost what the others brought
            if isinstance(answer, list):
                found += answer
        return found

    async def _peek(self, limit: int) -> Sequence[RawMessage]:
        """Receive and give back: for services that cannot show a message without handing it out."""
        found: dict[str, RawMessage] = {}
        empty = 0
        try:
            while len(found) < limit and empty < _EMPTY:
                came = [raw for raw in await self._poll(wait=False) if raw.claim.id not in found]
                empty = 0 if came else empty + 1
                found.update({raw.claim.id: raw for raw in came})
        finally:
            with contextlib.suppress(Exception):  # then they come again when their time is over
                await self._extend([raw.claim for raw in found.values()], 0.0)
        return list(found.values())[:limit]

    def _refresh_count(self) -> None:
        now = self._clock.monotonic()
        if now >= self._count_due and (self._counting is None or self._counting.done()):
            self._count_due = now + COUNT_EVERY
            self._counting = asyncio.get_running_loop().create_task(self._ask_count())

    async def _ask_count(self) -> None:
        try:
            self._waiting = await self._count()
        except Exception:  # noqa: BLE001 - a figure for people; what is wrong is told by the next receive
            self._waiting = None

    # -- what a service fills in --------------------------------------------------------------------------------------
    @abstractmethod
    async def _connect(self) -> None:
        """Connect; may set `hidden_for`."""

    @abstractmethod
    async def _poll(self, *, wait: bool) -> list[RawMessage]:
        """Ask for at most `page` messages, hidden for `hidden_for`; `wait` for the first at most for the long poll."""

    @abstractmethod
    async def _extend(self, claims: Sequence[Claim], seconds: float) -> None:
        """Hide messages for so many seconds from now; 0 gives them back."""

    @abstractmethod
    async def _delete(self, claims: Sequence[Claim]) -> None:
        """Delete messages."""

    @abstractmethod
    async def _count(self) -> float | None:
        """Ask how many messages wait."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Let go; never raises."""


class QueueNotices:
    """A `NoticeQueue` over a raw queue: `read` says what a message tells."""

    def __init__(self, queue: RawQueue, read: Callable[[Message], Told]) -> None:
        self.keep_every = queue.hidden_for / 3
        self._queue = queue
        self._read = read

    async def open(self) -> None:
        """Connect, and prove that messages may be received."""
        await self._queue.open()
        self.keep_every = self._queue.hidden_for / 3

    async def receive(self) -> Sequence[Notice]:
        """Wait for messages; the receipt of each notice is its claim."""
        notices: list[Notice] = []
        for raw in await self._queue.receive():
            told = self._read(raw.message)
            notices.append(Notice(told.hints, raw.claim, told.dead))
        return notices

    async def keep(self, receipts: Sequence[Any]) -> None:
        """Hide these messages from others for longer."""
        await self._queue.keep(receipts)

    async def give_back(self, receipts: Sequence[Any]) -> None:
        """Let others have these messages at once."""
        await self._queue.give_back(receipts)

    async def done(self, receipts: Sequence[Any]) -> None:
        """Delete these messages."""
        await self._queue.done(receipts)

    def waiting(self) -> float | None:
        """Return about how many messages wait, None while unknown."""
        return self._queue.waiting()

    async def close(self) -> None:
        """Let go; never raises."""
        await self._queue.close()


async def do_each(do: Callable[[T], Awaitable[None]], items: Sequence[T], at_once: int) -> None:
    """Do something with every item, a few at once, whatever becomes of the others; then raise the first error."""
    places = asyncio.Semaphore(at_once)

    async def one(item: T) -> None:
        async with places:
            await do(item)

    for result in await asyncio.gather(*(one(item) for item in items), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
