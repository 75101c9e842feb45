"""Azure's storage queues: raw messages of a queue, and the notifications of Event Grid that come by it.

In flow the calls of the SDK's client (see `azure_account`), out flow messages and notices as of `raw_queue`. These
queues have no long poll, so they are asked again and again: after a message at once, then the more rarely the longer
nothing came. Each time a message is kept its receipt changes; the claim holds the latest one.
"""

import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sensors.adapters.azure_account import AzureAccount
from sensors.adapters.azure_errors import code_of, telling
from sensors.adapters.event_grid import Container, read_event_grid
from sensors.adapters.notice_reading import Message
from sensors.adapters.raw_queue import Claim, QueueNotices, RawMessage, RawQueue, do_each
from sensors.clock import Clock
from sensors.errors import NotConnected

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

ROUND: Final = 20.0  # seconds after which a receive that brought nothing returns
HIDDEN: Final = 60.0  # seconds for which a message is hidden
QUICKEST: Final = 0.05  # seconds between two questions, at least
SLOWEST: Final = 2.0  # … and at most
_SHARE = 0.05  # of the silence so far: what comes is found after a twentieth of the time that nobody missed it
_AT_ONCE = 16
_GONE: Final = frozenset({"MessageNotFound", "PopReceiptMismatch"})


class AzureQueue(RawQueue):
    """The raw reader of one queue. `hidden_for` in whole seconds, 3 at least.

    Raises ValueError when the address of the account's queues is not known.
    """

    page = 32

    def __init__(self, account: AzureAccount, queue: str, clock: Clock, *, hidden_for: float = HIDDEN) -> None:
        super().__init__(queue, clock, float(max(3, round(hidden_for))))
        if account.queue_url is None:
            raise ValueError("the address of the account's queues is not known; write `queue_url`")
        self._account = account
        self._place = f"queue {queue}"
        self._stack = AsyncExitStack()
        self._client: QueueClient | None = None
        self._heard = self._due = clock.monotonic()

    async def _connect(self) -> None:
        with telling(self._account, self._place):
            self._client = await self._stack.enter_async_context(self._account.queue(self.name))
        self._heard = self._due = self._clock.monotonic()

    async def _poll(self, *, wait: bool) -> list[RawMessage]:
        if not wait:
            return await self._ask()
        end = self._clock.monotonic() + ROUND
        while self._due < end:
            pause = self._due - self._clock.monotonic()
            if pause > 0:
                await self._clock.sleep(pause)
            if found := await self._ask():
                return found
        await self._clock.sleep(end - self._clock.monotonic())
        return []

    async def _ask(self) -> list[RawMessage]:
        """Ask once, and say when to ask again: after messages at once, else the later the longer it was silent."""
        found: list[RawMessage] = []
        with telling(self._account, self._place):
            pages = self._open_client().receive_messages(
                messages_per_page=self.page, max_messages=self.page, visibility_timeout=int(self.hidden_for)
            )
            async for page in pages.by_page():
                found = [self._raw(message) async for message in page]
                break
        now = self._clock.monotonic()
        if found:
            self._heard = self._due = now
        else:
            self._due = now + min(max((now - self._heard) * _SHARE, QUICKEST), SLOWEST)
        return found

    async def _peek(self, limit: int) -> Sequence[RawMessage]:
        """Ask for the first messages without hiding them; the service shows at most a page of them."""
        with telling(self._account, self._place):
            shown = await self._open_client().peek_messages(max_messages=min(limit, self.page))
        return [self._raw(message) for message in shown]

    async def _extend(self, claims: Sequence[Claim], seconds: float) -> None:
        await do_each(partial(self._extend_one, int(seconds)), claims, _AT_ONCE)

    async def _extend_one(self, seconds: int, claim: Claim) -> None:
        from azure.core.exceptions import HttpResponseError

        async with claim.lock:
            with telling(self._account, self._place):
                try:
                    kept = await self._open_client().update_message(claim.id, claim.receipt, visibility_timeout=seconds)
                except HttpResponseError as error:
                    if code_of(error) not in _GONE:
                        raise
                else:
                    claim.receipt = kept.pop_receipt or claim.receipt

    async def _delete(self, claims: Sequence[Claim]) -> None:
        await do_each(self._delete_one, claims, _AT_ONCE)

    async def _delete_one(self, claim: Claim) -> None:
        from azure.core.exceptions import HttpResponseError

        async with claim.lock:
            with telling(self._account, self._place):
                try:
                    await self._open_client().delete_message(claim.id, claim.receipt)
                except HttpResponseError as error:
                    if code_of(error) not in _GONE:
                        raise

    async def _count(self) -> float | None:
        with telling(self._account, self._place):
            asked = await self._open_client().get_queue_properties()
        count = asked.approximate_message_count
        return None if count is None else float(count)

    async def _disconnect(self) -> None:
        self._client = None
        stack, self._stack = self._stack, AsyncExitStack()
        with contextlib.suppress(Exception):
            await stack.aclose()

    def _open_client(self) -> "QueueClient":
        if self._client is None:
            raise NotConnected(f"{self._place}: not connected")
        return self._client

    def _raw(self, message: Any) -> RawMessage:
        attributes = {
            "message_id": str(message.id),
            "dequeue_count": str(message.dequeue_count),
            "inserted_on": message.inserted_on.isoformat() if message.inserted_on is not None else "",
        }
        told = Message(f"{self.name}/{message.id}", str(message.content or ""), attributes)
        return RawMessage(told, Claim(str(message.id), str(message.pop_receipt)), message)


class AzureQueueNotices(QueueNotices):
    """Notifications of one container (file system) that Event Grid delivers to a queue."""

    def __init__(self, queue: AzureQueue, container: Container) -> None:
        super().__init__(queue, partial(read_event_grid, container=container))
