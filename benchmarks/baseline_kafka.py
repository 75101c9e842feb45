"""The fixed baseline of the Kafka benchmark: aiokafka's `getmany` and `orjson.loads` of every value, nothing else done.

`python -m benchmarks.baseline_kafka BOOTSTRAP TOPIC` says `ready`, and for each line of its input (a number of records)
makes a consumer, reads so many from the beginning of all partitions and answers with one JSON line: records a second
after the first tenth (which warms up both sides), and wall and CPU seconds of all.
"""

import asyncio
import json
import sys
import time

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition


async def main(bootstrap: str, topic: str) -> None:
    """Read in rounds until the input ends."""
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = int(line)
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
        await consumer.start()
        await consumer._client.set_topics([topic])  # noqa: SLF001 - the only way to learn the partitions without a group
        consumer.assign([TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())])
        started, cpu = time.perf_counter(), time.process_time()
        warm, warm_at, records, matched = 0, 0.0, 0, 0
        while records < wanted:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += len(batch)
                for record in batch:
                    if orjson.loads(record.value)["kind"] == "hot":
                        matched += 1
            if not warm and records >= wanted // 10:
                warm, warm_at = records, time.perf_counter()
        ended = time.perf_counter()
        told = {
            "records": records,
            "matched": matched,
            "per_s": (records - warm) / (ended - warm_at),
            "s": ended - started,
            "cpu_s": time.process_time() - cpu,
        }
        await consumer.stop()
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
