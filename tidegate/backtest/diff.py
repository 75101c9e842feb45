"""The difference between what two sides ask for, in memory that does not grow with the past.

In flow firings of either side, in about the order in which they come about; out flow pairs that are alike, pairs that
differ, and firings that only one side has. Firings belong together when trigger, pipeline and events are the same; of
several alike (elements of `each`, repeats) those that ask for the same come together first. A firing waits for its
like until it is `settled`, or until too many wait: then the one that has waited longest is told at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from tidegate.backtest.values import Firing

WAITING: Final = 100_000  # firings that may wait for their like
_BYTES: Final = 64 * 1024 * 1024  # of parameters of those

Side = Literal["old", "new"]
_OTHER: Mapping[Side, Side] = {"old": "new", "new": "old"}


@dataclass(frozen=True, slots=True)
class Fired:
    """A firing of a trigger with what stands for it in comparisons."""

    trigger: str
    firing: Firing
    identity: int
    rendering: int
    size: int


@dataclass(frozen=True, slots=True)
class Pair:
    """What was compared: one of them may be missing."""

    old: Fired | None
    new: Fired | None


def fired_of(trigger: str, firing: Firing, *, timed: bool, since: int = 0, overdue: bool = False) -> Fired:
    """Return a firing with its identity.

    With `timed` more is known than the ledger tells: when it came about counts as well, silences are told apart by
    their beginning (`since`), and runs of keys that are `overdue` from others.
    """
    params = orjson.dumps(firing.params, option=orjson.OPT_SORT_KEYS) if firing.params else b""
    events = tuple(firing.events) or ((firing.group, since) if timed else ())
    identity = hash((trigger, firing.pipeline, overdue and timed, events))
    rendering = hash((firing.key, firing.partition, firing.lane, params, firing.at if timed else 0))
    return Fired(trigger, firing, identity, rendering, len(params) + 40 * len(firing.events))


class Pairing:
    """Brings firings of two sides together; `tell` hears of every pair that is not alike, `alike` of those that are."""

    def __init__(
        self, tell: Callable[[Pair], None], alike: Callable[[str], None], *, most: int = WAITING, size: int = _BYTES
    ) -> None:
        self._tell = tell
        self._alike = alike
        self._most = most
        self._most_size = size
        self._waiting: dict[int, dict[Side, list[Fired]]] = {}  # by identity, in the order in which they came
        self._count = self._size = 0
        self.early = 0  # told because too many waited

    def add(self, side: Side, fired: Fired) -> None:
        """Take a firing of one side."""
        there = self._waiting.get(fired.identity)
        if there is not None:
            for position, other in enumerate(there[_OTHER[side]]):
                if other.rendering == fired.rendering and other.trigger == fired.trigger:
                    del there[_OTHER[side]][position]
                    self._leave(other)
                    if not (there["old"] or there["new"]):
                        del self._waiting[fired.identity]
                    self._alike(fired.trigger)
                    return
        else:
            there = self._waiting[fired.identity] = {"old": [], "new": []}
        there[side].append(fired)
        self._count += 1
        self._size += fired.size
        while self._count > self._most or (self._size > self._most_size and self._count > 1):
            first = next(iter(self._waiting))
            self.early += sum(map(len, self._waiting[first].values()))
            self.settle([first])

    def settle_before(self, moment: int, patience: Callable[[str], int]) -> None:
        """Tell of what waits for longer than its trigger's `patience` (µs): the other side cannot fire it any more."""
        gone = []
        for identity, there in self._waiting.items():
            oldest = (there["old"] or there["new"])[0]
            if oldest.firing.at + patience(oldest.trigger) >= moment:
                break
            gone.append(identity)
        self.settle(gone)

    def settle(self, identities: Iterable[int] | None = None) -> None:
        """Tell of what waits under these identities (all of them, without): nothing more comes."""
        for identity in list(self._waiting) if identities is None else identities:
            there = self._waiting.pop(identity, None)
            if there is None:
                continue
            old, new = there["old"], there["new"]
            for fired in (*old, *new):
                self._leave(fired)
            both = min(len(old), len(new))
            for before, after in zip(old[:both], new[:both], strict=True):
                self._tell(Pair(before, after))
            for before in old[both:]:
                self._tell(Pair(before, None))
            for after in new[both:]:
                self._tell(Pair(None, after))

    def _leave(self, fired: Fired) -> None:
        self._count -= 1
        self._size -= fired.size


def difference(old: Firing, new: Firing, *, timed: bool) -> Mapping[str, tuple[Any, Any]]:
    """Return the fields in which two firings differ, parameters one by one."""
    names = ["key", "partition", "lane", *(["at"] if timed else [])]
    found: dict[str, tuple[Any, Any]] = {
        name: (getattr(old, name), getattr(new, name)) for name in names if getattr(old, name) != getattr(new, name)
    }
    for name in sorted({*old.params, *new.params}):
        before, after = old.params.get(name), new.params.get(name)
        if before != after or (name in old.params) != (name in new.params):
            found[f"params.{name}"] = (before, after)
    return found
