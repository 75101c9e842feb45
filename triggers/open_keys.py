"""How many keys a trigger may have open: a bound on what a flood of new keys can make wait.

In flow the wish to open one more; out flows whether there is room. Counting is the store's, and seldom asked for: only
when as many were opened here since the last count as there was room for then. Each replica counts for itself.
"""

from collections.abc import Callable

from triggers.control import MAX_OPEN

_AGAIN = 1_000_000  # µs until a trigger that was full is counted again


class OpenKeys:
    """Remembers, by trigger, how many keys may still be opened before they are counted again. One thread's own."""

    __slots__ = ("_full_until", "_left", "_most")

    def __init__(self, most: int = MAX_OPEN) -> None:
        self._most = most
        self._left: dict[str, int] = {}
        self._full_until: dict[str, int] = {}

    def room(self, trigger: str, now: int, count: Callable[[str, int], int]) -> bool:
        """Say whether one more may be opened; `count(trigger, most)` counts those that are, up to so many."""
        if now < self._full_until.get(trigger, 0):
            return False
        if self._left.get(trigger, 0) <= 0:
            self._left[trigger] = self._most - count(trigger, self._most)
            if self._left[trigger] <= 0:
                self._full_until[trigger] = now + _AGAIN
                return False
        self._left[trigger] -= 1
        return True
