"""Clocks that are set: wall time that jumps while waiting goes on."""

import asyncio
import time

from sensors.testing import VirtualClock


class SetClock(VirtualClock):
    """A virtual clock whose wall time can be set forward and back; waits do not notice."""

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._start += round(seconds * 1_000_000)


class HurriedClock:
    """The machine's clock for those who wait: what takes eight seconds has taken one."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic() * 8

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds / 8))
