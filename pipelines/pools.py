"""Pools: limits that tasks of different runs share, such as the connections that a database takes.

In flow who wants room in which pools; out flow grants, and an `Event` for those who had to wait when it is their turn.
A turn is offered to one waiting run after the other, one task at a time, so that a run with ten thousand slices does
not keep a run with one task from its share. A pool bounds the tasks of this process: each replica has its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Waiter:
    """Who takes room: one run. `turn` is set when a pool that it waits for has room."""

    turn: asyncio.Event = field(default_factory=asyncio.Event)
    offers: dict[str, int] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)


class Pools:
    """All pools of one process. `limits` gives the limits in force; a pool without one has room for all."""

    def __init__(self, limits: Callable[[], Mapping[str, int]]) -> None:
        self._limits = limits
        self._used: dict[str, int] = {}
        self._offered: dict[str, int] = {}
        self._waiting: dict[str, deque[Waiter]] = {}

    def used(self) -> Mapping[str, int]:
        """Return how many tasks each pool holds."""
        return {name: count for name, count in self._used.items() if count}

    def take(self, names: Sequence[str], who: Waiter) -> bool:
        """Take room in all of these pools, or in none and wait for a turn."""
        limits = self._limits()
        short = [name for name in names if name in limits and not self._free(name, limits[name], who)]
        for name in short:
            if name not in who.queued:
                who.queued.add(name)
                self._waiting.setdefault(name, deque()).append(who)
        if short:
            return False
        for name in names:
            if who.offers.get(name):
                who.offers[name] -= 1
                self._offered[name] -= 1
        self.hold(names)
        return True

    def hold(self, names: Sequence[str]) -> None:
        """Count work that goes on already, whether or not there is room for it."""
        for name in names:
            self._used[name] = self._used.get(name, 0) + 1

    def give(self, names: Sequence[str]) -> None:
        """Give room back."""
        for name in names:
            self._used[name] -= 1
        self.offer(names)

    def end_turn(self, who: Waiter) -> None:
        """Pass on what was offered and not taken."""
        left = [name for name, count in who.offers.items() if count]
        for name in left:
            self._offered[name] -= who.offers.pop(name)
        self.offer(left)

    def leave(self, who: Waiter) -> None:
        """Forget a run that waits for nothing any more."""
        for name in who.queued:
            self._waiting[name].remove(who)
        who.queued.clear()
        self.end_turn(who)

    def offer(self, names: Sequence[str] | None = None) -> None:
        """Offer room to those who wait for it, the longest waiting first; of all pools after limits changed."""
        limits = self._limits()
        for name in list(self._waiting) if names is None else names:
            waiting = self._waiting.get(name)
            while waiting and self._left(name, limits.get(name)) > 0:
                who = waiting.popleft()
                who.queued.discard(name)
                who.offers[name] = who.offers.get(name, 0) + 1
                self._offered[name] = self._offered.get(name, 0) + 1
                who.turn.set()

    def _free(self, name: str, limit: int, who: Waiter) -> bool:
        if who.offers.get(name):
            return True
        return not self._waiting.get(name) and self._left(name, limit) > 0

    def _left(self, name: str, limit: int | None) -> float:
        taken = self._used.get(name, 0) + self._offered.get(name, 0)
        return float("inf") if limit is None else limit - taken
