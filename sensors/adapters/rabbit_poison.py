"""Poison published to a dead-letter exchange of the broker's own, besides our dead letters.

In flow messages whose dead letters are durable, out flow the tags of those that the broker has confirmed; only they may
be acknowledged. One that cannot be published is owed: it stays unacknowledged and is tried again, without another dead
letter, for as long as the connection lasts.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sensors.adapters.rabbit_link import RabbitLink
from sensors.adapters.rabbit_options import RabbitDeadLetter
from sensors.batch import DeadLetter
from sensors.errors import NotConnected

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage

# Headers by which a message would be routed elsewhere as well, or held up.
_ROUTING: Final = frozenset({"CC", "BCC", "x-delay"})


class PoisonPublisher:
    """What is owed to the exchange. `clear` when the connection is gone: all of it comes again."""

    def __init__(self, to: RabbitDeadLetter, sensor: str) -> None:
        self._to = to
        self._sensor = sensor
        self._one = asyncio.Lock()
        self._owed: dict[int, tuple[DeliveredMessage, DeadLetter]] = {}
        self.trouble: str | None = None

    def clear(self) -> None:
        """Forget what is owed."""
        self._owed.clear()

    def owe(self, tag: int, delivery: "DeliveredMessage", letter: DeadLetter) -> None:
        """Note a message to publish."""
        self._owed[tag] = (delivery, letter)

    async def publish(self, link: RabbitLink) -> Sequence[int]:
        """Publish what is owed, in order, up to the first that cannot be; return the tags of the others."""
        done: list[int] = []
        async with self._one:
            for tag, (delivery, letter) in list(self._owed.items()):
                key = delivery.routing_key or "" if self._to.routing_key is None else self._to.routing_key
                try:
                    await link.publish(self._to.exchange, key, delivery.body, self._properties(delivery, letter))
                except NotConnected as error:
                    self.trouble = f"poison cannot be published to exchange {self._to.exchange!a}: {error}"
                    return done
                self._owed.pop(tag, None)
                done.append(tag)
            self.trouble = None
        return done

    def _properties(self, delivery: "DeliveredMessage", letter: DeadLetter) -> Any:
        """Return the message's properties with why it is here.

        The user is left out since the broker would refuse another one's, the expiry since it must not be lost.
        """
        from pamqp.commands import Basic

        given = delivery.header.properties
        headers = {name: value for name, value in (given.headers or {}).items() if name not in _ROUTING}
        told = {
            "x-tidegate-reason": letter.reason,
            "x-tidegate-detail": letter.detail[:1000],
            "x-tidegate-sensor": self._sensor,
            "x-tidegate-exchange": delivery.exchange or "",
            "x-tidegate-routing-key": delivery.routing_key or "",
        }
        return Basic.Properties(
            content_type=given.content_type,
            content_encoding=given.content_encoding,
            headers={**headers, **told},
            delivery_mode=2,
            priority=given.priority,
            correlation_id=given.correlation_id,
            reply_to=given.reply_to,
            message_id=given.message_id,
            timestamp=given.timestamp,
            message_type=given.message_type,
            app_id=given.app_id,
        )
