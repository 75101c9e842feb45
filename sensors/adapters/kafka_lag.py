"""How far behind its partitions a kafka sensor is, and what was unusual lately.

In flow what the client knows of the ends of logs, out flows the lag of each partition: in records (offsets, of which
transactions and compaction leave some without a record) and in seconds.
"""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from sensors.adapters.kafka_group import Part
from sensors.clock import Clock
from sensors.health import ShardLag

_SHOW = 60_000_000  # µs for which an unusual event stays visible as trouble


class Lag:
    """The ends of logs, as far as they are known. `committed`: what open transactions hold back is not behind."""

    def __init__(self, clock: Clock, *, committed: bool) -> None:
        self._clock = clock
        self._committed = committed
        self._ends: dict[TopicPartition, int] = {}

    def ends(self, found: Mapping[TopicPartition, int]) -> None:
        """Keep what the brokers said when they were asked."""
        self._ends.update(found)

    def forget(self) -> None:
        """Know nothing any more."""
        self._ends.clear()

    def of(self, consumer: Any, parts: Mapping[TopicPartition, Part]) -> Mapping[str, ShardLag]:
        """Return the lag of each partition by shard."""
        now = self._clock.now()
        found = {}
        for tp, part in parts.items():
            end = self._end(consumer, tp)
            records = None if end is None else max(0, end - part.position.next)
            behind = part.last_time
            seconds = 0.0 if records == 0 else None if behind is None else max(0.0, (now - behind) / 1e6)
            found[part.shard] = ShardLag(records, seconds, part.last_success)
        return found

    def _end(self, consumer: Any, tp: TopicPartition) -> int | None:
        """Return the end of a log: what the last fetch told, or the last answer, whichever is further."""
        told: int | None = None
        try:
            told = consumer.last_stable_offset(tp) if self._committed else None
            if told is None or told < 0:
                told = consumer.highwater(tp)
        except Exception:  # noqa: BLE001 - no longer assigned, as far as the library knows
            told = None
        known = self._ends.get(tp)
        return known if told is None else told if known is None else max(told, known)


class Unusual:
    """What happened lately that people should know of, for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sentence = ""
        self._until = 0

    def notice(self, counts: Mapping[str, int]) -> None:
        """Look at what a batch tells of a partition."""
        if lost := counts.get("lost_to_retention"):
            said = f"{lost} records were deleted by the brokers before they were read; see the dead letters"
        elif counts.get("truncated"):
            said = "the brokers lost the end of a log; what was written since is read, some records perhaps twice"
        elif counts.get("recreated"):
            said = "a topic was deleted and created anew; it is read from its beginning"
        else:
            return
        self._sentence, self._until = said, self._clock.now() + _SHOW

    def sentence(self) -> str | None:
        """Return what happened, None when nothing did or some time has passed."""
        return self._sentence if self._clock.now() < self._until else None
