"""The sensor on a queue of a broker that pushes: deliveries become batches, and are acknowledged when it is time.

In flow deliveries, at most a window of them in hand; out flow batches of all that is there, so that one commit and one
acknowledgement serve many. With `ack: stored` a batch is acknowledged after its commit. With `ack: run_finished` each
message waits until all runs of its event have ended: it is one of the window until then, and the broker's again when
the connection goes; it is then delivered again, found to be known, and waits on or is acknowledged at once.

Order: as the broker sends them, which is that of the queue as long as nobody else reads it and nothing comes again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from sensors.adapters.queue_reading import MessageReader, Read
from sensors.adapters.queue_sensor import TOGETHER_BYTES, batch_of
from sensors.adapters.rabbit_link import RabbitLink
from sensors.adapters.rabbit_message import rabbit_message
from sensors.adapters.rabbit_options import RabbitOptions, RabbitPlace
from sensors.adapters.rabbit_poison import PoisonPublisher
from sensors.adapters.rabbit_tags import Outstanding, Waiting
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.clock import Clock
from sensors.errors import NotConnected
from sensors.event import Event
from sensors.headers import HeaderPolicy
from sensors.polling import Alarm
from sensors.ports import Lookup, Prefilter

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage

ASK_EVERY: Final = 15.0  # seconds between two questions for the depth of the queue
LOOK_FIRST, LOOK_LAST = (
    0.2,
    2.0,
)  # seconds between two looks at the runs of events, while they end and while they do not

Link = Callable[[Callable[["DeliveredMessage"], None], Callable[[NotConnected], None]], RabbitLink]


@dataclass(slots=True)
class _Session:
    """What belongs to one connection; delivery tags mean nothing on another one."""

    link: RabbitLink
    lookup: Lookup
    tags: Outstanding
    waiting: Waiting
    tasks: list[asyncio.Task[None]]
    settling: asyncio.Lock  # an acknowledgement of several may be overtaken by none


class RabbitSensor:
    """A pull sensor over pushed deliveries. `link` makes a connection that is not open yet."""

    def __init__(
        self, options: RabbitOptions, place: RabbitPlace, reader: MessageReader, clock: Clock, link: Link | None = None
    ) -> None:
        self._options = options
        self._place = place
        self._reader = reader
        self._clock = clock
        self._make_link = link or (lambda came, broke: RabbitLink(place, came, broke))
        self._policy = HeaderPolicy(options.keep_headers)
        self._poison = None if options.dead_letter is None else PoisonPublisher(options.dead_letter, reader.sensor)
        self._alarm = Alarm(clock)
        self._came: deque[DeliveredMessage] = deque()
        self._fault: NotConnected | None = None
        self._session: _Session | None = None
        self._ready: int | None = None
        self._asked = False

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Connect, see that the queue is there or make it, and begin to receive."""
        self._came.clear()
        self._fault = None
        link = self._make_link(self._arrived, self._broken)
        try:
            await link.open()
            await link.prepare(self._options)
            session = _Session(link, lookup, Outstanding(), Waiting(), [], asyncio.Lock())
            self._session = session
            self._ready = await link.depth()
            await link.consume(self._options.window, f"tidegate-{self._reader.sensor}")
        except BaseException:
            self._session = None
            await link.close()
            raise
        loop = asyncio.get_running_loop()
        session.tasks.append(loop.create_task(self._ask(session)))
        if self._options.ack == "run_finished":
            session.tasks.append(loop.create_task(self._release(session)))
        self._asked = True

    async def read(self) -> Batch:
        """Return what is there; wait for the first message, or for the broker to say how many there are."""
        while True:
            if self._fault is not None:
                raise self._fault
            if self._came:
                return self._take(self._here())
            if self._asked:
                self._asked = False
                return Batch()
            await self._alarm.wait(None)

    async def retry(
        self, uid: str, letter: DeadLetter, cursors: Mapping[str, Cursor], lookup: Lookup, at: int
    ) -> Batch:
        """Read a message that was refused once more; see `sensors.retrying.Retryable`."""
        return batch_of([self._reader.again(uid, letter, at)])

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Show what reads would bring next; the messages go back to their places, marked as redelivered."""
        link = self._make_link(lambda _: None, lambda _: None)
        try:
            await link.open()
            found = await link.peek(limit)
        finally:
            await link.close()
        return batch_of([self._read(delivery) for delivery in found])

    def poll(self) -> None:
        """Look at once: the broker sends by itself, so there is nothing to hasten."""
        self._alarm.ring()

    def lag(self) -> float | None:
        """Return how many messages are ready in the queue or wait here for the store; None while unknown."""
        return None if self._ready is None else float(self._ready + len(self._came))

    def trouble(self) -> str | None:
        """Say that poison cannot be published where it should be."""
        return None if self._poison is None else self._poison.trouble

    async def close(self) -> None:
        """Let go; the broker has again what is not acknowledged."""
        session, self._session = self._session, None
        self._came.clear()
        self._ready = None
        if session is None:
            return
        if self._poison is not None:
            self._poison.clear()  # all of it comes again
        for task in session.tasks:
            task.cancel()
        await asyncio.gather(*session.tasks, return_exceptions=True)
        await session.link.close()

    # -- from deliveries to batches -----------------------------------------------------------------------------------
    def _arrived(self, delivery: "DeliveredMessage") -> None:
        if self._session is not None:
            self._session.tags.add(delivery.delivery_tag or 0)
            self._came.append(delivery)
            self._ready = max(0, (self._ready or 0) - 1)
            self._alarm.ring()

    def _broken(self, error: NotConnected) -> None:
        self._fault = error
        self._came.clear()  # all of it comes again
        self._alarm.ring()

    def _here(self) -> _Session:
        if self._session is None:
            raise NotConnected("not connected")
        return self._session

    def _read(self, delivery: "DeliveredMessage") -> Read:
        message = rabbit_message(delivery, self._place.queue, self._policy)
        return self._reader.read(message, self._clock.now())

    def _take(self, session: _Session) -> Batch:
        """Take all that is there and is remembered equally long."""
        taken: list[tuple[DeliveredMessage, Read]] = []
        size = 0
        while self._came:
            size += len(self._came[0].body)
            if taken and size > TOGETHER_BYTES:
                break
            read = self._read(self._came[0])
            if taken and read.window != taken[0][1].window:
                break
            taken.append((self._came.popleft(), read))

        async def ack() -> None:
            await self._settle(session, taken)

        return replace(batch_of([read for _, read in taken]), ack=ack)

    async def _settle(self, session: _Session, taken: Sequence[tuple["DeliveredMessage", Read]]) -> None:
        """Acknowledge what is durable and, with `run_finished`, done with; publish poison before that."""
        done: list[int] = []
        events: dict[int, str] = {}
        for delivery, read in taken:
            tag = delivery.delivery_tag or 0
            if isinstance(read.result, DeadLetter):
                if self._poison is not None:
                    self._poison.owe(tag, delivery, read.result)
                else:
                    done.append(tag)
            elif isinstance(read.result, Event):
                if self._options.ack == "stored":
                    done.append(tag)
                else:
                    events[tag] = read.result.id
        if events:
            uids = await session.lookup.known(sorted(set(events.values())))
            session.waiting.add({tag: uids[id_] for tag, id_ in events.items() if id_ in uids})
            done += [tag for tag, id_ in events.items() if id_ not in uids]
            done += await session.waiting.ended(session.lookup)
        await self._acknowledge(session, done)
        await self._publish(session)

    async def _publish(self, session: _Session) -> None:
        if self._poison is not None:
            await self._acknowledge(session, await self._poison.publish(session.link))

    @staticmethod
    async def _acknowledge(session: _Session, tags: Sequence[int]) -> None:
        async with session.settling:
            await session.link.settle(session.tags.settled(tags))

    # -- beside the reads ---------------------------------------------------------------------------------------------
    async def _ask(self, session: _Session) -> None:
        """Ask how many messages are ready, which proves that the broker answers; publish what could not be before."""
        while True:
            await self._clock.sleep(ASK_EVERY)
            try:
                self._ready = await session.link.depth()
                await self._publish(session)
            except NotConnected as error:
                self._broken(error)
                return
            self._asked = True
            self._alarm.ring()

    async def _release(self, session: _Session) -> None:
        """Acknowledge messages whose runs have ended, soon after they have."""
        wait = LOOK_FIRST
        while True:
            await self._clock.sleep(wait)
            done: list[int] = []
            with contextlib.suppress(Exception):  # the store cannot be read now: they wait on
                done = await session.waiting.ended(session.lookup)
            wait = LOOK_FIRST if done else min(wait * 1.5, LOOK_LAST)
            try:
                await self._acknowledge(session, done)
            except NotConnected as error:
                self._broken(error)
                return
