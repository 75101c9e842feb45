"""Time, injected: what reads a clock or waits asks one of these, so that tests own the time.

All moments are UTC integer microseconds; all waits are seconds.
"""

import asyncio
import time
from typing import Protocol

SECOND = 1_000_000


class Clock(Protocol):
    """A source of time. `now` is wall time for records; `monotonic` never goes backwards, for waits."""

    def now(self) -> int:
        """Return the wall time in UTC microseconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary origin; never decreases."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. A value at or below zero yields to the loop once."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return the wall time in UTC microseconds."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return the monotonic clock in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(max(0.0, seconds))
