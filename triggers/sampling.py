"""Sampling: which of many alike decisions are kept. Counts are exact elsewhere; these are the examples beside them.

Per minute of event time at most `PER_CLAUSE` decisions of one kind are kept for one (trigger, clause), and at most
`PER_GROUP` for one group of triggers that see the same events. An event that was granted a place keeps it when it is
judged again (a transaction may run twice). Memory is bounded by those numbers, not by events.
"""

from enum import Enum

MINUTE = 60_000_000


class Kind(Enum):
    """What is sampled: (places per trigger and clause, places per group) of a minute."""

    ERROR = (10, 600)
    FILTERED = (3, 60)


class Sampler:
    """Hands out places. Not thread-safe: it belongs to the one writer that plans."""

    __slots__ = ("_granted", "_minute", "_spent", "_turn")

    def __init__(self) -> None:
        self._minute = -1
        self._granted: dict[tuple[Kind, str, str], set[str]] = {}
        self._spent: dict[tuple[Kind, str], int] = {}
        self._turn: dict[str, int] = {}

    def open(self, kind: Kind, group: str, at: int) -> bool:
        """Say whether a group has places left in the minute of `at` (UTC microseconds)."""
        minute = at // MINUTE
        if minute > self._minute:  # a late event counts to the minute that is open
            self._minute = minute
            self._granted.clear()
            self._spent.clear()
        return self._spent.get((kind, group), 0) < kind.value[1]

    def grant(self, kind: Kind, group: str, trigger: str, clause: str, event: str, at: int) -> bool:
        """Say whether a decision is kept; `event` is the event's uid, `at` its moment."""
        room = self.open(kind, group, at)
        granted = self._granted.get((kind, trigger, clause))
        if granted is not None and event in granted:
            return True
        if not room or (granted is not None and len(granted) >= kind.value[0]):
            return False
        self._granted.setdefault((kind, trigger, clause), set()).add(event)
        self.spend(kind, group)
        return True

    def spend(self, kind: Kind, group: str) -> None:
        """Take one of a group's places, also for a look that showed nothing new."""
        self._spent[kind, group] = self._spent.get((kind, group), 0) + 1

    def next_turn(self, group: str, size: int) -> int:
        """Return whose turn it is among `size`, round and round, so that every trigger of a group gets its samples."""
        turn = self._turn.get(group, 0) % size
        self._turn[group] = turn + 1
        return turn
