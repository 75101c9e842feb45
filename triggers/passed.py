"""What followed when events passed the flow control: all that a transaction has to write, as it is noted down."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sensors import uid as uids
from sensors.event import Event
from triggers.decision import Clause, Decision, Outcome
from triggers.gather import Firing, Waiting
from triggers.plan import CountKey, Intent
from triggers.round import Occurrence, Round, RoundName
from triggers.trigger import Trigger
from triggers.wish import Objection


class Queues(Protocol):
    """Where events stand that wait, by round, first in, first out."""

    def push(self, name: RoundName, one: Occurrence) -> None:
        """Let an event join the end; `part` rises with every one."""
        ...

    def pull(self, name: RoundName, n: int) -> Sequence[tuple[Occurrence, Event | None]]:
        """Take the first `n`, with their events (None: it is not kept any more)."""
        ...

    def pull_names(self, name: RoundName, n: int) -> Sequence[Occurrence]:
        """Take the first `n`, without their events."""
        ...


@dataclass(slots=True)
class Passed:
    """What is to be written. Of `rounds`, those in phase NEW are to be forgotten; `before` is how all of them stood."""

    rounds: list[Round] = field(default_factory=list)
    before: dict[RoundName, Round] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)  # final ones, and `held` ones that were opened
    waiting: list[Waiting] = field(default_factory=list)  # `buffered` ones
    closed: list[str] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)  # of events that went on alone
    firings: list[Firing] = field(default_factory=list)  # of those that gathered
    timers: list[Round] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # uids of rounds whose timer is not needed any more
    counts: dict[CountKey, int] = field(default_factory=dict)


class Notes:
    """Notes decisions and counts of one transaction. `out` is what was noted."""

    def __init__(self, now: int, uid: Callable[[str], str], keeps_error: Callable[[str, str, int], bool]) -> None:
        self.out = Passed()
        self._now = now
        self._uid = uid
        self._keeps_error = keeps_error
        self._opened: set[str] = set()

    def decide(
        self,
        trigger: Trigger,
        outcome: Outcome,
        event: str,
        reason: str,
        *,
        clause: Clause | None = None,
        item: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> str:
        """Count a decision about an event and note it; return its uid."""
        self.count(trigger.name, outcome)
        decision = Decision(
            uid=self._uid(uids.DECISION),
            trigger=trigger.name,
            version=trigger.version,
            events=(event,),
            outcome=outcome,
            at=self._now,
            reason=reason,
            clause=clause,
            item=item,
            details=details or {},
        )
        self.out.decisions.append(decision)
        if outcome.open:
            self._opened.add(decision.uid)
        return decision.uid

    def object(self, trigger: Trigger, event: Event, objection: Objection) -> None:
        """Note why an event that passed starts nothing; of errors a bounded number is kept."""
        if objection.error and not self._keeps_error(trigger.name, event.uid, self._now):
            self.count(trigger.name, Outcome.ERROR)
            return
        outcome = Outcome.ERROR if objection.error else Outcome.FILTERED
        self.decide(trigger, outcome, event.uid, objection.reason, clause=objection.clause, item=objection.item)

    def close(self, decision: str) -> None:
        """Take an open decision away; one that this very transaction has opened was never there."""
        if decision in self._opened:
            self.out.decisions = [one for one in self.out.decisions if one.uid != decision]
        elif decision:
            self.out.closed.append(decision)

    def count(self, trigger: str, outcome: Outcome) -> None:
        """Count an outcome."""
        key = ("trigger", trigger, outcome.value)
        self.out.counts[key] = self.out.counts.get(key, 0) + 1
