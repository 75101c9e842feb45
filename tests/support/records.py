"""Records as the client library gives them, and what reading a few of them makes."""

from collections.abc import Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord

from sensors.adapters.kafka_formats import Decoder, Json
from sensors.adapters.kafka_records import Harvest, RecordReader
from sensors.ports import Sieve, WantsAll
from tests.support.rules import rule_set, trigger
from triggers.evaluator import RuleSet

NOW = 1_800_000_000_000_000
MOMENT = 1_700_000_000_000  # milliseconds


def record(value: bytes | None, offset: int = 0, **more: Any) -> Any:
    """Return one record of `orders`, partition 2."""
    given = {"key": None, "timestamp": MOMENT, "headers": (), "topic": "orders", "partition": 2, **more}
    return ConsumerRecord(
        topic=given["topic"],
        partition=given["partition"],
        offset=offset,
        timestamp=given["timestamp"],
        timestamp_type=0,
        key=given["key"],
        value=value,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=tuple(given["headers"]),
    )


def read(
    records: Sequence[Any],
    sieve: Sieve | None = None,
    *,
    decoder: Decoder | None = None,
    clouds: bool = False,
    max_record: int = 1 << 20,
    headers: Sequence[str] | None = None,
    incarnation: int = 0,
) -> Harvest:
    """Read records; JSON unless told otherwise, and everything is wanted."""
    chosen = None if clouds else decoder or Json()
    reader = RecordReader("payments", "kafka://k:9092", chosen, max_record=max_record, headers=headers)
    harvest = Harvest()
    reader.read(records, incarnation, sieve or WantsAll(), NOW, harvest)
    return harvest


def rules_of(filters: Sequence[Any], types: tuple[str, ...] = ()) -> RuleSet:
    """Return a trigger for each filter, on the sensor `s`, in the configuration `c1`."""
    return rule_set(*(trigger(f"t{n}", filter=one, types=types) for n, one in enumerate(filters)))
