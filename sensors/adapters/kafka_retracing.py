"""Going back over a log that is not the one that was read: to the last place where it still is.

In flow a position whose marks are offsets and fingerprints of records that were read, out flows the position to go on
from: after the newest mark that the log still holds, else its beginning. A log whose end was lost with a broker (an
unclean election, a disk) still holds older marks; that of a topic that was deleted and created again holds none.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from aiokafka import TopicPartition

from sensors.adapters.kafka_client import stop
from sensors.adapters.kafka_positions import Mark, Position, fingerprint

_WAIT = 500  # milliseconds
_TRIES = 6


class Retrace(Protocol):
    """Finds the way back."""

    async def back(self, tp: TopicPartition, position: Position, first: int) -> Position:
        """Return where to go on, under another incarnation; `first` is where the log begins."""
        ...


class Retracing:
    """Looks at single records through a consumer of its own, that is in no group. `client` makes it."""

    def __init__(self, client: Callable[[], Any]) -> None:
        self._client = client

    async def back(self, tp: TopicPartition, position: Position, first: int) -> Position:
        """Compare the marks with what stands at their offsets now, the newest first."""
        consumer = self._client()
        try:
            await consumer.start()
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            for n, mark in enumerate(position.marks):
                if first <= mark.offset < end and await _holds(consumer, tp, mark):
                    marks = tuple(position.marks[n:])
                    return Position(mark.offset + 1, position.incarnation + 1, marks)
        finally:
            await stop(consumer)
        return replace(Position(first), incarnation=position.incarnation + 1)


async def _holds(consumer: Any, tp: TopicPartition, mark: Mark) -> bool:
    consumer.seek(tp, mark.offset)
    for _ in range(_TRIES):
        found = await consumer.getmany(timeout_ms=_WAIT, max_records=1)
        for record in found.get(tp, ()):
            return bool(record.offset == mark.offset and fingerprint(record) == mark.print)
    return False
