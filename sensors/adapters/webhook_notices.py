"""Notifications of object storage that arrive by a webhook of ours, as a queue that object sensors read.

In flow events that the webhook has stored, out flow notices as of any other queue. They are kept in memory, up to a
bound, and only as hints: what is lost with the process, or beyond the bound, the next listing finds. Several sensors
may listen to one webhook, so messages about other buckets are none of theirs and are passed over.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from sensors.adapters.notice_reading import FOREIGN, Message, Told
from sensors.adapters.objects import Notice
from sensors.clock import Clock
from sensors.event import Event
from sensors.notice_hub import NoticeHub

MOST: Final = 10_000  # messages kept
_TOGETHER: Final = 100
_ROUND: Final = 20.0  # seconds for which a receive waits
_GRID: Final = "Microsoft."
_NOTHING: Final = frozenset({"sns.subscribed", "sns.unsubscribed"})

Read = Callable[[Message], Told]


class WebhookNotices:
    """The messages of one webhook for one sensor (`sensors.adapters.objects.NoticeQueue`)."""

    keep_every = 3600.0

    def __init__(self, webhook: str, read: Read, hub: NoticeHub | None, clock: Clock) -> None:
        """`read` makes hints of a message. Without a hub nothing ever comes: a configuration is only being checked."""
        self._webhook = webhook
        self._read = read
        self._clock = clock
        self._came: deque[Event] = deque()
        self._rang = asyncio.Event()
        self.lost = 0
        if hub is not None:
            hub.listen(webhook, self)

    def heard(self, events: Sequence[Event]) -> None:
        """Keep events until the sensor takes them; beyond the bound the oldest are left to the listing."""
        self._came.extend(events)
        while len(self._came) > MOST:
            self._came.popleft()
            self.lost += 1
        self._rang.set()

    async def open(self) -> None:
        """There is nothing to connect to."""

    async def receive(self) -> Sequence[Notice]:
        """Wait for messages, at most for a while; return those that tell of this sensor's objects."""
        if not self._came:
            self._rang.clear()
            ring, nap = asyncio.ensure_future(self._rang.wait()), asyncio.ensure_future(self._clock.sleep(_ROUND))
            try:
                await asyncio.wait({ring, nap}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (ring, nap):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
        taken = [self._came.popleft() for _ in range(min(_TOGETHER, len(self._came)))]
        return [notice for event in taken if (notice := self._notice(event)) is not None]

    async def keep(self, receipts: Sequence[Any]) -> None:
        """Nobody else could take them."""

    async def done(self, receipts: Sequence[Any]) -> None:
        """They were taken out when they were received."""

    async def give_back(self, receipts: Sequence[Any]) -> None:
        """Keep them for the next connection."""
        self._came.extendleft(reversed(receipts))
        self._rang.set()

    def waiting(self) -> float | None:
        """Return how many messages wait."""
        return float(len(self._came))

    async def close(self) -> None:
        """Go on listening: what comes while the source is away is looked at afterwards."""

    def _notice(self, event: Event) -> Notice | None:
        text = notice_text(event)
        if text is None:
            return None
        told = self._read(Message(f"{self._webhook}/{event.uid}", text, {"event": event.uid}))
        if told.dead is not None and told.dead.reason == FOREIGN and not told.hints:
            return None
        return Notice(told.hints, event, told.dead)


def notice_text(event: Event) -> str | None:
    """Return the message that an event was, as the readers of notifications know it; None for what is none."""
    if event.type in _NOTHING or event.data is None:
        return None
    text = event.data.decode("utf-8", "replace")
    if not event.type.startswith(_GRID):
        return text
    try:
        data = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        return text
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.subject,
            "data": data,
        }
    ).decode()
