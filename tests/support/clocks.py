"""Clocks that are set: wall time that jumps while waiting goes on."""

from sensors.testing import VirtualClock


class SetClock(VirtualClock):
    """A virtual clock whose wall time can be set forward and back; waits do not notice."""

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self._start += round(seconds * 1_000_000)
