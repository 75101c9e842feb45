"""What a back-test found, as it adds up: exact numbers, bounded samples."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.backtest.diff import Fired, Pair, Side, difference
from tidegate.backtest.values import Changed, Failing, Flip, Reason, TriggerDiff, Why
from triggers.decision import Outcome
from triggers.plan import CountKey
from triggers.trigger import Trigger

EXPLAINED = 200  # flips of a trigger, in each direction, whose reasons are counted

WhyNot = Callable[[Side, Fired], Why]  # why that side has no such firing


@dataclass(slots=True)
class _Sum:
    same: int = 0
    gained: int = 0
    lost: int = 0
    changed: int = 0
    gained_samples: list[Flip] = field(default_factory=list)
    lost_samples: list[Flip] = field(default_factory=list)
    changed_samples: list[Changed] = field(default_factory=list)
    failing_samples: list[Failing] = field(default_factory=list)
    gained_why: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    lost_why: Counter[tuple[str, str | None]] = field(default_factory=Counter)


class Tally:
    """Adds up. `why_not` is asked for samples, and for so many reasons that asking stays cheap."""

    def __init__(self, names: Sequence[str], samples: int, why_not: WhyNot, *, timed: Callable[[str], bool]) -> None:
        self._sums = {name: _Sum() for name in names}
        self._samples = samples
        self._why_not = why_not
        self._timed = timed
        self._counts: Mapping[Side, dict[CountKey, int]] = {"old": {}, "new": {}}
        self._seen: dict[tuple[str, str], int] = {}  # (sensor, type) -> events
        self.events = 0

    def saw(self, sensor: str, type: str) -> None:
        """Count an event."""
        self.events += 1
        self._seen[sensor, type] = self._seen.get((sensor, type), 0) + 1

    def count(self, side: Side, counts: Mapping[CountKey, int]) -> None:
        """Add the counts of a step."""
        mine = self._counts[side]
        for key, n in counts.items():
            mine[key] = mine.get(key, 0) + n

    def alike(self, trigger: str) -> None:
        """Both sides ask for the same."""
        self._sums[trigger].same += 1

    def tell(self, pair: Pair) -> None:
        """Take a pair that is not alike."""
        old, new = pair.old, pair.new
        if old is not None and new is not None:
            self._change(old, new)
        elif new is not None:
            mine = self._sums[new.trigger]
            mine.gained += 1
            self._flip("old", new, mine.gained, mine.gained_samples, mine.gained_why)
        elif old is not None:
            mine = self._sums[old.trigger]
            mine.lost += 1
            self._flip("new", old, mine.lost, mine.lost_samples, mine.lost_why)

    def fails(self, trigger: str, events: Sequence[str], at: int, why: Why) -> None:
        """Keep a sample of an event on which the new rule fails."""
        mine = self._sums[trigger].failing_samples
        if len(mine) < self._samples:
            mine.append(Failing(events=tuple(events), at=at, why=why))

    def diff(self, name: str, old: Trigger | None, new: Trigger | None, recorded: Mapping[str, int]) -> TriggerDiff:
        """Return what was found about a trigger. `recorded` are counts of the record, where that is the baseline."""
        mine = self._sums[name]
        return TriggerDiff(
            trigger=name,
            versions=(None if old is None else old.version, None if new is None else new.version),
            events=max(self._candidates(old), self._candidates(new)),
            before=recorded or self._outcomes("old", old),
            after=self._outcomes("new", new),
            same=mine.same,
            gained=mine.gained,
            lost=mine.lost,
            changed=mine.changed,
            gained_samples=mine.gained_samples,
            lost_samples=mine.lost_samples,
            changed_samples=mine.changed_samples,
            failing_samples=mine.failing_samples,
            gained_why=_reasons(mine.gained_why),
            lost_why=_reasons(mine.lost_why),
            explained=EXPLAINED,
        )

    def _change(self, old: Fired, new: Fired) -> None:
        fields = difference(old.firing, new.firing, timed=self._timed(new.trigger))
        mine = self._sums[new.trigger]
        mine.changed += 1
        if len(mine.changed_samples) < self._samples:
            mine.changed_samples.append(Changed(firing=new.firing, fields=fields))

    def _flip(
        self, other: Side, fired: Fired, number: int, samples: list[Flip], reasons: Counter[tuple[str, str | None]]
    ) -> None:
        if number > max(EXPLAINED, self._samples):
            return
        why = self._why_not(other, fired)
        if number <= EXPLAINED:
            reasons[why.outcome, None if why.clause is None else why.clause["path"]] += 1
        if len(samples) < self._samples:
            samples.append(Flip(firing=fired.firing, why=why))

    def _candidates(self, trigger: Trigger | None) -> int:
        if trigger is None:
            return 0
        return sum(
            n
            for (sensor, type_), n in self._seen.items()
            if any(one.sensor == sensor and (not one.types or type_ in one.types) for one in trigger.on)
        )

    def _outcomes(self, side: Side, trigger: Trigger | None) -> Mapping[str, int]:
        """Return exact numbers by outcome; events that were only filtered are what is left."""
        if trigger is None or not trigger.enabled:
            return {}
        found: dict[str, int] = {}
        matched = dead = 0
        for (kind, name, what), n in self._counts[side].items():
            if kind == "trigger" and name == trigger.name:
                found[what] = found.get(what, 0) + n
            elif kind == "matched" and name == trigger.name:
                matched += n
            elif kind == "dead" and any(
                one.sensor == name.partition("|")[0] and (not one.types or name.partition("|")[2] in one.types)
                for one in trigger.on
            ):
                dead += n
        found[Outcome.ERROR.value] = found.get(Outcome.ERROR.value, 0) + dead
        filtered = self._candidates(trigger) - matched - dead + found.get(Outcome.FILTERED.value, 0)
        found[Outcome.FILTERED.value] = max(0, filtered)
        return {outcome: n for outcome, n in sorted(found.items()) if n}


def _reasons(found: Counter[tuple[str, str | None]]) -> Sequence[Reason]:
    return tuple(Reason(outcome=outcome, clause=clause, n=n) for (outcome, clause), n in found.most_common(20))
