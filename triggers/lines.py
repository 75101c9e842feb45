"""The flow control in memory: rounds and queues in plain maps, worked by the very code that works in a transaction.

In flow events that matched, and moments; out flows what followed, as the store would be told to write it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sensors.event import Event
from triggers.control_rule import Pass
from triggers.passed import Passed
from triggers.passing import ORDER, Passing
from triggers.round import Occurrence, Phase, Round, RoundName
from triggers.rule import CompiledRule

Uid = Callable[[str], str]


class Kept(Protocol):
    """Where events are found again."""

    def get(self, uid: str) -> Event | None:
        """Return an event, None when it is not kept."""
        ...

    def update(self, events: Mapping[str, Event]) -> None:
        """Keep events by uid."""
        ...


@dataclass(slots=True)
class Lines:
    """What waits, by round; `events` are those that may be asked for again."""

    rounds: dict[RoundName, Round] = field(default_factory=dict)
    queues: dict[RoundName, list[Occurrence]] = field(default_factory=dict)
    events: Kept = field(default_factory=dict[str, Event])

    def push(self, name: RoundName, one: Occurrence) -> None:
        """Let an event join the end."""
        self.queues.setdefault(name, []).append(one)

    def pull(self, name: RoundName, n: int) -> Sequence[tuple[Occurrence, Event | None]]:
        """Take the first `n`, with their events."""
        return [(one, self.events.get(one.event)) for one in self.pull_names(name, n)]

    def pull_names(self, name: RoundName, n: int) -> Sequence[Occurrence]:
        """Take the first `n`, without their events."""
        queue = self.queues.pop(name, [])
        if queue[n:]:
            self.queues[name] = queue[n:]
        return queue[:n]

    def enter(self, rules: Mapping[str, CompiledRule], passes: Sequence[Pass], now: int, uid: Uid) -> Passed:
        """Let events enter the flow control of their triggers."""
        self.events.update({one.event.uid: one.event for one in passes})
        desk = Passing(rules, self, now=now, uid=uid)
        desk.enter(passes)
        return self._worked(desk)

    def ring(self, rules: Mapping[str, CompiledRule], name: RoundName, now: int, uid: Uid) -> Passed:
        """Look at a round whose time may have come."""
        state = self.rounds.get(name, Round(name=name))
        desk = Passing(rules, self, now=now, uid=uid)
        desk.ring(name, state.uid, {name: state})
        return self._worked(desk)

    def due(self) -> list[tuple[int, RoundName]]:
        """Return when which round is to be looked at, earliest first."""
        return sorted((state.due, name) for name, state in self.rounds.items() if state.phase is Phase.OPEN)

    def _worked(self, desk: Passing) -> Passed:
        for place in ORDER:
            names = desk.names(place)
            desk.work(place, {name: self.rounds.get(name, Round(name=name)) for name in names})
        out = desk.passed()
        for state in out.rounds:
            if state.phase is Phase.NEW:
                self.rounds.pop(state.name, None)
            else:
                self.rounds[state.name] = state
        return out
