"""The client library's consumer, as this sensor uses it: in its group, or in none."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.protocol.metadata import MetadataRequest

from sensors.adapters.kafka_options import KafkaOptions
from sensors.adapters.kafka_security import security
from sensors.clock import Clock

_FETCH = 16 << 20  # bytes that a broker sends at once; one record may be larger
_PART = 1 << 20  # of one partition
_METADATA = 30_000  # milliseconds after which new partitions and topics are seen
_ASK = 5  # seconds
_LEAVE = 3.0  # seconds
_REBALANCE = 30_000  # milliseconds that members have to give partitions back; dead ones only have their session

Client = Callable[[str | None], Any]  # the group, or None -> a consumer that is not started


def client(name: str, options: KafkaOptions, base: Path, clock: Clock) -> Client:
    """Return what makes consumers of a sensor. They raise NotConnected when a certificate cannot be read."""

    def make(group: str | None) -> Any:
        return AIOKafkaConsumer(
            bootstrap_servers=list(options.brokers),
            client_id=f"tidegate-{name}",
            group_id=group,
            group_instance_id=options.instance if group is not None else None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level=options.isolation,
            session_timeout_ms=int(options.session_timeout * 1000),
            heartbeat_interval_ms=max(100, int(options.session_timeout * 300)),
            rebalance_timeout_ms=max(_REBALANCE, int(options.session_timeout * 1000)),
            fetch_max_bytes=_FETCH,
            max_partition_fetch_bytes=_PART,
            metadata_max_age_ms=_METADATA,
            **security(options.secure, options.sasl, base, clock),
        )

    return make


async def refusal(options: KafkaOptions, base: Path, clock: Clock) -> Exception | None:
    """Ask the brokers once more, one by one, and return what the first of them answers; None when all answer.

    The client library says only that it reached none of them, and logs why.
    """
    for host, port, _ in collect_hosts(list(options.brokers)):
        try:
            async with asyncio.timeout(_ASK):
                connection = await create_conn(
                    host, port, request_timeout_ms=_ASK * 1000, **security(options.secure, options.sasl, base, clock)
                )
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except Exception as error:  # noqa: BLE001 - it is what was asked for
            return error
    return None


async def stop(consumer: Any) -> None:
    """Let go of a consumer; never raises.

    A broker that does not answer would keep the library's tasks and connections for ever: the latter are then closed
    under it, so that the former end.
    """
    stopping = asyncio.get_running_loop().create_task(consumer.stop())
    await asyncio.wait({stopping}, timeout=_LEAVE)
    if not stopping.done():
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LEAVE / 2):
                await consumer._client.close()  # noqa: SLF001 - there is no other way to its connections
        await asyncio.wait({stopping}, timeout=_LEAVE / 2)
        stopping.cancel()
    await asyncio.wait({stopping})
    if not stopping.cancelled():
        stopping.exception()
