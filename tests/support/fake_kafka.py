"""A consumer of Kafka in memory, as far as a group's partitions are concerned: logs, positions, commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError

from sensors.adapters.kafka_positions import Position, fingerprint


@dataclass
class FakeConsumer:
    """Logs by partition: the first offset, and the records."""

    logs: dict[TopicPartition, tuple[int, list[Any]]] = field(default_factory=dict)
    places: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    commits: list[Mapping[TopicPartition, int]] = field(default_factory=list)
    failure: Exception | None = None  # raised by commits
    silent = False  # no broker says where a log begins or ends

    def assign(self, *tps: TopicPartition) -> None:
        """Let these be ours, and no other."""
        self.places = dict.fromkeys(tps, -1)
        self.paused.clear()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Stand at an offset."""
        self._mine(tp)
        self.places[tp] = offset

    def pause(self, *tps: TopicPartition) -> None:
        """Fetch no more of these."""
        for tp in tps:
            self._mine(tp)
            self.paused.add(tp)

    def resume(self, *tps: TopicPartition) -> None:
        """Fetch again."""
        for tp in tps:
            self._mine(tp)
            self.paused.discard(tp)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Keep what the brokers are told."""
        if self.failure is not None:
            raise self.failure
        self.commits.append(dict(offsets))

    async def beginning_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where logs begin."""
        assert not self.silent, "the brokers are asked"
        return {tp: self.logs[tp][0] for tp in tps}

    async def end_offsets(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where logs end."""
        assert not self.silent, "the brokers are asked"
        return {tp: self.logs[tp][0] + len(self.logs[tp][1]) for tp in tps}

    async def position(self, tp: TopicPartition) -> int:
        """Return where it stands."""
        self._mine(tp)
        return self.places[tp]

    def highwater(self, tp: TopicPartition) -> int:
        """Return where a log ends."""
        return self.logs[tp][0] + len(self.logs[tp][1])

    async def getmany(self, timeout_ms: int = 0, max_records: int = 500) -> dict[TopicPartition, list[Any]]:
        """Return the next records of what is not paused, and move past them."""
        found: dict[TopicPartition, list[Any]] = {}
        for tp in self.places:
            first, records = self.logs[tp]
            some = records[self.places[tp] - first :][:max_records]
            if some and tp not in self.paused:
                found[tp] = some
                self.places[tp] += len(some)
        return found

    async def topics(self) -> set[str]:
        """Return what there is."""
        return self.subscription()

    def subscription(self) -> set[str]:
        """Return what is read: all there is."""
        return {tp.topic for tp in self.logs}

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Return the partitions of a topic."""
        return {tp.partition for tp in self.logs if tp.topic == topic}

    def _mine(self, tp: TopicPartition) -> None:
        if tp not in self.places:
            raise IllegalStateError(f"{tp} is not assigned")


@dataclass
class FakeRetrace:
    """Goes back over the logs of a fake consumer."""

    consumer: FakeConsumer

    async def back(self, tp: TopicPartition, position: Position, first: int) -> Position:
        """Compare the marks with the log."""
        begin, records = self.consumer.logs[tp]
        for n, mark in enumerate(position.marks):
            at = mark.offset - begin
            if 0 <= at < len(records) and fingerprint(records[at]) == mark.print:
                return Position(mark.offset + 1, position.incarnation + 1, tuple(position.marks[n:]))
        return Position(first, position.incarnation + 1)
