"""The service with one thing of the kafka sensor broken on purpose: `_kafka_sabotage NAME CONFIG`.

As in `_sabotage`, the product has no switch for this: functions are replaced in this process before it serves.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.campaigns import _sabotage

GAP = 0.3


def brokers_told_first() -> None:
    """Acknowledge a batch, so that the brokers are told of its offsets, and store it a moment after that."""
    from sensors.runner import SensorRunner

    put = SensorRunner._put

    async def put_late(self: Any, batch: Any) -> Any:
        await batch.ack()
        await asyncio.sleep(GAP)
        return await put(self, batch)

    SensorRunner._put = put_late  # type: ignore[method-assign]


def fence_dropped() -> None:
    """Store every batch, whoever owns its partitions by now. A slow store lets a batch be in hand nearly always."""
    from sensors.runner import SensorRunner
    from tidegate import ingest

    known, put = ingest._known, SensorRunner._put

    async def put_slowly(self: Any, batch: Any) -> Any:
        await asyncio.sleep(GAP)
        return await put(self, batch)

    def never_stale(tx: Any, items: Sequence[Any]) -> tuple[frozenset[int], frozenset[int]]:
        known(tx, items)  # the rows are locked all the same
        return frozenset(), frozenset()

    ingest._known = never_stale
    SensorRunner._put = put_slowly  # type: ignore[method-assign]


def brokers_believed() -> None:
    """Begin where the brokers say, which are told by and by, instead of where our own position is."""
    from sensors.adapters import kafka_group
    from sensors.adapters.kafka_positions import shard_of

    module: Any = kafka_group  # it uses the name that it imports
    read, take_up = module.read_position, kafka_group.Group.take_up
    believed: dict[str, int] = {}

    async def take_up_theirs(self: Any, assigned: Iterable[Any]) -> None:
        for tp in assigned:
            believed[shard_of(tp.topic, tp.partition)] = await self._consumer.committed(tp) or 0
        await take_up(self, assigned)  # type: ignore[arg-type]

    def read_theirs(cursor: Any) -> Any:
        return replace(read(cursor), next=believed[cursor.shard], marks=())

    module.read_position = read_theirs
    kafka_group.Group.take_up = take_up_theirs  # type: ignore[method-assign]


def position_before_events() -> None:
    """Commit the positions first, then the events that lie before them."""
    _sabotage.GAP = GAP
    _sabotage.cursor_before_commit()


def fetch_dropped() -> None:
    """Pass over, now and then, what the client had fetched and moved past."""
    from sensors.adapters.kafka_sensor import KafkaSensor

    fetch, turns = KafkaSensor._fetch, iter(range(1, 1_000_000_000))

    async def fetch_most(self: Any, *args: Any) -> Any:
        found = await fetch(self, *args)
        return {} if found and next(turns) % 50 == 0 else found

    KafkaSensor._fetch = fetch_most  # type: ignore[assignment,method-assign]


SABOTAGES: dict[str, Callable[[], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (brokers_told_first, fence_dropped, brokers_believed, position_before_events, fetch_dropped)
}


def main() -> int:
    """Break one thing and serve."""
    name, config = sys.argv[1:]
    SABOTAGES[name]()
    from tidegate.serve import serve

    return serve([Path(config)])


if __name__ == "__main__":
    sys.exit(main())
