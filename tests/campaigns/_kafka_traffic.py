"""The producer of the kafka campaign, and the plain reading of the log when all is over.

Records leave at a pace, evenly over the partitions, with acks of all replicas and idempotence; what is acknowledged is
noted with its place. A record whose fate is unknown is not sent again: the log tells whether it is there.
"""

import asyncio
import contextlib
import json
from typing import Any

from tests.campaigns._kafka_checker import TOPIC, History, Logged
from tests.support.kafka import Kafka

HOT_EVERY = 5  # one record in five matches the trigger
_UNDER_WAY = 2000


def body(n: int) -> bytes:
    """Return record number n."""
    kind = "hot" if n % HOT_EVERY == 0 else "cold"
    return json.dumps({"id": f"r-{n:07}", "kind": kind, "n": n, "note": "x" * (n % 97)}).encode()


class Traffic:
    """Sends `total` records at `rate` a second, and more until it is told that it is `enough`.

    `unknown` counts those of which no acknowledgement came.
    """

    def __init__(self, kafka: Kafka, history: History, total: int, partitions: int, rate: float) -> None:
        self._kafka = kafka
        self._history = history
        self._total = total
        self._partitions = partitions
        self._rate = rate
        self.enough = False
        self._hurried = 0
        self.sent = 0
        self.unknown = 0
        self._under_way: set[asyncio.Task[None]] = set()

    def hurry(self, records: int) -> None:
        """Send the next records as fast as they can be sent."""
        self._hurried += records

    async def run(self) -> None:
        """Send everything; returns when the fate of the last record is known."""
        from aiokafka.errors import KafkaError

        loop = asyncio.get_running_loop()
        producer = await self._open()
        began, first = loop.time(), self.sent
        while self.sent < self._total or not self.enough:
            if self._hurried:
                self._hurried -= 1
                began, first = loop.time(), self.sent
            elif (wait := began + (self.sent - first) / self._rate - loop.time()) > 0.005:
                await asyncio.sleep(wait)
            if len(self._under_way) >= _UNDER_WAY:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            n = self.sent
            try:
                future = await producer.send(TOPIC, body(n), key=b"k-%d" % (n % 1009), partition=n % self._partitions)
            except KafkaError:  # the producer is beyond repair, or waited in vain: another one goes on
                await self._close(producer)
                producer = await self._open()
                began, first = loop.time(), self.sent
                continue
            self.sent += 1
            task = asyncio.ensure_future(self._note(n, future))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        if self._under_way:
            await asyncio.wait(self._under_way)
        await self._close(producer)

    async def _note(self, n: int, future: Any) -> None:
        try:
            metadata = await future
        except Exception:
            self.unknown += 1
        else:
            self._history.acked[f"r-{n:07}"] = (metadata.partition, metadata.offset)

    async def _open(self) -> Any:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka.bootstrap,
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                request_timeout_ms=60_000,
            )
            try:
                await producer.start()
            except KafkaError:
                await self._close(producer)
                await asyncio.sleep(0.2)
            else:
                return producer

    async def _close(self, producer: Any) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(60):
                await producer.stop()


async def read_log(kafka: Kafka, history: History) -> None:
    """Read the whole topic into the history, by a consumer without a group."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    history.ends = await _ends(kafka)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(TOPIC, partition) for partition in history.ends]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        left = {tp for tp in tps if history.ends[tp.partition]}
        async with asyncio.timeout(300):
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    for record in records:
                        told = json.loads(record.value)
                        history.log.append(Logged(tp.partition, record.offset, told["id"], told["kind"] == "hot"))
                    if records[-1].offset + 1 >= history.ends[tp.partition]:
                        left.discard(tp)
    finally:
        await consumer.stop()


async def _ends(kafka: Kafka) -> dict[int, int]:
    from tests.support.kafka import Topic

    return await Topic(kafka, TOPIC).ends()
