"""What rules made of an event, or of time, in a form that tests ask: each question names what it found instead.

In flow verdicts, out flow the same verdicts, or an AssertionError that tells all that the triggers said and why.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from triggers.bench import Verdict
from triggers.calendar import told
from triggers.decision import Outcome

_MISSING = object()
_SHOWN = 20


class Seen(Sequence[Verdict]):
    """Verdicts in order. Questions return the same object, so that one may follow another."""

    def __init__(self, verdicts: Sequence[Verdict], triggers: Sequence[str]) -> None:
        """`triggers` are the names of all rules, so that a misspelt one is not taken for a silent one."""
        self._verdicts = tuple(verdicts)
        self._triggers = tuple(triggers)

    def __len__(self) -> int:
        """Return how many verdicts there are."""
        return len(self._verdicts)

    @overload
    def __getitem__(self, index: int) -> Verdict: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Verdict]: ...
    def __getitem__(self, index: int | slice) -> Verdict | Sequence[Verdict]:
        """Return a verdict, or some."""
        return self._verdicts[index]

    def __iter__(self) -> Iterator[Verdict]:
        """Go over the verdicts."""
        return iter(self._verdicts)

    def __repr__(self) -> str:
        """Tell the verdicts in lines."""
        return f"<Seen:{_told(self._verdicts)}>"

    def of(self, trigger: str) -> "Seen":
        """Return the verdicts of one trigger. Raises AssertionError when there is no trigger of that name."""
        if trigger not in self._triggers:
            raise AssertionError(f"there is no trigger {trigger!r}; there are {', '.join(self._triggers) or 'none'}")
        return Seen([one for one in self._verdicts if one.trigger == trigger], self._triggers)

    def fires(
        self,
        trigger: str,
        *,
        times: int = 1,
        pipeline: str | None = None,
        key: Any = _MISSING,
        partition: Any = _MISSING,
        lane: Any = _MISSING,
        params: Mapping[str, Any] | None = None,
        events: int | None = None,
    ) -> "Seen":
        """Expect a trigger to have fired so often, each time for such a run.

        `params` are those that have to be so, others may be there; `events` is how many events a run gets.
        """
        mine = self.of(trigger)
        fired = [one for one in mine if one.outcome is Outcome.FIRED and pipeline in (None, one.pipeline)]
        if len(fired) != times:
            where = f" for pipeline {pipeline}" if pipeline is not None else ""
            raise AssertionError(f"{trigger} fired {_times(len(fired))}{where}, expected {_times(times)}:{_told(mine)}")
        wanted = {"key": key, "partition": partition, "lane": lane}
        for one in fired:
            for name, value in wanted.items():
                if value is not _MISSING and getattr(one, name) != value:
                    found = getattr(one, name)
                    raise AssertionError(f"{trigger} fired with {name} {found!r}, expected {value!r}:{_told(mine)}")
            for name, value in (params or {}).items():
                if name not in one.params or one.params[name] != value:
                    found = repr(one.params[name]) if name in one.params else "no such parameter"
                    raise AssertionError(f"{trigger} fired with {found} as {name}, expected {value!r}:{_told(mine)}")
            if events is not None and len(one.events) != events:
                raise AssertionError(f"{trigger} fired with {len(one.events)} events, expected {events}:{_told(mine)}")
        return self

    def does_not_fire(self, trigger: str | None = None) -> "Seen":
        """Expect a trigger (without a name: any) not to have fired."""
        mine = self if trigger is None else self.of(trigger)
        fired = [one for one in mine if one.outcome is Outcome.FIRED]
        if fired:
            raise AssertionError(f"{fired[0].trigger} fired, expected it not to:{_told(mine)}")
        return self

    def decides(
        self, trigger: str, outcome: Outcome | str, *, clause: str | None = None, reason: str | None = None
    ) -> "Seen":
        """Expect a verdict with an outcome; `clause` is the path of the clause that decided, `reason` a part of it."""
        mine = self.of(trigger)
        wanted = Outcome(outcome)
        found = [one for one in mine if one.outcome is wanted]
        if not found:
            said = ", ".join(sorted({one.outcome.value for one in mine})) or "nothing"
            raise AssertionError(f"{trigger} decided {said}, expected {wanted.value}:{_told(mine)}")
        if clause is not None and not any(one.clause is not None and one.clause.path == clause for one in found):
            paths = ", ".join(sorted({one.clause.path for one in found if one.clause is not None})) or "no clause"
            raise AssertionError(f"{trigger} was decided by {paths}, expected {clause}:{_told(mine)}")
        if reason is not None and not any(reason in one.reason for one in found):
            raise AssertionError(f"{trigger} gave another reason than {reason!r}:{_told(mine)}")
        return self

    def waits(self, trigger: str, *, missing: Sequence[str] | None = None) -> "Seen":
        """Expect a trigger to wait, for these parts if they are named."""
        return self.decides(trigger, Outcome.WAITING)._lacks(trigger, Outcome.WAITING, missing)  # noqa: SLF001

    def is_overdue(self, trigger: str, *, missing: Sequence[str] | None = None) -> "Seen":
        """Expect a key of a trigger to be overdue, for want of these parts if they are named."""
        return self.decides(trigger, Outcome.OVERDUE)._lacks(trigger, Outcome.OVERDUE, missing)  # noqa: SLF001

    def says_nothing(self, trigger: str | None = None) -> "Seen":
        """Expect no verdict (of a trigger): nothing was its business."""
        mine = self if trigger is None else self.of(trigger)
        if len(mine):
            raise AssertionError(f"expected no verdict:{_told(mine)}")
        return self

    def _lacks(self, trigger: str, outcome: Outcome, missing: Sequence[str] | None) -> "Seen":
        mine = [one for one in self.of(trigger) if one.outcome is outcome]
        if missing is not None and not any(sorted(one.missing) == sorted(missing) for one in mine):
            found = "; ".join(", ".join(one.missing) or "none" for one in mine)
            wanted = ", ".join(missing) or "none"
            raise AssertionError(f"{trigger} misses {found}, expected {wanted}:{_told(mine)}")
        return self


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _told(verdicts: Sequence[Verdict]) -> str:
    """Tell verdicts in lines: what, about what, and why."""
    if not verdicts:
        return "\n  no verdict: no trigger listens to such an event, or nothing was due"
    lines = []
    for one in verdicts[:_SHOWN]:
        event = one.event
        about = " ".join(filter(None, (event.sensor, event.type, event.subject)))
        lines.append(f"\n  {told(event.received_at, 'UTC')} {one.trigger}: {one.outcome.value} ({about}): {one.reason}")
        if one.clause is not None:
            lines.append(f"\n    {one.clause.path}: {one.clause.text}")
            lines.append(f"\n    wants {one.clause.expected}, has {one.clause.actual}")
    if len(verdicts) > _SHOWN:
        lines.append(f"\n  … and {len(verdicts) - _SHOWN} more")
    return "".join(lines)
