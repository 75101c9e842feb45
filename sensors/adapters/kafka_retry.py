"""A record once more, as its dead letter kept it: the event that it would be, or what is still wrong. Pure but for the
uid.

The event has the id that the record would have had, so that a record which is read again from the log adds nothing.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sensors.adapters.kafka_records import INCARNATION, OURS, TOMBSTONE, Harvest, RecordReader
from sensors.batch import DeadLetter
from sensors.ports import WantsAll
from sensors.retrying import NotRetryable


@dataclass(slots=True)
class Kept:
    """A record as its dead letter kept it; its time is not among that."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int = -1


def kept_record(letter: DeadLetter, most: int) -> tuple[Kept, int]:
    """Return the record of a letter and the incarnation of its log. Raises NotRetryable."""
    told = letter.attributes
    if "topic" not in told:
        raise NotRetryable("the letter is of no record, it tells of a topic as a whole; drop it")
    if letter.reason == "too_large" or len(letter.payload) >= most:
        raise NotRetryable(f"of the record only the first {most} bytes were kept; raise `max_record`, write it again")
    try:
        partition, offset, incarnation = (int(told.get(name, "0")) for name in ("partition", "offset", INCARNATION))
        key = told.get("key")
        raw = None if key is None else base64.b64decode(key) if told.get("key_encoding") else key.encode()
    except ValueError as error:
        raise NotRetryable(f"the letter does not tell where its record stands: {error}") from error
    headers = [(name, text.encode()) for name, text in told.items() if name not in OURS and name != INCARNATION]
    value = None if told.get(TOMBSTONE) else letter.payload
    return Kept(told["topic"], partition, offset, raw, value, headers), incarnation


def record_again(reader: RecordReader, record: Kept, incarnation: int, at: int) -> Harvest:
    """Read a kept record, received at `at` (UTC micros)."""
    harvest = Harvest()
    reader.read([record], incarnation, WantsAll(), at, harvest)
    return harvest
