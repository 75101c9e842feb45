"""The sensor contract: how the outside world becomes batches of events.

A pull sensor connects, is read in a loop and closes; a push sensor receives requests. Neither writes a loop, a retry, a
metric or a span: `sensors.runner` does that once for all. What a batch carries becomes durable together or not at all;
`ack` is awaited only afterwards. Batches of one sensor are made durable in the order in which they were read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sensors.batch import Batch, Cursor
from sensors.event import EMPTY
from sensors.ports import Lookup, Prefilter


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A pushed request, free of any web framework. Header names are lower case; repeated headers keep all values.

    `body` are the raw bytes as they arrived, before any content decoding, already within the cap. `path` is the
    endpoint's, as it is configured; `params` are what stood in its `{name}`s, and `raw_path` what was really asked for
    (empty: `path` itself).
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, Sequence[str]]
    body: bytes
    client: str
    received_at: int
    params: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    raw_path: str = ""

    @property
    def target(self) -> str:
        """Return path and query as the sender wrote them."""
        path = self.raw_path or self.path
        return f"{path}?{self.query}" if self.query else path

    def header(self, name: str) -> str | None:
        """Return the only or first value of a header by lower-case name, None when absent."""
        values = self.headers.get(name)
        return values[0] if values else None


class Sensor(Protocol):
    """A pull sensor. The runner alone calls it, one call at a time, from one task."""

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Open the source at the durable position. Called before the first read and after NotConnected.

        Raises NotConnected or BackOff; anything else marks the sensor unhealthy and is retried the same way.
        """
        ...

    async def read(self) -> Batch:
        """Wait for the next batch and return it; an empty batch says "asked, nothing new" (counts as a success).

        Must return or raise within the sensor's hang timeout. Raises NotConnected, BackOff, Exhausted, BadPayload.
        """
        ...

    async def close(self) -> None:
        """Let go of the source. Called once per successful connect; never raises."""
        ...


class PushSensor(Protocol):
    """A push sensor: requests come to it. Calls overlap; it keeps no state between them."""

    async def receive(self, request: Request) -> Batch:
        """Verify and read one request. Raises Refused with the status the sender shall see."""
        ...

    def answer(self, receipts: Sequence[tuple[str, bool]]) -> bytes | None:
        """Return the body of the 2xx answer for (event uid, duplicate) pairs; None for the standard JSON answer.

        A batch with a `reply` is answered with that instead, and this is not called.
        """
        ...
