"""What patterns promise, said the slow way: every answer is worked out from the whole history of a key.

Nothing is shared with the engine but the words of outcomes. A history is a list of moments: an event that came, or a
look at the clock. `Story` is what must have been concluded: firings as (events, missing), and (outcome, event) pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Came:
    """An event of a part: `at` by the pattern's time, `received` by ours."""

    part: str
    event: str
    at: int
    received: int


@dataclass(frozen=True, slots=True)
class Looked:
    """Somebody looked at what is due."""

    at: int


History = Sequence[Came | Looked]


@dataclass(slots=True)
class Story:
    """What was concluded about one key. `open` are the events that still wait."""

    fired: list[tuple[frozenset[str], frozenset[str]]] = field(default_factory=list)
    overdue: list[tuple[frozenset[str], frozenset[str]]] = field(default_factory=list)
    decided: list[tuple[str, str]] = field(default_factory=list)
    open: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class JoinModel:
    """A join in plain numbers. `need` is how many parts suffice; `take` is first, latest or all, by part."""

    parts: tuple[str, ...]
    within: int
    take: dict[str, str]
    need: int
    late: str = "ignore"
    remember: int = 10**15
    lateness: int | None = None
    in_order: bool = False

    def tell(self, history: History) -> Story:
        """Tell a key's story from its history."""
        key = _Key(self)
        for moment in history:
            if isinstance(moment, Looked):
                if key.standing == "open" and moment.at >= key.end:
                    key.be_overdue()
            else:
                key.take(moment)
        story = key.story
        story.open = frozenset(one.event for one in key.held) if key.standing == "open" else frozenset()
        return story


class _Key:
    """One key of a join, as it goes on."""

    def __init__(self, join: JoinModel) -> None:
        self.join = join
        self.story = Story()
        self.held: list[Came] = []
        self.standing = "new"
        self.opened = self.begun = self.end = 0

    def missing(self) -> frozenset[str]:
        return frozenset(self.join.parts) - {one.part for one in self.held}

    def enough(self) -> bool:
        return len(self.join.parts) - len(self.missing()) >= self.join.need

    def close(self, how: str, at: int) -> None:
        join = self.join
        self.standing, self.end = (how, at + join.remember) if join.remember else ("new", 0)
        if join.late != "refire" or not join.remember:
            self.held = []

    def be_overdue(self) -> None:
        self.story.overdue.append((frozenset(one.event for one in self.held), self.missing()))
        self.story.decided.extend(("overdue", one.event) for one in self.held)
        self.close("overdue", self.end)

    def fire(self) -> None:
        self.story.fired.append((frozenset(one.event for one in self.held), self.missing()))

    def take(self, new: Came) -> None:
        if self.standing == "open" and new.received > self.end:
            self.be_overdue()
        if self.standing in ("fired", "overdue") and new.received > self.end:
            self.standing, self.held = "new", []
        if self.standing in ("fired", "overdue"):
            self.late(new)
            return
        if self.standing == "open":
            times = [one.at for one in self.held] + [new.at]
            if max(times) - min(times) > self.join.within:
                self.story.decided.append(("out_of_window", new.event))
                return
        if self.join.in_order and self.too_early(new):
            self.story.decided.append(("filtered", new.event))
            return
        late = self.join.lateness or 0
        if self.standing == "new":
            self.standing, self.opened, self.begun, self.held = "open", new.received, new.at, []
            self.end = max(new.at + self.join.within, self.opened) + late
        if not self.place(new):
            return
        if new.at < self.begun:
            self.begun = new.at
            self.end = max(self.begun + self.join.within, self.opened) + late
        if self.enough():
            self.fire()
            self.close("fired", new.received)

    def late(self, new: Came) -> None:
        if self.join.late != "refire":
            self.story.decided.append(("late", new.event))
        elif self.place(new):
            if self.enough():
                self.fire()
                self.standing = "fired"
            else:
                self.story.decided.append(("late", new.event))

    def place(self, new: Came) -> bool:
        """Put an event where it belongs; say whether it counts."""
        policy, same = self.join.take[new.part], [one for one in self.held if one.part == new.part]
        if policy != "all" and same:
            old = same[0]
            wins = new.at < old.at if policy == "first" else new.at >= old.at
            self.story.decided.append(("duplicate", old.event if wins else new.event))
            if not wins:
                return False
            self.held.remove(old)
        self.held.append(new)
        if self.join.in_order:
            later = self.join.parts[self.join.parts.index(new.part) + 1 :]
            for one in [one for one in self.held if one.part in later and one.at < new.at]:
                self.held.remove(one)
                self.story.decided.append(("filtered", one.event))
        return True

    def too_early(self, new: Came) -> bool:
        for part in self.join.parts[: self.join.parts.index(new.part)]:
            before = [one for one in self.held if one.part == part]
            if before and before[0].at > new.at:
                return True
            if not before and self.join.lateness is None:
                return True
        return False


@dataclass(frozen=True, slots=True)
class CountModel:
    """So many events within a sliding window."""

    reach: int
    within: int
    lateness: int | None = None

    def tell(self, history: History) -> Story:
        """Tell a key's story from its history."""
        story = Story()
        held: list[Came] = []
        quiet = 0
        back = self.within + (self.lateness or 0)
        for moment in history:
            over = held and (moment.at >= quiet if isinstance(moment, Looked) else moment.received > quiet)
            if over:
                story.decided.extend(("out_of_window", one.event) for one in held)
                held = []
            if isinstance(moment, Looked):
                continue
            if not held:
                quiet = 0
            newest = max(one.at for one in [*held, moment])
            passed = [one for one in [*held, moment] if one.at < newest - back]
            story.decided.extend(("out_of_window", one.event) for one in passed)
            if moment in passed:
                continue
            held = sorted([one for one in [*held, moment] if one not in passed], key=lambda one: (one.at, one.event))
            quiet = max(quiet, moment.received + back)
            for start in range(len(held)):
                window = held[start : start + self.reach]
                if len(window) == self.reach and window[-1].at - window[0].at <= self.within:
                    story.fired.append((frozenset(one.event for one in window), frozenset()))
                    story.decided.extend(("out_of_window", one.event) for one in held if one not in window)
                    held = []
                    break
        story.open = frozenset(one.event for one in held)
        return story


@dataclass(frozen=True, slots=True)
class SilenceModel:
    """Nothing of `part` for so long while it could be heard (`deaf`: spans in which it could not)."""

    silence: int
    after: bool = False

    def tell(self, history: History, deaf: Sequence[tuple[int, int]] = ()) -> Story:
        """Tell a key's story: looks fire when, since what began the silence, enough time was listened to."""
        story = Story()
        begun: int | None = None
        fired = False
        waits: list[str] = []
        for moment in history:
            if isinstance(moment, Came):
                if not self.after:
                    begun, fired = max(begun or 0, moment.received) if not fired else moment.received, False
                elif moment.part == "a":
                    if begun is None or fired:
                        begun, fired, waits = moment.received, False, []
                    waits.append(moment.event)
                elif begun is not None:
                    story.decided.extend([("late", moment.event)] if fired else [("filtered", one) for one in waits])
                    begun, fired, waits = None, False, []
            elif begun is not None and not fired and self._heard(begun, moment.at, deaf) >= self.silence:
                story.fired.append((frozenset(waits), frozenset({"b" if self.after else "a"})))
                fired, waits = True, []
        story.open = frozenset(waits)
        return story

    def _heard(self, since: int, until: int, deaf: Sequence[tuple[int, int]]) -> int:
        return (until - since) - sum(max(0, min(until, end) - max(since, start)) for start, end in deaf)
