"""What flow control promises, said the slow way: every answer is worked out from the whole history of a trigger.

Nothing is shared with the engine but the words of outcomes. A history is a list of moments: events that came together
in one transaction, or a look at the clock. A `Story` is what must have been concluded.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

STEP = 1_000_000
DAY = 86_400 * STEP


@dataclass(frozen=True, slots=True)
class Came:
    """An event: its key, how many bytes it has, when it was received."""

    event: str
    key: str
    size: int
    at: int


@dataclass(frozen=True, slots=True)
class Together:
    """Events that came in one transaction, whose clock showed `now`."""

    events: tuple[Came, ...]
    now: int


@dataclass(frozen=True, slots=True)
class Looked:
    """Somebody looked at what is due."""

    at: int


History = Sequence[Together | Looked]


@dataclass(slots=True)
class Story:
    """What was concluded. `fired` are the events of each run, in order, by the key of the run's first event."""

    fired: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)  # events that started nothing, by outcome
    waits: set[tuple[str, str]] = field(default_factory=set)  # (outcome, event)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowModel:
    """A trigger's flow in plain numbers; None for a stage that it has not. Times are microseconds.

    `rate` is (events, per, burst) and `rate_by` whether each key has its own; `open` are (from, until) of each day.
    """

    rate: tuple[int, int, int] | None = None
    rate_by: bool = True
    rate_holds: bool = False
    open: tuple[tuple[int, int], ...] | None = None
    open_holds: bool = False
    batch: tuple[int, int, int] | None = None  # count, bytes, within
    quiet: tuple[int, int] | None = None  # quiet, max_wait
    latest: bool = False

    def tell(self, history: History) -> Story:
        """Tell the story of a history."""
        flow = _Flow(self)
        for moment in history:
            if isinstance(moment, Looked):
                flow.look(moment.at)
            else:
                for one in moment.events:
                    flow.come(one)
        return flow.told()


class _Flow:
    """One trigger, as it goes on."""

    def __init__(self, model: FlowModel) -> None:
        self.model = model
        self.story = Story()
        self.went: dict[str, list[int]] = {}  # when events went through the throttle, by its key
        self.latest_at: dict[str, int] = {}
        self.line: dict[str, list[Came]] = {}  # before the throttle
        self.outside: list[Came] = []  # before the windows
        self.closed_at = 0  # when somebody saw last that they are closed: the clock may have gone back since
        self.gathered: dict[str, list[tuple[Came, int]]] = {}  # with the moment at which each came there
        self.came: dict[str, list[int]] = {}  # all moments of a debounced key, also of events that do not count

    def told(self) -> Story:
        held = [*self.outside, *(one for line in self.line.values() for one in line)]
        self.story.waits = {("held", one.event) for one in held}
        self.story.waits |= {("buffered", one.event) for all_ in self.gathered.values() for one, _ in all_}
        return self.story

    # -- throttle -----------------------------------------------------------------------------------------------------
    def come(self, one: Came) -> None:
        if self.model.rate is None:
            self.enter(one, one.at)
            return
        key = one.key if self.model.rate_by else ""
        self.drain(key, one.at)
        if not self.line.get(key) and self.may_go(key, one.at):
            self.go(key, one.at)
            self.enter(one, one.at)
        elif self.model.rate_holds:
            self.line.setdefault(key, []).append(one)
        else:
            self.story.ended["throttled"] += 1

    def drain(self, key: str, at: int) -> None:
        while self.line.get(key) and self.may_go(key, at):
            self.go(key, at)
            self.enter(self.line[key].pop(0), at)

    def may_go(self, key: str, at: int) -> bool:
        """Of all spans of time that end now, none may hold more than the burst and what the rate brings in it."""
        assert self.model.rate is not None
        events, per, burst = self.model.rate
        at = self.latest_at[key] = max(at, self.latest_at.get(key, at))
        went = self.went.get(key, [])
        return all(
            len([other for other in went if other >= since]) + 1 <= burst + Fraction(events * (at - since), per)
            for since in [*went, at]
        )

    def go(self, key: str, at: int) -> None:
        self.went.setdefault(key, []).append(max(at, self.latest_at[key]))

    # -- windows ------------------------------------------------------------------------------------------------------
    def enter(self, one: Came, at: int) -> None:
        if self.model.open is None:
            self.gather(one, at)
        elif self.is_open(at):
            for other in self.outside:
                self.gather(other, at)
            self.outside = []
            self.gather(one, at)
        elif self.model.open_holds:
            self.outside.append(one)
            self.closed_at = at
        else:
            self.story.ended["out_of_window"] += 1

    def is_open(self, at: int) -> bool:
        assert self.model.open is not None
        return any(start <= at % DAY < end for start, end in self.model.open)

    # -- batch, debounce ----------------------------------------------------------------------------------------------
    def gather(self, one: Came, at: int) -> None:
        model, key = self.model, one.key
        if model.batch is None and model.quiet is None:
            self.fire([one])
            return
        held = self.gathered.setdefault(key, [])
        if held and at >= self.due(key):
            self.fire_key(key)
        if model.batch is not None:
            count, most, _ = model.batch
            if held and sum(other.size for other, _ in held) + one.size > most:
                self.fire_key(key)
            held.append((one, at))
            if len(held) >= count or sum(other.size for other, _ in held) >= most:
                self.fire_key(key)
            return
        if model.latest and held:
            self.story.ended["coalesced"] += 1
            held.clear()
        held.append((one, at))
        self.came.setdefault(key, []).append(at)

    def due(self, key: str) -> int:
        if self.model.batch is not None:
            return self.gathered[key][0][1] + self.model.batch[2]
        assert self.model.quiet is not None
        quiet, most = self.model.quiet
        return min(max(self.came[key]) + quiet, self.came[key][0] + most)

    def fire_key(self, key: str) -> None:
        self.fire([one for one, _ in self.gathered[key]])
        self.gathered[key].clear()
        self.came.pop(key, None)

    def fire(self, events: Sequence[Came]) -> None:
        self.story.fired.setdefault(events[0].key, []).append(tuple(one.event for one in events))

    def look(self, at: int) -> None:
        for key in sorted(self.line):
            self.drain(key, at)
        if self.outside and any(self.is_open(moment) for moment in range(self.closed_at, at + 1, STEP)):
            if self.is_open(at):
                for one in self.outside:
                    self.gather(one, at)
                self.outside = []
            self.closed_at = at
        for key in sorted(self.gathered):
            if self.gathered[key] and at >= self.due(key):
                self.fire_key(key)
